"""Seeded searches and an enhanced photograph, against a record that was made before the packages were rearranged.

    RUAS_JAX_RECORD=1 python -m pytest tests/test_behaviour.py      # writes it anew, where numbers are meant to change

The bits are compared where the processor and the versions are those of the record. Elsewhere the compiler may choose
other vectors, and sums are rounded in another order: there numbers agree within float32 rounding.
"""

import functools
import json
import os
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

import ruas_jax
from ruas_jax.commands.app import main
from ruas_jax.data.sources import ImageArrays
from ruas_jax.engine.environment import versions

pytestmark = pytest.mark.usefixtures("kept_programs")

RECORD = pathlib.Path(__file__).parent / "records" / "behaviour.json"


def picture(index, height=20, width=24):
  rows, columns = np.mgrid[:height, :width]
  shades = np.stack([rows * (2 + index), columns * 3, (rows + columns) * 2], axis=-1)
  noise = np.random.default_rng(index).integers(0, 9, shades.shape)
  return (shades + noise).astype(np.uint8)


PICTURES = ImageArrays(["first", "second", "third"], [picture(index) for index in range(3)])


def config_of(*, steps=3, **search):
  one_stage = {"network.illumination.stages": 1, "network.denoising.stages": 1}
  small = {"seed": 3, "data.crop": 16, "data.batch_size": 2, "search.steps": steps}
  changed = {f"search.{name}": value for name, value in search.items()}
  return ruas_jax.load_config("tiny").with_overrides(one_stage | small | changed)


def found_by(result):
  """What a search leaves, as JSON holds it."""
  return {
    "genotype": str(result.genotype),
    "alpha": {name: np.asarray(alpha).tolist() for name, alpha in result.state.alpha.items()},
    "weights": [float(np.asarray(leaf, np.float64).sum()) for leaf in jax.tree.leaves(result.state.weights)],
    "metrics": result.metrics,
  }


def searched(workdir=None, run=ruas_jax.RunOptions(), **options):
  return found_by(ruas_jax.search(config_of(**options), train_images=PICTURES, workdir=workdir, run=run))


def with_checkpoints(folder, steps):
  return searched(folder, ruas_jax.RunOptions(checkpoint=ruas_jax.CheckpointOptions(every=1)), steps=steps)


@functools.cache
def stopped(folder):
  """A search of three steps, taken once: one test checks its result, another resumes it."""
  return with_checkpoints(folder, 3)


def resumed(folder):
  stopped(folder)
  return with_checkpoints(folder, 4)


def population():
  options = ruas_jax.PopulationOptions(seeds=2, sweep=("loss.eta_t=0.01,0.3",))
  found = ruas_jax.search_population(config_of(**FAST), options, train_images=PICTURES)
  return [found_by(result) for result in found.results]


def enhanced(folder):
  folder.mkdir(parents=True)
  Image.fromarray(picture(0, 24, 32)).save(folder / "dark.png")
  main(["enhance", str(folder / "dark.png"), "--out", str(folder / "bright")])
  return np.asarray(Image.open(folder / "bright" / "dark.png")).tolist()


FAST = {"hypergradient": "first_order"}  # compiles sooner
RUNS = {
  "cooperative": lambda folder: stopped(folder.parent / "search"),
  "separate": lambda folder: searched(strategy="separate", **FAST),
  "joint": lambda folder: searched(strategy="joint", **FAST),
  "resumed": lambda folder: resumed(folder.parent / "search"),
  "population": lambda folder: population(),
  "photograph": enhanced,
}


def machine():
  """What decides the last bits."""
  information = pathlib.Path("/proc/cpuinfo")
  lines = information.read_text().splitlines() if information.exists() else []
  flags = next((line for line in lines if line.startswith("flags")), "").split()
  vectors = sorted(flag for flag in flags if flag.startswith(("avx", "fma", "amx")))
  return {"vectors": vectors, "convolution": versions()["convolution"], "jaxlib": versions()["jaxlib"]}


@pytest.fixture(scope="module")
def record():
  if not os.environ.get("RUAS_JAX_RECORD"):
    yield json.loads(RECORD.read_text())
    return
  new = {"machine": machine(), "runs": {}}
  yield new
  RECORD.parent.mkdir(exist_ok=True)
  RECORD.write_text(json.dumps(new) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("name", RUNS)
def test_behaviour_is_that_of_the_record(name, record, folder):
  now = json.loads(json.dumps(RUNS[name](folder / name)))
  if os.environ.get("RUAS_JAX_RECORD"):
    record["runs"][name] = now
  if record["machine"] == machine():
    assert now == record["runs"][name]
  else:
    assert_near(now, record["runs"][name])


def assert_near(now, recorded):
  assert type(now) is type(recorded)
  if isinstance(now, dict):
    assert now.keys() == recorded.keys()
    for name in now:
      assert_near(now[name], recorded[name])
  elif isinstance(now, list):
    assert len(now) == len(recorded)
    for one, other in zip(now, recorded, strict=True):
      assert_near(one, other)
  elif isinstance(now, float):
    # A tenth of a step of alpha: Adam divides a gradient by its own size, which enlarges the rounding of small ones.
    assert now == pytest.approx(recorded, rel=1e-3, abs=1e-3)
  elif isinstance(now, int):
    assert abs(now - recorded) <= 1
  else:
    assert now == recorded
