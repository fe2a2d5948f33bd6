"""Deriving the strongest architecture within a limit on the number of parameters."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype, Sizes, softmax
from ruas_jax.lowlight.options import NetworkOptions
from ruas_jax.lowlight.space import derive, named_choices, size_values
from ruas_jax.nas.architectures import Architecture
from ruas_jax.nas.selection import within

Size = Callable[[Genotype], int]
"""Number of parameters of a genotype's network."""


def require_within(most: int, least: int) -> None:
  """Raises UserError if even the smallest network, with `least` parameters, has more than `most`."""
  if least > most:
    raise UserError(
      f"`search.parameters` {most}: the smallest network of these candidates has {least}; allow at least that many"
    )


def derive_within(
  most: int, alpha: dict[str, Any], operation_names: tuple[str, ...], options: NetworkOptions, size: Size
) -> Genotype:
  """The genotype of `space.derive`, made smaller until its `size` is at most `most` (`nas.selection.within`).

  Args:
    most: maximum number of parameters, which `require_within` has checked; 0: no limit.
    alpha: architecture logits.
    operation_names: the O candidates.
    options: those of the supernet.
    size: number of parameters of a genotype's network.
  """
  strongest = derive(alpha, operation_names, options)
  if not most:
    return strongest
  logits = {name: np.asarray(leaf, np.float64) for name, leaf in named_choices(alpha).items()}
  rows = [row for cell in CELLS for row in logits[cell]] + [logits[name] for name in size_values(options)]

  def genotype(architecture: Architecture) -> Genotype:
    *edges, sizes = np.split(np.array(architecture), [len(EDGES), 2 * len(EDGES)])
    illumination, denoising = (tuple(operation_names[index] for index in cell) for cell in edges)
    chosen = [values[index] for values, index in zip(size_values(options).values(), sizes, strict=True)]
    return Genotype(illumination, denoising, Sizes._make(chosen) if chosen else None)

  sizes = lambda architectures: {"parameters": [size(genotype(one)) for one in architectures]}
  return genotype(within({"parameters": most}, [softmax(row) for row in rows], sizes))
