"""The cost model's formulas against the programs: traced ones count by count, compiled ones within what is left out."""

import math

import jax
import numpy as np
import pytest

from benchmarks.speed.cost_model import (
  MODULES,
  TRAINING_PASSES,
  Derivatives,
  cost,
  estimator_derivatives,
  forward_convolutions,
  round_passes,
)
from benchmarks.speed.scaling import GENOTYPE, compile_search, compile_training, count, exchanges, scaling_config
from benchmarks.speed.search_step import setting_of, step_of
from ruas_jax.engine.mesh_options import MeshOptions
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.nas.step import batches_per_step

CROP = 32

pytestmark = pytest.mark.usefixtures("xla_convolution")


def config_of(*, stages=1, hypergradient="unrolled", options=(), unroll_steps=1, strategy="cooperative"):
  return scaling_config(stages=stages, crop=CROP).with_overrides(
    {
      "search.hypergradient": hypergradient,
      "search.hypergradient_options": options,
      "search.unroll_steps": unroll_steps,
      "search.strategy": strategy,
    }
  )


def convolution_operations(jaxpr) -> int:
  """Of all convolutions and kernels' gradients in a traced program; loops count as often as they run."""
  total = 0
  for equation in jaxpr.eqns:
    name, parameters = equation.primitive.name, equation.params
    if name == "ruas_convolve_parts":
      *_, kernel, bias = (operand.aval.shape for operand in equation.invars)
      total += 2 * math.prod(kernel) * equation.outvars[0].aval.size // bias[-1]
      continue
    if name in ("ruas_convolve", "ruas_correlate"):
      first, second = (operand.aval.shape for operand in equation.invars[:2])
      groups, images, channels, height, width = first
      taps = len(parameters["taps"])
      if name == "ruas_correlate":
        taps = math.prod(len(set(steps)) for steps in zip(*parameters["taps"], strict=True))
      total += 2 * groups * images * height * width * taps * channels * second[2]
      continue
    inner = [value for value in jax.tree.leaves(parameters) if hasattr(value, "eqns") or hasattr(value, "jaxpr")]
    times = parameters["length"] if name == "scan" else 1
    total += times * sum(convolution_operations(getattr(value, "jaxpr", value)) for value in inner)
  return total


@pytest.mark.parametrize(
  ("player", "hypergradient", "unroll_steps", "options"),
  [
    ("illumination", "finite_difference", 1, ()),
    ("illumination", "unrolled", 1, ()),
    ("illumination", "unrolled", 3, ()),
    ("illumination", "truncated", 3, ("last=2",)),
    ("illumination", "forward", 1, ()),
    ("denoising", "unrolled", 1, ()),
    ("denoising", "mixed_mode", 3, ()),
    ("denoising", "neumann", 1, ("terms=4", "scale=0.1")),
    ("denoising", "nystrom", 1, ("rank=3", "damping=0.1")),
  ],
)
def test_a_round_has_the_convolutions_of_the_formula(player, hypergradient, unroll_steps, options):
  """To the last one; but for gradients that nobody asks for where a step is not in a loop, at most 1.5 %."""
  config = config_of(stages=2, hypergradient=hypergradient, options=options, unroll_steps=unroll_steps)
  found = traced_operations(config, player)
  predicted = cost(round_passes(config, [player]), forward_convolutions(config), crop=CROP).operations
  assert found == pytest.approx(predicted, rel=0.015) and found <= predicted


def test_the_papers_losses_and_a_joint_search():
  """One loss on the image alone, and a window's total variation."""
  config = config_of(stages=2, strategy="joint", hypergradient="mixed_mode")
  config = config.with_overrides({"loss.illumination": "paper", "loss.denoising": "paper", "loss.eta_t": 0.1})
  predicted = cost(round_passes(config), forward_convolutions(config), crop=CROP).operations
  assert traced_operations(config, "joint") == pytest.approx(predicted, rel=0.015)


