"""Deriving the strongest architecture that fits a number of parameters."""

from collections.abc import Callable

import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype, alpha_shares

Size = Callable[[Genotype], int]
"""Parameters of a genotype's network, a sum over its edges."""


def require_within(most: int, operation_names: tuple[str, ...], size: Size) -> None:
  """Raises UserError where even the smallest network has more than `most` parameters; 0: any number will do."""
  if not most:
    return
  alike = {name: (name,) * len(EDGES) for name in operation_names}
  first = alike[operation_names[0]]
  smallest = Genotype(
    min(alike.values(), key=lambda names: size(Genotype(names, first))),
    min(alike.values(), key=lambda names: size(Genotype(first, names))),
  )
  if (least := size(smallest)) > most:
    raise UserError(f"search.parameters {most}: the smallest network of these candidates has {least}")


def derive_within(most: int, alpha: dict[str, np.ndarray], operation_names: tuple[str, ...], size: Size) -> Genotype:
  """`Genotype.derive`; then, while `size` of it is above `most`, the exchange of one edge's operation that gives up the
  least of softmax(alpha) for a number saved.

  Args:
    most: parameters that the network may have (`require_within`); 0: as many as come.
    alpha: architecture logits of the two cells, `[7, O]` each.
    operation_names: the O candidates.
    size: parameters of a genotype's network.
  """
  genotype = Genotype.derive(*(alpha[cell] for cell in CELLS), operation_names=operation_names)
  shares = {cell: alpha_shares(alpha[cell], cell=cell, operation_names=operation_names) for cell in CELLS}
  while most and (present := size(genotype)) > most:
    exchanges = []
    for cell in CELLS:
      for edge, name in enumerate(getattr(genotype, cell)):
        own = dict(zip(operation_names, shares[cell][edge], strict=True))
        for other in operation_names:
          candidate = genotype.replace(cell, edge, other)
          if (saved := present - size(candidate)) > 0:
            exchanges.append(((own[name] - own[other]) / saved, candidate))
    genotype = min(exchanges, key=lambda exchange: exchange[0])[1]
  return genotype
