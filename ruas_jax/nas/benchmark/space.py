"""A search space that is small enough to train every one of its architectures."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ruas_jax.nas.cost import cost_of_edges
from ruas_jax.nas.problem import BilevelProblem, Player, SearchProblem, as_it_is

PyTree = Any
Architecture = tuple[str, ...]
"""The name of the operation on every edge, in the order of the space's edges."""


class Network(Protocol):
  """The network of a space. `shares`, `[E, O]`, are the mixing weights of the operations on every edge."""

  def init(self, key: jax.Array, /) -> PyTree:
    """Random weights of all candidates."""
    ...

  def __call__(self, weights: PyTree, shares: jax.Array, inputs: Any, /) -> jax.Array:
    """The network's result."""
    ...

  def loss(self, weights: PyTree, shares: jax.Array, batch: PyTree, /) -> jax.Array:
    """The loss of training and validation."""
    ...

  def measure(self, weights: PyTree, shares: jax.Array, test: PyTree, /) -> dict[str, jax.Array]:
    """The metrics on the test data."""
    ...


class Data(NamedTuple):
  """Numpy arrays by name, with an axis of elements. `train` and `validation` have the same structure."""

  train: Mapping[str, np.ndarray]
  validation: Mapping[str, np.ndarray]
  test: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How every architecture of a table is trained, and how a search of the space should train the weights.

  The learning rate of Adam falls to zero along a cosine. Metrics are those of averaged weights: after step t, the
  average moves by the larger of `1 - averaging` and `9 / (t + 10)` towards the weights.
  """

  steps: int
  batch_size: int
  learning_rate: float
  averaging: float = 0.98

  def optimizer(self, steps: int | None = None) -> optax.GradientTransformation:
    """The optimiser of the weights for a run of `steps`; None: of the recipe's."""
    return optax.adam(optax.cosine_decay_schedule(self.learning_rate, steps or self.steps))

  @property
  def lengths(self) -> tuple[int, ...]:
    """The four numbers of steps after which the metrics are measured, up to all of them."""
    return tuple(self.steps // part for part in (8, 4, 2, 1))


@dataclasses.dataclass(frozen=True)
class Space:
  """Attributes:
  name: its name, and that of its table.
  edges, operations: the choices. Every edge has the same candidates.
  network: its supernet, for any shares.
  trained: the same function for shares of zeros and ones, if there is a faster form of it; else `network`.
  compared: the same where many architectures have the same weights, if there is a faster form of it; None: `trained`.
    What does not depend on the shares is computed once.
  objective: the metric of `measure` that a search should make large.
  about: what is learned from which data, and what the metrics are, for the table's card.
  licence: where the data come from, and their licences.
  data: reads or makes the data.
  sample: `(raw, key) -> batch`, as in a `SearchProblem`.
  whole: all elements as one batch, without randomness, for the validation loss.
  recipe: how an architecture is trained.
  alpha_rate: learning rate of Adam for alpha in a search.
  channels: number of channels of a mixed operation, if shares may differ between them (partial channels).
  parameters, macs: cost of an architecture: number of its parameters, and multiply-accumulates for one `unit`.
  timed: makes the inputs for the measurement of latency; None: it is not measured.
  """

  name: str
  edges: tuple[str, ...]
  operations: tuple[str, ...]
  network: Network
  trained: Network
  objective: str
  about: str
  licence: str
  data: Callable[[], Data]
  recipe: Recipe
  parameters: Callable[[Architecture], int]
  macs: Callable[[Architecture], int]
  unit: str
  compared: Network | None = None
  timed: Callable[[], Any] | None = None
  sample: Callable[[PyTree, jax.Array], PyTree] = as_it_is
  alpha_rate: float = 0.02
  channels: int | None = None
  whole: Callable[[PyTree], PyTree] = lambda elements: elements

  def architectures(self) -> list[Architecture]:
    """All architectures, in the order of a table: the last edge changes fastest."""
    return list(itertools.product(self.operations, repeat=len(self.edges)))

  def problem(self, costs: Mapping[str, Callable[[Architecture], float]] | None = None) -> SearchProblem:
    """The search of the supernet. Its derived result is a dictionary edge -> operation.

    `costs` are sums over edges that a search may take into account, by name; None: `parameters` and `macs`.
    """
    size, names = len(self.edges), self.operations
    costs = costs or {"parameters": self.parameters, "macs": self.macs}
    expected = {name: cost_of_edges(lambda chosen, of=of: of(tuple(chosen)), size, names) for name, of in costs.items()}

    def init(key):
      return self.network.init(key), {"edges": jnp.zeros((len(self.edges), len(self.operations)))}

    def loss(weights, shares, batch):
      return self.network.loss(weights, shares["edges"], batch)

    def derive(alpha):
      strongest = np.asarray(alpha["edges"]).argmax(axis=1)
      return {edge: self.operations[index] for edge, index in zip(self.edges, strongest, strict=True)}

    player = Player(self.name, BilevelProblem(loss, loss), relaxed=True)
    return SearchProblem(
      init,
      [player],
      self.sample,
      derive,
      costs={name: lambda shares, of=of: of(shares["edges"]) for name, of in expected.items()},
      skip=names.index("skip") if "skip" in names else None,
      channels={"edges": self.channels} if self.channels else None,
    )
