"""Makes the tables of `ruas_jax.nas.benchmark`, trains single entries again, and checks the tables.

    python -m benchmarks.tabular make denoising
    python -m benchmarks.tabular entry denoising conv_3x3 skip conv_3x3 conv_1x1 --seed 0
    python -m benchmarks.tabular check --json benchmarks/results/tabular.json

`make` takes about 40 minutes of one core for "denoising" and 5 for "digits". It can be stopped and started again.
"""

import argparse
import dataclasses
import importlib
import pathlib

import numpy as np

from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.tabular.assembling import content_of
from benchmarks.tabular.card import tolerance
from benchmarks.tabular.making import SEEDS, Entry, entries_of, train_entries
from benchmarks.tabular.training import make_training
from ruas_jax.nas.benchmark import Space, Table, load
from ruas_jax.nas.benchmark.storage import write_table
from ruas_jax.nas.benchmark.table import FOLDER

REPEATED = {"denoising": 300, "digits": 256}  # architectures with several seeds
_CHECKED = 20


def main() -> None:
  parser = argument_parser("The tables of ruas_jax.nas.benchmark: make them, train an entry again, check them.")
  actions = parser.add_subparsers(dest="action", required=True)
  make = actions.add_parser("make", help="train all entries and write the table")
  make.add_argument("name", choices=REPEATED)
  make.add_argument("--out", metavar="FILE", type=pathlib.Path, help="the table; default: in the package, or in runs")
  make.add_argument("--chunks", metavar="FILE", type=pathlib.Path, help="finished chunks; default: in runs/tabular")
  entry = actions.add_parser("entry", help="train one entry again and print it beside the table's")
  entry.add_argument("name", choices=REPEATED)
  entry.add_argument("architecture", nargs="+", metavar="OPERATION", help="the operation on every edge")
  entry.add_argument("--seed", type=int, default=0)
  actions.add_parser("check", help="train 20 random entries of each table again")
  for action in actions.choices.values():
    action.add_argument("--json", metavar="FILE", type=pathlib.Path, default=argparse.SUPPRESS)
    action.add_argument("--quick", action="store_true", default=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.action == "make":
    make_table(arguments.name, arguments.out, arguments.chunks, quick=arguments.quick)
  elif arguments.action == "entry":
    table = load(arguments.name)
    print_table(retrain(table, [Entry(table.index(arguments.architecture), arguments.seed)]), arguments.name)
  else:
    check(arguments.json, quick=arguments.quick)


def make_table(name: str, out: pathlib.Path | None, chunks: pathlib.Path | None, *, quick: bool) -> None:
  space: Space = importlib.import_module(f"ruas_jax.search_spaces.{name}").SPACE
  folder = pathlib.Path("runs/tabular")
  out = out or (folder if quick else FOLDER) / f"{name}.npz"
  entries = entries_of(len(space.architectures()), REPEATED[name])
  if quick:
    space, entries = dataclasses.replace(space, recipe=dataclasses.replace(space.recipe, steps=8)), entries[: 3 * SEEDS]
  found = train_entries(space, entries, chunks or folder / f"{name}{'-quick' * quick}.jsonl")
  write_table(out, content_of(space, {entry: found[entry] for entry in entries}))
  print(Table.read(out).card)


def check(path: pathlib.Path | None, *, quick: bool) -> None:
  results, bars = {}, {}
  for name in REPEATED:
    table = load(name)
    seeds = np.isfinite(table.metrics[table.objective][:, :, -1]).sum(axis=0)
    rng = np.random.default_rng(1)
    columns = rng.permutation(len(table))[: 2 if quick else _CHECKED]
    rows = retrain(table, [Entry(int(column), int(rng.integers(seeds[column]))) for column in columns])
    print_table(rows, f"{name}: entries trained again")
    noise = {metric: table.noise(metric)._asdict() for metric in table.metrics}
    allowed = tolerance(table.noise())
    results[name] = {"retrained": rows, "noise": noise, "tolerance": allowed, "seeds": np.bincount(seeds).tolist()}
    bars |= {
      f"table_{name}_noise_over_spread": table.noise().ratio,
      f"table_{name}_retrained_over_tolerance": max(row["difference"] for row in rows) / allowed,
    }
    if name == "denoising":
      bars |= {"table_architectures": len(table), "table_architectures_with_seeds": int(np.sum(seeds >= SEEDS))}
  bars["table_megabytes"] = sum(file.stat().st_size for file in FOLDER.glob("*.npz")) / 1e6
  write_report(path, settings={"entries": _CHECKED, "quick": quick}, results=results, bars=bars)


def retrain(table: Table, entries: list[Entry]) -> list[dict]:
  """A row for each entry: the objective of the table, that of a new training, and how far they are apart."""
  space = table.space
  choices = [tuple(map(space.operations.index, table.architectures[entry.architecture])) for entry in entries]
  metrics = make_training(space, len(entries))(choices, [entry.seed for entry in entries])
  rows = []
  for row, entry in enumerate(entries):
    kept = float(table.metrics[table.objective][entry.seed, entry.architecture, -1])
    new = float(metrics[table.objective][row, -1])
    architecture = " ".join(table.architectures[entry.architecture])
    about = {"architecture": architecture, "seed": entry.seed}
    rows.append(about | {"table": kept, "again": new, "difference": abs(new - kept)})
  return rows


if __name__ == "__main__":
  main()
