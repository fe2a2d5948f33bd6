"""Deriving the strongest architecture that fits a number of parameters."""

from collections.abc import Callable

import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.search_space.genotype import CELLS, Genotype


def derive_within(
  most: int, alpha: dict[str, np.ndarray], operation_names: tuple[str, ...], size: Callable[[Genotype], int]
) -> Genotype:
  """`Genotype.derive`, then, while `size` of it is above `most`, the exchange of one edge's operation that gives up the
  least of softmax(alpha) for a number saved.

  Args:
    most: parameters that the network may have.
    alpha: architecture logits of the two cells, `[7, O]` each.
    operation_names: the O candidates.
    size: parameters of a genotype's network.

  Raises:
    UserError: where no such network fits.
  """
  genotype = Genotype.derive(*(alpha[cell] for cell in CELLS), operation_names)
  while (present := size(genotype)) > most:
    smaller = []
    for cell in CELLS:
      exponentials = np.exp(alpha[cell] - alpha[cell].max(axis=1, keepdims=True))
      shares = exponentials / exponentials.sum(axis=1, keepdims=True)
      for edge, name in enumerate(getattr(genotype, cell)):
        for other, share in zip(operation_names, shares[edge], strict=True):
          candidate = genotype.replace(cell, edge, other)
          saved = present - size(candidate)
          if saved > 0:
            given_up = shares[edge][operation_names.index(name)] - share
            smaller.append((given_up / saved, len(smaller), candidate))
    if not smaller:
      raise UserError(f"search.parameters: no network of {most} or fewer; the smallest has {present}")
    genotype = min(smaller)[-1]
  return genotype
