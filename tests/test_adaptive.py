"""The adaptive illumination, the guided noise removal and the losses that train them."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ruas_jax.data.crops import random_crops
from ruas_jax.errors import UserError
from ruas_jax.lowlight import losses
from ruas_jax.lowlight.genotype import PUBLISHED
from ruas_jax.lowlight.loss_options import ExposureOptions, LossOptions, PairsOptions
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.numbers import with_numbers
from ruas_jax.lowlight.objectives import Illuminated, make_objectives
from ruas_jax.lowlight.options import DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.model import Model, enhance

OPTIONS = NetworkOptions(
  IlluminationOptions(stages=2, region=1, warm_start="fixed", adaptive=True, share_weights=True),
  DenoisingOptions(stages=1, guided=True),
)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model():
  model = Model(None, PUBLISHED, OPTIONS)
  return dataclasses.replace(model, weights=jax.jit(model.network.init_weights)(jax.random.key(0)))


@functools.cache
def compiled():
  """`illumination(weights, images)` of the network and `enhance(model, images)`, each compiled once a shape."""
  network = build_network(OPTIONS, PUBLISHED)
  return SimpleNamespace(
    illumination=jax.jit(lambda weights, images: network.illumination(weights, None, images)),
    enhance=jax.jit(enhance),
  )


def noisy(*shape, mean=0.05):
  return (mean * RNG.uniform(0.5, 1.5, (*shape, 3))).astype(np.float32)


@pytest.mark.parametrize("mean", [0.02, 0.1, 0.3, 0.44])
def test_an_even_image_comes_out_with_the_target_mean(model, mean):
  """From the start: with a = 1 and b = -logit(v), and no correction."""
  weights = jax.tree.map(jnp.array, model.weights["illumination"])
  weights["fusion"] = jax.tree.map(jnp.zeros_like, weights["fusion"])
  lit = compiled().illumination(weights, jnp.full((1, 4, 4, 3), mean))
  np.testing.assert_allclose(lit.result, 0.45, rtol=1e-5)


def test_a_bright_image_stays_as_it_is(model):
  """Whatever the weights of both modules: where the level is one, each is the identity."""
  image = RNG.uniform(0.4, 1, (12, 12, 3)).astype(np.float32)
  wild = jax.tree.map(lambda leaf: leaf + jnp.asarray(RNG.normal(size=leaf.shape), leaf.dtype), model.weights)
  wild["illumination"]["level"] = model.weights["illumination"]["level"]
  own = dataclasses.replace(model, weights=wild)
  bright, dark = compiled().enhance(own, np.stack([image, 0.3 * image]))
  np.testing.assert_allclose(bright, image, atol=1e-6)
  assert np.abs(dark - 0.3 * image).max() > 0.05


def test_windows_and_masks_know_the_mean_of_the_whole(model):
  """The left of this image is much darker than its right, so a window's own mean would be another one."""
  image = np.concatenate([noisy(30, 40, mean=0.02), noisy(30, 50, mean=0.3)], axis=1)
  expected = compiled().enhance(model, image)
  enhancer = Enhancer(model, tile=36)
  assert len(enhancer.plan(30, 90).columns) > 1
  np.testing.assert_allclose(enhancer(image), expected, atol=2e-6)
  for side in range(4):
    enhancer.shapes.choose(side, side)
  piece = image[:13, 20:57]
  expected = compiled().enhance(model, piece)
  np.testing.assert_allclose(Enhancer(model)(piece), expected, atol=2e-6)
  np.testing.assert_allclose(enhancer(piece), expected, atol=2e-6)
  assert enhancer.shapes.buckets


