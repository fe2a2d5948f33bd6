"""The enhancement network RUAS: the illumination module, then the noise removal module.

`Network` holds the two modules as pure functions over pytrees; `module` provides the same as a Flax module.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ruas_jax.convolution.layout import ImageLayout
from ruas_jax.lowlight.cell import NODES, Cell, Weights
from ruas_jax.lowlight.denoising import COLOURS, DenoisingModule, FoldedDenoising
from ruas_jax.lowlight.genotype import EDGES, Genotype
from ruas_jax.lowlight.illumination import FoldedIllumination, IlluminationModule
from ruas_jax.lowlight.operations import CANDIDATES, Operation, operation_names
from ruas_jax.lowlight.options import NetworkOptions, Variant
from ruas_jax.lowlight.space import channel_choices, sized

_PRECISIONS = {"exact": lax.Precision.HIGHEST, "high": lax.Precision.HIGH, "fast": lax.Precision.DEFAULT}
_GPU_PRECISIONS = _PRECISIONS | {"high": lax.Precision.HIGHEST}  # its HIGH is TF32, which has fewer bits than a TPU's
BLOCK_SIDE = 4  # 4x4 pixels of 7 channels are 112 channels, of the 128 that a matrix unit multiplies at a time


class FoldedNetwork(NamedTuple):
  """All convolutions of a forward pass, ready to run. `denoising` is None for variant "i"."""

  illumination: FoldedIllumination
  denoising: FoldedDenoising | None


class Network(NamedTuple):
  """The two modules. Each has `module.init(key)` and `module(weights, shares, images)`."""

  illumination: IlluminationModule
  denoising: DenoisingModule

  def init_weights(self, key: jax.Array, dtype=jnp.float32) -> dict[str, Weights]:
    """Random weights `{"illumination": ..., "denoising": ...}`."""
    keys = jax.random.split(key)
    return {"illumination": self.illumination.init(keys[0], dtype), "denoising": self.denoising.init(keys[1], dtype)}

  def weight_shapes(self) -> dict[str, Any]:
    """The weights as `jax.ShapeDtypeStruct`s, without computing them."""
    return jax.eval_shape(lambda: self.init_weights(jax.random.key(0)))

  def init_alpha(self, dtype=jnp.float32) -> dict[str, Any]:
    """Uniform logits: zeros `[E, O]` for each module, or those of the wide space; empty for a derived network."""
    if self.illumination.cell.genotype is not None:
      return {}

    def zeros(module, **sizes: int):
      edges = jnp.zeros((len(EDGES), len(module.cell.operations)), dtype)
      return {"edges": edges} | {name: jnp.zeros(size, dtype) for name, size in sizes.items()} if module.wide else edges

    widths = len(channel_choices(self.denoising.options.channels))
    return {
      "illumination": zeros(self.illumination, stages=self.illumination.options.stages),
      "denoising": zeros(self.denoising, stages=self.denoising.options.stages, channels=widths),
    }

  def fold(self, variant: Variant, weights: Weights, shares: dict[str, Any]) -> FoldedNetwork:
    """Folds edges, pairs and residuals of all stages; `run_folded` can use the result many times."""

    def folded(name):
      return getattr(self, name).fold(weights[name], shares.get(name))

    return FoldedNetwork(folded("illumination"), folded("denoising") if variant == "i+n" else None)

  def parameters(self) -> int:
    """Number of parameters."""
    return count_parameters(self.weight_shapes())

  def reach(self, variant: Variant) -> int:
    """Distance in pixels to the farthest pixel of the image that the variant's result depends on."""
    return self.illumination.reach() + (self.denoising.reach() if variant == "i+n" else 0)


def build_network(
  options: NetworkOptions = NetworkOptions(),
  genotype: Genotype | None = None,
  operations: tuple[Operation, ...] = CANDIDATES,
) -> Network:
  """The network of `genotype`, with its sizes if it has any, or the supernet over `operations` if it is None.

  Raises:
    UserError: the genotype names an operation that is not in `operations`.
  """
  if genotype is not None:
    genotype.require(operation_names(operations))
  options = sized(options, genotype)

  def cell(name, channels):
    of_module = None if genotype is None else getattr(genotype, name)
    return Cell(channels, operations, of_module, image_layout(options))

  shared = (options.slope, options.smoothing, genotype is None and options.space == "wide")
  return Network(
    IlluminationModule(options.illumination, cell("illumination", COLOURS), *shared),
    DenoisingModule(options.denoising, cell("denoising", options.denoising.channels), *shared),
  )


