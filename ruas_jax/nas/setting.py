"""A search that is ready to run: the problem with its options and optimisers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax

from ruas_jax.engine.identity import describe_source, plain
from ruas_jax.engine.sources import Source
from ruas_jax.nas.cost import check_cost
from ruas_jax.nas.options import ALPHA_OPTIMIZER, WEIGHT_OPTIMIZER, SearchOptions
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.schedule import check_method
from ruas_jax.nas.state import MakeOptimizer, Optimizers, SearchState, init_state
from ruas_jax.nas.step import make_search_step
from ruas_jax.optimizers import make_optimizer


@dataclasses.dataclass(frozen=True)
class Setting:
  """Attributes:
  problem: the search problem.
  options: the options of the search.
  optimizers: the optimisers of weights and alpha.
  """

  problem: SearchProblem
  options: SearchOptions
  optimizers: Optimizers

  def init(self, key: jax.Array, hyper: Any = None) -> SearchState:
    """The first state. Without `hyper`, the problem's numbers are used."""
    return init_state(self.problem, self.optimizers, key, self.problem.hyper if hyper is None else hyper)

  def step(self) -> Callable:
    """The search step (`make_search_step`)."""
    return make_search_step(self.problem, self.options, self.optimizers)

  def config(self, *, batch_size: int, seed: int) -> dict[str, Any]:
    """Content of `config.json`, unless an application provides it."""
    written = {"search": dataclasses.asdict(self.options), "parts": dataclasses.asdict(self.options.parts)}
    return plain(written | {"batch_size": batch_size, "seed": seed})

  def identity(
    self, kind: str, train: Source, validation: Source | None, *, batch_size: int, seed: int, **more: Any
  ) -> dict[str, Any]:
    """Everything that determines the numbers of the run, as far as it has a name."""
    config = self.config(batch_size=batch_size, seed=seed)
    if not self.options.scheduled:
      del config["search"]["steps"]  # a resumed run may have more steps
    problem = {
      "players": [player.name for player in self.problem.players],
      "init": self.problem.init,
      "sample": self.problem.sample,
      "hyper": self.problem.hyper,
      "weight_optimizer": self.optimizers.weights,
      "alpha_optimizer": self.optimizers.alpha,
    }
    data = {"train": describe_source(train)}
    if validation is not None:
      data["validation"] = describe_source(validation)
    return plain({"kind": kind, "config": config, "problem": problem, "data": data} | more)


def make_setting(
  problem: SearchProblem,
  options: SearchOptions,
  weight_optimizer: optax.GradientTransformation | MakeOptimizer | None,
  alpha_optimizer: optax.GradientTransformation | MakeOptimizer | None,
) -> Setting:
  """A setting; an optimiser that is None is replaced by the default.

  Raises:
    ProblemError: a player's weights or alpha have a complex leaf, or no floating leaf.
    UserError: a player's module does not exist, or the problem does not have what the method or the cost needs.
  """
  check_method(problem, options)
  check_cost(problem, options)
  optimizers = Optimizers(
    weight_optimizer or make_optimizer(WEIGHT_OPTIMIZER), alpha_optimizer or make_optimizer(ALPHA_OPTIMIZER)
  )
  return Setting(problem, options, optimizers)
