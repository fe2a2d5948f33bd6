"""The steps lower for TPU on any machine, to operations that its compiler knows: no call into a library of the host.
Where the TPU's compiler is installed (the extra `tpu`), it compiles them for chips that are only described."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.speed.described_tpu import CHIPS, DESCRIBED_TPU, TRAINING, Program, described_tpu, for_tpu, to_compile
from benchmarks.speed.scaling import exchanges, scaling_config, search_step, training_step
from ruas_jax.experiments.setting import search_setting
from ruas_jax.nas.step import batches_per_step

ELEMENTWISE = """
  abs add and clamp compare convert cosine divide exponential log log_plus_one logistic maximum minimum multiply negate
  not or power remainder rsqrt select shift_left shift_right_logical sign sqrt subtract xor is_finite
"""
SHAPES = """
  broadcast_in_dim concatenate constant dynamic_slice dynamic_update_slice gather iota pad reshape reverse slice
  transpose
"""
SUMS = "convolution dot_general reduce reduce_window select_and_scatter"
CONTROL = "case optimization_barrier return while"
KNOWN = {*f"{ELEMENTWISE} {SHAPES} {SUMS} {CONTROL}".split()}

CROP = 16
ROOT = pathlib.Path(__file__).parents[1]


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
  return tiny_config()


def tiny_config():
  return scaling_config(stages=2, crop=CROP)


def search_program(config, players=None):
  """The step and the shapes of its arguments."""
  batches = [batch(count, 1) for count in batches_per_step(search_setting(config).problem, config.search)]
  return program(*search_step(config, players), batches)


def train_program(config, images=1):
  return program(*training_step(config), [batch(images)])


def program(step, init, batches):
  key = jax.eval_shape(lambda: jax.random.key(0))
  return step, (jax.eval_shape(init, key), *batches, key)


def test_the_search_step_lowers_for_tpu(config):
  """One player has both modules, which is traced sooner."""
  step, arguments = search_program(config.with_overrides({"search.strategy": "joint"}))
  found = operations(step, *arguments)
  assert set(found) <= KNOWN
  assert found["convolution"] > 10  # on a TPU convolutions are its own, not sums of shifted images


def test_the_train_step_lowers_for_tpu(config):
  step, arguments = train_program(config)
  found = operations(step, *arguments)
  assert set(found) <= KNOWN
  assert found["convolution"] > 10


def test_an_operation_that_is_not_on_the_list_is_seen():
  found = operations(jnp.linalg.cholesky, jax.ShapeDtypeStruct((3, 3), np.float32))
  assert not set(found) <= KNOWN


@pytest.mark.parametrize(
  ("program", "exchanges"),
  [
    ("search", []),  # members hear nothing of each other
    ("training", ["all-reduce"]),  # images of a batch share nothing but the sums of gradients and losses
  ],
)
def test_a_described_v5e_compiles(program, exchanges):
  """Four chips, among which a search shares out its members and a training its images."""
  if not importlib.util.find_spec("libtpu"):
    pytest.skip("needs the TPU's compiler: pip install -e '.[tpu]'")
  # In a process of its own: it takes other flags than the tests, and the compiler stays in a process for good.
  environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"} | DESCRIBED_TPU
  environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
  done = subprocess.run(
    [sys.executable, __file__, program], env=environment, capture_output=True, text=True, timeout=600
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  assert found["kind"] == "TPU v5 lite" and found["devices"] == 4
  assert found["exchanges"] == exchanges
  assert 0 < found["bytes"] < 16e9  # what a chip has


def compile_for_described_chips(program):
  """Prints what the test looks at. A search is the illumination's part of a round: the other takes minutes."""
  part = Program(TRAINING if program == "training" else "illumination", chips=CHIPS)
  step, arguments, shardings = to_compile(for_tpu(tiny_config()), part)
  compiled = jax.jit(step, **shardings).lower(*arguments).compile()
  memory = compiled.memory_analysis()
  devices = described_tpu()
  about = {"kind": devices[0].device_kind, "devices": len(devices), "exchanges": sorted(exchanges(compiled.as_text()))}
  print(json.dumps(about | {"bytes": memory.argument_size_in_bytes + memory.temp_size_in_bytes}))


if __name__ == "__main__":
  compile_for_described_chips(sys.argv[1])
