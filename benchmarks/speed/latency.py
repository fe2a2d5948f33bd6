"""The table of latency against networks that it was not made from: random genotypes, timed as a whole.

    python -m benchmarks.speed.latency --json benchmarks/results/latency.json

The table is made first (`ruas latency`), then all networks are timed in turns.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.config import load_config
from ruas_jax.engine.compiler import compiler_options
from ruas_jax.engine.memory import keep_freed_memory
from ruas_jax.experiments.latency import fastest_seconds, measure_latency
from ruas_jax.lowlight.genotype import CELLS, EDGES, Genotype
from ruas_jax.lowlight.latency import latency_of_record
from ruas_jax.lowlight.network import build_network, count_folded_macs, run_folded
from ruas_jax.lowlight.operations import CANDIDATES, operation_names


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--config", default="lol")
  parser.add_argument("--networks", type=int, default=12, help="number of random genotypes")
  options = parser.parse_args()
  height, width, repeats = (32, 48, 1) if options.quick else (400, 600, 10)
  keep_freed_memory()
  network = load_config(options.config).network
  table = measure_latency(network, height=height, width=width, repeats=repeats)
  cost = latency_of_record(table)
  names = operation_names(CANDIDATES)
  draws = np.random.default_rng(0).choice(names, (2 if options.quick else options.networks, len(CELLS), len(EDGES)))
  genotypes = [Genotype(*map(tuple, cells)) for cells in draws.tolist()]
  seconds = fastest_seconds({genotype: _forward(network, genotype, height, width) for genotype in genotypes}, repeats)
  rows = [
    {
      "genotype": str(genotype),
      "seconds": seconds[genotype],
      "by_table": cost.of(genotype),
      "macs": count_folded_macs(build_network(network, genotype), "i+n", 1, 1),
    }
    for genotype in genotypes
  ]
  print_table(rows, f"forward pass of {width}x{height}")
  measured = [row["seconds"] for row in rows]
  correlation = {name: float(spearmanr(measured, [row[name] for row in rows])[0]) for name in ("by_table", "macs")}
  error = float(np.median([abs(row["by_table"] / row["seconds"] - 1) for row in rows]))
  print(f"rank correlations {correlation}, median error {error:.3f}")
  write_report(
    options.json,
    settings={"quick": options.quick, "config": options.config, "size": [height, width], "repeats": repeats},
    results={"networks": rows, "rank_correlation": correlation, "median_relative_error": error, "table": table},
    bars={"latency_rank_correlation": correlation["by_table"]},
  )


def _forward(network, genotype: Genotype, height: int, width: int):
  built = build_network(network, genotype)
  folded = jax.jit(lambda key: built.fold("i+n", built.init_weights(key), {}))(jax.random.key(0))
  images = jnp.full((1, height, width, 3), 0.2)
  program = jax.jit(lambda folded, images: run_folded(built, folded, images).image, compiler_options=compiler_options())
  run = program.lower(folded, images).compile()
  return lambda: run(folded, images).block_until_ready()


if __name__ == "__main__":
  main()
