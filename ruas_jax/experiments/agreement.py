"""Which genotypes of a population agree, edge by edge and pair by pair."""

import collections
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype


class Found(NamedTuple):
  """A finished member: its name, its seed, the values of its swept options, and what it found."""

  name: str
  seed: int
  values: Mapping[str, float]
  genotype: Genotype


def summarize_agreement(found: Sequence[Found]) -> dict[str, Any]:
  """What a population agrees on.

  Returns:
    edges: cell -> edge -> the most frequent `operation` (of equals the first) and the `share` of members that have it.
    pairs: mean share of the 14 edges on which two members agree: `within_setting` over pairs that differ in the seed
      alone, `across_settings` over those with other values, `across_settings_same_seed` over those of them that differ
      in the values alone; None where there is no such pair.
    genotypes: the distinct ones, most frequent first, each with its `count` and its `members`.
  """
  edges: dict[str, Any] = {cell: {} for cell in CELLS}
  for cell, (position, edge) in itertools.product(CELLS, enumerate(EDGES)):
    operations = collections.Counter(getattr(member.genotype, cell)[position] for member in found)
    if operations:
      operation, count = operations.most_common(1)[0]
      edges[cell][edge] = {"operation": operation, "share": count / len(found)}

  shares: dict[str, list[float]] = {"within_setting": [], "across_settings": [], "across_settings_same_seed": []}
  for one, other in itertools.combinations(found, 2):
    share = float(np.mean([a == b for a, b in zip(_edges(one.genotype), _edges(other.genotype), strict=True)]))
    if one.values == other.values:
      shares["within_setting"].append(share)
    else:
      shares["across_settings"].append(share)
      if one.seed == other.seed:
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
