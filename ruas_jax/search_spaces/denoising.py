"""Removing noise with one cell whose four distill edges are searched: 7^4 = 2401 architectures.

The cell is that of `lowlight.cell`. Its remain edges are 1x1 convolutions, and so are the convolutions before and after
it. A pixel therefore sees its neighbours only through the searched edges.

    r_0 = stem(y),   d_i = a(distill_i(r_{i-1})),   r_i = a(remain_i(r_{i-1}) + r_{i-1}),   x = y - head(fusion(d))

with y an image in [0, 1], shifted and scaled to [-2, 2]: without the shift, training spends its first half on the mean
brightness. Training needs no references: the loss is `lowlight.losses.pair_downsampling`.

The photographs are those of the built-in set (`data.synthetic`), recorded with at most 25 electrons in a pixel. Such a
picture is a dark photograph that was brightened exactly, so brightness plays no part. References are used for the
metrics only.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ruas_jax.convolution.primitives import Taps, convolve, identity_taps
from ruas_jax.data.crops import random_crops
from ruas_jax.data.synthetic import builtin_pairs, darken
from ruas_jax.lowlight.kinks import leaky_relu
from ruas_jax.lowlight.losses import pair_downsampling
from ruas_jax.lowlight.mixed_op import fold_edges, init_edges, init_kernels
from ruas_jax.lowlight.operations import CANDIDATES, live_taps, operation_names
from ruas_jax.nas.benchmark.space import Architecture, Data, Recipe, Space

EDGES = ("distill_1", "distill_2", "distill_3", "distill_4")
CHANNELS, COLOURS = 6, 3
_SHIFT, _SCALE, _CONSISTENCY, _HEAD = 0.5, 4.0, 0.3, 0.1
_activation = leaky_relu(0.05)
_ELECTRONS, _READ_NOISE = 25.0, 2.0
_SIDE, _CROP, _TESTED, _TIMED = 192, 32, 128, 256  # pixels: of images, training crops, test images, timed images
_TRAIN, _VALIDATION = (0, 1, 2, 4), (3, 5)  # of the built-in set's part "train"
_SEEDS = {"train": 100, "validation": 200, "test": 300}  # of the noise

ABOUT = (
  "Noise is removed from photographs by one noise removal cell with 6 channels. The four distill edges are "
  "searched; the three remain edges are 1x1 convolutions, and so are the stem and the head. The loss of training "
  "and validation is Noise2Noise between the two halves of a picture (`lowlight.losses.pair_downsampling`, "
  "consistency 0.3), without references. `psnr` and `ssim` are means over four test pictures of 128x128 pixels, by "
  "the protocol of `ruas_jax.evaluation.metrics`."
)
LICENCE = (
  "The photographs are scikit-image's astronaut (NASA) and rocket (SpaceX), public domain, for training and "
  "validation, and coffee (R. Michetti) and chelsea (S. van der Walt), CC0, for testing. "
  "`ruas_jax.data.synthetic.darken` records them with 25 electrons in a white pixel and a read noise of 2 "
  "electrons."
)

EdgeConvolution = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""`(share [O], image [B, C, H, W], kernel [T, C, C] on all taps, bias [C]) -> [B, C, H, W]`."""


