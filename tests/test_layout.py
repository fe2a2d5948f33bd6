"""Images in blocks of pixels give what images in pixels give: the convolution and its derivatives, the network, a
search. In float64, for sizes that are no multiples of a block too."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stepping import players_of, problem_of, step_of

from ruas_jax.convolution.layout import ImageLayout
from ruas_jax.convolution.parts import whole
from ruas_jax.convolution.primitives import identity_taps, square_taps
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.illumination import local_maximum
from ruas_jax.lowlight.loss_options import LossOptions
from ruas_jax.lowlight.network import build_network, image_layout
from ruas_jax.lowlight.objectives import make_objectives
from ruas_jax.lowlight.operations import CANDIDATES, live_taps
from ruas_jax.lowlight.options import RELEASED, DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.problem import as_it_is
from ruas_jax.nas.relaxation import softmax
from ruas_jax.photos.model import Model, describe

pytestmark = pytest.mark.usefixtures("x64_module")

PIXELS = ImageLayout()
UNEVEN = ((-1, 0), (0, 2), (3, -1), (0, -5))  # no symmetry that could hide a flipped sign, and one beyond a block
TAPS = {"search": live_taps(CANDIDATES, 3), "uneven": UNEVEN, "one_tap": identity_taps}
SIZES = [(8, 12), (7, 10), (1, 3)]


def normal(*shape):
  return np.random.default_rng(sum(shape)).normal(size=shape)


def by_layout(layout, taps, image, kernel):
  """The convolution of an image `[B, C, H, W]` as a module computes it, with a bias made of the kernel."""
  height, width = image.shape[2:]
  planes = layout.enter(jnp.moveaxis(image, 1, -1))
  bias = layout.bias(jnp.sum(kernel, axis=(0, 2)))
  result = layout.convolve([whole(planes)], layout.kernel(kernel, taps), bias, taps, layout.mask(None, height, width))
  return jnp.moveaxis(layout.leave(result, height, width), -1, 1)


def with_derivatives(function, image, kernel, cotangent):
  """The value, both gradients, and a second derivative in another direction of both."""

  def gradients(image, kernel):
    value, pull_back = jax.vjp(function, image, kernel)
    return value, *pull_back(cotangent)

  return jax.jit(lambda *at: jax.jvp(gradients, at, (jnp.sin(at[0]), jnp.cos(at[1]))))(image, kernel)


@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("taps", TAPS.values(), ids=TAPS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_convolution_and_its_derivatives(side, taps, size):
  operands = normal(2, 3, *size), normal(len(taps), 2, 3), normal(2, 2, *size)
  compute = lambda layout: with_derivatives(functools.partial(by_layout, layout, taps), *operands)
  for value, expected in zip(*map(jax.tree.leaves, (compute(ImageLayout(side)), compute(PIXELS))), strict=True):
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=["images", "kernels", "both"])
def test_batches_of_images_and_of_kernels(axes):
  taps = square_taps(3, 2)
  operands = [
    normal(*((4,) if axis == 0 else ()), *shape) for axis, shape in zip(axes, [(2, 3, 5, 6), (9, 2, 3)], strict=True)
  ]
  compute = lambda layout: jax.jit(jax.vmap(functools.partial(by_layout, layout, taps), in_axes=axes))(*operands)
  np.testing.assert_allclose(compute(ImageLayout(4)), compute(PIXELS), rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_images_leave_the_layout_as_they_entered_it(size):
  layout, images = ImageLayout(4), normal(2, *size, 3)
  planes = layout.enter(jnp.asarray(images))
  assert planes.shape == (2, 48, -(-size[0] // 4), -(-size[1] // 4))
  np.testing.assert_array_equal(layout.leave(planes, *size), images)


@pytest.mark.parametrize("size", [(7, 10), (1, 3)], ids=str)
def test_pixels_that_blocks_add_are_outside(size):
  layout = ImageLayout(4)
  planes = layout.enter(jnp.ones((1, *size, 3)))
  inside = layout.inside(jnp.full_like(planes, jnp.nan), layout.mask(None, *size))
  np.testing.assert_array_equal(np.isnan(inside), planes == 1)
  assert layout.mask(None, 8, 12) is None


def test_a_pixel_lies_where_the_layout_says():
  planes = ImageLayout(4).enter(jnp.arange(5 * 6 * 2.0).reshape(1, 5, 6, 2))
  row, column, channel = 4, 3, 1  # the first row and the last column of a block
  assert planes[0, channel * 16 + 3, 1, 0] == (row * 6 + column) * 2 + channel
  assert not np.any(planes[0, :, 1, 1].reshape(2, 4, 4)[:, 1:])  # below the image


@pytest.mark.parametrize("window", ["centred", "forward"])
@pytest.mark.parametrize("region", [2, 3, 7])
def test_the_local_maximum(region, window):
  images, (height, width) = normal(2, 7, 10, 3), (7, 10)

  def compute(layout):
    mask = layout.mask(None, height, width)
    planes = local_maximum(layout.enter(jnp.asarray(images)), region, window, 0.0, mask, layout=layout)
    return layout.leave(planes, height, width)

  np.testing.assert_array_equal(compute(ImageLayout(4)), compute(PIXELS))


ALL_COLOURS = NetworkOptions(
  illumination=IlluminationOptions(stages=2, one_illumination=True), denoising=DenoisingOptions(stages=2)
)
ADAPTIVE = NetworkOptions(
  illumination=IlluminationOptions(
    stages=2, adaptive=True, region=1, warm_start="fixed", share_weights=True, curve="exponential", light="linear"
  ),
  denoising=DenoisingOptions(stages=1, guided=True),
)
NETWORKS = {
  "one_illumination": (ALL_COLOURS, None),
  "adaptive": (ADAPTIVE, None),
  "released": (RELEASED, Genotype.named("published")),
}


@pytest.mark.parametrize(("options", "genotype"), NETWORKS.values(), ids=NETWORKS)
def test_the_network_and_its_gradient(options, genotype):
  """Also with a mask, and with NaN where it is false."""
  images = np.random.default_rng(0).uniform(0, 0.3, (1, 7, 10, 3))
  valid = np.ones((1, 1, 7, 10), bool)
  valid[..., 6:, :] = valid[..., 8:] = False
  images[:, 6:] = images[:, :, 8:] = np.nan

  def compute(layout):
    network = build_network(dataclasses.replace(options, layout=layout), genotype)
    weights = jax.jit(network.init_weights, static_argnums=1)(jax.random.key(0), jnp.float64)

    def forward(weights, shares):
      light = network.illumination.run(
        network.illumination.fold(weights["illumination"], shares.get("illumination")), images, valid
      )
      folded = network.denoising.fold(weights["denoising"], shares.get("denoising"))
      return network.denoising.run(folded, light.result, light.illumination, valid)[:, :6, :8]

    loss = lambda *at: jnp.sum(jnp.square(forward(*at)))
    at = weights, softmax(network.init_alpha(jnp.float64))
    return jax.jit(lambda *at: (forward(*at), jax.grad(loss)(*at)))(*at)

  for value, expected in zip(*map(jax.tree.leaves, (compute("blocks"), compute("pixels"))), strict=True):
    assert np.any(expected)
    np.testing.assert_allclose(value, expected, rtol=1e-11, atol=1e-13)


def test_a_search_finds_the_same():
  """Twenty rounds of the exact search, on images whose sides are no multiples of a block."""
  operations = CANDIDATES[:4]
  images = np.random.default_rng(0).uniform(0.02, 0.3, (2, 1, 9, 10, 3))

  def search(layout):
    options = NetworkOptions(
      illumination=IlluminationOptions(stages=1), denoising=DenoisingOptions(stages=1, channels=3), layout=layout
    )
    network = build_network(options, operations=operations)
    players = players_of(RUASSearchOptions(), make_objectives(network, LossOptions(eta_t=0.0)), 0.5)
    problem = dataclasses.replace(problem_of(network, players, crop=9), sample=as_it_is)
    step, init = step_of(problem, SearchOptions(hypergradient="unrolled"), optax.sgd(0.1), optax.adam(0.1))

    @jax.jit
    def rounds(key):
      take = lambda state, _: step(state, images[:1], images[1:], key)
      return jax.lax.scan(take, init(key), None, length=20)[0]

    return rounds(jax.random.key(0))

  blocks, pixels = search("blocks"), search("pixels")
  for value, expected in zip(
    *(jax.tree.leaves((state.weights, state.alpha)) for state in (blocks, pixels)), strict=True
  ):
    np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-10)
  for name, alpha in pixels.alpha.items():
    assert np.ptp(alpha) > 0.1
    np.testing.assert_array_equal(np.argmax(alpha, 1), np.argmax(blocks.alpha[name], 1))


def test_a_cpu_has_pixels_and_options_choose():
  assert image_layout(NetworkOptions()).side == 1
  assert image_layout(NetworkOptions(layout="blocks")).side == 4


@pytest.mark.parametrize(("backend", "expected"), [("tpu", "HIGHEST HIGH DEFAULT"), ("gpu", "HIGHEST HIGHEST DEFAULT")])
def test_high_precision_is_never_tf32(monkeypatch, backend, expected):
  """A GPU has nothing between float32 and TF32."""
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  found = [image_layout(NetworkOptions(precision=name)).precision for name in ("exact", "high", "fast")]
  assert [precision.name for precision in found] == expected.split()


def test_precision_reaches_every_product_and_its_derivatives():
  """Of an accelerator's program, in both layouts."""
  kernel, image = jnp.ones((9, 2, 3)), jnp.ones((1, 3, 8, 8))
  for side in (1, 4):
    layout = ImageLayout(side, jax.lax.Precision.HIGH)
    loss = lambda image, kernel, layout=layout: jnp.sum(jnp.sin(by_layout(layout, square_taps(3), image, kernel)))
    text = jax.export.export(jax.jit(jax.grad(loss, (0, 1))), platforms=["tpu"])(image, kernel).mlir_module()
    operations = re.findall(r"= stablehlo\.(?:convolution|dot_general)\b.*", text)
    assert sum("HIGHEST" not in operation and "HIGH" in operation for operation in operations) == 3


def test_a_saved_model_does_not_depend_on_the_device():
  options = dataclasses.replace(RELEASED, layout="blocks", precision="fast")
  genotype = Genotype.named("published")
  weights = build_network(options, genotype).weight_shapes()
  network = describe(Model(weights, genotype, options))["network"]
  assert (network["layout"], network["precision"]) == ("auto", "exact")
