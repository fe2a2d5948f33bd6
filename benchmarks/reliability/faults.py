"""Fault injection: a short search is killed, terminated, or has its files damaged. It must end with the bits of an
undisturbed one, or say what is wrong with which file.

    python -m benchmarks.reliability.faults --json benchmarks/results/faults.json

The search runs by the command line in a separate process and is saved after every step. Its *bits* are the arrays of
its last snapshot (weights, alpha and optimiser states), its log without time, speed and memory, alpha.npz and the
genotype.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from PIL import Image

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.config import Config
from ruas_jax.data.options import DataOptions
from ruas_jax.engine.checkpoint import read_about
from ruas_jax.engine.journal import OF_THE_MACHINE
from ruas_jax.engine.metric_log import read_metrics
from ruas_jax.engine.preemption import EXIT_CODE
from ruas_jax.engine.progress import progress
from ruas_jax.files import write_json
from ruas_jax.lowlight.options import DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.lowlight.search_options import RUASSearchOptions

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_STEPS, _QUICK_STEPS = 48, 8
_WRITE_SECONDS = 0.06  # approximate duration of writing a snapshot
_RESULT_SECONDS = 1.2  # approximate duration of the work after the last snapshot
_DAMAGES = ("flip", "truncate")
_SAME, _REFUSED, _OTHER, _UNCLEAR = "same bits", "refused", "other bits", "unclear"

Row = dict[str, Any]


class Moment(NamedTuple):
  """A time during a search: a number of seconds after its work directory satisfies a condition."""

  name: str
  shown: Callable[[pathlib.Path], bool]
  seconds: float = 0.0


class Ending(NamedTuple):
  """The end of a process: its exit code, and its stderr without the machine's paths."""

  code: int
  lines: list[str]


class Laboratory:
  """The search that is disturbed.

  Attributes:
    folder: folder for work directories.
    steps: number of steps of the search.
    bits: bits of an undisturbed run.
    life: duration of an undisturbed run in seconds.
  """

  def __init__(self, folder: pathlib.Path, *, steps: int, undisturbed: int = 1):
    """The first of the `undisturbed` runs fills the compilation cache. All of them must agree."""
    self.folder, self.steps = folder, steps
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for number in range(7):  # the halves have three and four, so that almost every step is in the middle of an epoch
      Image.fromarray(rng.integers(0, 64, (16, 20, 3), np.uint8)).save(folder / "images" / f"{number}.png")
    write_json(folder / "config.json", dataclasses.asdict(_experiment(folder / "images", steps)))
    caching = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    self._environment = caching | os.environ | {"JAX_PLATFORMS": "cpu"}
    bits = set()
    for number in range(undisturbed):
      workdir, start = folder / f"undisturbed_{number}", time.monotonic()
      if (ending := self.finish(workdir)) != Ending(0, []):
        raise RuntimeError(f"the undisturbed search failed: {ending}")
      self.life = time.monotonic() - start
      bits.add(self.bits_in(workdir))
    # From here the cache is only read: jax writes it in place, and warns about every file that a kill left incomplete.
    self._environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "1e9"
    if len(bits) > 1:
      raise RuntimeError("two undisturbed searches ended with different bits, so nothing can be compared")
    (self.bits,) = bits

  def start(self, workdir: pathlib.Path) -> subprocess.Popen:
    """Starts or resumes the search."""
    command = [sys.executable, "-m", "ruas_jax", "search", "--workdir", str(workdir)]
    command += ["--config", str(self.folder / "config.json"), "--checkpoint.every", "1"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=_ROOT, env=self._environment, text=True, **pipes)

  def interrupt(self, workdir: pathlib.Path, number: signal.Signals, moment: Moment) -> int:
    """Starts the search and sends it a signal; returns its exit code, or minus the signal that ended it."""
    process = self.start(workdir)
    while process.poll() is None and not moment.shown(workdir):
      time.sleep(0.001)
    time.sleep(moment.seconds)
    process.send_signal(number)  # has no effect if the process has ended
    process.communicate()
    return process.returncode

  def finish(self, workdir: pathlib.Path) -> Ending:
    """Lets the search run to its end."""
    process = self.start(workdir)
    _, errors = process.communicate()
    return Ending(process.returncode, errors.replace(str(self.folder), "").splitlines())

  def judge(self, workdir: pathlib.Path, ending: Ending) -> str:
    """The outcome of a disturbed search in a word."""
    if not all(line.startswith("ruas: ") for line in ending.lines):
      return _UNCLEAR
    if ending.code:
      return _REFUSED if ending.lines else _UNCLEAR
    return _SAME if self.bits_in(workdir) == self.bits else _OTHER

  def bits_in(self, workdir: pathlib.Path) -> str:
    """The bits of a finished search."""
    last, digest = workdir / "snapshots" / f"{self.steps:06}", hashlib.sha256()
    read_about(last)  # raises if it is damaged
    tree = ocp.StandardCheckpointHandler().restore(last / "arrays", args=ocp.args.StandardRestore())
    with np.load(workdir / "alpha.npz") as alpha:
      arrays = jax.tree.leaves_with_path(tree) + sorted(alpha.items())
    for path, array in arrays:
      digest.update(f"{path} {array.dtype} {array.shape}".encode() + array.tobytes())
    for record in read_metrics(workdir / "metrics.jsonl"):
      kept = {name: value for name, value in record.items() if name not in OF_THE_MACHINE}
      digest.update(json.dumps(kept).encode())
    digest.update((workdir / "genotype.json").read_bytes())
    return digest.hexdigest()


