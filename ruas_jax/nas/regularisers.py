"""Regularisers of alpha: terms that are added to the outer losses. They depend on alpha alone.

With the logits a of one choice between O operations, each term is a mean over the choices:

    entropy       -sum_o p_o log p_o with p = softmax(a)
    beta          log sum_o exp(a_o)                            beta-DARTS, Ye et al. 2022
    zero_one      -mean_o (sigmoid(a_o) - 1/2)^2                FairDARTS, Chu et al. 2020
    distance      sum_o (c_o - 1)^2 with c = elu(a) + 1         DrNAS, Chen et al. 2021

and `weight_decay` is half the sum of all squared logits.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ruas_jax.bilevel import split_inexact
from ruas_jax.nas.relaxation import concentration


def _mean_over_choices(of_choices: Callable[[jax.Array], jax.Array]) -> Callable[[Any], jax.Array]:
  """The mean of `logits [..., O] -> [...]` over the choices of all floating leaves of alpha."""

  def term(alpha: Any) -> jax.Array:
    values = [of_choices(leaf).ravel() for leaf in jax.tree.leaves(split_inexact(alpha)[0])]
    return jnp.concatenate(values).mean()

  return term


def _entropy(logits: jax.Array) -> jax.Array:
  log_shares = jax.nn.log_softmax(logits, axis=-1)
  return -jnp.sum(jnp.exp(log_shares) * log_shares, axis=-1)


def _beta(logits: jax.Array) -> jax.Array:
  return jax.nn.logsumexp(logits, axis=-1)


def _zero_one(logits: jax.Array) -> jax.Array:
  return -jnp.mean((jax.nn.sigmoid(logits) - 0.5) ** 2, axis=-1)


def _distance(logits: jax.Array) -> jax.Array:
  return jnp.sum((concentration(logits) - 1) ** 2, axis=-1)


def _weight_decay(alpha: Any) -> jax.Array:
  return optax.tree.norm(split_inexact(alpha)[0], squared=True) / 2


TERMS: dict[str, Callable[[Any], jax.Array]] = {
  "entropy": _mean_over_choices(_entropy),
  "beta": _mean_over_choices(_beta),
  "zero_one": _mean_over_choices(_zero_one),
  "distance": _mean_over_choices(_distance),
  "weight_decay": _weight_decay,
}
