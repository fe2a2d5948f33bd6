"""The exact search step of the released code's problem, compared with PyTorch's by finite differences on one device."""

import importlib.util
import time
from typing import Any

from benchmarks.speed.accelerator.part import Figures, Part
from benchmarks.speed.search_step import Problem, Runner, problem_of, resized, search_config

_MODULE = "illumination"
_STEPS = 10  # in one of our calls; PyTorch takes one
_SIDES = {  # variants of PyTorch; those that compile long are last
  "eager": {"compiled": False, "tf32": False},
  "eager, TF32": {"compiled": False, "tf32": True},
  "torch.compile": {"compiled": True, "tf32": False},
}


def measure(part: Part) -> None:
  problems = {size: _problem(size, part.quick) for size in ((16,) if part.quick else (64, 320))}
  ours = {size: _Ours(part, problem) for size, problem in problems.items()}
  for size, side in ours.items():
    part.measure({"size": size, "side": "ours", "hypergradient": "unrolled"}, side.alone)
  if importlib.util.find_spec("torch") is None:
    part.measure({"side": "PyTorch"}, lambda: {"skipped": "PyTorch is not installed"})
    return
  for side, how in _SIDES.items():
    if part.quick and how["compiled"]:
      part.measure({"side": side}, lambda: {"skipped": "a minute to compile"})
      continue
    for size, problem in problems.items():
      what = {"size": size, "side": side, "hypergradient": "finite_difference"}
      part.measure(what, lambda: _against_torch(part, problem, ours[size], **how))


def _problem(size: int, quick: bool) -> Problem:
  config = search_config(size)
  return problem_of(resized(config, stages=1, crop=size) if quick else config, (_MODULE,))


class _Ours:
  """Our side, compiled when it is first used."""

  def __init__(self, part: Part, problem: Problem):
    self._part, self._problem, self._runner = part, problem, None

  def alone(self) -> Figures:
    self._runner = None
    runner = Runner(self._problem)
    seconds = runner.compile()
    self._runner = runner
    figures = self._part.median_seconds({"ours": self})
    return {"seconds": figures["ours"] / _STEPS, "compile_seconds": seconds, "repeats": figures["repeats"]}

  def __call__(self) -> None:
    if self._runner is None:
      raise RuntimeError("our side did not compile, or was not measured")
    self._runner(_STEPS)


def _against_torch(part: Part, problem: Problem, ours: _Ours, *, compiled: bool, tf32: bool) -> Figures:
  """Both sides in turns. PyTorch's first call, which compiles, is timed separately."""
  import torch

  from benchmarks.speed.search_throughput import torch_images, torch_step

  device = "cuda" if torch.cuda.is_available() else "cpu"
  torch.backends.cudnn.benchmark = True  # as in the released code
  torch.backends.cudnn.allow_tf32 = tf32  # for convolutions; PyTorch's default is True
  state = problem.state
  theirs = torch_step(problem, _MODULE, state.weights, state.alpha, device=device, compiled=compiled)
  images = torch_images(problem, device)
  start = time.perf_counter()
  theirs(*images)  # it waits, because it reads the loss
  first = time.perf_counter() - start
  figures = part.median_seconds({"ours": ours, "theirs": lambda: theirs(*images)})
  seconds = figures["ours"] / _STEPS
  return {
    "torch_device": device,
    "torch_seconds": figures["theirs"],
    "seconds": seconds,
    "times_faster": figures["theirs"] / seconds,
    "torch_first_call_seconds": first,
    "repeats": figures["repeats"],
  } | _torch_memory(torch, device)


def _torch_memory(torch: Any, device: str) -> Figures:
  return {"torch_peak_bytes": torch.cuda.max_memory_allocated()} if device == "cuda" else {}