def _experiment(images: pathlib.Path, steps: int) -> Config:
  """A search with a small program, so that its process takes only seconds."""
  return Config(
    network=NetworkOptions(illumination=IlluminationOptions(stages=1), denoising=DenoisingOptions(stages=1)),
    data=DataOptions(train=str(images), crop=8),
    search=RUASSearchOptions(steps=steps, hypergradient="first_order"),
  )


def anywhere(seconds: float) -> Moment:
  """A moment counted from the start of the process."""
  return Moment("anywhere", lambda workdir: True, seconds)


def in_a_write(step: int, seconds: float) -> Moment:
  """A moment after the begin of writing a snapshot, of this step or a later one."""
  return Moment("in a write", lambda workdir: any(number >= step for number in _hidden(workdir)), seconds)


def in_the_steps(step: int) -> Moment:
  """The moment when the log holds this number of steps."""

  def shown(workdir):
    log = workdir / "metrics.jsonl"
    return log.exists() and log.read_bytes().count(b"\n") >= step

  return Moment("in the steps", shown)


def at_the_end(step: int, seconds: float) -> Moment:
  """A moment after the last snapshot, while the results are written."""
  return Moment("at the end", lambda workdir: (workdir / "snapshots" / f"{step:06}").exists(), seconds)


def killed(laboratory: Laboratory, workdir: pathlib.Path, *, moments: Sequence[Moment]) -> Row:
  """SIGKILL at each moment, one process after the other; then the search runs to its end."""
  codes, inside = [], 0
  for moment in moments:
    codes.append(laboratory.interrupt(workdir, signal.SIGKILL, moment))
    inside += bool(_hidden(workdir))
  ending = laboratory.finish(workdir)
  return {
    "fault": "kill",
    "moments": [moment.name for moment in moments],
    "killed": codes.count(-signal.SIGKILL),
    "inside_writes": inside,
    "outcome": laboratory.judge(workdir, ending),
    "lines": ending.lines,
  }


def terminated(laboratory: Laboratory, workdir: pathlib.Path, *, moment: Moment) -> Row:
  """SIGTERM; then the search runs to its end."""
  code = laboratory.interrupt(workdir, signal.SIGTERM, moment)
  how = {EXIT_CODE: "saved", 0: "had_finished"}.get(code, f"exit_code_{code}")
  if code == -signal.SIGTERM:  # no handler while the process starts, and none is needed when everything is saved
    how = "before_the_loop" if not (workdir / "metrics.jsonl").exists() else how
    how = "after_the_loop" if (workdir / "snapshots" / f"{laboratory.steps:06}").exists() else how
  ending = laboratory.finish(workdir)
  outcome = laboratory.judge(workdir, ending)
  if how.startswith("exit_code"):
    outcome = _UNCLEAR
  return {"fault": "terminate", "moments": [moment.name], "how": how, "outcome": outcome, "lines": ending.lines}


