"""However an image is run, its result is that of the whole image alone: masks, windows, the halo, folding, dtypes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ruas_jax.lowlight.cell import Cell
from ruas_jax.lowlight.genotype import EDGES, PUBLISHED, Genotype
from ruas_jax.lowlight.mixed_op import sum_of_operations
from ruas_jax.lowlight.network import Network, build_network, run, run_folded
from ruas_jax.lowlight.options import DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.model import Model, enhance, enhance_folded, fold
from ruas_jax.photos.sizes import EXACT_SHAPES

DETOUR = Genotype(  # the farthest way is neither along all the remain edges nor straight out
  ("dilated_conv_3x3", "conv_1x1", "conv_3x3", "conv_3x3", "residual_dilated_conv_3x3", "skip", "conv_3x3"),
  ("conv_1x1", "conv_3x3", "skip", "dilated_conv_3x3", "skip", "conv_3x3", "conv_1x1"),
)
ALONE = Genotype(("skip",) * 7, ("conv_1x1",) * 7)  # no pixel sees another through its cells


def options(smoothing=0.0, denoising="residual", **illumination):
  stages = {"stages": 2, **illumination}
  return NetworkOptions(
    IlluminationOptions(**stages), DenoisingOptions(stages=2, update=denoising), smoothing=smoothing
  )


CASES = {
  "paper": (PUBLISHED, options()),
  "released": (PUBLISHED, options(update="direct", region=2, window="forward", denoising="stacked")),
  "smooth": (DETOUR, options(smoothing=0.05, region=5, one_illumination=True)),
  "fixed": (DETOUR, options(warm_start="fixed", region=4, exponent=0.7)),
  "direct_fixed": (DETOUR, options(update="direct", warm_start="fixed", region=3, window="forward")),
  "cells_of_single_pixels": (ALONE, options(region=1, denoising="stacked")),
  "one_stage": (PUBLISHED, options(stages=1, region=7)),
}


@functools.cache
def initial_weights(genotype, network_options, dtype):
  """Compiled once for all tests; NumPy arrays."""
  network = build_network(network_options, genotype)
  return jax.device_get(jax.jit(network.init_weights, static_argnums=1)(jax.random.key(0), dtype))


def make_model(name, dtype=jnp.float32):
  """Biases off zero, and weights that let far pixels be felt."""
  genotype, network_options = CASES[name]
  weights = initial_weights(genotype, network_options, dtype)
  rng = np.random.default_rng(0)
  weights = jax.tree.map(lambda leaf: jnp.asarray(leaf + 0.05 * rng.normal(size=leaf.shape), dtype), weights)
  return Model(weights, genotype, network_options)


def dark(*shape, seed=1, dtype=np.float64):
  return np.random.default_rng(seed).uniform(0, 0.3, (*shape, 3)).astype(dtype)


@pytest.mark.parametrize("name", CASES)
def test_what_is_outside_the_mask_changes_nothing(name, x64):
  """Not even NaN, for any of the results; the batch has two masks."""
  model = make_model(name, jnp.float64)
  folded = fold(model)
  forward = jax.jit(lambda images, valid: run_folded(folded.network, folded.convolutions, images, valid))
  sizes = [(7, 5), (4, 9)]
  images, valid = np.full((2, 9, 10, 3), np.nan), np.zeros((2, 1, 9, 10), bool)
  for index, (height, width) in enumerate(sizes):
    images[index, :height, :width] = dark(height, width)
    valid[index, :, :height, :width] = True
  filled = forward(images, valid)
  for index, (height, width) in enumerate(sizes):
    alone = forward(images[index : index + 1, :height, :width], None)
    for field, batch_axis in (("image", 0), ("x", 0), ("t", 1), ("u", 1)):
      inside = np.take(getattr(filled, field), [index], axis=batch_axis)[..., :height, :width, :]
      np.testing.assert_allclose(inside, getattr(alone, field), rtol=0, atol=1e-13, err_msg=field)


@pytest.mark.parametrize("variant", ["i", "i+n"])
@pytest.mark.parametrize("name", CASES)
def test_the_reach_is_as_far_as_a_result_looks_and_no_farther(name, variant, x64):
  model = make_model(name, jnp.float64).with_variant(variant)
  model.weights["denoising"] = jax.tree.map(lambda leaf: 3 * leaf, model.weights["denoising"])  # else it sees little
  network = model.network
  reach = network.reach(variant)
  middle = reach + 1

  def result(images):
    output = run(network, variant, model.weights, {}, images)
    return (output.image if variant == "i" else output.x)[:, middle, middle]  # x is not clipped

  forward = jax.jit(result)
  rows, columns = np.indices((2 * middle + 1,) * 2)
  distance = np.maximum(abs(rows - middle), abs(columns - middle))[None, ..., None]
  images = dark(8, *distance.shape[1:3])

  def change(radius):
    """Of the pixel in the middle, where everything farther away is another image."""
    others = np.where(distance > radius, dark(8, *distance.shape[1:3], seed=2), images)
    return np.max(np.abs(forward(others) - forward(images)))

  assert change(reach) == 0
  assert reach == 0 or change(reach - 1) > 1e-12


def whole(model, image):
  return np.asarray(jax.jit(enhance)(model, jnp.asarray(image)))


@pytest.mark.parametrize("size", [(12, 12), (13, 12), (29, 31), (2, 90), (90, 3), (1, 1), (23, 145)], ids=str)
def test_windows_are_the_whole(size):
  """One pixel more than a window, thin ones, one that is lower than the halo."""
  model = make_model("one_stage").with_variant("i")
  assert model.network.reach("i") == 5
  image = dark(*size, dtype=np.float32)
  np.testing.assert_allclose(Enhancer(model, tile=21)(image), whole(model, image), rtol=0, atol=1e-6)
  np.testing.assert_allclose(Enhancer(model, tile=12)(image), whole(model, image), rtol=0, atol=1e-6)


def test_windows_need_all_of_the_halo():
  model = make_model("one_stage")
  image = dark(50, 60, dtype=np.float32)
  enhancer = Enhancer(model, tile=44)
  assert np.abs(enhancer(image) - whole(model, image)).max() < 1e-6
  enhancer._halo = 3
  assert np.abs(enhancer(image) - whole(model, image)).max() > 1e-5


def test_many_sizes_share_programs_and_keep_their_results():
  model = make_model("one_stage").with_variant("i")
  enhancer, forward = Enhancer(model), jax.jit(enhance)
  for number, size in enumerate(
    [(8, 9), (9, 8), (7, 7), (7, 9), (15, 11), (13, 16), (12, 12), (11, 15), (12, 9), (8, 9)]
  ):
    image = dark(*size, seed=number, dtype=np.float32)
    np.testing.assert_allclose(enhancer(image), forward(model, image), rtol=0, atol=1e-6)
  assert enhancer.compiled == EXACT_SHAPES + 1 and len(enhancer.shapes.buckets) == 1


def test_a_window_that_is_filled_up_is_exact_too():
  model = make_model("one_stage").with_variant("i")
  enhancer = Enhancer(model, tile=21)
  for side in range(EXACT_SHAPES):
    enhancer.shapes.choose(side, side)
  image = dark(18, 70, dtype=np.float32)
  np.testing.assert_allclose(enhancer(image), whole(model, image), rtol=0, atol=1e-6)
  assert enhancer.shapes.buckets == [(32, 32)] and enhancer.compiled == 1


class UnfoldedCell(Cell):
  """The equations edge by edge, each edge one convolution of the library."""

  def fold(self, weights, shares, channels=None):
    return weights

  def apply(self, folded, x, activation, valid=None):
    def edge(position, r):
      operation, name = self.edge_operations[position], EDGES[position]
      own = {operation.name: folded["edges"][name]} if name in folded["edges"] else {}
      return sum_of_operations(r, own, jnp.ones(1), (operation,))

    distilled = []
    for node in range(3):
      distilled.append(activation(edge(2 * node, x)))
      x = activation(edge(2 * node + 1, x) + x)
    features = jnp.concatenate([*distilled, activation(edge(6, x))], axis=1)
    fusion = folded["fusion"]
    return jnp.einsum("io,bihw->bohw", fusion["kernel"][0, 0], features) + fusion["bias"][None, :, None, None]


@pytest.mark.parametrize("name", ["paper", "released"])
def test_the_folded_network_is_the_network_edge_by_edge(name, x64):
  model = make_model(name, jnp.float64)

  def unfolded(module):
    cell = UnfoldedCell(module.cell.channels, module.cell.operations, module.cell.genotype)
    return dataclasses.replace(module, cell=cell)

  network, images = Network(*map(unfolded, model.network)), dark(1, 6, 7)
  expected = jax.jit(lambda weights: run(network, "i+n", weights, {}, images).image)(model.weights)
  result = jax.jit(lambda model: enhance_folded(fold(model), images))(model)
  np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)
  assert result.std() > 0.01
  assert fold(model.with_variant("i")).convolutions.denoising is None


@pytest.mark.parametrize("name", ["paper", "released"])
def test_bfloat16_is_near(name):
  model = make_model(name)
  image = dark(10, 12, dtype=np.float32)
  exact, coarse = Enhancer(model)(image), Enhancer(model, dtype="bfloat16")(image)
  assert coarse.dtype == np.float32
  assert 1e-5 < np.abs(coarse - exact).max() < 0.05
