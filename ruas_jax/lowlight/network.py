"""The enhancement network RUAS: the illumination module, then the noise removal module.

`Network` is two modules of pure functions over pytrees; `module` is the same as a Flax module.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ruas_jax.lowlight.cell import Cell, Weights
from ruas_jax.lowlight.denoising import COLOURS, DenoisingModule, FoldedDenoising
from ruas_jax.lowlight.genotype import EDGES, Genotype
from ruas_jax.lowlight.illumination import FoldedIllumination, IlluminationModule
from ruas_jax.lowlight.operations import CANDIDATES, Operation, operation_names
from ruas_jax.lowlight.options import NetworkOptions, Variant


class FoldedNetwork(NamedTuple):
  """All convolutions of a forward pass, each ready to run; `denoising` is None where the variant is "i"."""

  illumination: FoldedIllumination
  denoising: FoldedDenoising | None


class Network(NamedTuple):
  """The two modules; each is `module.init(key)` and `module(weights, alpha, images)`."""

  illumination: IlluminationModule
  denoising: DenoisingModule

  def init_weights(self, key: jax.Array, dtype=jnp.float32) -> dict[str, Weights]:
    """`{"illumination": ..., "denoising": ...}`."""
    keys = jax.random.split(key)
    return {"illumination": self.illumination.init(keys[0], dtype), "denoising": self.denoising.init(keys[1], dtype)}

  def weight_shapes(self) -> dict[str, Any]:
    """The weights as `jax.ShapeDtypeStruct`s; nothing is computed."""
    return jax.eval_shape(lambda: self.init_weights(jax.random.key(0)))

  def init_alpha(self, dtype=jnp.float32) -> dict[str, jax.Array]:
    """Uniform logits, `[E, O]` zeros for each module; empty for a derived network."""
    if self.illumination.cell.genotype is not None:
      return {}
    shape = (len(EDGES), len(self.illumination.cell.operations))
    return {"illumination": jnp.zeros(shape, dtype), "denoising": jnp.zeros(shape, dtype)}

  def fold(self, variant: Variant, weights: Weights, alpha: dict[str, Any]) -> FoldedNetwork:
    """Folds edges, pairs and residuals of all stages once, for any number of `run_folded`."""

    def folded(name):
      return getattr(self, name).fold(weights[name], alpha.get(name))

    return FoldedNetwork(folded("illumination"), folded("denoising") if variant == "i+n" else None)

  def parameters(self) -> int:
    """How many numbers the weights hold."""
    return count_parameters(self.weight_shapes())

  def reach(self, variant: Variant) -> int:
    """How many pixels away, at most, the variant's result looks at the image."""
    return self.illumination.reach() + (self.denoising.reach() if variant == "i+n" else 0)


def build_network(
  options: NetworkOptions = NetworkOptions(),
  genotype: Genotype | None = None,
  operations: tuple[Operation, ...] = CANDIDATES,
) -> Network:
  """The network of `genotype`, or the supernet over `operations` where there is none.

  Raises:
    UserError: the genotype names an operation that is not among `operations`.
  """
  if genotype is not None:
    genotype.require(operation_names(operations))

  def cell(name, channels):
    return Cell(channels, operations, None if genotype is None else getattr(genotype, name))

  return Network(
    IlluminationModule(options.illumination, cell("illumination", COLOURS), options.slope, options.smoothing),
    DenoisingModule(options.denoising, cell("denoising", options.denoising.channels), options.slope, options.smoothing),
  )


class RUASOutput(NamedTuple):
  """What the network computes from images `[B, H, W, 3]`.

  Attributes:
    image: the variant's result, clipped to [0, 1], `[B, H, W, 3]`.
    t: illumination after each stage, `[K, B, H, W, 3]`.
    u: brightened image after each stage, `[K, B, H, W, 3]`.
    x: image after noise removal, not clipped, `[B, H, W, 3]`; None in variant "i".
  """

  image: jax.Array
  t: jax.Array
  u: jax.Array
  x: jax.Array | None


def run(network: Network, variant: Variant, weights: Weights, alpha: dict[str, Any], images: jax.Array) -> RUASOutput:
  """The whole forward pass; variant "i" leaves noise removal out."""
  return run_folded(network, network.fold(variant, weights, alpha), images)


def run_folded(
  network: Network,
  folded: FoldedNetwork,
  images: jax.Array,
  valid: jax.Array | None = None,
  mean: jax.Array | None = None,
) -> RUASOutput:
  """`run` from the folded form.

  `valid`, bool `[1 or B, 1, H, W]`, marks the pixels that are the image where `images` holds more: there, the results
  are those of the image alone, whatever the rest holds. `mean`, `[B]`, is that of the whole images where `images` are
  windows; only an adaptive illumination looks at it.
  """
  lit = network.illumination.run(folded.illumination, images, valid, mean)
  if folded.denoising is None:
    return RUASOutput(jnp.clip(lit.result, 0.0, 1.0), lit.t, lit.u, None)
  clean = network.denoising.run(folded.denoising, lit.result, lit.illumination, valid)
  return RUASOutput(jnp.clip(clean, 0.0, 1.0), lit.t, lit.u, clean)


def count_parameters(weights: Weights) -> int:
  """How many numbers the weights hold."""
  return sum(leaf.size for leaf in jax.tree.leaves(weights))


def count_macs(network: Network, variant: Variant, height: int, width: int) -> int:
  """Multiply-accumulates of one forward pass, by the field's count: every number of a convolution's kernel once per
  pixel.

  Biases, activations, the warm start and the division are not counted, as usual. Shapes are read off the model's
  weights, so an own operation that spreads few weights over a larger kernel is undercounted.
  """

  def kernel_numbers(weights, repeats=1):
    leaves = jax.tree_util.tree_flatten_with_path(weights)[0]
    return repeats * sum(leaf.size for path, leaf in leaves if path[-1].key == "kernel")

  def per_stage(module, cells):
    stacked = jax.tree.leaves(cells)[0].shape[0]
    return kernel_numbers(cells, module.options.stages // stacked)

  weights = network.weight_shapes()
  numbers = per_stage(network.illumination, weights["illumination"])
  if variant == "i+n":
    own = weights["denoising"]
    iterated = network.denoising.options.stages if network.denoising.options.update == "residual" else 1
    ends = kernel_numbers(own["stem"], iterated) + kernel_numbers(own["head"], iterated)
    numbers += per_stage(network.denoising, own["cells"]) + ends
  return numbers * height * width