def image_layout(options: NetworkOptions) -> ImageLayout:
  """The layout and precision of these options on the default backend."""
  backend = jax.default_backend()
  in_blocks = options.layout == "blocks" or (options.layout == "auto" and backend == "tpu")
  precisions = _GPU_PRECISIONS if backend == "gpu" else _PRECISIONS
  return ImageLayout(BLOCK_SIDE if in_blocks else 1, precisions[options.precision])


class RUASOutput(NamedTuple):
  """The results of the network for images `[B, H, W, 3]`.

  Attributes:
    image: result of the variant, clipped to [0, 1], `[B, H, W, 3]`.
    t: illumination after each stage, `[K, B, H, W, 3]`.
    u: brightened image after each stage, `[K, B, H, W, 3]`.
    x: image after noise removal, not clipped, `[B, H, W, 3]`; None for variant "i".
  """

  image: jax.Array
  t: jax.Array
  u: jax.Array
  x: jax.Array | None


def run(network: Network, variant: Variant, weights: Weights, shares: dict[str, Any], images: jax.Array) -> RUASOutput:
  """The whole forward pass. Variant "i" skips noise removal."""
  return run_folded(network, network.fold(variant, weights, shares), images)


def run_folded(
  network: Network,
  folded: FoldedNetwork,
  images: jax.Array,
  valid: jax.Array | None = None,
  mean: jax.Array | None = None,
) -> RUASOutput:
  """`run` with folded convolutions.

  `valid`, bool `[1 or B, 1, H, W]`, marks the pixels of the image if `images` is larger. At these pixels the results
  are those of the image alone, whatever the other pixels are. `mean`, `[B]`, is the mean of each whole image, if
  `images` are windows of them; only an adaptive illumination uses it.
  """
  illuminated = network.illumination.run(folded.illumination, images, valid, mean)
  if folded.denoising is None:
    return RUASOutput(jnp.clip(illuminated.result, 0.0, 1.0), illuminated.t, illuminated.u, None)
  clean = network.denoising.run(folded.denoising, illuminated.result, illuminated.illumination, valid)
  return RUASOutput(jnp.clip(clean, 0.0, 1.0), illuminated.t, illuminated.u, clean)


def count_parameters(weights: Weights) -> int:
  """Number of parameters."""
  return sum(leaf.size for leaf in jax.tree.leaves(weights))


def count_macs(network: Network, variant: Variant, height: int, width: int) -> int:
  """Number of multiply-accumulates of one forward pass, as the field counts them: every number of a convolution's
  kernel once per pixel.

  Biases, activations, the warm start and the division are not counted, as usual. The shapes are those of the weights.
  So a custom operation that builds a large kernel from few weights has more multiply-accumulates than are counted.
  `count_folded_macs` counts what is computed.
  """

  def per_stage(module, cells):
    stacked = jax.tree.leaves(cells)[0].shape[0]
    return module.options.stages // stacked * _kernel_numbers(cells)

  weights = network.weight_shapes()
  numbers = per_stage(network.illumination, weights["illumination"])
  if variant == "i+n":
    numbers += per_stage(network.denoising, weights["denoising"]["cells"]) + _ends(network, weights)
  return numbers * height * width


def count_folded_macs(network: Network, variant: Variant, height: int, width: int) -> int:
  """Number of multiply-accumulates of one forward pass as it is computed: a tap of a folded edge has one for each pair
  of channels.

  For derived networks of the paper's candidates it equals `count_macs`. The kernel of a custom operation may have more
  numbers than its weights. Biases, activations, the warm start and the division are not counted.
  """

  def cells(module):
    taps = sum(map(len, module.cell.edge_taps()))
    return module.options.stages * (taps + NODES) * module.cell.channels**2

  numbers = cells(network.illumination)
  if variant == "i+n":
    numbers += cells(network.denoising) + _ends(network, network.weight_shapes())
  return numbers * height * width


def _ends(network: Network, weights: Weights) -> int:
  """Multiply-accumulates of the noise removal's stem and head for one pixel, in all stages."""
  iterated = network.denoising.options.stages if network.denoising.options.update == "residual" else 1
  return iterated * sum(_kernel_numbers(weights["denoising"][end]) for end in ("stem", "head"))


def _kernel_numbers(weights: Weights) -> int:
  leaves = jax.tree_util.tree_flatten_with_path(weights)[0]
  return sum(leaf.size for path, leaf in leaves if path[-1].key == "kernel")
