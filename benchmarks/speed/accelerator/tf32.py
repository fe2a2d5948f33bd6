"""The effect of TF32 convolutions on the hypergradient, compared with float32 and float64; and the time that they save.

The state is that of `configs/lol.py` after some rounds, so that Adam's averages are not zero. On a device without TF32
both are float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.speed.accelerator.part import Figures, Part, compiled
from benchmarks.speed.accelerator.precision import convolutions_in
from benchmarks.speed.accelerator.search_round import lol_config, round_figures
from benchmarks.speed.search_step import MODULES, Problem, Runner, problem_of
from ruas_jax.bilevel.diagnostics import Decomposition, compare, decompose
from ruas_jax.nas.state import SearchState
from ruas_jax.optimizers import make_optimizer

_ROUNDS = 20  # before the hypergradient is measured


def measure(part: Part) -> None:
  problem = problem_of(lol_config(part.quick))
  state = jax.device_get(problem.state) if part.quick else _state_after(problem, _ROUNDS)
  for module in MODULES[:1] if part.quick else MODULES:
    part.measure({"module": module}, lambda: _deviations(part, problem, state, module))
  if not part.quick:
    with convolutions_in(lax.Precision.DEFAULT):
      part.measure({"what": "a round, convolutions in TF32"}, lambda: round_figures(part, problem))


def _state_after(problem: Problem, rounds: int) -> SearchState:
  runner = Runner(problem)
  runner(rounds)
  return jax.device_get(runner.state)


def _deviations(part: Part, problem: Problem, state: SearchState, module: str) -> list[Figures]:
  with jax.enable_x64(True):
    reference, *_ = _terms(part, problem, state, module, np.float64)
  rows = []
  for name, precision in (("float32", lax.Precision.HIGHEST), ("TF32", lax.Precision.DEFAULT)):
    with convolutions_in(precision):
      terms, seconds, compile_seconds = _terms(part, problem, state, module, np.float32)
    rows.append({"numbers": name, "seconds": seconds, "compile_seconds": compile_seconds} | _compare(terms, reference))
  return rows


def _compare(terms: Decomposition, reference: Decomposition) -> Figures:
  """Relative error and cosine of the hypergradient and of its implicit term."""
  figures = {}
  with jax.enable_x64(True):
    for name, term in {"total": Decomposition.total, "implicit": lambda terms: terms.implicit}.items():
      compared = compare(term(terms), term(reference))
      figures |= {f"{name}_{figure}": float(compared[figure]) for figure in ("relative_error", "cosine")}
  return figures


def _terms(
  part: Part, problem: Problem, state: SearchState, module: str, dtype: type
) -> tuple[Decomposition, float, float]:
  """The hypergradient's terms in these numbers, the seconds that they take, and those of compiling."""
  player = next(player for player in problem.players if player.name == module)
  optimizer = make_optimizer(problem.config.search.weight_optimizer)
  size = problem.config.data.crop

  @jax.jit
  def terms(state, train, validation):
    bilevel = player.bilevel_problem(state.weights, state.alpha, {})
    point = player.pick(state.weights), player.pick(state.alpha), state.weight_state[player.name]
    return decompose(bilevel, optimizer, *point, train[None], validation)

  def number(leaf):
    return jnp.asarray(leaf, dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.asarray(leaf)

  crops = [jnp.asarray(np.asarray(pool["image"])[:1, :size, :size] / 255, dtype) for pool in problem.feed.data]
  arguments = jax.tree.map(number, state), *crops
  program, compile_seconds = compiled(terms, *arguments)
  seconds = part.median_seconds({"terms": lambda: jax.block_until_ready(program(*arguments))}, seconds=1.0)["terms"]
  return jax.device_get(program(*arguments)), seconds, compile_seconds
