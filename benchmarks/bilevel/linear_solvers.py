"""Our conjugate gradients beside those of jax and lineax: exactness, time, and what each says of a bad matrix.

    python -m benchmarks.bilevel.linear_solvers --json benchmarks/results/linear_solvers.json

lineax is no dependency of the package; `pip install lineax` for this benchmark. The programs are called in turns, and a
time is the median of the calls.
"""

import importlib.metadata
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse import linalg

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.bilevel.conjugate_gradient import conjugate_gradient

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


def matrix(kind: str, size: int) -> np.ndarray:
  """A symmetric matrix. Condition numbers: 10 and 10,000; singular: a quarter of the eigenvalues are zero; indefinite:
  one eigenvalue of 100 is negative."""
  rng = np.random.default_rng(0)
  basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
  values = np.geomspace(1, 1e4 if kind == "condition 10,000" else 10, size)
  if kind == "singular":
    values[: size // 4] = 0
  if kind == "indefinite":
    values[:: max(1, size // max(1, size // 100))] *= -1
  return basis * values @ basis.T


def ours(matrix, right, tolerance, steps):
  found = conjugate_gradient(lambda x: matrix @ x, right, tolerance=tolerance, iterations=steps)
  return found.x, found.iterations, found.indefinite


def jax_cg(matrix, right, tolerance, steps):
  x, _ = linalg.cg(lambda x: matrix @ x, right, tol=tolerance, atol=0.0, maxiter=steps)
  return x, -1, False  # it says nothing


def lineax_cg(matrix, right, tolerance, steps):
  import lineax

  operator = lineax.FunctionLinearOperator(
    lambda x: matrix @ x, jax.eval_shape(lambda: right), lineax.positive_semidefinite_tag
  )
  solver = lineax.CG(rtol=tolerance, atol=0.0, max_steps=steps, stabilise_every=None)
  found = lineax.linear_solve(operator, right, solver, throw=False)
  return found.value, found.stats["num_steps"], found.result != lineax.RESULTS.successful


SOLVERS = {"ours": ours, "jax": jax_cg, "lineax": lineax_cg}


def measure(kind: str, dtype: str, size: int, repeats: int) -> list[dict]:
  dense = matrix(kind, size)
  right = np.random.default_rng(1).normal(size=size)
  if kind == "singular":
    right = dense @ right  # there is a solution
  best = np.linalg.lstsq(dense, right, rcond=1e-12)[0]
  arguments = jnp.asarray(dense, dtype), jnp.asarray(right, dtype)
  tolerance, steps = TOLERANCE[dtype], 10 * size
  programs = {
    name: jax.jit(lambda matrix, right, solve=solve: solve(matrix, right, tolerance, steps))
    for name, solve in SOLVERS.items()
  }
  found = {name: jax.block_until_ready(program(*arguments)) for name, program in programs.items()}
  times = {name: [] for name in programs}
  for _ in range(repeats):
    for name, program in programs.items():
      start = time.perf_counter()
      jax.block_until_ready(program(*arguments))
      times[name].append(time.perf_counter() - start)
  rows = []
  for name, (x, iterations, flagged) in found.items():
    x = np.asarray(x, np.float64)
    rows.append(
      {
        "matrix": kind,
        "dtype": dtype,
        "solver": name,
        "finite": bool(np.isfinite(x).all()),
        "residual": float(np.linalg.norm(dense @ x - right) / np.linalg.norm(right)),
        "error": float(np.linalg.norm(x - best) / np.linalg.norm(best)),
        "iterations": int(iterations),
        "says": "nothing" if name == "jax" else ("a failure" if bool(flagged) else "success"),
        "milliseconds": 1e3 * statistics.median(times[name]),
      }
    )
  return rows


def main() -> None:
  arguments = argument_parser(__doc__).parse_args()
  size, repeats = (40, 2) if arguments.quick else (400, 15)
  jax.config.update("jax_enable_x64", True)
  kinds = ("condition 10", "condition 10,000", "singular", "indefinite")
  rows = [row for kind in kinds for dtype in TOLERANCE for row in measure(kind, dtype, size, repeats)]
  print_table(rows)
  settings = {"size": size, "repeats": repeats, "lineax": importlib.metadata.version("lineax")}
  write_report(arguments.json, settings=settings, results=rows, bars={})


if __name__ == "__main__":
  main()