def test_the_brightest_colour_decides_about_the_level(model):
  """A red image gets the level of a grey one that is as bright as its red, in windows and in the exposure loss too."""
  options = dataclasses.replace(OPTIONS, illumination=dataclasses.replace(OPTIONS.illumination, brightness="brightest"))
  of_brightest = dataclasses.replace(model, options=options)
  grey = noisy(30, 90)[..., :1].repeat(3, axis=-1)
  red = grey * np.float32([1, 0.5, 0.5])
  network = of_brightest.network
  levels = [network.illumination(model.weights["illumination"], None, image[None]).warm_start for image in (red, grey)]
  np.testing.assert_allclose(levels[0][..., 0], levels[1][..., 0], atol=1e-6)
  assert np.abs(levels[0][..., 1] - levels[1][..., 1]).min() > 1e-3
  own = compiled().illumination(model.weights["illumination"], red[None]).warm_start
  assert np.abs(own - levels[0]).min() > 1e-3  # with the mean of the colours, the level is lower
  np.testing.assert_allclose(Enhancer(of_brightest, tile=36)(red), enhance(of_brightest, red), atol=2e-6)
  recipe = LossOptions(illumination="exposure", exposure=ExposureOptions(target=0.45), eta_t=0.0)
  loss = make_objectives(network, recipe).illumination(model.weights["illumination"], None, red[None])[0]
  output = network.illumination(model.weights["illumination"], None, red[None])
  brightest = losses.exposure(output.result.max(-1, keepdims=True), red[None].max(-1, keepdims=True), target=0.45)
  expected = 10 * brightest + losses.log_fidelity(output.illumination, output.warm_start)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_mask_has_its_own_mean(model):
  image = noisy(9, 7)
  filled = np.full((1, 12, 10, 3), 0.9, np.float32)
  filled[0, :9, :7] = image
  valid = np.zeros((1, 1, 12, 10), bool)
  valid[..., :9, :7] = True
  module, weights = model.network.illumination, model.weights["illumination"]
  run = jax.jit(lambda weights, *images: module.run(module.fold(weights, None), *images).result)
  np.testing.assert_allclose(run(weights, filled, valid)[:, :9, :7], run(weights, image[None]), atol=1e-6)


def test_the_direct_update_has_no_level():
  with pytest.raises(UserError, match="adaptive` needs `network\\.illumination\\.update` = 'residual'"):
    IlluminationOptions(update="direct", adaptive=True)


def test_exposure_counts_from_the_target_or_from_the_own_mean(x64):
  dark, bright = np.full((1, 2, 2, 3), 0.1), np.full((1, 2, 2, 3), 0.7)
  images = np.concatenate([dark, bright])
  assert losses.exposure(images, images, target=0.45) == pytest.approx(0.35**2 / 2)
  assert losses.exposure(np.full_like(images, 0.5), images, target=0.45) == pytest.approx((0.05**2 + 0.2**2) / 2)


def test_log_fidelity_sees_ratios(x64):
  assert losses.log_fidelity(jnp.full(3, 0.2), jnp.full(3, 0.1)) == pytest.approx(0.5 * np.log(2) ** 2)
  assert losses.log_fidelity(jnp.full(3, 0.02), jnp.full(3, 0.01)) == pytest.approx(0.5 * np.log(2) ** 2)
  assert losses.log_fidelity(jnp.zeros(3), jnp.full(3, 2e-3)) == pytest.approx(0.5 * np.log(2) ** 2)  # black is finite


def test_halves_are_the_diagonals_of_blocks():
  x = RNG.uniform(size=(2, 5, 7, 3))
  first, second = losses.diagonal_halves(jnp.asarray(x))
  assert first.shape == second.shape == (2, 2, 3, 3)
  for row in range(2):
    for column in range(3):
      block = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
      np.testing.assert_allclose(first[:, row, column], (block[:, 0, 0] + block[:, 1, 1]) / 2, rtol=1e-6)
      np.testing.assert_allclose(second[:, row, column], (block[:, 0, 1] + block[:, 1, 0]) / 2, rtol=1e-6)


def test_pair_downsampling_is_its_definition(x64):
  u, t, x = (jnp.asarray(RNG.uniform(size=(2, 6, 4, 3))) for _ in range(3))

  def denoise(u, t):
    return u**2 + t

  u_halves, t_halves, x_halves = map(losses.diagonal_halves, (u, t, x))
  expected = 0.0
  for one, other in ((0, 1), (1, 0)):
    result = denoise(u_halves[one], t_halves[one])
    expected += losses.fidelity(result, u_halves[other]) + 0.3 * losses.fidelity(result, x_halves[one])
  assert losses.pair_downsampling(denoise, u, t, x, consistency=0.3) == pytest.approx(float(expected), rel=1e-12)