def damaged(
  laboratory: Laboratory, workdir: pathlib.Path, *, stopped: pathlib.Path, newest: int | None, how: str, seed: int
) -> Row:
  """A copy of a stopped run with one damaged file, in each of its `newest` snapshots or in its log (None). Then it runs
  to its end. It must name and skip the damaged snapshots, or refuse to resume if no healthy one is left."""
  rng = np.random.default_rng(seed)
  shutil.copytree(stopped, workdir)
  snapshots = sorted((workdir / "snapshots").iterdir(), reverse=True)
  targets = [workdir / "metrics.jsonl"] if newest is None else snapshots[:newest]
  for target in targets:
    files = [target] if newest is None else sorted(path for path in target.rglob("*") if path.is_file())
    files = [path for path in files if path.stat().st_size]
    _damage(files[rng.integers(len(files))], how, rng)
  ending = laboratory.finish(workdir)
  named = sum(any(target.name in line for line in ending.lines) for target in targets)
  expected = _REFUSED if newest is None or newest == len(snapshots) else _SAME
  outcome = laboratory.judge(workdir, ending)
  if outcome != _OTHER and (outcome != expected or named < len(targets)):
    outcome = _UNCLEAR
  where = "log" if newest is None else "all" if newest == len(snapshots) else f"newest_{newest}"
  about = {"fault": "corruption", "how": how, "where": where, "files": len(targets), "named": named}
  return about | {"outcome": outcome, "lines": ending.lines}


