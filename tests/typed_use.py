"""A user's program whose every step a type checker knows; `test_types.py` has it checked, and nothing runs it."""

from typing import assert_type

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ruas_jax
from ruas_jax import bilevel, nas


def inner_loss(weights, alpha, batch):
  return jnp.sum(jnp.square(weights * alpha - batch))


def keyed_loss(weights, alpha, batch, key):
  """With a key and metrics, as a search allows it."""
  noise = jax.random.normal(key, batch.shape)
  return jnp.sum(weights * alpha - batch + noise), {"noise": noise.mean()}


def search_anything() -> nas.SearchResult:
  problem = nas.SearchProblem(
    init=lambda key: (jax.random.normal(key, (3,)), jnp.zeros((3,))),
    players=(nas.Player("cell", nas.BilevelProblem(inner_loss, keyed_loss), length=2),),
  )
  options = nas.SearchOptions(steps=200, hypergradient="neumann", hypergradient_options=("terms=20", "scale=0.1"))
  found = nas.search(
    problem,
    train={"image": np.zeros((8, 3))},
    options=options,
    batch_size=4,
    weight_optimizer=optax.adam(1e-3),
    alpha_optimizer=lambda hyper: optax.sgd(hyper["rate"]),
    run=nas.RunOptions(overwrite=True),
  )
  assert_type(found, nas.SearchResult)
  assert_type(found.state, nas.SearchState)
  return found


def search_ruas(images: np.ndarray) -> jax.Array:
  config = ruas_jax.load_config("tiny").with_overrides({"search.steps": 10})
  assert_type(config, ruas_jax.Config)
  found = ruas_jax.search(
    config,
    workdir="runs/search",
    illumination_loss=lambda output, images: ruas_jax.losses.fidelity(output.t[-1], output.warm_start),
    weight_optimizer=optax.adam(1e-3),
  )
  assert_type(found.genotype, ruas_jax.Genotype)
  trained = ruas_jax.train(config, found.genotype)
  assert_type(trained.model, ruas_jax.Model)
  assert_type(ruas_jax.load_pretrained("lol"), ruas_jax.Model)
  assert_type(ruas_jax.enhance(trained.model, images), jax.Array)
  return ruas_jax.enhance(ruas_jax.load("runs/train"), jnp.asarray(images))


def hypergradient(weights: dict[str, jax.Array], alpha: jax.Array, batches: jax.Array) -> jax.Array:
  inner = optax.sgd(0.1)
  estimator = bilevel.make_estimator("cg", inner=inner, steps=2, damping=0.01)
  assert_type(estimator, bilevel.Estimator)
  problem = bilevel.BilevelProblem(inner_loss, inner_loss)
  state = bilevel.init_optimizer(inner, weights)
  out = estimator(problem, weights, alpha, state, batches, batches[0], key=jax.random.key(0))
  assert_type(out, bilevel.HypergradientOut)
  return out.outer_loss
