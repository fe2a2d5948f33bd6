"""Runs parts one after the other, each in a separate process with a time limit, and writes the report after each."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from benchmarks.report import write_report
from benchmarks.speed.accelerator.figures import gpu_bars
from benchmarks.speed.accelerator.table import RESULTS
from ruas_jax.engine.report import checked_out_commit

_ROOT = pathlib.Path(__file__).parents[3]
_ERROR_LINES = 30  # of the output of a failed process


class PartOf(NamedTuple):
  """Attributes:
  module: module with a function `measure(part)`.
  share: its share of the time; unused time goes to the later parts.
  """

  module: str
  share: float


def measure_parts(
  parts: Mapping[str, PartOf],
  *,
  seconds: float,
  quick: bool = False,
  commit: str | None = None,
  path: pathlib.Path | None = None,
) -> dict[str, Any]:
  """The report on these parts, written after each of them.

  The result of a part has `status` ("done", "failed", "timed out" or "stopped"), `error` (None, or the reason why it
  did not finish, with the last output of a failed process), `platform` ("cpu", "gpu" or "tpu"; None if jax did not
  start), `seconds`, `limit` (its time limit in seconds), `memory` (the maximum, and which memory) and `rows`.

  Args:
    parts: parts by name, in the order in which they run.
    seconds: time for all of them.
    quick: measure a small version, as a test.
    commit: commit of the code; None: that of git.
    path: file of the report; None: `benchmarks/results/accelerator_<device>.json`.

  Raises:
    SystemExit: it was stopped; the report has been written.
  """
  ends = time.monotonic() + seconds
  about = {"device": "unknown", "versions": {}, "commit": commit or checked_out_commit()}
  settings = {"quick": quick, "seconds": seconds, "parts": list(parts)}
  results, kind, report = {}, "unknown", {}
  with tempfile.TemporaryDirectory() as folder:
    for position, (name, part) in enumerate(parts.items()):
      shares = [other.share for other in list(parts.values())[position:]]
      limit = max(0.0, ends - time.monotonic()) * part.share / sum(shares)
      print(f"--- {name}: at most {limit:.0f} s", flush=True)
      result, records = _measure(name, part.module, pathlib.Path(folder), limit=limit, quick=quick)
      for record in records:
        about |= record.get("about", {})
        kind = record.get("kind", kind)
      results[name] = result
      print(f"--- {name}: {result['status']}, {result['seconds']:.0f} s", flush=True)
      if result["error"]:
        print(result["error"], flush=True)
      to = path or RESULTS / f"accelerator_{re.sub('[^a-z0-9]+', '_', kind.lower())}.json"
      report = write_report(
        to, settings=settings, results=results, bars={} if quick else gpu_bars(results), about=about
      )
      print(f"--- written: {to}", flush=True)
      if result["status"] == "stopped":
        sys.exit(1)
  return report


def _measure(name: str, module: str, folder: pathlib.Path, *, limit: float, quick: bool) -> tuple[dict, list[dict]]:
  """The result of a part, and everything that its process wrote."""
  rows, errors = folder / f"{name}.jsonl", folder / f"{name}.txt"
  rows.touch()
  command = [sys.executable, "-m", "benchmarks.speed.accelerator.part", module, str(rows), str(limit)]
  start = time.monotonic()
  with open(errors, "w") as stderr, _process(command + ["--quick"] * quick, folder / "cache", stderr) as process:
    try:
      status = "failed" if process.wait(limit) else "done"
    except subprocess.TimeoutExpired:
      status = "timed out"
    except (KeyboardInterrupt, SystemExit):
      status = "stopped"
  records = [json.loads(line) for line in rows.read_text().splitlines(keepends=True) if line.endswith("\n")]
  error = None
  if status == "failed":
    said = errors.read_text(errors="replace").splitlines()[-_ERROR_LINES:]
    error = "\n".join([f"the process ended with {process.returncode}", *said])
  elif status == "timed out":
    error = f"it was ended after {limit:.0f} s"
  elif status == "stopped":
    error = "the measurement was stopped"
  return {
    "status": status,
    "error": error,
    "platform": next((record["platform"] for record in records if "platform" in record), None),
    "seconds": time.monotonic() - start,
    "limit": limit,
    "memory": next((record["memory"] for record in reversed(records) if "memory" in record), None),
    "rows": [record["row"] for record in records if "row" in record],
  }, records


@contextlib.contextmanager
def _process(command: list[str], cache: pathlib.Path, stderr) -> Iterator[subprocess.Popen]:
  """Context of a process. When it ends in any way, the process and all its children are ended."""
  environment = os.environ | {
    "JAX_COMPILATION_CACHE_DIR": str(cache),  # empty at first; the parts share compiled programs, other runs do not
    "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")])),
  }
  environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs a part of the memory
  process = subprocess.Popen(command, env=environment, cwd=_ROOT, stderr=stderr, start_new_session=True)
  try:
    yield process
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()
