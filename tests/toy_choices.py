"""A search problem with one plainly best operation for each of three choices: the target is made of those."""

import jax.numpy as jnp
import numpy as np
import optax

from ruas_jax import nas

OPERATIONS = (lambda x: x, lambda x: x**2 - 1, lambda x: jnp.sin(4 * x))
BEST = [2, 0, 1]
SGD = {"weight_optimizer": optax.sgd(0.05), "alpha_optimizer": optax.adam(0.1)}


def data(count=64, seed=0):
  x = np.random.default_rng(seed).normal(size=(count, 3)).astype(jnp.result_type(float))
  return {"x": x, "y": np.asarray(sum(2 * OPERATIONS[best](x[:, row]) for row, best in enumerate(BEST)))}


def init(key):
  del key
  return {"scale": jnp.ones((3, 3))}, {"rows": jnp.zeros((3, 3))}


def error(weights, shares, batch):
  """The mixing weights may differ between channels `[3, 3, C]`, all of which are to give the target."""
  values = jnp.stack([operation(batch["x"]) for operation in OPERATIONS], axis=-1)  # [B, rows, operations]
  by_channel = shares["rows"] if shares["rows"].ndim == 3 else shares["rows"][..., None]
  mixed = by_channel * weights["scale"][..., None]
  return jnp.mean((jnp.sum(values[..., None] * mixed[None], axis=(1, 2)) - batch["y"][:, None]) ** 2)


def problem(loss=error, **others):
  described = {"skip": 0, "channels": {"rows": 8}} | others
  return nas.SearchProblem(init, [nas.Player("cell", nas.BilevelProblem(loss, loss), relaxed=True)], **described)


def search(*, problem=problem, steps=60, seed=0, workdir=None, run=nas.RunOptions(), optimizers=SGD, **options):
  return nas.search(
    problem(),
    train=data(),
    validation=data(seed=1),
    options=nas.SearchOptions(steps=steps, **options),
    batch_size=16,
    seed=seed,
    workdir=workdir,
    run=run,
    **optimizers,
  )
