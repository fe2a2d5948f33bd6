"""Solvers by name."""

from collections.abc import Callable

from ruas_jax.bilevel.options import check_options
from ruas_jax.bilevel.problem import BilevelProblem
from ruas_jax.bilevel.solvers.nested import amigo, nested, stocbio
from ruas_jax.bilevel.solvers.penalty import bome, f2sa
from ruas_jax.bilevel.solvers.single_loop import fsla, soba, ttsa
from ruas_jax.bilevel.solvers.solver import Method, Solver, as_solver
from ruas_jax.bilevel.solvers.trajectory import bda, iaptt
from ruas_jax.bilevel.solvers.variance_reduced import mrbo, saba, srba, sustain

SOLVERS: dict[str, Callable[..., Method]] = {
  "nested": nested,
  "amigo": amigo,
  "stocbio": stocbio,
  "soba": soba,
  "fsla": fsla,
  "ttsa": ttsa,
  "saba": saba,
  "srba": srba,
  "sustain": sustain,
  "mrbo": mrbo,
  "f2sa": f2sa,
  "bome": bome,
  "iaptt": iaptt,
  "bda": bda,
}
"""The methods by name: functions of their options."""

_FRAME = ("outer", "batch_size", "sample", "order", "projection", "frozen_weights", "frozen_alpha")


def make_solver(name: str, problem: BilevelProblem, **options) -> Solver:
  """The solver `name` of the problem, an `init`/`step` pair.

  Args:
    name: a name in `SOLVERS`.
    problem: the problem. A loss may have the parameters `key` and `collection`, and may return `(loss, metrics)`.
    options: the options of the method, and these of all: `outer`, the step size of alpha or an optax optimiser of it;
      `batch_size` (None: all examples) or `sample`, a function `(all examples, key) -> minibatch`; `order` of the
      minibatches, "random" or "shuffled"; `projection`, a function `alpha -> alpha` after each update; `frozen_weights`
      and `frozen_alpha`, pytrees of booleans.

  Raises:
    ValueError: the name is unknown, or an option has a value that is not allowed.
    TypeError: the method does not have an option, or needs one that is missing.
    ProblemError: (when called) a loss does not return one real floating number, trees do not match, or the examples do
      not have one leading axis.
  """
  if name not in SOLVERS:
    raise ValueError(f"method {name!r} is not one of {', '.join(sorted(SOLVERS))}")
  ours = {option: value for option, value in options.items() if option not in _FRAME}
  check_options(f"method {name}", SOLVERS[name], ours)
  if "outer" not in options:
    raise TypeError(f"method {name} needs the option 'outer'")
  frame = {option: value for option, value in options.items() if option in _FRAME}
  return as_solver(name, SOLVERS[name](**ours), problem, **frame)
