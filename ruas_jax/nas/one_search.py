"""Searching: takes a problem and data, returns the derived result."""

import contextlib
import functools
import os
from typing import Any

import jax
import numpy as np
import optax

from ruas_jax.engine.device_loop import DeviceLoop
from ruas_jax.engine.feed import StreamFeed, open_feed
from ruas_jax.engine.loop import iterate
from ruas_jax.engine.mesh import Layout
from ruas_jax.engine.run_folder import open_run_folder
from ruas_jax.engine.run_options import Placement, RunOptions
from ruas_jax.engine.seeding import seeded
from ruas_jax.nas.convergence import ConvergenceWatch
from ruas_jax.nas.data import check_data, held_out_reading, open_data, readings_of
from ruas_jax.nas.diagnostics import make_diagnostics
from ruas_jax.nas.files import RunFiles, finish
from ruas_jax.nas.observer import DiagnosticsObserver
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.result import SearchResult
from ruas_jax.nas.selection import select
from ruas_jax.nas.setting import make_setting
from ruas_jax.nas.state import MakeOptimizer
from ruas_jax.nas.training import Trainer


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
    problem: the search problem.
    train: a pytree of numpy arrays with one leading axis, or anything with `__len__` and `__getitem__` that gives
      pytrees of arrays with the same shapes (`engine.sources.Source`).
    validation: the same for the outer losses. None: a random half of `train`, and training uses the other half.
    options: steps, hypergradient, diagnostics.
    batch_size: number of elements in a batch.
    seed: random seed of the first weights, the order of the data, and all keys.
    workdir: folder for `derived.json`, `metrics.jsonl`, `config.json`, `state` and `snapshots`; any path that
      `etils.epath` understands. The same call resumes a run that stopped there. None: nothing is written.
    run: the devices, how often the run is saved, and whether an earlier run is resumed.
    weight_optimizer: updates the weights, and the hypergradient is computed through it: an optax optimiser, or a
      function of the problem's `hyper` that returns one. None: the paper's SGD.
    alpha_optimizer: updates alpha; the same types. None: the paper's Adam.
    placement: device: the data are in device memory. stream: batches are read ahead. auto: device, up to 1 GiB.
    repeat: if true, a batch may be larger than the data, and then holds elements more than once.
    files: the files that an application adds to the run folder.

  Raises:
    UserError: the problem, the data, the options, the mesh or the folder do not fit together; or a loss is not finite
      (the message names the step and the last snapshot).
    ProblemError: a loss, weights or alpha cannot be differentiated (the message names the player).
    Preempted: SIGTERM stopped the search, which is saved in `workdir`.
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
        arithmetic=files.arithmetic,
      )
    )
    observer = None
    if options.measure_every:
      measure = make_diagnostics(problem, options, setting.optimizers)
      diagnose = jax.jit(lambda state, train, held_out, key, _: measure(state, train, held_out, key, problem.hyper))
      held_out = StreamFeed([held_out_reading(options, validation, batch_size=batch_size, seed=seed)])
      stack.enter_context(contextlib.closing(held_out))
      observer = DiagnosticsObserver(options, diagnose, held_out, jax.random.fold_in(init_key, 1))
    loop = DeviceLoop(step, state, feed, step_key, layout=layout, largest_loss=run.largest_loss, identity=files.program)
    watch = ConvergenceWatch(options.parts.hypergradient)
    outcome = iterate(
      loop, steps=options.steps, description="search", run_folder=folder, observer=observer, watch=watch
    )
    state = jax.device_put(outcome.state)
    if observer:
      state = state._replace(alpha=observer.chosen_alpha(state.alpha))
    make_trainer = lambda: Trainer(
      problem,
      train=train,
      validation=validation,
      batch_size=batch_size,
      seed=seed,
      weight_optimizer=setting.optimizers.weights,
      repeat=repeat,
    )
    selecting = functools.partial(select, problem, options, state, make_trainer, seed)
    return finish(problem, state, outcome.records[0], folder.path, files, selecting)
