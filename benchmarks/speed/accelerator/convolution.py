"""The convolution for few channels and its gradients in every form, in exact float32 and with TF32.

A row is the median time of one computation in a loop of many, where each depends on all results of the one before. The
row "loop alone" is the time of the loop itself. Images stay in the form's layout. The dense kernel is computed once
before the loop, but the weight gradient is converted to taps in each iteration. `difference` is the largest difference
from the library's result in float32, relative to the largest number of that result.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.limits import measure_machine
from benchmarks.speed.accelerator.forms import Form, forms
from benchmarks.speed.accelerator.part import Figures, Part, compiled
from ruas_jax.lowlight.operations import CANDIDATES, live_taps

_SHAPES = [(128, 7), (128, 3), (128, 6), (1024, 7)]  # side, channels; outputs are twice as many; most important first
_CALLS = 20  # in one program
_PRECISIONS = {"float32": lax.Precision.HIGHEST, "TF32": lax.Precision.DEFAULT}
_WHATS = ("forward", "image_gradient", "weight_gradient")
_SECONDS = 0.5  # for the repeats of one row
_NO_PRODUCT = {("shifted sums", "forward"), ("shifted sums", "image_gradient")}  # hence no TF32


def measure(part: Part) -> None:
  part.measure({"what": "machine, per second"}, lambda: measure_machine(3)._asdict())
  for side, channels in [(32, 3)] if part.quick else _SHAPES:
    case = _Case(part, side, channels, calls=2 if part.quick else _CALLS)
    what = {"side": side, "channels": f"{channels} to {2 * channels}"}
    part.measure(what | {"what": "loop alone"}, case.loop_alone)
    for name in _WHATS:
      for form in forms(case.taps, side, channels, lax.Precision.HIGHEST):
        for numbers in ("float32",) if (form, name) in _NO_PRODUCT else _PRECISIONS:
          if case.has(form, name):
            row = what | {"what": name, "form": form, "numbers": numbers}
            part.measure(row, lambda: case.figures(form, name, numbers))
    for block in (4, 2):
      part.measure(what | {"what": f"into blocks {block}x{block} and back"}, lambda: case.conversion(block))


class _Case:
  """One shape, with the operands in `[B, C, H, W]` and the library's results."""

  def __init__(self, part: Part, side: int, channels: int, *, calls: int):
    self.taps = live_taps(CANDIDATES, channels)
    self._part, self._side, self._channels, self._calls = part, side, channels, calls
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    self._image, self._cotangent = draw(1, channels, side, side), draw(1, 2 * channels, side, side)
    self._kernel = draw(len(self.taps), 2 * channels, channels) / (4 * len(self.taps) * channels) ** 0.5
    self._references: dict[str, np.ndarray] = {}

  def _form(self, name: str, numbers: str) -> Form:
    return forms(self.taps, self._side, self._channels, _PRECISIONS[numbers])[name]

  def has(self, form: str, what: str) -> bool:
    return getattr(self._form(form, "float32"), what) is not None

  def figures(self, name: str, what: str, numbers: str) -> Figures:
    form = self._form(name, numbers)
    operands = form.arrange(self._image), self._kernel, form.arrange(self._cotangent)
    figures, result = self._loop(self._steps(form)[what], operands)
    result = result if what == "weight_gradient" else form.restore(result, self._side)
    result = np.asarray(result, np.float64)
    if (name, numbers) == ("library NCHW", "float32"):
      self._references[what] = result
    if (reference := self._references.get(what)) is not None:
      figures["difference"] = float(np.abs(result - reference).max() / np.abs(reference).max())
    operations = 2 * len(self.taps) * 2 * self._channels**2 * self._side**2
    return figures | {"gigaflop_per_second": operations / figures["seconds"] / 1e9}

  def _steps(self, form: Form) -> dict[str, Callable]:
    """Functions `(image, kernel, cotangent) -> (the same for the next step, the result)`."""

    def forward(image, kernel, cotangent):
      image = 0.5 * image + form.halve(form.forward(image, kernel), self._channels)
      return (image, kernel, cotangent), image

    def image_gradient(image, kernel, cotangent):
      cotangent = 0.5 * cotangent + form.double(form.image_gradient(cotangent, kernel), self._channels)
      return (image, kernel, cotangent), cotangent

    def weight_gradient(image, kernel, cotangent):
      gradient = form.weight_gradient(image, cotangent)
      return (image + 1e-6 * jnp.tanh(gradient.sum()), kernel, cotangent), gradient

    return {"forward": forward, "image_gradient": image_gradient, "weight_gradient": weight_gradient}

  def loop_alone(self) -> Figures:
    form = Form(0, forward=lambda image, kernel: jnp.concatenate([image, image], axis=1) * kernel[0, 0, 0])
    return self._loop(self._steps(form)["forward"], (self._image, self._kernel, self._cotangent))[0]

  def conversion(self, block: int) -> Figures:
    """Conversion of an image to blocks and back, where the compiler cannot merge the two or move them out of the
    loop."""
    form = Form(block)

    def step(image, kernel, cotangent):
      blocks = lax.optimization_barrier(form.arrange(image))
      image = lax.optimization_barrier(form.restore(blocks, self._side))
      return (image, kernel, cotangent), image

    return self._loop(step, (self._image, self._kernel, self._cotangent))[0]

  def _loop(self, step: Callable, operands: tuple) -> tuple[Figures, Any]:
    """Seconds of a step and of compiling the loop; and the result of the last step."""

    @jax.jit
    def many(*operands):
      start = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), jax.eval_shape(step, *operands)[1])
      return lax.fori_loop(0, self._calls, lambda _, carry: step(*carry[0]), (operands, start))[1]

    program, compile_seconds = compiled(many, *operands)
    times = self._part.median_seconds({"loop": lambda: program(*operands).block_until_ready()}, seconds=_SECONDS)
    return {
      "seconds": times["loop"] / self._calls,
      "compile_seconds": compile_seconds,
      "repeats": times["repeats"],
    }, program(*operands)
