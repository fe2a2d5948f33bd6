"""Time of a search step compared with eager PyTorch, in one run and in turns.

    pip install torch==2.13.0 && pip install -e ".[bench]"
    python -m benchmarks.speed.search_throughput --json benchmarks/results/search_throughput.json

Before the timing, PyTorch's hypergradient must agree with our `finite_difference` within 1e-4 in float64. A step is one
update of alpha by eq. 5 with beta L_n and one of the weights. The noise removal module has a separate row.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.limits import Machine, count_work, measure_machine
from benchmarks.report import argument_parser, print_table, write_report
from benchmarks.speed import torch_counterpart as counterpart
from benchmarks.speed.search_step import EPOCHS, IMAGES_PER_EPOCH, Problem, Runner, build_problem, extrapolated_search
from ruas_jax.optimizers import make_optimizer

AGREEMENT = 1e-4
_RATE = 5.0  # learning rate of the weights for the comparison of the two sides
_STEPS = {64: 40, 320: 4}  # steps in one of our calls, about as in a search; PyTorch takes a quarter


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  arguments = parser.parse_args()
  jax.config.update("jax_enable_compilation_cache", False)
  repeats = 2 if arguments.quick else 9
  agreement = {module: disagreement(module) for module in ("illumination", "denoising")}
  print("largest relative difference of PyTorch's hypergradient from our finite_difference, float64:", agreement)
  if max(agreement.values()) > AGREEMENT:
    raise SystemExit(f"the two sides do not compute the same: {agreement}")
  machine = measure_machine()
  cases = [
    (size, module, hypergradient)
    for size in ((64,) if arguments.quick else (64, 320))
    for module in ("illumination", "denoising")
    for hypergradient in (("mixed_mode",) if module == "denoising" else ("mixed_mode", "unrolled", "finite_difference"))
  ]
  rows = [row(*case, repeats=repeats, machine=machine) for case in cases]
  shown = ("size", "module", "hypergradient", "seconds", "torch_seconds", "times_faster", "share_of_limit")
  print_table([{name: row[name] for name in shown} for row in rows], "a search step")
  exact = {r["size"]: r for r in rows if r["module"] == "illumination" and r["hypergradient"] == "mixed_mode"}
  bars = {f"search_step_{size}_times_faster": r["times_faster"] for size, r in exact.items()}
  bars["search_step_share_of_limit"] = min(
    row["share_of_limit"] for row in rows if row["hypergradient"] == "mixed_mode"
  )
  results = {"steps": rows, "agreement": agreement, "machine": machine._asdict()}
  if not arguments.quick:
    run = Runner(build_problem(320, ("illumination",), "mixed_mode"))
    results["search"] = extrapolated_search(run, 200, in_call=10)
    print_table([results["search"]], f"a search of {EPOCHS} epochs x {IMAGES_PER_EPOCH} steps at 320x320")
  write_report(
    arguments.json,
    settings={"repeats": repeats, "batch": 1, "torch_threads": torch.get_num_threads(), "quick": arguments.quick},
    results=results,
    bars=bars,
  )


def disagreement(module: str, size: int = 32) -> float:
  """Largest difference between the two sides' hypergradients by finite differences, relative to our largest number.

  The learning rate is large, so that the second derivatives matter; with that of the search they hardly would.
  """
  with jax.enable_x64(True):
    problem = build_problem(size, (module,), "finite_difference")
    config = problem.config.with_overrides({"search.weight_optimizer.learning_rate": _RATE})
    problem = problem._replace(config=config)
    (player,) = problem.players
    # A zero alpha would hide a wrong order of operations, and a zero momentum a wrong momentum term.
    wide = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)
    weights, alpha = wide(problem.state.weights), wide(problem.state.alpha)
    alpha = {name: 0.3 * jax.random.normal(jax.random.key(2), leaf.shape) for name, leaf in alpha.items()}
    rng = np.random.default_rng(3)
    images = [np.asarray(0.4 * rng.random((1, size, size, 3))) for _ in range(2)]
    theirs = torch_step(problem, module, weights, alpha)
    gradient = theirs.hypergradient(*map(counterpart.images_from_jax, images)).numpy()
    optimizer = make_optimizer(problem.config.search.weight_optimizer)
    estimate = problem.config.search.estimator(optimizer)
    own_weights, own_alpha = player.pick(weights), player.pick(alpha)
    arguments = own_weights, own_alpha, optimizer.init(own_weights), images[0][None], images[1]
    bilevel = player.bilevel_problem(weights, alpha, {})
    ours = jax.jit(lambda *arguments: estimate(bilevel, *arguments).gradient)(*arguments)
    expected = np.asarray(ours[module])
  return float(np.abs(gradient - expected).max() / np.abs(expected).max())


def torch_step(
  problem: Problem, module: str, weights, alpha, *, device: str = "cpu", compiled: bool = False
) -> counterpart.SearchStep:
  options = problem.config
  return counterpart.SearchStep(
    counterpart.from_jax(weights, device),
    counterpart.from_jax(alpha, device),
    compiled=compiled,
    module=module,
    beta=options.loss.beta,
    weight_optimizer=options.search.weight_optimizer,
    alpha_optimizer=options.search.alpha_optimizer,
  )


def torch_images(problem: Problem, device: str = "cpu") -> list[torch.Tensor]:
  """One crop for training and one for validation."""
  size = problem.config.data.crop
  crops = (np.asarray(pool["image"])[:1, :size, :size] for pool in problem.feed.data)
  return [counterpart.images_from_jax(np.float32(crop) / 255, device) for crop in crops]


def row(size: int, module: str, hypergradient: str, *, repeats: int, machine: Machine) -> dict:
  """Medians over calls that take turns."""
  problem, steps = build_problem(size, (module,), hypergradient), _STEPS[size]
  theirs = torch_step(problem, module, problem.state.weights, problem.state.alpha)
  images = torch_images(problem)
  element = jax.tree.map(lambda leaf: leaf[0], problem.feed.read(1))
  work = count_work(
    lambda state, data, ticket, key: problem.step(state, *problem.feed.fetch(data, ticket), key),
    problem.state,
    problem.feed.data,
    element,
    jax.random.key(0),
  )
  ours = Runner(problem)
  ours(steps)
  theirs(*images)
  seconds = {"ours": [], "torch": []}
  for _ in range(repeats):
    start = time.perf_counter()
    ours(steps)
    middle = time.perf_counter()
    for _ in range(max(1, steps // 4)):
      theirs(*images)
    end = time.perf_counter()
    seconds["ours"].append((middle - start) / steps)
    seconds["torch"].append((end - middle) / max(1, steps // 4))
  ours_seconds, torch_seconds = (float(np.median(seconds[side])) for side in ("ours", "torch"))
  limits = work.limits(machine)
  return {
    "size": size,
    "module": module,
    "hypergradient": hypergradient,
    "seconds": ours_seconds,
    "torch_seconds": torch_seconds,
    "times_faster": torch_seconds / ours_seconds,
    "gigaflop": work.operations / 1e9,
    **limits,
    "share_of_limit": max(limits.values()) / ours_seconds,
  }


if __name__ == "__main__":
  main()
