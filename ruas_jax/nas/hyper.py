"""The numbers of a problem's `hyper`, by path, and the ones that a population sweeps."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ruas_jax.bilevel.losses import wrap
from ruas_jax.engine.sources import spec_of
from ruas_jax.errors import UserError
from ruas_jax.nas.options import SWEPT, SearchOptions, is_swept
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.setting import Setting


def with_values(hyper: Any, values: Mapping[str, Any]) -> Any:
  """The problem's `hyper` with the numbers at these paths replaced."""
  return jax.tree.map_with_path(lambda path, leaf: values.get(_path(path), leaf), hyper)


def with_swept_options(problem: SearchProblem, sweep: Mapping[str, Sequence[float]]) -> SearchProblem:
  """The problem whose `hyper` has the options of the search that are swept."""
  options = {path: values[0] for path, values in sweep.items() if values and is_swept(path)}
  if not options or not isinstance(problem.hyper, Mapping):
    return problem
  return dataclasses.replace(problem, hyper=dict(problem.hyper) | options)


def check_values(options: SearchOptions, sweep: Mapping[str, Sequence[float]]) -> None:
  """Raises UserError for a swept option of the search that is outside its range."""
  for path, values in sweep.items():
    for value in values if path in SWEPT else ():
      dataclasses.replace(options, **{path.removeprefix("search."): value})  # which checks it


def check_sweep(setting: Setting, train: Any, paths: list[str]) -> None:
  """Raises UserError for a path that does not exist, or whose number cannot be traced because Python code branches on
  it."""
  problem, known = setting.problem, _paths(setting.problem.hyper)
  raw = jax.tree.map(lambda leaf: jnp.zeros((1, *leaf.shape), leaf.dtype), spec_of(train))

  def trace(values):
    hyper = with_values(problem.hyper, values)
    state = setting.init(jax.random.key(0), hyper)
    batch, (of_weights, of_alpha) = problem.sample(raw, jax.random.key(0)), setting.optimizers.at(hyper)
    out = []
    for player in problem.players:
      weights, alpha = player.pick(state.weights), player.pick(state.alpha)
      bilevel = wrap(player.bilevel_problem(state.weights, state.alpha, hyper))
      keyed = (batch, jax.random.key(0)) if bilevel.inner_loss.keyed else batch
      out += [loss(weights, alpha, keyed) for loss in bilevel]
      out.append(of_weights.update(weights, state.weight_state[player.name], weights))
      out.append(of_alpha.update(alpha, state.alpha_state[player.name], alpha))
    return out

  for path in paths:
    if path not in known:
      listed = ", ".join(known) or "none"
      raise UserError(f"`sweep` {path}: the problem's hyper has no such number; it has {listed}")
    try:
      jax.eval_shape(trace, {path: jax.ShapeDtypeStruct((), jnp.float32)})
    except TypeError:  # jax raises it where Python code needs the value of a traced number
      raise UserError(
        f"`sweep` {path}: cannot be swept, because Python code depends on its value; run one search for each value"
      ) from None


def _paths(hyper: Any) -> list[str]:
  return [_path(path) for path, _ in jax.tree.leaves_with_path(hyper)]


def _path(path) -> str:
  return jax.tree_util.keystr(path, simple=True, separator=".")