def campaign(folder: pathlib.Path, *, quick: bool, seed: int = 0) -> dict[str, Any]:
  """All faults, each in a separate work directory, as many in parallel as there are cores.

  Args:
    folder: a new folder for images, work directories and the compilation cache.
    quick: only a few faults of each kind, in a shorter search.
    seed: random seed of the moments and of the damage.

  Returns:
    The counts, and under `runs` a row for each disturbed search.
  """
  laboratory = Laboratory(folder, steps=_QUICK_STEPS if quick else _STEPS, undisturbed=1 if quick else 2)
  stopped = folder / "undisturbed_0"
  if not quick:
    stopped = folder / "stopped"
    laboratory.interrupt(stopped, signal.SIGTERM, in_the_steps(laboratory.steps * 2 // 3))
  faults = [
    *(functools.partial(killed, moments=moments) for moments in _kills(laboratory, quick, np.random.default_rng(seed))),
    *(functools.partial(terminated, moment=moment) for moment in _terminations(laboratory, quick)),
    *(
      functools.partial(damaged, stopped=stopped, newest=newest, how=how, seed=seed + number)
      for number, (newest, how) in enumerate(_damages(quick))
    ),
  ]
  rows: list[Row | None] = [None] * len(faults)
  cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
  with concurrent.futures.ThreadPoolExecutor(cores) as pool, progress(len(faults), "faults") as bar:
    numbers = {pool.submit(fault, laboratory, folder / f"run_{n}"): n for n, fault in enumerate(faults)}
    for done, future in enumerate(concurrent.futures.as_completed(numbers), start=1):
      rows[numbers[future]] = future.result()
      shutil.rmtree(folder / f"run_{numbers[future]}")
      bar.update(done, wrong=sum(row["outcome"] in (_OTHER, _UNCLEAR) for row in rows if row))
  return _count(rows)


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  with tempfile.TemporaryDirectory() as folder:
    results = campaign(pathlib.Path(folder) / "faults", quick=arguments.quick)
  for name in ("kill", "terminate", "corruption"):
    print_table([results[name]], name)
  print(f"silently wrong: {results['silently_wrong']}, unclear: {results['unclear']}")
  wrong = {f"faults_{name}": results[name] for name in ("silently_wrong", "unclear")}
  enough = {
    "faults_kills": results["kill"]["kills"],
    "faults_terminations": results["terminate"]["runs"],
    "faults_corrupted_files": results["corruption"]["of_snapshots"],
  }
  write_report(
    arguments.json,
    settings={"steps": _QUICK_STEPS if arguments.quick else _STEPS, "checkpoint_every": 1, "quick": arguments.quick},
    results=results,
    bars=wrong if arguments.quick else wrong | enough,
  )


def _kills(laboratory: Laboratory, quick: bool, rng: np.random.Generator) -> list[list[Moment]]:
  """The moments of SIGKILL for each run."""
  steps, life = laboratory.steps, laboratory.life
  writing = lambda step: in_a_write(int(step), rng.uniform(0, _WRITE_SECONDS))
  if quick:
    return [[writing(0), writing(steps // 2)]]
  return [
    *([anywhere(seconds)] for seconds in life * (np.arange(14) + rng.uniform(size=14)) / 14),
    *([writing(step)] for step in np.linspace(0, steps - 1, 14)),
    *([at_the_end(steps, rng.uniform(0, _RESULT_SECONDS))] for _ in range(3)),
    *([writing(rng.integers(steps)), anywhere(rng.uniform(0, life)), writing(0)] for _ in range(4)),
  ]


def _terminations(laboratory: Laboratory, quick: bool) -> list[Moment]:
  """The moment of SIGTERM for each run."""
  steps, life = laboratory.steps, laboratory.life
  if quick:
    return [in_the_steps(steps // 4)]
  return [
    *(anywhere(seconds) for seconds in life * (np.arange(10) + 0.5) / 10),
    *(in_the_steps(int(step)) for step in np.linspace(1, steps - 4, 6)),
  ]


def _damages(quick: bool) -> list[tuple[int | None, str]]:
  """For each run: the number of newest snapshots to damage, or None for the log; and the kind of damage."""
  if quick:
    return [(1, "flip"), (3, "truncate"), (None, "flip")]
  ways = (*_DAMAGES, "delete")
  return [(1, "flip")] * 8 + [(1, "truncate")] * 6 + [(newest, how) for newest in (1, 2, 3, None) for how in ways]


def _damage(path: pathlib.Path, how: str, rng: np.random.Generator) -> None:
  content = bytearray(path.read_bytes())
  if how == "delete":
    path.unlink()
    return
  index = int(rng.integers(len(content) - (how == "truncate" and len(content) > 1)))  # a lost newline is no damage
  if how == "truncate":
    del content[index:]
  else:
    content[index] ^= 1 << int(rng.integers(8))
  path.write_bytes(content)


def _hidden(workdir: pathlib.Path) -> list[int]:
  """The steps of incomplete snapshots, during a write or a removal."""
  folder = workdir / "snapshots"
  names = os.listdir(folder) if folder.is_dir() else []
  return [int(found[1]) for name in names if (found := re.match(r"\.(\d+)\.", name))]


def _count(rows: Sequence[Row]) -> dict[str, Any]:
  def of(fault, name=None, outcome=None):
    chosen = [row for row in rows if row["fault"] == fault and outcome in (None, row["outcome"])]
    return sum(row[name] for row in chosen) if name else len(chosen)

  def total(outcome):
    return sum(row["outcome"] == outcome for row in rows)

  return {
    "kill": {
      "runs": of("kill"),
      "kills": of("kill", "killed"),
      "inside_writes": of("kill", "inside_writes"),
      "resumed_to_same_bits": of("kill", outcome=_SAME),
    },
    "terminate": {
      "runs": of("terminate"),
      **collections.Counter(row["how"] for row in rows if row["fault"] == "terminate"),
      "resumed_to_same_bits": of("terminate", outcome=_SAME),
    },
    "corruption": {
      "runs": of("corruption"),
      "files": of("corruption", "files"),
      "of_snapshots": sum(row["files"] for row in rows if row.get("how") in _DAMAGES and row["where"] != "log"),
      "named": of("corruption", "named"),
      "same_bits": of("corruption", outcome=_SAME),
      "refused": of("corruption", outcome=_REFUSED),
    },
    "silently_wrong": total(_OTHER),
    "unclear": total(_UNCLEAR) + sum(row["fault"] != "corruption" and row["outcome"] == _REFUSED for row in rows),
    "runs": list(rows),
  }


if __name__ == "__main__":
  main()
