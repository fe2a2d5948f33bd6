"""The unrolled modules against the paper's equations in NumPy, and the network around them.

The equations are tested with a stand-in for the cell, one number per stage, so that only the unrolling is at stake.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_convolution import convolve_by_definition

from ruas_jax.convolution.layout import ImageLayout
from ruas_jax.convolution.primitives import square_taps
from ruas_jax.errors import UserError
from ruas_jax.lowlight.denoising import DenoisingModule
from ruas_jax.lowlight.genotype import EDGES, PUBLISHED, Genotype
from ruas_jax.lowlight.illumination import IlluminationModule, IlluminationOutput, local_maximum
from ruas_jax.lowlight.module import RUAS
from ruas_jax.lowlight.network import build_network, count_macs, count_parameters, run
from ruas_jax.lowlight.operations import CANDIDATES, SKIP, convolution_operation
from ruas_jax.lowlight.options import RELEASED, DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.nas.relaxation import softmax

pytestmark = pytest.mark.usefixtures("x64_module")

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0.0, 0.4, size=(2, 5, 4, 3))
SIMPLE = Genotype(
  ("conv_3x3", "skip", "residual_conv_3x3", "conv_1x1", "conv_3x3", "skip", "conv_1x1"),
  ("conv_1x1", "conv_3x3", "skip", "residual_conv_3x3", "skip", "conv_3x3", "skip"),
)  # its pairs have the same taps, so it compiles quickly; the published one is in test_parity
SMALL = NetworkOptions(illumination=IlluminationOptions(stages=2), denoising=DenoisingOptions(stages=2))


@dataclasses.dataclass(frozen=True)
class GainCell:
  """A stand-in for a cell: an activated gain."""

  layout: ImageLayout = ImageLayout()

  def init(self, key, *, output_scale=1.0, dtype=jnp.float32):
    return {"gain": output_scale * jax.random.normal(key, (), dtype)}

  def fold(self, weights, alpha, channels=None):
    return weights

  def apply(self, folded, x, activation, mask=None):
    return activation(folded["gain"] * (x - 0.3))


GAINS = np.array([0.6, -0.5, 1.4])


def gain_cell(gain, x):
  value = gain * (x - 0.3)
  return np.where(value >= 0, value, 0.05 * value)


def region_maximum(image, size, window):
  """Pixel by pixel on `[B, H, W, C]`, zero outside the image."""
  before = (size - 1) // 2 if window == "centred" else 0
  result = np.zeros_like(image)
  for y in range(image.shape[1]):
    for x in range(image.shape[2]):
      rows, columns = slice(max(0, y - before), y - before + size), slice(max(0, x - before), x - before + size)
      result[:, y, x] = image[:, rows, columns].max(axis=(1, 2))
  return np.maximum(result, 0)


def illumination_by_definition(options, gains, y):
  """Equations 1 and 2 in the order in which the paper writes them."""

  def first_line(u):
    maximum = region_maximum(u, options.region, options.window)
    return np.broadcast_to(maximum.max(-1, keepdims=True), y.shape) if options.one_illumination else maximum

  warm_0 = first_line(y)
  t, ts, us = warm_0, [], []
  for k in range(options.stages):
    warm = warm_0
    if k > 0 and options.warm_start == "updated":
      warm = first_line(us[-1]) - options.gamma * (us[-1] - y)
    t = warm - gain_cell(gains[k], t) if options.update == "residual" else 1 / (1 + np.exp(-gain_cell(gains[k], warm)))
    if options.one_illumination:
      t = np.broadcast_to(t.mean(-1, keepdims=True), y.shape)
    estimate, t = t, np.clip(t, options.floor, 1)
    ts.append(t)
    us.append(np.clip(y / t**options.exponent, 0, 1))
  return IlluminationOutput(np.stack(ts), np.stack(us), estimate, warm_0, us[-1], ts[-1])


def illumination(options, gains, images, smoothing=0.0):
  module = IlluminationModule(options, GainCell(), smoothing=smoothing)
  return jax.jit(lambda gains, y: module({"gain": gains}, None, y))(gains, images)


ILLUMINATION_OPTIONS = {
  "direct": {"update": "direct"},
  "region_1": {"region": 1},
  "region_2": {"region": 2},
  "region_5": {"region": 5},
  "forward": {"window": "forward"},
  "forward_2": {"window": "forward", "region": 2},
  "one_illumination": {"one_illumination": True},
  "fixed": {"warm_start": "fixed"},
  "no_rectification": {"gamma": 0.0},
  "exponent": {"exponent": 0.7},
  "high_floor": {"floor": 0.3},
  "one_stage": {"stages": 1},
  "everything": {
    "update": "direct",
    "region": 2,
    "window": "forward",
    "one_illumination": True,
    "gamma": 0.9,
    "exponent": 0.5,
  },
}


@pytest.mark.parametrize("name", ["default", *ILLUMINATION_OPTIONS])
def test_illumination_is_equations_1_and_2(name):
  options = IlluminationOptions(**ILLUMINATION_OPTIONS.get(name, {}))
  result = illumination(options, GAINS[: options.stages], IMAGES)
  expected = illumination_by_definition(options, GAINS, IMAGES)
  for field in result._fields:
    np.testing.assert_allclose(getattr(result, field), getattr(expected, field), rtol=0, atol=1e-14, err_msg=field)
  if name != "default":  # the option does something here
    default = illumination_by_definition(IlluminationOptions(), GAINS, IMAGES)
    assert np.max(np.abs(result.u[-1] - default.u[-1])) > 1e-3


def test_one_weight_set_serves_all_stages():
  for shared in (False, True):
    module = IlluminationModule(IlluminationOptions(share_weights=shared), GainCell())
    assert module.init(jax.random.key(0))["gain"].shape == ((1,) if shared else (3,))
  one = illumination(IlluminationOptions(share_weights=True), GAINS[:1], IMAGES)
  copies = illumination(IlluminationOptions(), np.repeat(GAINS[:1], 3), IMAGES)
  jax.tree.map(np.testing.assert_array_equal, one, copies)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("window", ["centred", "forward"])
def test_local_maximum(size, window):
  image = RNG.uniform(size=(1, 4, 5, 2))
  ours = local_maximum(jnp.moveaxis(image, -1, 1), size, window)
  np.testing.assert_array_equal(jnp.moveaxis(ours, 1, -1), region_maximum(image, size, window))


@pytest.mark.parametrize("smoothing", [0.0, 0.05])
@pytest.mark.parametrize("update", ["residual", "direct"])
def test_illumination_and_brightness_stay_in_range(update, smoothing):
  options = IlluminationOptions(update=update, floor=0.01)
  images = np.concatenate([IMAGES, np.zeros_like(IMAGES[:1]), np.ones_like(IMAGES[:1]), (IMAGES[:1] > 0.2) * 1.0])
  for gain in (-300.0, -1.0, 0.0, 300.0):
    output = illumination(options, np.array([gain, -gain, gain]), images, smoothing)
    assert np.all(np.isfinite(output.u))
    assert np.all(output.t >= 0.01 - 1e-15) and np.all(output.t <= 1 + 1e-14)
    assert np.all(output.u >= 0) and np.all(output.u <= 1 + 1e-14)


def test_smooth_illumination_tends_to_the_kinked_one():
  """At a rate proportional to the width, or faster."""
  kinked = illumination(IlluminationOptions(), GAINS, IMAGES)
  errors = []
  for width in (1e-3, 1e-4, 1e-5):
    smooth = illumination(IlluminationOptions(), GAINS, IMAGES, width)
    errors.append(max(np.max(np.abs(one - other)) for one, other in zip(smooth, kinked, strict=True)))
  assert 0 < errors[2] < errors[1] / 5 < errors[0] / 25 < 1e-2


def denoising_by_definition(options, weights, u):
  """Equation 3 on `[B, C, H, W]`, with definitions of the stem and head."""

  def dense(name, x):
    kernel = weights[name]["kernel"].reshape(9, *weights[name]["kernel"].shape[2:]).swapaxes(1, 2)
    return convolve_by_definition(x, kernel, square_taps(3)) + weights[name]["bias"][:, None, None]

  if options.update == "residual":
    x = u
    for gain in np.resize(weights["cells"]["gain"], options.stages):
      x = u - dense("head", gain_cell(gain, dense("stem", x)))
    return x
  features = dense("stem", u)
  for gain in np.resize(weights["cells"]["gain"], options.stages):
    features = gain_cell(gain, features)
  return u - dense("head", features)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("update", ["residual", "stacked"])
def test_denoising_is_equation_3(update, share):
  options = DenoisingOptions(update=update, channels=4, share_weights=share)
  module = DenoisingModule(options, GainCell())
  weights = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape), module.init(jax.random.key(0)))
  assert weights["cells"]["gain"].shape == ((1,) if share else (3,))
  ours = jax.jit(lambda weights, images: module(weights, None, images))(weights, IMAGES)
  expected = denoising_by_definition(options, weights, np.moveaxis(IMAGES, -1, 1))
  np.testing.assert_allclose(jnp.moveaxis(ours, -1, 1), expected, rtol=0, atol=1e-11)


def random_weights(network, seed=0):
  """Initial weights with the biases moved off zero."""
  weights = jax.jit(network.init_weights, static_argnums=1)(jax.random.key(seed), jnp.float64)
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: leaf + 0.02 * rng.normal(size=leaf.shape), weights)


@functools.cache
def compiled(network, variant):
  return jax.jit(functools.partial(run, network, variant))


@pytest.fixture(scope="module")
def derived(x64_module):
  """A derived network of two stages and weights for it."""
  network = build_network(SMALL, SIMPLE)
  return network, random_weights(network)


def test_a_batch_is_its_images_one_by_one(derived):
  network, weights = derived
  together = compiled(network, "i+n")(weights, {}, IMAGES)
  assert together.image.shape == together.x.shape == IMAGES.shape
  assert together.t.shape == together.u.shape == (2, *IMAGES.shape)
  alone = [compiled(network, "i+n")(weights, {}, IMAGES[i : i + 1]) for i in range(2)]
  mapped = jax.jit(jax.vmap(functools.partial(run, network, "i+n"), (None, None, 0)))(weights, {}, IMAGES[:, None])
  for i in range(2):
    for name, batch_axis in (("image", 0), ("t", 1), ("u", 1), ("x", 0)):
      whole = np.take(getattr(together, name), [i], axis=batch_axis)
      np.testing.assert_allclose(getattr(alone[i], name), whole, rtol=0, atol=1e-13)
      np.testing.assert_allclose(getattr(mapped, name)[i], whole, rtol=0, atol=1e-13)


def test_variants(derived):
  """Variant "i" gives u_K and asks for no weights of the noise removal; "i+n" gives x_N, clipped."""
  network, weights = derived
  full = compiled(network, "i+n")(weights, {}, IMAGES)
  np.testing.assert_array_equal(full.image, np.clip(full.x, 0, 1))
  assert np.max(np.abs(full.x - full.u[-1])) > 1e-3
  alone = compiled(network, "i")({"illumination": weights["illumination"]}, {}, IMAGES)
  assert alone.x is None
  np.testing.assert_allclose(alone.image, full.u[-1], rtol=0, atol=1e-14)


def test_one_smoothing_rounds_both_modules(derived):
  network, weights = derived
  kinked = compiled(network, "i+n")(weights, {}, IMAGES)
  for width, low, high in ((0.05, 1e-3, 1.0), (1e-5, 1e-9, 1e-3)):
    smooth = build_network(dataclasses.replace(SMALL, smoothing=width), SIMPLE)
    assert smooth.illumination.smoothing == smooth.denoising.smoothing == width
    assert low < np.max(np.abs(compiled(smooth, "i+n")(weights, {}, IMAGES).x - kinked.x)) < high


def test_flax_module_of_a_derived_network(derived):
  model = RUAS(genotype=SIMPLE, options=SMALL)
  assert isinstance(model, nn.Module)
  variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
  assert set(variables) == {"params"}
  network, weights = derived
  assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(jnp.shape, weights)
  expected = compiled(network, "i+n")(weights, {}, IMAGES)
  jax.tree.map(np.testing.assert_array_equal, jax.jit(model.apply)({"params": weights}, IMAGES), expected)


def test_flax_module_of_the_supernet():
  operations = (SKIP, convolution_operation("conv_3x3", 3))
  model = RUAS(options=SMALL, operations=operations)
  variables = jax.jit(model.init)(jax.random.key(0), IMAGES)
  assert set(variables) == {"params", "arch"}
  assert set(variables["params"]) == set(variables["arch"]) == {"illumination", "denoising"}
  for alpha in variables["arch"].values():
    assert alpha.shape == (len(EDGES), 2) and not np.any(alpha)
  alpha = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape), variables["arch"])
  network = build_network(SMALL, operations=operations)
  output = jax.jit(model.apply)({"params": variables["params"], "arch": alpha}, IMAGES)
  expected = compiled(network, "i+n")(variables["params"], softmax(alpha), IMAGES)
  jax.tree.map(np.testing.assert_array_equal, output, expected)
  # each module has its own alpha: that of the denoising changes x alone
  half = softmax(alpha | {"denoising": variables["arch"]["denoising"]})
  half = compiled(network, "i+n")(variables["params"], half, IMAGES)
  np.testing.assert_array_equal(half.u, output.u)
  assert np.max(np.abs(half.x - output.x)) > 1e-5
  at_zero = compiled(network, "i+n")(variables["params"], variables["arch"], IMAGES)
  assert np.max(np.abs(at_zero.u - output.u)) > 1e-5


def test_flax_module_keeps_its_variant():
  model = RUAS(genotype=PUBLISHED, options=dataclasses.replace(SMALL, variant="i"))
  variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
  assert jax.eval_shape(model.apply, variables, IMAGES).x is None


def test_share_weights_of_a_network_equals_copies():
  options = NetworkOptions(
    illumination=IlluminationOptions(stages=2, share_weights=True),
    denoising=DenoisingOptions(stages=2, share_weights=True),
  )
  shared = build_network(options, SIMPLE)
  weights = random_weights(shared)
  repeat = lambda tree: jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), tree)
  copies = {
    "illumination": repeat(weights["illumination"]),
    "denoising": weights["denoising"] | {"cells": repeat(weights["denoising"]["cells"])},
  }
  one = compiled(shared, "i+n")(weights, {}, IMAGES)
  many = compiled(build_network(SMALL, SIMPLE), "i+n")(copies, {}, IMAGES)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-13), one, many)


def test_published_parameter_counts():
  network = build_network(RELEASED, PUBLISHED)
  weights = jax.eval_shape(network.init_weights, jax.random.key(0))
  assert count_parameters(weights["illumination"]) == 1161 and count_parameters(weights["denoising"]) == 2277
  # the paper's form has the same weights
  paper = jax.eval_shape(build_network(genotype=PUBLISHED).init_weights, jax.random.key(0))
  assert jax.tree.map(jnp.shape, paper) == jax.tree.map(jnp.shape, weights)


def test_count_macs_counts_every_stage():
  """By hand: kernels of conv_1x1 on seven edges and the fusion, at every pixel."""
  genotype = Genotype(("conv_1x1",) * 7, ("conv_1x1",) * 7)
  cell = lambda channels: 7 * channels**2 + 4 * channels**2
  for share in (False, True):
    for update, ends in (("residual", 2 * (9 * 3 * 6) * 2), ("stacked", 2 * (9 * 3 * 6))):
      options = NetworkOptions(
        IlluminationOptions(stages=3, share_weights=share),
        DenoisingOptions(stages=2, update=update, share_weights=share),
      )
      network = build_network(options, genotype)
      assert count_macs(network, "i", 5, 4) == 20 * 3 * cell(3)
      assert count_macs(network, "i+n", 5, 4) == 20 * (3 * cell(3) + 2 * cell(6) + ends)


def test_initial_network_starts_near_the_warm_start():
  """So that the illumination is off its floor, where it would not learn, and noise removal near the identity."""
  network = build_network(SMALL, SIMPLE)
  for seed in range(3):
    weights = jax.jit(network.init_weights, static_argnums=1)(jax.random.key(seed), jnp.float64)
    output = compiled(network, "i+n")(weights, {}, IMAGES)
    assert np.mean(output.t[0] > 0.01) > 0.9
    assert np.mean(np.abs(output.x - output.u[-1])) < 0.1
  assert network.init_alpha() == {}


def test_unknown_operations_are_refused():
  with pytest.raises(UserError, match="residual_conv_1x1"):
    build_network(SMALL, PUBLISHED, operations=CANDIDATES[:2])
