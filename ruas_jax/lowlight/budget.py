"""Deriving the strongest architecture within a limit on the number of parameters."""

from collections.abc import Callable

import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype, alpha_shares
from ruas_jax.nas.architectures import Architecture
from ruas_jax.nas.selection import within

Size = Callable[[Genotype], int]
"""Number of parameters of a genotype's network."""


def require_within(most: int, operation_names: tuple[str, ...], size: Size) -> None:
  """Raises UserError if even the smallest network has more than `most` parameters. 0: no limit."""
  if not most:
    return
  alike = {name: (name,) * len(EDGES) for name in operation_names}
  first = alike[operation_names[0]]
  smallest = Genotype(
    min(alike.values(), key=lambda names: size(Genotype(names, first))),
    min(alike.values(), key=lambda names: size(Genotype(first, names))),
  )
  if (least := size(smallest)) > most:
    raise UserError(
      f"`search.parameters` {most}: the smallest network of these candidates has {least}; allow at least that many"
    )


def derive_within(most: int, alpha: dict[str, np.ndarray], operation_names: tuple[str, ...], size: Size) -> Genotype:
  """The genotype of `Genotype.derive`, made smaller until its `size` is at most `most` (`nas.selection.within`).

  Args:
    most: maximum number of parameters, which `require_within` has checked; 0: no limit.
    alpha: architecture logits of the two cells, `[7, O]` each.
    operation_names: the O candidates.
    size: number of parameters of a genotype's network.
  """
  if not most:
    return Genotype.derive(*(alpha[cell] for cell in CELLS), operation_names=operation_names)
  shares = [row for cell in CELLS for row in alpha_shares(alpha[cell], cell=cell, operation_names=operation_names)]

  def genotype(architecture: Architecture) -> Genotype:
    names = tuple(operation_names[index] for index in architecture)
    return Genotype(names[: len(EDGES)], names[len(EDGES) :])

  sizes = lambda architectures: {"parameters": [size(genotype(one)) for one in architectures]}
  return genotype(within({"parameters": most}, shares, sizes))