def traced_operations(config, player):
  setting = setting_of(config, (player,))
  key = jax.random.key(0)
  batches = [
    {
      "image": jax.ShapeDtypeStruct((number, 1, 40, 40, 3), np.uint8),
      "size": jax.ShapeDtypeStruct((number, 1, 2), np.int32),
    }
    for number in batches_per_step(setting.problem, config.search)
  ]
  state = jax.eval_shape(setting.init, key)
  return convolution_operations(jax.make_jaxpr(step_of(setting))(state, *batches, key).jaxpr)


def test_an_estimator_without_a_count_is_named():
  options = RUASSearchOptions(hypergradient="evolution", hypergradient_options=("samples=2", "sigma=0.1"))
  with pytest.raises(ValueError, match="evolution"):
    estimator_derivatives(options)
  assert estimator_derivatives(RUASSearchOptions()) == Derivatives(1, 1)


@pytest.mark.parametrize("genotype", [None, GENOTYPE], ids=["supernet", "derived"])
def test_kernels_are_those_of_the_network(genotype):
  """As many live numbers as the folded network has."""
  config = config_of(stages=2)
  network = build_network(config.network, genotype)
  weights = jax.eval_shape(network.init_weights, jax.random.key(0))
  folded = jax.eval_shape(lambda weights: network.fold("i+n", weights, network.init_alpha()), weights)
  convolutions = forward_convolutions(config, genotype)
  for module in MODULES:
    kernels = [leaf.size for leaf in jax.tree.leaves(getattr(folded, module)) if leaf.ndim >= 3]
    own = [len(each.taps) * each.inputs * each.outputs for each in convolutions[module]]
    assert sorted(own) == sorted(kernels)


def test_work_is_shared_out_and_members_are_silent():
  config = config_of()
  whole = cost(round_passes(config), forward_convolutions(config), crop=CROP, batch=8, members=8)
  for population, data in ((8, 1), (2, 2), (1, 8)):
    share = cost(
      *(round_passes(config), forward_convolutions(config)),
      **{"crop": CROP, "batch": 8, "members": 8, "population": population, "data": data},
    )
    devices = population * data
    assert share.operations * devices == whole.operations and share.bytes_moved * devices == whole.bytes_moved
    assert (share.collective_bytes > 0) == (data > 1)


def test_a_population_on_two_devices():
  """No device hears of another, and each has what the formula says and the small things that it leaves out."""
  config = config_of(hypergradient="first_order").with_overrides(
    {"loss.denoising": "paper", "network.denoising.channels": 3}  # compiles sooner
  )
  players = ["denoising"]  # behind the illumination, so both modules are in it
  counted = count(compile_search(config, members=2, batch=1, mesh=MeshOptions(population=2), players=players), 1)
  predicted = cost(round_passes(config, players), forward_convolutions(config), crop=CROP, members=2, population=2)
  assert counted["exchanges"] == {}
  assert counted["operations"] == pytest.approx(predicted.operations, rel=0.25)
  assert counted["bytes_moved"] == pytest.approx(predicted.bytes_moved, rel=0.25)


def test_a_batch_on_two_devices():
  """Half the work each, and nothing between them but sums as long as the kernels' gradients."""
  config, crop = scaling_config(stages=1, crop=2 * CROP), 2 * CROP  # halves of smaller crops are computed otherwise
  counted = count(compile_training(config, batch=2, mesh=MeshOptions(data=2)), 1)
  convolutions = forward_convolutions(config, GENOTYPE)
  predicted = cost(TRAINING_PASSES, convolutions, crop=crop, batch=2, data=2)
  assert set(counted["exchanges"]) == {"all-reduce"}
  assert counted["collective_bytes"] == pytest.approx(predicted.collective_bytes, rel=0.1)
  assert counted["operations"] == pytest.approx(predicted.operations, rel=0.25)


def test_exchanges_are_found_in_a_program():
  program = """
    %a = (f32[2,3]{1,0}, s32[]) all-reduce(%x, %y), replica_groups={}
    %b = bf16[4]{0:T(8,128)S(1)} all-gather-start(%z), dimensions={0}
    %c = f32[9]{0} add(%all-reduce.1, %z)
  """
  assert exchanges(program) == {"all-reduce": 28, "all-gather": 8}
