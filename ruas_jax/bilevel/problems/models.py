"""Affine maps and the loss of classifiers."""

import jax
import jax.numpy as jnp


def affine(weights: jax.Array, x: jax.Array) -> jax.Array:
  """`[N, inputs] -> [N, outputs]`; the last row of `weights [inputs + 1, outputs]` is the offset."""
  return x @ weights[:-1] + weights[-1][None]


def cross_entropies(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """`[N]`, of logits `[N, classes]` and integer labels `[N]`."""
  return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]


def accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """`[]`, in 0..1."""
  return jnp.mean(logits.argmax(axis=1) == labels)
