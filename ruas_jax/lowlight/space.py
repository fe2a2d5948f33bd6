"""The spaces that a search chooses from: `NetworkOptions.space`.

- ruas: the operations of the edges (section 3.2.1). Stages and channels are those of the options.
- wide: also the stages of both modules, from one to those of the options, and the channels of the noise removal, in
  quarters of those of the options (`channel_choices`).

Alpha and the mixing weights have an entry for each module:

    ruas    [E, O]
    wide    {"edges": [E, O], "stages": [S]}, for the noise removal with "channels": [M]

In the wide supernet a module's result is the mixture of the results after each of its stages. A mixture of widths is
one network of the largest width: every convolution reads channel c times the mixing weight of the widths that have it
(Wan et al. 2020, FBNetV2). With one-hot mixing weights it is exactly the smaller network, whose weights are the first
ones of each axis.

The mixing weights of sizes are divided by their sum, because a mixture of images would otherwise get brighter or
darker. The sum is not one for the relaxation sigmoid, nor where the selection by perturbation leaves out one of them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.genotype import Genotype, Sizes
from ruas_jax.lowlight.options import NetworkOptions

_QUARTERS = 4


class Choices(NamedTuple):
  """A module's part of alpha or of the mixing weights.

  Attributes:
    edges: `[E, O]`.
    stages: `[S]`, for one to S stages; None: S stages.
    channels: `[M]`, in the order of `channel_choices`; None: all channels.
  """

  edges: Any
  stages: Any = None
  channels: Any = None


def choices_of(part: Any) -> Choices:
  """The choices in an entry of alpha or of the mixing weights."""
  return Choices(**part) if isinstance(part, Mapping) else Choices(part)


def named_choices(alpha: Mapping[str, Any]) -> dict[str, Any]:
  """Alpha without nesting: "illumination" has the operations' logits, "illumination_stages" those of the stages."""
  found = {}
  for module, part in alpha.items():
    edges, stages, channels = choices_of(part)
    sizes = {f"{module}_stages": stages, f"{module}_channels": channels}
    found |= {module: edges} | {name: logits for name, logits in sizes.items() if logits is not None}
  return found


def channel_choices(most: int) -> tuple[int, ...]:
  """A quarter, half, three quarters and all of `most` channels, rounded up."""
  return tuple(sorted({-(-most * quarter // _QUARTERS) for quarter in range(1, _QUARTERS + 1)}))


def size_values(options: NetworkOptions) -> dict[str, tuple[int, ...]]:
  """The values of each choice beside the operations, by the names of `named_choices`."""
  if options.space == "ruas":
    return {}
  stages = {name: getattr(options, name).stages for name in ("illumination", "denoising")}
  values = {f"{name}_stages": tuple(range(1, most + 1)) for name, most in stages.items()}
  return values | {"denoising_channels": channel_choices(options.denoising.channels)}


def summing_to_one(shares: jax.Array) -> jax.Array:
  """The mixing weights of sizes, divided by their sum."""
  return shares / jnp.sum(shares)


def channel_mask(shares: jax.Array, most: int) -> jax.Array:
  """The mixing weight `[C]` of the widths that have each of `most` channels, from the mixing weights `[M]` of the
  widths."""
  has = np.array(channel_choices(most))[:, None] > np.arange(most)
  return jnp.sum(summing_to_one(shares)[:, None] * jnp.asarray(has, shares.dtype), axis=0)


def mixture(shares: jax.Array, stages: jax.Array) -> jax.Array:
  """The results after each stage, `[S, ...]`, with the mixing weights `[S]`."""
  shares = summing_to_one(shares)
  total = shares[0] * stages[0]
  for stage in range(1, len(stages)):
    total += shares[stage] * stages[stage]
  return total


def sized(options: NetworkOptions, genotype: Genotype | None) -> NetworkOptions:
  """The options of the genotype's network: with its sizes, if it has any. None is the supernet."""
  if genotype is None:
    return options
  if (sizes := genotype.sizes) is None:
    return dataclasses.replace(options, space="ruas")
  illumination = dataclasses.replace(options.illumination, stages=sizes.illumination_stages)
  denoising = dataclasses.replace(options.denoising, stages=sizes.denoising_stages, channels=sizes.channels)
  return dataclasses.replace(options, space="ruas", illumination=illumination, denoising=denoising)


def derive(alpha: Mapping[str, Any], operation_names: Sequence[str], options: NetworkOptions) -> Genotype:
  """The strongest alternative of every choice, the first one on ties.

  Raises:
    UserError: alpha has another shape, or the softmax of a choice is undefined.
  """
  illumination, denoising = (choices_of(alpha[name]).edges for name in ("illumination", "denoising"))
  genotype, values = Genotype.derive(illumination, denoising, operation_names), size_values(options)
  if not values:
    return genotype
  logits = named_choices(alpha)
  chosen = (values[name][_strongest(name, logits.get(name), len(values[name]))] for name in values)
  return dataclasses.replace(genotype, sizes=Sizes._make(chosen))


def _strongest(name: str, logits: Any, count: int) -> int:
  found = np.asarray(logits, np.float64)
  if found.shape != (count,) or not np.isfinite(found.max()):
    raise UserError(f"alpha of {name}: expected {count} logits with a defined softmax, got {logits}")
  return int(found.argmax())
