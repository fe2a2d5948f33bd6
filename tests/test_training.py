"""A training step gives each module its own loss alone, and training lowers both."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stepping import flat
from tiny_problem import dark_images, get_config

from ruas_jax.data.crops import random_crops
from ruas_jax.data.sources import ImageArrays
from ruas_jax.engine.metric_log import read_metrics
from ruas_jax.engine.stream import Order
from ruas_jax.errors import UserError
from ruas_jax.experiments.score import score
from ruas_jax.experiments.train import train
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.objectives import Objectives
from ruas_jax.lowlight.training import TrainState, make_train_step
from ruas_jax.optimizers import OptimizerOptions, make_optimizer

SMALL = Genotype(("skip",) * 6 + ("conv_1x1",), ("skip",) * 6 + ("conv_1x1",))  # compiles fast


def step_of(illumination_scale, denoising_scale):
  """One step on scalars: u = w y, L_t = a w^2 / 2, L_n = b v mean(u), images all 1/5, both weights 3, SGD at 1."""
  objectives = Objectives(
    illumination=lambda weights, alpha, images: (illumination_scale * weights**2 / 2, weights * images),
    denoising=lambda weights, alpha, u: denoising_scale * weights * u.mean(),
  )
  optimizers = {"illumination": optax.sgd(1.0), "denoising": optax.sgd(1.0)}
  weights = {"illumination": jnp.float32(3), "denoising": jnp.float32(3)}
  state = TrainState(jnp.int32(0), weights, {name: optimizers[name].init(weights[name]) for name in weights})
  batch = {"image": jnp.full((2, 6, 7, 3), 51, jnp.uint8), "size": jnp.full((2, 2), 6, jnp.int32)}
  step = jax.jit(make_train_step(objectives, optimizers, functools.partial(random_crops, crop=4)))
  state, metrics = step(state, batch, jax.random.key(0))
  return state, flat(metrics)


def test_each_loss_moves_its_own_weights_alone():
  for a, b in ((1.0, 1.0), (0.0, 10.0), (0.5, 0.0)):
    state, metrics = step_of(a, b)
    assert float(state.weights["illumination"]) == pytest.approx(3 - a * 3)  # nothing of L_n, which grows with w too
    assert float(state.weights["denoising"]) == pytest.approx(3 - b * 3 / 5, abs=1e-4)
    assert float(metrics["illumination_train_loss"]) == pytest.approx(a * 9 / 2)
    assert float(metrics["denoising_train_loss"]) == pytest.approx(b * 9 / 5, rel=1e-5)
    assert int(state.step) == 1


def trained(**arguments):
  """Six steps on one whole image, so that the losses of all steps compare; the weights before and the result."""
  config = get_config().with_overrides({"data.crop": 12, "training.steps": 6})
  images = ImageArrays(["one"], dark_images(1, height=12, width=12))
  result = train(config, SMALL, images=images, **arguments)
  return start_of(result.model, config.seed), result


def start_of(model, seed):
  return model.network.init_weights(jax.random.split(jax.random.key(seed))[0])


def assert_falls(losses):
  assert len(losses) == 6 and losses == sorted(losses, reverse=True) and losses[-1] < losses[0]


def test_the_illumination_loss_falls():
  _, result = trained()
  assert [record["step"] for record in result.metrics] == [1, 2, 3, 4, 5, 6]
  losses = [record["illumination_train_loss"] for record in result.metrics]
  assert_falls(losses)
  assert losses[-1] < 0.9 * losses[0]


def test_the_denoising_loss_falls_and_leaves_the_illumination_alone():
  """L_t is constant here: what moves the illumination could only be L_n."""
  start, result = trained(illumination_loss=lambda output, images: jnp.float32(0))
  assert_falls([record["denoising_train_loss"] for record in result.metrics])
  tree = result.model.weights["illumination"], start["illumination"]
  jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-6), *tree)


def constant(step):
  """An optimiser that adds `step` to every number."""
  return optax.GradientTransformation(
    lambda params: (), lambda updates, state, params=None: (jax.tree.map(lambda leaf: leaf * 0 + step, updates), state)
  )


def train_with_own_parts(images, **arguments):
  """An illumination loss that is 7, and NaN on bright images, a denoising loss of 3, and steps of 1/4."""
  return train(
    get_config(),
    SMALL,
    images=ImageArrays([str(position) for position in range(len(images))], images),
    illumination_loss=lambda output, images: jnp.where(images.mean() > 0.5, jnp.nan, 7.0),
    denoising_loss=lambda x, u: jnp.float32(3),
    optimizer=constant(0.25),
    **arguments,
  )


def test_own_losses_and_optimizer_are_used():
  result = train_with_own_parts(dark_images(3))
  losses = [(record["illumination_train_loss"], record["denoising_train_loss"]) for record in result.metrics]
  assert losses == [(7, 3)] * 3
  start = start_of(result.model, seed=0)
  jax.tree.map(lambda end, begin: np.testing.assert_allclose(end, begin + 0.75, atol=1e-6), result.model.weights, start)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_step(tmp_path):
  images = dark_images(3)
  images[Order(3, seed=0)[1]][:] = 255  # the second to be visited
  with pytest.raises(UserError, match=r"^train: the illumination train loss is not finite at step 2; the last good"):
    train_with_own_parts(images, workdir=tmp_path / "run")
  losses = [record["illumination_train_loss"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl")]
  assert losses == [7, None]
  assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "metrics.jsonl", "snapshots"]


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
  """The last update has no loss after it that would tell."""
  config = get_config().with_overrides({"training.steps": 1})
  images = ImageArrays(["one"], dark_images(1))
  with pytest.raises(UserError, match="train: the weights are not finite after step 1"):
    train(config, SMALL, images=images, optimizer=constant(np.inf), workdir=tmp_path / "run")
  assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_decaying_rate_starts_whole_and_ends_at_nothing():
  options = OptimizerOptions("sgd", learning_rate=0.5, momentum=0.0)
  optimizer = make_optimizer(options, decay_steps=4)
  state, moves = optimizer.init(jnp.float32(0)), []
  for _ in range(5):
    update, state = optimizer.update(jnp.float32(1), state)
    moves.append(-float(update))
  np.testing.assert_allclose(moves, [0.5 * (1 + np.cos(np.pi * step / 4)) / 2 for step in range(5)], atol=1e-7)
  assert get_config().with_overrides({"training.decay": True}).training.decay and not get_config().training.decay


def test_a_score_is_the_loss_of_the_model_and_falls_with_training():
  config = get_config().with_overrides({"data.crop": 12})
  images = ImageArrays(["a", "b"], dark_images(2, height=12, width=14))
  results = []
  for steps in (1, 30):
    of_steps = config.with_overrides({"training.steps": steps})
    results.append(score(train(of_steps, SMALL, images=images).model, config, images))
  assert results[0]["total"] == pytest.approx(results[0]["illumination"] + config.loss.beta * results[0]["denoising"])
  assert results[1]["total"] < results[0]["total"]
