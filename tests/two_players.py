"""A search problem of two players with closed forms, and nothing of RUAS; as a program, a population of it.

python tests/two_players.py FOLDER [--kill STEP]
"""

import os
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ruas_jax import nas
from ruas_jax.engine.run_options import CheckpointOptions

STEPS = 12


def data(seed=0, count=16):
  rng = np.random.default_rng(seed)
  return {"x": rng.normal(size=(count, 3)), "y": rng.normal(size=(count,))}


def init(key):
  one, other = jax.random.split(key)
  weights = {"a": jax.random.normal(one, (3,)), "b": jax.random.normal(other, (3,)), "count": jnp.array(7)}
  return weights, {"a": jnp.zeros((2, 3)), "b": jnp.ones((3,)), "count": jnp.array(1)}


def first(weights, alpha, hyper):
  """Moves a; b is a constant of it, and the penalty may be swept."""

  def inner(mine, alpha, batch):
    error = batch["x"] @ mine["a"] - batch["y"] + weights["b"].sum()
    return jnp.mean(error**2) + hyper["penalty"] * jnp.sum(mine["a"] ** 2 * jax.nn.softmax(alpha["a"][0]))

  def outer(mine, alpha, batch):
    return jnp.mean((batch["x"] @ mine["a"] - batch["y"]) ** 2) + 0.1 * jnp.sum(alpha["a"] ** 2)

  return nas.BilevelProblem(inner, outer)


def second(mine, alpha, batch):
  return jnp.mean((batch["x"] @ mine["b"] - batch["y"] * alpha["b"].sum()) ** 2), {"size": jnp.sum(mine["b"] ** 2)}


def problem():
  players = (
    nas.Player("one", first, modules=("a",)),
    nas.Player("two", nas.BilevelProblem(second, second), modules=("b",)),
  )
  return nas.SearchProblem(init, players, hyper={"penalty": 0.1})


def population(folder, steps=STEPS):
  return nas.search_population(
    problem(),
    train=data(),
    seeds=2,
    sweep={"penalty": (0.1, 0.5)},
    options=nas.SearchOptions(steps=steps),
    batch_size=4,
    workdir=folder,
    run=nas.RunOptions(checkpoint=CheckpointOptions(every=2)),
    weight_optimizer=optax.sgd(0.02, momentum=0.9),
    alpha_optimizer=optax.adam(0.05),
  )


def kill_at(step):
  """Ends the process in the middle of writing the snapshot of this step, as SIGKILL does."""
  from ruas_jax.engine import snapshots

  save = snapshots.save_checkpoint

  def killing(path, *arguments):
    if int(path.name) >= step:
      os.kill(os.getpid(), signal.SIGKILL)
    save(path, *arguments)

  snapshots.save_checkpoint = killing


if __name__ == "__main__":
  if "--kill" in sys.argv:
    kill_at(int(sys.argv[sys.argv.index("--kill") + 1]))
  for result in population(sys.argv[1]).results:
    leaves = jax.tree.leaves((result.alpha, result.weights))
    print(result.derived, [np.asarray(leaf).tobytes().hex() for leaf in leaves])
