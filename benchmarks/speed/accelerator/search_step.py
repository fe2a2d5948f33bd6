"""The exact search step of the released code's problem in all layouts and precisions; and compared with PyTorch's, by
finite differences on the same device, in the layout that is faster with exact products."""

import importlib.util
import time
from typing import Any

from benchmarks.speed.accelerator.part import Figures, Part
from benchmarks.speed.accelerator.ways import Way, in_way, ways
from benchmarks.speed.search_step import Problem, Runner, problem_of, resized, search_config

MODULE = "illumination"
_STEPS = 10  # in one of our calls; PyTorch takes one
_SIDES = {  # variants of PyTorch
  "eager": {"compiled": False, "tf32": False},
  "torch.compile": {"compiled": True, "tf32": False},
  "eager, TF32": {"compiled": False, "tf32": True},
}


def measure(part: Part) -> None:
  sizes = (16,) if part.quick else (64, 320)
  exact = {size: [_Ours(part, size, way) for way in ways(("exact",))] for size in sizes}
  for size in sizes:
    for ours in exact[size]:
      ours.measure()
  if importlib.util.find_spec("torch") is None:
    part.measure({"side": "PyTorch"}, lambda: {"skipped": "PyTorch is not installed"})
  else:
    for side, how in _SIDES.items():
      if part.quick and how["compiled"]:
        part.measure({"side": side}, lambda: {"skipped": "a minute to compile"})
        continue
      for size in sizes:
        ours = min(exact[size], key=lambda ours: ours.seconds)
        what = {"size": size, "side": side, "hypergradient": "finite_difference"}
        part.measure(what, lambda: _against_torch(part, ours, **how))
  for size in () if part.quick else sizes:
    for way in ways(("fast", "high")):
      _Ours(part, size, way).measure()


def step_problem(part: Part, size: int, way: Way) -> Problem:
  """The released code's problem; with one stage in the quick version."""
  config = in_way(search_config(size), way)
  return problem_of(resized(config, stages=1, crop=size) if part.quick else config, (MODULE,))


class _Ours:
  """Our side, compiled when it is measured.

  Attributes:
    way: layout and precision.
    problem: the search.
    seconds: median time of a step; infinite before it is measured.
  """

  def __init__(self, part: Part, size: int, way: Way):
    self._part, self._size, self._runner = part, size, None
    self.way, self.problem, self.seconds = way, step_problem(part, size, way), float("inf")

  def measure(self) -> None:
    what = {"size": self._size, "side": "ours", **self.way, "hypergradient": "unrolled"}
    self._part.measure(what, self._figures)

  def _figures(self) -> Figures:
    runner = Runner(self.problem)
    compile_seconds = runner.compile()
    self._runner = runner
    figures = self._part.median_seconds({"ours": self})
    self.seconds = figures["ours"] / _STEPS
    return {"seconds": self.seconds, "compile_seconds": compile_seconds, "repeats": figures["repeats"]}

  def __call__(self) -> None:
    if self._runner is None:
      raise RuntimeError("our side did not compile, or was not measured")
    self._runner(_STEPS)


def _against_torch(part: Part, ours: _Ours, *, compiled: bool, tf32: bool) -> Figures:
  """Both sides in turns. PyTorch's first call, which compiles, is timed separately."""
  import torch

  from benchmarks.speed.search_throughput import torch_images, torch_step

  ours()
  device = "cuda" if torch.cuda.is_available() else "cpu"
  torch.backends.cudnn.benchmark = True  # as in the released code
  torch.backends.cudnn.allow_tf32 = tf32  # for convolutions; PyTorch's default is True
  state = ours.problem.state
  theirs = torch_step(ours.problem, MODULE, state.weights, state.alpha, device=device, compiled=compiled)
  images = torch_images(ours.problem, device)
  start = time.perf_counter()
  theirs(*images)  # it waits, because it reads the loss
  first = time.perf_counter() - start
  figures = part.median_seconds({"ours": ours, "theirs": lambda: theirs(*images)})
  seconds = figures["ours"] / _STEPS
  return {
    **ours.way,
    "torch_device": device,
    "torch_seconds": figures["theirs"],
    "seconds": seconds,
    "times_faster": figures["theirs"] / seconds,
    "torch_first_call_seconds": first,
    "repeats": figures["repeats"],
  } | _torch_memory(torch, device)


def _torch_memory(torch: Any, device: str) -> Figures:
  return {"torch_peak_bytes": torch.cuda.max_memory_allocated()} if device == "cuda" else {}
