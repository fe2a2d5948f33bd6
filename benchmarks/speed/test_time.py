"""Time of `make test` after installation, without a compilation cache.

    python -m benchmarks.speed.test_time --json benchmarks/results/test_time.json

`--quick` runs only one file and checks no threshold.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks.report import argument_parser, print_table, write_report

_ROOT = pathlib.Path(__file__).resolve().parents[2]


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  with tempfile.TemporaryDirectory() as cache:
    command = ["make", f"VENV={sys.prefix}"]
    subprocess.run([*command, f"{sys.prefix}/.installed-test"], cwd=_ROOT, check=True)
    start = time.perf_counter()
    result = subprocess.run(
      [*command, "test", f"TESTS={'tests/test_kinks.py' if arguments.quick else ''}"],
      cwd=_ROOT,
      env=os.environ | {"JAX_COMPILATION_CACHE_DIR": cache},
      check=True,
      capture_output=True,
      text=True,
    )
    seconds = time.perf_counter() - start
  outcome = result.stdout.strip().splitlines()[-1].strip("= ")
  print_table([{"tests": outcome, "seconds": seconds}])
  write_report(
    arguments.json,
    settings={"quick": arguments.quick},
    results={"seconds": seconds, "outcome": outcome},
    bars={} if arguments.quick else {"test_seconds": seconds},
  )


if __name__ == "__main__":
  main()
