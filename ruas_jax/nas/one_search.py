"""Searching: a problem and data in, what it derives out."""

import contextlib
import os
from typing import Any

import jax
import numpy as np
import optax

from ruas_jax.engine.device_loop import DeviceLoop
from ruas_jax.engine.feed import Reading, StreamFeed, open_feed
from ruas_jax.engine.loop import iterate
from ruas_jax.engine.mesh import Layout
from ruas_jax.engine.run_folder import open_run_folder
from ruas_jax.engine.run_options import Placement, RunOptions
from ruas_jax.engine.seeding import seeded
from ruas_jax.nas.convergence import ConvergenceWatch
from ruas_jax.nas.data import check_data, open_data, readings_of
from ruas_jax.nas.diagnostics import make_diagnostics
from ruas_jax.nas.files import RunFiles, finish
from ruas_jax.nas.observer import DiagnosticsObserver
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.result import SearchResult
from ruas_jax.nas.setting import make_setting
from ruas_jax.nas.state import MakeOptimizer


def search(
  problem: SearchProblem,
  *,
  train: Any,
  validation: Any | None = None,
  options: SearchOptions = SearchOptions(),
  batch_size: int = 1,
  seed: int = 0,
  workdir: str | os.PathLike | None = None,
  run: RunOptions = RunOptions(),
  weight_optimizer: optax.GradientTransformation | MakeOptimizer | None = None,
  alpha_optimizer: optax.GradientTransformation | MakeOptimizer | None = None,
  placement: Placement = "auto",
  repeat: bool = False,
  files: RunFiles = RunFiles(),
) -> SearchResult:
  """Searches `problem` on `train` and `validation`.

  Args:
    problem: what is searched.
    train: a pytree of numpy arrays with one leading axis, or anything with `__len__` and `__getitem__` that gives
      pytrees of arrays of the same shapes (`engine.sources.Source`).
    validation: the same for the outer losses; None: a seeded half of `train`, which then keeps the other half.
    options: steps, hypergradient, diagnostics.
    batch_size: elements of a batch.
    seed: of the first weights, the order of the data, and every key.
    workdir: gets `derived.json`, `metrics.jsonl`, `config.json`, `state`, and `snapshots`, from which the search goes
      on when the same call is made again; any path that `etils.epath` understands. None: nothing is written.
    run: over which devices, how often it is saved, and whether an earlier run is resumed.
    weight_optimizer: moves the weights, and is what the hypergradient looks through; any of optax, or a function of
      the problem's `hyper` that returns one. None: the paper's SGD.
    alpha_optimizer: moves alpha, likewise. None: the paper's Adam.
    placement: device: the data lie on the device; stream: batches are read ahead; auto: device up to 1 GiB.
    repeat: let a batch that is larger than the data hold elements more than once.
    files: what an application adds to the run folder.

  Raises:
    UserError: the problem, the data, the options, the mesh or the folder do not fit; or a loss is not finite, which
      names the step and the last snapshot.
    ProblemError: a loss, weights or alpha that cannot be differentiated, by the name of the player.
    Preempted: SIGTERM came, and the search is saved in `workdir`.
  """
  setting = make_setting(problem, options, weight_optimizer, alpha_optimizer)
  layout = Layout(run.mesh, batch_size=batch_size)
  train, validation = open_data(train, validation, seed=seed)
  check_data(problem, train, validation, batch_size=batch_size, repeat=repeat)
  readings = readings_of(problem, options, train, validation, batch_size=batch_size, seed=seed)
  feed = open_feed(readings, placement=placement, rows=layout.rows)
  of_run = {"batch_size": batch_size, "seed": seed}
  identity = files.identity or setting.identity("search", train, validation, **of_run)
  state, init_key, step_key = jax.jit(seeded(setting.init))(np.int32(seed))
  take = setting.step()

  def step(state, train, validation, key):
    return take(state, train, validation, key, problem.hyper)

  with contextlib.ExitStack() as stack:
    stack.enter_context(contextlib.closing(feed))
    folder = stack.enter_context(
      open_run_folder(
        *(workdir, identity, run),
        steps=options.steps,
        config=files.config or setting.config(**of_run),
        outputs=files.names,
      )
    )
    observer = None
    if options.diagnostics.every:
      diagnose = jax.jit(make_diagnostics(problem, options, setting.optimizers))
      held_out = StreamFeed([Reading(validation, (options.diagnostics.batches, batch_size), seed=2 * seed + 1)])
      stack.enter_context(contextlib.closing(held_out))
      observer = DiagnosticsObserver(options.diagnostics, diagnose, held_out, jax.random.fold_in(init_key, 1))
    loop = DeviceLoop(step, state, feed, step_key, layout=layout, largest_loss=run.largest_loss)
    watch = ConvergenceWatch(options.hypergradient)
    outcome = iterate(
      loop, steps=options.steps, description="search", run_folder=folder, observer=observer, watch=watch
    )
    state = jax.device_put(outcome.state)
    if observer:
      state = state._replace(alpha=observer.chosen_alpha(state.alpha))
    return finish(problem, state, outcome.records[0], folder.path, files)