def test_noise_level_is_the_noise_and_not_the_edges():
  scene = np.zeros((3, 64, 64, 3), np.float32)
  scene[:, :, 31:] = 0.5  # an edge within the blocks, and a slope
  scene += np.linspace(0, 0.2, 64, dtype=np.float32)[:, None, None]
  noise = np.array([0.0, 0.02, 0.1], np.float32)[:, None, None, None] * RNG.normal(size=scene.shape).astype(np.float32)
  found = losses.noise_level(jnp.asarray(scene + noise))
  np.testing.assert_allclose(found, [1 / 255, 0.02, 0.1], rtol=0.05)  # at least one of 256 levels


def test_terms_by_noise_are_each_images_own(x64):
  u, t = (jnp.asarray(RNG.uniform(size=(2, 6, 4, 3))) for _ in range(2))
  noise = jnp.array([0.1, 0.4])

  def loss(which, noise=None):
    def denoise(u, t):
      return u**2 + t

    x = denoise(u[which], t[which])
    return losses.pair_downsampling(denoise, u[which], t[which], x, consistency=0.3, noise=noise)

  expected = (loss(slice(0, 1)) / 0.1 + loss(slice(1, 2)) / 0.4) / 2
  assert loss(slice(0, 2), noise) == pytest.approx(float(expected), rel=1e-12)


def test_pairs_tell_noise_from_detail():
  """Taking noise away lowers the loss, and taking detail away raises it: the paper's fidelity cannot."""
  scene = np.kron(RNG.uniform(0.2, 0.8, (1, 8, 8, 3)), np.ones((1, 4, 4, 1))).astype(np.float32)
  noise = 0.1 * RNG.normal(size=scene.shape).astype(np.float32)

  def loss(cleaner, image):
    lit = jnp.asarray(image)
    return losses.pair_downsampling(lambda u, t: cleaner(u), lit, lit, cleaner(lit), consistency=0.3)

  def blur(u):
    return (u + jnp.roll(u, 1, 1) + jnp.roll(u, 1, 2) + jnp.roll(u, (1, 1), (1, 2))) / 4

  assert loss(blur, np.full_like(scene, 0.5) + noise) < loss(lambda u: u, np.full_like(scene, 0.5) + noise)
  assert loss(blur, scene) > loss(lambda u: u, scene)


def test_the_objectives_use_them(model):
  images, weights = noisy(1, 10, 12), model.weights["denoising"]
  objectives = make_objectives(
    model.network, LossOptions(illumination="exposure", denoising="pairs", eta_t=0.0, eta_n=0.02)
  )
  output = compiled().illumination(model.weights["illumination"], images)
  loss, lit = jax.jit(lambda weights, images: objectives.illumination(weights, None, images))(
    model.weights["illumination"], images
  )
  expected = 10 * losses.exposure(output.u[-1], images, target=0.45)
  expected += losses.log_fidelity(output.t[-1], output.warm_start)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_array_equal(lit.u, output.u[-1])
  np.testing.assert_array_equal(lit.t, output.t[-1])

  own = make_objectives(model.network, denoising_loss=lambda x, u: jnp.mean(x - u))
  by_noise = make_objectives(
    model.network, LossOptions(denoising="pairs", eta_n=0.02, pairs=PairsOptions(per_noise=True))
  )

  @jax.jit
  def denoising_losses(weights, lit):
    return [one.denoising(weights, None, lit) for one in (objectives, by_noise, own)]

  @jax.jit
  def by_definition(weights, lit):
    def denoise(u, t):
      return model.network.denoising(weights, None, u, t)

    x, noise = denoise(*lit), losses.noise_level(lit.u)
    pairs = [losses.pair_downsampling(denoise, *lit, x, consistency=0.3, noise=width) for width in (None, noise)]
    return [loss + 0.02 * losses.total_variation(x) for loss in pairs] + [jnp.mean(x - lit.u)]

  pairs, pairs_by_noise, difference = by_definition(weights, lit)
  found = denoising_losses(weights, lit)
  np.testing.assert_allclose(found[:2], [pairs, pairs_by_noise], rtol=1e-4)
  np.testing.assert_allclose(found[2], difference, rtol=1e-3, atol=1e-7)