def on_all_taps(share: jax.Array, image: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
  """The convolution of an edge for any mixing weights."""
  del share
  return convolve(image, kernel, _taps(), bias)


def on_live_taps(share: jax.Array, image: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
  """The same for mixing weights of zeros and ones: only the taps of the chosen operation are computed.

  Which these are is decided while the program runs, so that one program trains every architecture.
  """
  of_each = [live_taps(CANDIDATES, CHANNELS, [name]) for name in operation_names(CANDIDATES)]
  forms = sorted(set(of_each))
  chosen = jnp.array([forms.index(taps) for taps in of_each])[jnp.argmax(share)]
  return _switched(tuple(forms), chosen, image, kernel, bias)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _switched(forms: tuple[Taps, ...], chosen, image, kernel, bias):
  branches = [functools.partial(_on_taps, taps) for taps in forms]
  return lax.switch(chosen, branches, image, kernel, bias)


def _on_taps(taps: Taps, image, kernel, bias):
  return convolve(image, kernel[_positions(taps)], taps, bias)


def _switched_forward(forms, *operands):
  return _switched(forms, *operands), operands


def _switched_backward(forms, operands, cotangent):
  """One switch for all gradients. That of `lax.switch` would store what every branch needs."""
  chosen, *operands = operands

  def gradients(taps: Taps, cotangent, image, kernel, bias):
    positions = _positions(taps)
    _, pull = jax.vjp(
      lambda *operands: convolve(operands[0], operands[1], taps, operands[2]), image, kernel[positions], bias
    )
    to_image, to_kernel, to_bias = pull(cotangent)
    return to_image, jnp.zeros_like(kernel).at[positions].set(to_kernel), to_bias

  branches = [functools.partial(gradients, taps) for taps in forms]
  return np.zeros((), jax.dtypes.float0), *lax.switch(chosen, branches, cotangent, *operands)


_switched.defvjp(_switched_forward, _switched_backward)


def _taps() -> Taps:
  return live_taps(CANDIDATES, CHANNELS)


def _positions(taps: Taps) -> np.ndarray:
  """Where these taps are among all taps."""
  return np.array([_taps().index(tap) for tap in taps])


@dataclasses.dataclass(frozen=True)
class Denoiser:
  """The network, as `nas.benchmark.space.Network`. Its batches are images `[B, H, W, 3]` in [0, 1]."""

  convolve_edge: EdgeConvolution = on_all_taps

  def init(self, key: jax.Array) -> dict:
    edge_key, key = jax.random.split(key)
    shapes = {
      "stem": (1, 1, COLOURS, CHANNELS),
      "remain_1": (1, 1, CHANNELS, CHANNELS),
      "remain_2": (1, 1, CHANNELS, CHANNELS),
      "remain_3": (1, 1, CHANNELS, CHANNELS),
      "fusion": (1, 1, len(EDGES) * CHANNELS, CHANNELS),
      "head": (1, 1, CHANNELS, COLOURS),
    }
    kernels = init_kernels(key, shapes)
    kernels["head"] *= _HEAD  # the first result is near the image itself
    fixed = {name: {"kernel": kernel, "bias": jnp.zeros(kernel.shape[-1])} for name, kernel in kernels.items()}
    return {"edges": init_edges(edge_key, CANDIDATES, CHANNELS, len(EDGES))} | fixed

  def __call__(self, weights: dict, shares: jax.Array, images: jax.Array) -> jax.Array:
    """The images `[B, H, W, 3]` without noise, not clipped."""
    y = _SCALE * (jnp.moveaxis(images, -1, 1) - _SHIFT)
    return jnp.moveaxis(y - self._noise(weights, shares, y), 1, -1) / _SCALE + _SHIFT

  def _noise(self, weights: dict, shares: jax.Array, y: jax.Array) -> jax.Array:
    kernels, biases = _folded(weights, shares)
    of_edges = zip(shares, _inputs_of_edges(weights, y), kernels, biases, strict=True)
    distilled = [_activation(self.convolve_edge(share, r, *folded)) for share, r, *folded in of_edges]
    fused = _pointwise(jnp.concatenate(distilled, axis=1), weights["fusion"])
    return _pointwise(fused, weights["head"])

  def loss(self, weights: dict, shares: jax.Array, batch: jax.Array) -> jax.Array:
    denoise = lambda images, _: self(weights, shares, images)
    return pair_downsampling(denoise, batch, batch, denoise(batch, None), consistency=_CONSISTENCY)

  def measure(self, weights: dict, shares: jax.Array, test: dict) -> dict[str, jax.Array]:
    """PSNR and SSIM by the protocol of `evaluation.metrics`, means over the test images."""
    result = self(weights, shares, _as_float(test["image"]))
    levels = jnp.round(255 * jnp.clip(result, 0, 1)) / 255
    reference = _as_float(test["reference"])
    errors = jnp.mean(jnp.square(levels - reference), axis=(1, 2, 3))
    return {"psnr": jnp.mean(-10 * jnp.log10(errors)), "ssim": similarity(levels, reference)}


class ManyDenoisers(Denoiser):
  """The network for mixing weights of zeros and ones, in a form for many architectures with the same weights.

  No edge reads what another edge chose, and fusion and head are linear. So what each operation adds to the noise is
  computed without the mixing weights, and a loop over architectures only selects and adds (`bilevel.with_invariants`).
  """

  def _noise(self, weights: dict, shares: jax.Array, y: jax.Array) -> jax.Array:
    fusion, head = (weights[name]["kernel"][0, 0] for name in ("fusion", "head"))
    to_noise = jnp.stack(jnp.split(fusion, len(EDGES))) @ head[None]  # of each edge, without biases
    bias = weights["fusion"]["bias"] @ head + weights["head"]["bias"]
    inputs = _inputs_of_edges(weights, y)
    added: list[list[jax.Array]] = [[] for _ in EDGES]
    for column, name in enumerate(operation_names(CANDIDATES)):
      taps, alone = live_taps(CANDIDATES, CHANNELS, [name]), jnp.zeros_like(shares).at[:, column].set(1)
      for edge, (r, *folded) in enumerate(zip(inputs, *_folded(weights, alone), strict=True)):
        distilled = _activation(_on_taps(taps, r, *folded))
        added[edge].append(convolve(distilled, to_noise[edge].T[None], identity_taps))
    chosen = [jnp.stack(of_edge)[jnp.argmax(share)] for of_edge, share in zip(added, shares, strict=True)]
    return sum(chosen, bias[None, :, None, None])


def _folded(weights: dict, shares: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
  """For each edge, the kernel on all taps and the bias."""
  kernel, bias = fold_edges(weights["edges"], shares, CANDIDATES, _taps(), CHANNELS)
  return jnp.split(kernel, len(EDGES), axis=1), jnp.split(bias, len(EDGES))


def _inputs_of_edges(weights: dict, y: jax.Array) -> list[jax.Array]:
  """What each edge reads: r_0, r_1 and so on."""
  inputs = [_pointwise(y, weights["stem"])]
  for index in range(1, len(EDGES)):
    r = inputs[-1]
    inputs.append(_activation(_pointwise(r, weights[f"remain_{index}"]) + r))
  return inputs


def _pointwise(image: jax.Array, weights: dict) -> jax.Array:
  return convolve(image, weights["kernel"][0].swapaxes(1, 2), identity_taps, weights["bias"])


def similarity(first: jax.Array, second: jax.Array) -> jax.Array:
  """SSIM of images `[B, H, W, C]` in [0, 1], as `evaluation.metrics.ssim` computes it; the mean over all images."""
  reach, sigma = 5, 1.5
  window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
  window = jnp.asarray(window / window.sum(), first.dtype)[:, None, None]
  maps = jnp.stack([first, second, first * first, second * second, first * second])
  planes = jnp.moveaxis(maps, -1, -3).reshape(-1, 1, *first.shape[1:3])
  for taps in (
    tuple((step, 0) for step in range(-reach, reach + 1)),
    tuple((0, step) for step in range(-reach, reach + 1)),
  ):
    planes = convolve(planes, window, taps)
  means = planes.reshape(5, -1, *first.shape[1:3])[:, :, reach:-reach, reach:-reach]
  first_mean, second_mean, squares, other_squares, products = means
  c1, c2 = 0.01**2, 0.03**2
  numerator = (2 * first_mean * second_mean + c1) * (2 * (products - first_mean * second_mean) + c2)
  variances = squares - first_mean**2 + other_squares - second_mean**2
  return jnp.mean(numerator / ((first_mean**2 + second_mean**2 + c1) * (variances + c2)))


def _as_float(images: jax.Array) -> jax.Array:
  return jnp.asarray(images).astype(jnp.float32) / 255


@functools.cache
def data() -> Data:
  """Four training and two validation images of 192x192, and four test images of 128x128 with their references."""
  photographs = builtin_pairs("train").high
  parts = {
    "train": [photographs[index][:_SIDE, :_SIDE] for index in _TRAIN],
    "validation": [photographs[index][:_SIDE, :_SIDE] for index in _VALIDATION],
    "test": [image[64 : 64 + _TESTED, 32 : 32 + _TESTED] for image in builtin_pairs("evaluation").high],
  }
  noisy = {
    part: np.stack([_record(image, _SEEDS[part] + index) for index, image in enumerate(images)])
    for part, images in parts.items()
  }
  sized = lambda images: {"image": images, "size": np.full((len(images), 2), _SIDE, np.int32)}
  test = {"image": noisy["test"], "reference": np.stack(parts["test"])}
  return Data(sized(noisy["train"]), sized(noisy["validation"]), test)


def _record(image: np.ndarray, seed: int) -> np.ndarray:
  rng = np.random.default_rng(seed)
  return darken(image, rng=rng, exposure=1.0, unevenness=0.0, full_well=_ELECTRONS, read_noise=_READ_NOISE)


def sample(raw: dict, key: jax.Array) -> jax.Array:
  """A random crop of each image."""
  return random_crops(raw, key, crop=_CROP)


def whole(raw: dict) -> jax.Array:
  """The images, which have one size."""
  return _as_float(raw["image"])


def parameters(architecture: Architecture) -> int:
  """Number of parameters of a trained architecture."""
  return _fixed(bias=True) + sum(_numbers(name, bias=True) for name in architecture)


def macs(architecture: Architecture) -> int:
  """Multiply-accumulates for one pixel: every number of a convolution's kernel once."""
  return _fixed(bias=False) + sum(_numbers(name, bias=False) for name in architecture)


def _fixed(*, bias: bool) -> int:
  """The convolutions that every architecture has."""
  sizes = [(COLOURS, CHANNELS), *[(CHANNELS, CHANNELS)] * 3, (len(EDGES) * CHANNELS, CHANNELS), (CHANNELS, COLOURS)]
  return sum((inputs + bias) * outputs for inputs, outputs in sizes)


def _numbers(name: str, *, bias: bool) -> int:
  shape_of = next(operation.weight_shape for operation in CANDIDATES if operation.name == name)
  return 0 if shape_of is None else int(np.prod(shape_of(CHANNELS))) + bias * CHANNELS


SPACE = Space(
  name="denoising",
  edges=EDGES,
  operations=operation_names(CANDIDATES),
  network=Denoiser(),
  trained=Denoiser(on_live_taps),
  compared=ManyDenoisers(),
  objective="psnr",
  about=ABOUT,
  licence=LICENCE,
  data=data,
  recipe=Recipe(steps=480, batch_size=4, learning_rate=0.015),
  parameters=parameters,
  macs=macs,
  unit="pixel",
  timed=lambda: jnp.zeros((1, _TIMED, _TIMED, COLOURS)),
  sample=sample,
  channels=CHANNELS,
  whole=whole,
)
