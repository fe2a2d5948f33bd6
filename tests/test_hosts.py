"""Two processes that share one work directory, as the hosts of a machine do."""

import dataclasses
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
from tiny_problem import dark_images, get_config, logged, write_images
from workdirs import arrays_in

from ruas_jax.engine.preemption import EXIT_CODE
from ruas_jax.files import write_json

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 40
TRAIN = ("train", "--genotype", "published", "--mesh.data", "2")
POPULATION = (
  *("search", "--population.seeds", "2", "--data.placement", "device"),
  *("--search.steps", "4", "--search.hypergradient", "first_order"),
)

pytestmark = pytest.mark.slow  # many processes, each of which starts and compiles


@pytest.fixture(scope="module")
def hosts(tmp_path_factory):
  """`hosts(workdir, command=TRAIN, count=2, seed=0, terminate=False, last=())`: exit codes and lines of all;
  `terminate`: the last host gets SIGTERM in the middle of the run; `last`: its own options."""
  folder = tmp_path_factory.mktemp("hosts")
  images = write_images(folder / "images", dark_images(7))

  def run(workdir, *, command=TRAIN, count=2, seed=0, terminate=False, last=()):
    data = {"data.train": str(images), "data.batch_size": 2, "data.placement": "stream"}
    config = get_config().with_overrides({"seed": seed, "training.steps": STEPS} | data)
    write_json(folder / "config.json", dataclasses.asdict(config))
    with socket.socket() as free:
      free.bind(("127.0.0.1", 0))
      address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "ruas_jax", *command, "--workdir", str(workdir)]
    command += ["--config", str(folder / "config.json"), "--checkpoint.every", "5"]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(2 // count)}
    processes = [
      subprocess.Popen(
        [*command, *["--distributed", f"{address},{count},{number}"] * (count > 1), *last * (number == count - 1)],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
      )
      for number in range(count)
    ]  # fmt: skip
    if terminate:
      while not (workdir / "snapshots" / "000005").exists() and processes[-1].poll() is None:
        time.sleep(0.001)
      processes[-1].send_signal(signal.SIGTERM)
    said = [process.communicate()[1].splitlines() for process in processes]
    said = [[line for line in lines if not line.startswith("[Gloo]")] for lines in said]  # jaxlib's own
    return [process.returncode for process in processes], said

  return run


@pytest.fixture(scope="module")
def whole(hosts, tmp_path_factory):
  """The work directory of two hosts that nobody stopped."""
  workdir = tmp_path_factory.mktemp("whole") / "run"
  assert hosts(workdir) == ([0, 0], [[], []])
  return workdir


@pytest.fixture(scope="module")
def stopped(hosts, tmp_path_factory):
  """That of two hosts of which the second got SIGTERM."""
  workdir = tmp_path_factory.mktemp("stopped") / "run"
  codes, said = hosts(workdir, terminate=True)
  assert codes == [EXIT_CODE, EXIT_CODE]
  assert all(" stopped by SIGTERM after step " in lines[-1] for lines in said)
  assert 5 <= len(logged(workdir)) < STEPS
  return workdir


def test_two_hosts_go_on_to_the_same_bits(hosts, whole, stopped, tmp_path):
  workdir = shutil.copytree(stopped, tmp_path / "run")
  codes, said = hosts(workdir)
  assert codes == [0, 0] and said[1] == [] and "resuming after step" in said[0][0]
  assert logged(workdir) == logged(whole)
  jax.tree.map(np.testing.assert_array_equal, *(arrays_in(place / "checkpoint") for place in (workdir, whole)))


def test_one_host_goes_on_where_two_were_stopped(hosts, whole, stopped, tmp_path):
  workdir = shutil.copytree(stopped, tmp_path / "run")
  (code,), (lines,) = hosts(workdir, count=1)
  assert code == 0 and len(lines) == 1 and "resuming after step" in lines[0]
  found, expected = (arrays_in(place / "checkpoint") for place in (workdir, whole))
  chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-6)


def test_two_hosts_share_out_a_population(hosts, tmp_path):
  assert hosts(tmp_path / "run", command=POPULATION) == ([0, 0], [[], []])
  codes, said = hosts(tmp_path / "run", command=POPULATION)  # it has come to its end already
  assert codes == [0, 0] and said[1] == []
  for name in ("member_000", "member_001"):
    assert len(logged(tmp_path / "run" / name)) == 4 and (tmp_path / "run" / name / "genotype.json").exists()


def test_what_the_first_host_refuses_ends_all(hosts, stopped):
  codes, (first, second) = hosts(stopped, seed=1)
  assert codes == [1, 1]
  assert len(first) == len(second) == 1
  assert "another configuration (seed was 0 and is 1" in first[0] and "the first host could not begin" in second[0]


def test_hosts_that_were_given_other_options_end_together(hosts, tmp_path):
  codes, said = hosts(tmp_path / "run", last=("--largest-loss", "5"))
  assert codes == [1, 1]
  message = "ruas: the hosts have different data or options: start all of them with the same data and options"
  assert said == [[message], [message]]
