"""A table: the metrics and costs of every architecture of a space."""

from __future__ import annotations

import functools
import importlib
import itertools
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  from ruas_jax.nas.benchmark.space import Space
  from ruas_jax.nas.options import SearchOptions
  from ruas_jax.nas.problem import SearchProblem
  from ruas_jax.nas.result import SearchResult

from ruas_jax.errors import UserError
from ruas_jax.nas.benchmark.statistics import Noise, ceiling_of, kendall, measure_noise, percentile
from ruas_jax.nas.benchmark.storage import Content, read_table

FOLDER = pathlib.Path(__file__).parent / "tables"
DEFAULT = "denoising"

Architecture = tuple[str, ...]
AnyArchitecture = Sequence[str | int] | Mapping[str, str | int]


def load(name: str | os.PathLike = DEFAULT) -> Table:
  """The table with this name, or else the one in this file.

  Raises:
    UserError: there is no such table, or the file is damaged.
  """
  known = {path.stem: path for path in sorted(FOLDER.glob("*.npz"))}
  path = known.get(os.fspath(name)) or pathlib.Path(name)
  if not path.exists():
    raise UserError(f"table {os.fspath(name)!r} is unknown (known: {', '.join(known)}), and no file has this name")
  return Table.read(path)


class Table:
  """Attributes:
  name: name of the space.
  edges, operations: the choices: an architecture has one of the operations on every edge.
  objective: the metric that a search should make large.
  lengths: numbers of training steps after which the metrics were measured.
  metrics: `[seeds, architectures, lengths]` by name, NaN where an architecture was not trained with a seed.
  costs: `[architectures]` by name.
  card: how the table was made, what it may be used for, and how noisy it is, as text.
  """

  def __init__(self, content: Content):
    about = content.about
    self.name, self.objective, self.card = about["space"], about["objective"], about["card"]
    self.edges, self.operations = tuple(about["edges"]), tuple(about["operations"])
    self.lengths = tuple(about["lengths"])
    self.metrics, self.costs = content.metrics, content.costs

  @classmethod
  def read(cls, path: str | os.PathLike) -> Table:
    """The table in a file. Raises UserError if it is missing or damaged."""
    return cls(read_table(path))

  def __len__(self) -> int:
    return len(self.architectures)

  @functools.cached_property
  def architectures(self) -> list[Architecture]:
    """All architectures, in the order of the columns."""
    return list(itertools.product(self.operations, repeat=len(self.edges)))

  def index(self, architecture: AnyArchitecture) -> int:
    """The column of an architecture.

    Args:
      architecture: a name of an operation for each edge, in their order, or a dictionary edge -> name. The position in
        `operations` may stand for a name, as in `nas.baselines`.

    Raises:
      UserError: an edge or an operation is not in the table.
    """
    column = 0
    for edge, name in zip(self.edges, self._names(architecture), strict=True):
      column = len(self.operations) * column + self._position(edge, name)
    return column

  def _position(self, edge: str, name: str | int) -> int:
    if name in self.operations:
      return self.operations.index(name)
    if name in range(len(self.operations)):
      return int(name)
    raise UserError(f"table {self.name}, {edge}: no operation {name!r} (it has {', '.join(self.operations)})")

  def _names(self, architecture: AnyArchitecture) -> Sequence[str | int]:
    edges = ", ".join(self.edges)
    if isinstance(architecture, Mapping):
      for edge in (*architecture, *self.edges):
        if edge not in self.edges or edge not in architecture:
          problem = "no edge" if edge not in self.edges else "the architecture has no operation on"
          raise UserError(f"table {self.name}: {problem} {edge!r} (the edges are {edges})")
      return [architecture[edge] for edge in self.edges]
    if isinstance(architecture, str) or len(architecture) != len(self.edges):
      raise UserError(f"table {self.name}: expected {len(self.edges)} operations ({edges}), not {architecture!r}")
    return architecture

  def query(self, architecture: AnyArchitecture, seed: int | None = None, steps: int | None = None) -> dict[str, float]:
    """The metrics and costs of an architecture, by name.

    Args:
      architecture: as for `index`.
      seed: seed of the first weights; None: the mean over all seeds that the table has of this architecture.
      steps: length of the training; None: the longest.

    Raises:
      UserError: the table has no such architecture, seed or length.
    """
    column, length = self.index(architecture), self._length(steps)
    seeds = self.seeds_of(architecture)
    if seed is not None and seed not in seeds:
      raise UserError(f"table {self.name}: {architecture!r} was not trained with seed {seed} (seeds: {seeds})")
    rows = seeds if seed is None else [seed]
    found = {name: float(values[rows, column, length].mean()) for name, values in self.metrics.items()}
    return found | {name: values[column].item() for name, values in self.costs.items()}

  def seeds_of(self, architecture: AnyArchitecture) -> list[int]:
    """The seeds with which an architecture was trained."""
    trained = np.isfinite(self.metrics[self.objective][:, self.index(architecture), -1])
    return np.flatnonzero(trained).tolist()

  def column(self, metric: str | None = None, steps: int | None = None) -> np.ndarray:
    """`[architectures]`: a metric of all architectures, the mean over seeds. None: the objective, the longest
    training."""
    return np.nanmean(self._values(metric, steps), axis=0)

  def noise(self, metric: str | None = None, steps: int | None = None) -> Noise:
    """How far the noise between seeds hides the differences in a metric; the arguments are those of `column`."""
    return measure_noise(self._values(metric, steps))

  def _values(self, metric: str | None, steps: int | None) -> np.ndarray:
    name = metric or self.objective
    if name not in self.metrics:
      raise UserError(f"table {self.name}: no metric {name!r} (it has {', '.join(self.metrics)})")
    return self.metrics[name][:, :, self._length(steps)].astype(np.float64)

  def _length(self, steps: int | None) -> int:
    if steps is not None and steps not in self.lengths:
      raise UserError(f"table {self.name}: no training of {steps} steps (lengths: {', '.join(map(str, self.lengths))})")
    return -1 if steps is None else self.lengths.index(steps)

  def rate(self, architecture: AnyArchitecture) -> dict[str, float]:
    """What `query` returns, and two figures of the objective: `regret`, the distance to the best architecture, and
    `percentile`, the share of architectures that are worse, in percent.

    The best of many noisy values is larger than the best true quality, so even a perfect search has some regret.
    """
    values = self.column()
    own = values[self.index(architecture)]
    return self.query(architecture) | {"regret": float(values.max() - own), "percentile": percentile(values, own)}

  def rank_correlation(self, scores: Sequence[float] | np.ndarray | Mapping[Architecture, float]) -> dict[str, float]:
    """How well scores rank the architectures: `tau`, Kendall's tau with the objective, and its `ceiling`.

    Args:
      scores: a number for every architecture in the order of `architectures`, larger is better; or a dictionary from
        some architectures to their scores.

    Raises:
      UserError: a score is missing or not finite, or an architecture is not in the table.
    """
    if isinstance(scores, Mapping):
      columns = [self.index(architecture) for architecture in scores]
      given = np.array(list(scores.values()), np.float64)
    else:
      columns, given = list(range(len(self))), np.asarray(scores, np.float64)
      if given.shape != (len(self),):
        raise UserError(f"table {self.name}: expected {len(self)} scores, one per architecture, not {given.shape}")
    if len(columns) < 2 or not np.isfinite(given).all():
      raise UserError(f"table {self.name}: a rank correlation needs two scores or more, and all of them finite")
    values = self._values(None, None)[:, columns]
    noise = self.noise().noise
    return {"tau": kendall(given, np.nanmean(values, axis=0)), "ceiling": ceiling_of(values, noise)}

  @functools.cached_property
  def space(self) -> Space:
    """The space of the table: its network, its data and its recipe of training.

    It is imported by its name, since a space may need networks and photographs, of which `nas` knows nothing.

    Raises:
      UserError: this version of ruas_jax has no space of this name.
    """
    module = f"ruas_jax.search_spaces.{self.name}"
    try:
      return importlib.import_module(module).SPACE
    except ModuleNotFoundError as error:
      if error.name != module:
        raise
      raise UserError(f"table {self.name}: this version of ruas_jax has no search space of this name") from None

  def search_problem(self) -> SearchProblem:
    """The supernet of the space as a search problem. What it derives is what `query` takes, and its costs are those of
    the table: `SearchOptions.cost` may name them."""
    return self.space.problem(
      {name: lambda names, of=of: of[self.index(names)].item() for name, of in self.costs.items()}
    )

  def search(self, options: SearchOptions, seed: int = 0, **more: Any) -> SearchResult:
    """`nas.search` of the space with its data and optimisers; `more` are other arguments of `nas.search`."""
    from ruas_jax.nas.benchmark.methods import search_space

    return search_space(self.search_problem(), self.space, options, seed, **more)

  def evaluate(self, options: SearchOptions, seeds: int | Iterable[int] = 10, **more: Any) -> list[dict[str, Any]]:
    """Searches once with each seed, and rates what is found.

    Args:
      options: the method and its length.
      seeds: the seeds, or their number.
      more: other arguments of `nas.search_population`, which runs all seeds in one program.

    Returns:
      For each seed what `rate` returns, with `seed` and `architecture`, and with the `tau` and `ceiling` of the trained
      supernet: its score of an architecture is minus its validation loss with this architecture's operations alone.
      They are over the architectures with several seeds, whose truth is known best.
    """
    from ruas_jax.nas.benchmark.methods import search_seeds, supernet_losses

    values = self.metrics[self.objective][:, :, -1]
    several = [self.architectures[index] for index in np.flatnonzero(np.isfinite(values).sum(axis=0) > 1)]
    seeds, records = list(range(seeds) if isinstance(seeds, int) else seeds), []
    results = search_seeds(self.search_problem(), self.space, options, seeds, **more)
    for seed, found in zip(seeds, results, strict=True):
      losses = supernet_losses(self.space, found.weights, several)
      correlation = self.rank_correlation(dict(zip(several, -losses, strict=True)))
      about = {"seed": seed, "architecture": tuple(found.derived.values())}
      records.append(about | self.rate(found.derived) | correlation)
    return records
