"""Additional measurements of a search: the terms of the hypergradient, the curvature in alpha, statistics of alpha, and
what the rules of early stopping need."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ruas_jax.bilevel import BilevelProblem, split_inexact
from ruas_jax.bilevel.diagnostics import compare, decompose, outer_curvature, summarize
from ruas_jax.bilevel.losses import wrap
from ruas_jax.nas.losses import naming
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.schedule import moment
from ruas_jax.nas.state import Optimizers, SearchState


def make_diagnostics(
  problem: SearchProblem, options: SearchOptions, optimizers: Optimizers
) -> Callable[[SearchState, Any, Any, jax.Array, Any], dict[str, jax.Array]]:
  """`diagnose(state, train, validation, key, hyper) -> metrics`, not jitted.

  `train` and `hyper` are as in a step. `validation` is as there too, with `options.diagnostics.batches` batches on its
  leading axis.

  The metrics are the problem's `statistics` of alpha, and for each player X:
    `X_hessian_eigenvalues`, `X_hessian_spread`: `[n]`, of the outer loss with respect to alpha (`bilevel.Curvature`).
    `X_hessian_largest`: the largest eigenvalue.
    `X_direct_norm` and the other scalars of `bilevel.summarize`: the terms through `unroll_steps` inner steps.

  With the rule skips there is `X_skips`, the number of its choices that are skip; with gradient_match there is
  `X_gradient_match`, the cosine of the weights' gradients of the inner loss in training and the outer loss in
  validation. If only the rule asks for measurements, the others are left out. Where the relaxation draws mixing
  weights, all are measured at their means.
  """
  stop = options.parts.stop
  whole = bool(options.diagnostics.every) or stop == "eigenvalue"

  def sample_all(batches, key):
    count = jax.tree.leaves(batches)[0].shape[0]
    return jax.vmap(problem.sample)(batches, jax.random.split(key, count))

  def diagnose(state: SearchState, train: Any, validation: Any, key: jax.Array, hyper: Any) -> dict[str, jax.Array]:
    metrics = problem.statistics(state.alpha)
    key = jax.random.fold_in(key, state.step)
    train = sample_all(jax.tree.map(lambda leaf: leaf[: options.unroll_steps], train), jax.random.fold_in(key, 0))
    validation = sample_all(validation, jax.random.fold_in(key, 1))
    of_weights, _ = optimizers.at(hyper)
    relaxation = moment(problem, options, state.step, hyper).relaxation.without_draws
    for position, player in enumerate(problem.players):
      bilevel = wrap(player.bilevel_problem(state.weights, state.alpha, hyper, relaxation))
      batches, held_out = train, validation
      if bilevel.inner_loss.keyed:
        of_train, of_validation = jax.random.split(jax.random.fold_in(key, 2 + position))
        batches = (train, jax.random.split(of_train, options.unroll_steps))
        held_out = (validation, jax.random.split(of_validation, options.diagnostics.batches))
      weights, alpha = player.pick(state.weights), player.pick(state.alpha)
      first, found = jax.tree.map(lambda leaf: leaf[0], held_out), {}
      if stop == "skips":
        assert problem.skip is not None  # checked by `check_method`
        found["skips"] = _count_of(problem.skip, alpha)
      if stop == "gradient_match":
        training = jax.tree.map(lambda leaf: leaf[0], batches)
        found["gradient_match"] = _gradient_match(bilevel, weights, alpha, training, first)
      if not whole:
        metrics |= {f"{player.name}_{name}": value for name, value in found.items()}
        continue
      with naming(player.name):
        terms = decompose(bilevel, of_weights, weights, alpha, state.weight_state[player.name], batches, first)
        curvature = outer_curvature(bilevel, weights, alpha, held_out)
      found |= summarize(terms) | {
        "hessian_largest": curvature.eigenvalues[-1],
        "hessian_eigenvalues": curvature.eigenvalues,
        "hessian_spread": curvature.spread,
      }
      metrics |= {f"{player.name}_{name}": value for name, value in found.items()}
    return metrics

  return diagnose


def _count_of(column: int, alpha: Any) -> jax.Array:
  """The number of choices in which the operation of this column is stronger than all others. Where logits are equal, as
  at the start, nothing is chosen."""
  leaves = jax.tree.leaves(split_inexact(alpha)[0])
  others = [jnp.delete(leaf, column, axis=-1).max(axis=-1, initial=-jnp.inf) for leaf in leaves]
  stronger = [jnp.sum(leaf[..., column] > most) for leaf, most in zip(leaves, others, strict=True)]
  return sum(stronger, jnp.zeros((), jnp.int32))


def _gradient_match(problem: BilevelProblem, weights: Any, alpha: Any, training: Any, held_out: Any) -> jax.Array:
  """The cosine of the weights' gradients of the inner and the outer loss."""
  floating, merge = split_inexact(weights)
  gradients = [
    jax.grad(lambda floating, loss=loss, batch=batch: loss(merge(floating), alpha, batch))(floating)
    for loss, batch in zip(problem, (training, held_out), strict=True)
  ]
  return compare(*gradients)["cosine"]
