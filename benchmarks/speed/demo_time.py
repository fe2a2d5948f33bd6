"""Time of `ruas demo` from its start, including compilation, without a compilation cache.

    python -m benchmarks.speed.demo_time --json benchmarks/results/demo_time.json

`--quick` does the same, because there is only one demo.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from benchmarks.report import argument_parser, print_table, write_report


def main() -> None:
  arguments = argument_parser(__doc__.split("\n")[0]).parse_args()
  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / "demo"
    command = [sys.executable, "-c", "from ruas_jax.commands.app import main; main()", "demo", "--out", str(out)]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(pathlib.Path(folder) / "cache")}
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True)
    seconds = time.perf_counter() - start
    evaluation = json.loads((out / "evaluation.json").read_text())
    genotype = json.loads((out / "genotype.json").read_text())
  results = {"seconds": seconds, "mean": evaluation["mean"], "input": evaluation["input"], "genotype": genotype}
  print_table([{"seconds": seconds, **evaluation["mean"]}], "ruas demo")
  write_report(arguments.json, settings={"quick": arguments.quick}, results=results, bars={"demo_seconds": seconds})


if __name__ == "__main__":
  main()
