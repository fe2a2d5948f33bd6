"""The trade-off between cost and loss that a population of RUAS's searches has found."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from ruas_jax.config import Config
from ruas_jax.data.sources import ImageSource, split_in_half
from ruas_jax.experiments.score import make_scorer
from ruas_jax.experiments.setting import search_setting
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.problem import network_costs
from ruas_jax.nas.pareto import hypervolume, nondominated
from ruas_jax.nas.schedule import moment
from ruas_jax.nas.state import SearchState
from ruas_jax.sweep import Member

LOSS = "validation loss of the supernet"


class Candidate(NamedTuple):
  """A finished member of a population: its name, what it searched, its genotype, and its last state."""

  name: str
  member: Member
  genotype: Genotype
  state: SearchState


def search_front(
  config: Config, candidates: Sequence[Candidate], train: ImageSource, validation: ImageSource | None
) -> dict[str, Any]:
  """The content of `front.json` for the cost `config.search.cost`.

  The cost is that of the derived network. The loss is `L_t + beta L_n` of the supernet with its last weights and the
  means of its last mixing weights, over one crop of every validation image. It is that of `config` for all members, so
  that they are comparable.
  """
  scorer = functools.cache(lambda network: make_scorer(build_network(network), config))
  halves = functools.cache(lambda seed: split_in_half(train, seed=seed)[1])
  assert config.search.cost is not None
  cost = network_costs(config.network, config.search.latency_table)[config.search.cost]()
  rows = []
  for name, (of_member, values), genotype, state in candidates:
    setting = search_setting(of_member)
    shares = moment(setting.problem, of_member.search, state.step, {}).relaxation.mean(state.alpha)
    images = validation if validation is not None else halves(of_member.seed)
    loss = scorer(of_member.network)(state.weights, shares, images)["total"]
    about = {"name": name, "seed": of_member.seed, "values": values, "genotype": str(genotype)}
    rows.append(about | {"cost": cost.of(genotype), "expected_cost": float(cost.expected(shares)), "loss": loss})
  return front_of(rows, cost=config.search.cost, largest=cost.largest, loss=LOSS)


def front_of(rows: Sequence[dict[str, Any]], *, cost: str, largest: float, loss: str) -> dict[str, Any]:
  """A front of rows that have a `cost` and a `loss`.

  Args:
    rows: at least one.
    cost: name of the cost.
    largest: cost of the most expensive architecture.
    loss: meaning of the loss in words.

  Returns:
    cost, loss: the names.
    largest: as given.
    reference: the corner of the hypervolume: cost `largest`, and the largest loss of the rows.
    hypervolume: area between the rows and the corner, with the cost as a share of `largest`.
    points: the rows by rising cost, each with `relative_cost` and `on_front`: whether no other row is better in both.
  """
  ordered = sorted(rows, key=lambda row: (row["cost"], row["loss"]))
  points = [(row["cost"] / largest, row["loss"]) for row in ordered]
  worst = max(row["loss"] for row in ordered)
  return {
    "cost": cost,
    "loss": loss,
    "largest": largest,
    "reference": {"cost": largest, "loss": worst},
    "hypervolume": hypervolume(points, (1.0, worst)),
    "points": [
      row | {"relative_cost": point[0], "on_front": on_front}
      for row, point, on_front in zip(ordered, points, nondominated(points), strict=True)
    ],
  }
