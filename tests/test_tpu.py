"""The steps lower for TPU on any machine, to operations that its compiler knows: no call into a library of the host."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ruas_jax.architecture_search.step import batches_per_round, make_search_step
from ruas_jax.config import load_config
from ruas_jax.objectives import make_objectives
from ruas_jax.optimizers import make_optimizer
from ruas_jax.retinex.network import build_network
from ruas_jax.runner.setting import describe
from ruas_jax.search_space.genotype import Genotype
from ruas_jax.training import init_train_state, make_train_step

ELEMENTWISE = """
  abs add and clamp compare convert cosine divide exponential log log_plus_one logistic maximum minimum multiply negate
  not or power remainder rsqrt select shift_left shift_right_logical sign sqrt subtract xor is_finite
"""
SHAPES = """
  broadcast_in_dim concatenate constant dynamic_slice dynamic_update_slice gather iota pad reshape reverse slice
  transpose
"""
SUMS = "convolution dot_general reduce reduce_window select_and_scatter"
CONTROL = "case return while"
KNOWN = {*f"{ELEMENTWISE} {SHAPES} {SUMS} {CONTROL}".split()}

CROP = 16


def operations(step, *arguments):
  """StableHLO operations of the program for a TPU, by how often they occur in its text."""
  text = jax.export.export(jax.jit(step), platforms=["tpu"])(*arguments).mlir_module()
  names = re.findall(r"\bstablehlo\.([a-z_]+)", text)
  return {name: names.count(name) for name in {*names} - {"mesh"}}  # an attribute


def batch(*leading):
  return {
    "image": jax.ShapeDtypeStruct((*leading, 20, 24, 3), np.uint8),
    "size": jax.ShapeDtypeStruct((*leading, 2), np.int32),
  }


@pytest.fixture(scope="module")
def config():
  config = load_config("lol")
  return dataclasses.replace(
    config,
    network=dataclasses.replace(
      config.network,
      illumination=dataclasses.replace(config.network.illumination, stages=2),
      denoising=dataclasses.replace(config.network.denoising, stages=2),
    ),
  )


def test_the_search_step_lowers_for_tpu(config):
  players, weight_optimizer, alpha_optimizer, init = describe(config)
  step = make_search_step(players, config.search, weight_optimizer, alpha_optimizer, crop=CROP)
  key = jax.random.key(0)
  found = operations(
    step, jax.eval_shape(init, key), *(batch(count, 1) for count in batches_per_round(config.search)), key
  )
  assert set(found) <= KNOWN
  assert found["convolution"] > 10  # on a TPU convolutions are its own, not sums of shifted images


def test_the_train_step_lowers_for_tpu(config):
  network = build_network(config.network, Genotype.named("published"))
  own = make_optimizer(config.training.denoising_optimizer, decay_steps=100)
  optimizers = {"illumination": own, "denoising": own}
  step = make_train_step(make_objectives(network, config.loss), optimizers, crop=CROP)
  key = jax.random.key(0)
  state = jax.eval_shape(lambda key: init_train_state(network, optimizers, key), key)
  found = operations(step, state, batch(1), key)
  assert set(found) <= KNOWN
  assert found["convolution"] > 10


def test_an_operation_that_is_not_on_the_list_is_seen():
  found = operations(jnp.linalg.cholesky, jax.ShapeDtypeStruct((3, 3), np.float32))
  assert not set(found) <= KNOWN
