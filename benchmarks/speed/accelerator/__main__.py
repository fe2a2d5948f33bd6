"""Measures an accelerator: its parts one after the other, the most important ones first.

    python -m benchmarks.speed.accelerator [--quick] [--parts NAME,NAME] [--seconds 480] [--commit HASH] [--json FILE]

The report is written after each part. Each row is printed as soon as it is measured. Commit the
report: `python -m benchmarks.speed.accelerator.table` makes the README's table of devices from such reports.
"""

import argparse
import pathlib
import signal
import sys

from benchmarks.speed.accelerator.processes import PartOf, measure_parts

PARTS = {
  "search_step": PartOf("benchmarks.speed.accelerator.search_step", 0.40),
  "paper_search": PartOf("benchmarks.speed.accelerator.paper_search", 0.08),
  "enhancing": PartOf("benchmarks.speed.accelerator.enhancing", 0.08),
  "population": PartOf("benchmarks.speed.accelerator.population", 0.10),
  "search_round": PartOf("benchmarks.speed.accelerator.search_round", 0.12),
  "convolution": PartOf("benchmarks.speed.accelerator.convolution", 0.12),
  "precision": PartOf("benchmarks.speed.accelerator.precision", 0.07),
  "whole_search": PartOf("benchmarks.speed.accelerator.whole_search", 0.06),
}


def main() -> None:
  parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.accelerator", description=__doc__.split("\n")[0])
  parser.add_argument("--quick", action="store_true", help="run a small version, as a test")
  parser.add_argument("--parts", metavar="NAME,...", default=",".join(PARTS), help="parts to measure; all: %(default)s")
  parser.add_argument("--seconds", type=float, default=480.0, help="time for all parts together; default: %(default)s")
  parser.add_argument("--commit", metavar="HASH", help="commit of the code, if git is not available")
  parser.add_argument(
    "--json", metavar="FILE", type=pathlib.Path, help="the report; benchmarks/results/accelerator_<device>.json"
  )
  arguments = parser.parse_args()
  names = arguments.parts.split(",")
  unknown = [name for name in names if name not in PARTS]
  if unknown:
    parser.error(f"--parts: there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # to end the part's process too
  report = measure_parts(
    {name: PARTS[name] for name in names},
    seconds=arguments.seconds,
    quick=arguments.quick,
    commit=arguments.commit,
    path=arguments.json and arguments.json.absolute(),
  )
  if any(result["status"] != "done" for result in report["results"].values()):
    sys.exit(1)


if __name__ == "__main__":
  main()