def test_numbers_of_a_recipe_may_be_traced(model):
  """A population sweeps them. Zeros, where a term of fixed options is left out, are among them."""
  images, options = noisy(2, 10, 12), LossOptions(illumination="exposure", denoising="pairs", eta_t=0.0)
  names = ("exposure.target", "exposure.weight", "exposure.colour_weight", "pairs.consistency")

  def both(options, weights, images):
    objectives = make_objectives(model.network, options)
    loss, lit = objectives.illumination(weights["illumination"], None, images)
    return jnp.stack([loss, objectives.denoising(weights["denoising"], None, lit)])

  @jax.jit
  def traced(*values):
    swept = {f"loss.{name}": value for name, value in zip(names, values, strict=True)}
    return both(with_numbers(options, swept, "loss"), model.weights, images)

  for values in ((0.9, 2.0, 3.0, 0.7), (0.45, 10.0, 0.0, 0.0)):
    plain = dataclasses.replace(
      options, exposure=ExposureOptions(*values[:3]), pairs=PairsOptions(consistency=values[3])
    )
    fixed = jax.jit(both, static_argnums=0)(plain, model.weights, images)
    np.testing.assert_allclose(traced(*values), fixed, rtol=1e-4)
  assert np.ptp([traced(0.9, 2.0, 3.0, 0.7)[0], traced(0.8, 2.0, 3.0, 0.7)[0]]) > 1e-3


def test_the_exposure_of_some_crops_varies():
  images = np.full((64, 8, 8, 3), 20, np.uint8)
  batch = {"image": images, "size": np.full((64, 2), 8, np.int32)}

  @jax.jit
  def means_of_crops(batch, key):
    crops = [random_crops(batch, key, crop=8, vary_exposure=share) for share in (0.0, 0.5, 1.0)]
    return jnp.stack(crops).mean(axis=(2, 3, 4))

  as_they_are, some, every = np.asarray(means_of_crops(batch, jax.random.key(0)))
  np.testing.assert_allclose(as_they_are, 20 / 255, rtol=1e-5)
  assert 16 < np.sum(~np.isclose(some, 20 / 255)) < 48
  assert 0.02 <= every.min() < 0.04 and 0.4 < every.max() <= 0.6 + 1e-6
  assert np.median(every) < 0.2  # even in the logarithm


def test_colours_are_alike_or_as_far_apart_as_their_variance(x64):
  grey = jnp.broadcast_to(jax.random.uniform(jax.random.key(0), (2, 4, 5, 1)), (2, 4, 5, 3))
  assert losses.colour_constancy(grey) == pytest.approx(0, abs=1e-12)
  tinted = grey.at[0].add(jnp.array([0.3, 0.0, -0.3]))
  assert losses.colour_constancy(tinted) == pytest.approx((0.09 + 0 + 0.09) / 3 / 2)


def test_colour_and_brightness_are_smoothed_apart(model):
  """On a grey image the variation of colour is zero; on one of even brightness, that of brightness."""
  options = LossOptions(illumination="exposure", denoising="pairs", eta_t=0.0, eta_n=1.0, chroma=3.0)
  both = [make_objectives(model.network, one) for one in (options, dataclasses.replace(options, eta_n=0.0))]

  @jax.jit
  def difference_and_definition(weights, lit):
    smoothed, base = (objectives.denoising(weights, None, lit) for objectives in both)
    x = model.network.denoising(weights, None, *lit)
    brightness = x.mean(axis=-1, keepdims=True)
    return smoothed - base, losses.total_variation(brightness) + 3 * losses.total_variation(x - brightness)

  lit = Illuminated(*jax.random.uniform(jax.random.key(1), (2, 1, 8, 8, 3)))
  difference, expected = difference_and_definition(model.weights["denoising"], lit)
  assert float(difference) == pytest.approx(float(expected), rel=1e-4)
