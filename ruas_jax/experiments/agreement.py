"""Agreement of the genotypes in a population, by edge and by pair of members."""

import collections
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype


class Found(NamedTuple):
  """A finished member: its name, seed, values of the swept options, and genotype."""

  name: str
  seed: int
  values: Mapping[str, float]
  genotype: Genotype


def summarize_agreement(found: Sequence[Found]) -> dict[str, Any]:
  """The agreement in a population. Sizes of the wide space are in `genotypes` alone.

  Returns:
    edges: cell -> edge -> the most frequent `operation` (the first one on ties) and the `share` of members with it.
    pairs: mean share of the 14 edges on which two members agree. `within_setting`: pairs that differ only in the seed.
      `across_settings`: pairs with different values. `across_settings_same_seed`: those of them with the same seed.
      None if there is no such pair.
    genotypes: the different genotypes, most frequent first, each with its `count` and its `members`.
  """
  edges: dict[str, Any] = {cell: {} for cell in CELLS}
  for cell, (position, edge) in itertools.product(CELLS, enumerate(EDGES)):
    operations = collections.Counter(getattr(member.genotype, cell)[position] for member in found)
    if operations:
      operation, count = operations.most_common(1)[0]
      edges[cell][edge] = {"operation": operation, "share": count / len(found)}

  shares: dict[str, list[float]] = {"within_setting": [], "across_settings": [], "across_settings_same_seed": []}
  for first, second in itertools.combinations(found, 2):
    share = float(np.mean([a == b for a, b in zip(_edges(first.genotype), _edges(second.genotype), strict=True)]))
    if first.values == second.values:
      shares["within_setting"].append(share)
    else:
      shares["across_settings"].append(share)
      if first.seed == second.seed:
        shares["across_settings_same_seed"].append(share)

  members = collections.defaultdict(list)
  for member in found:
    members[member.genotype].append(member.name)
  distinct = sorted(members.items(), key=lambda item: -len(item[1]))
  return {
    "edges": edges,
    "pairs": {name: float(np.mean(values)) if values else None for name, values in shares.items()},
    "genotypes": [{"genotype": str(genotype), "count": len(names), "members": names} for genotype, names in distinct],
  }


def _edges(genotype: Genotype) -> tuple[str, ...]:
  return genotype.illumination + genotype.denoising
