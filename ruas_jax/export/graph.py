"""The network as an ONNX graph, written node by node.

Inputs and results are `[batch, height, width, 3]`; inside, planes are `[batch, channels, height, width]`. Each
convolution is one Conv whose numbers are stored once, also if several stages share them.
"""

from typing import Any

import jax
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ruas_jax.convolution.primitives import Taps, identity_taps, square_taps
from ruas_jax.export.curves import CURVES, from_light, to_light
from ruas_jax.export.layout import grid
from ruas_jax.export.program import Program
from ruas_jax.lowlight.cell import Affine, Cell, FoldedCell
from ruas_jax.lowlight.denoising import COLOURS, DenoisingModule, FoldedDenoising
from ruas_jax.lowlight.illumination import MEAN_RANGE, FoldedIllumination, IlluminationModule, Level

OPSET = 17
_IR_VERSION = 8  # that of the first release with this opset, so that older runtimes read the file
_ENDS = square_taps(3)
_TO_PLANES, _TO_IMAGES = [0, 3, 1, 2], [0, 2, 3, 1]


def onnx_model(program: Program, about: dict[str, str]) -> onnx.ModelProto:
  """The file's content: the graph, and `about` as its metadata.

  The results are `result` and, with noise removal, also `illuminated`, the image before it.
  """
  graph, network, folded = _Graph(), program.network, program.folded
  inputs = {"image": ["batch", "height", "width", 3]} | ({"mean": ["batch"]} if program.windows else {})
  y = graph.add("Transpose", "image", perm=_TO_PLANES)
  if program.windows:
    mean = graph.add("Unsqueeze", "mean", graph.number("pixel_axes", np.array([1, 2, 3])))
  else:
    brightest = network.illumination.options.brightness == "brightest"
    mean = graph.add("ReduceMax", y, axes=[1]) if brightest else y
    for axis in (3, 2, 1):  # one after the other: a single float32 sum of millions of pixels is inexact
      mean = graph.add("ReduceMean", mean, axes=[axis])
  u, t = _illuminate(graph, network.illumination, folded.illumination, y, mean)
  results = {"result": u}
  if folded.denoising is not None:
    results = {"result": _denoise(graph, network.denoising, folded.denoising, u, t), "illuminated": u}
  for name, planes in results.items():
    graph.add("Transpose", planes, perm=_TO_IMAGES, result=name)
  return graph.model(inputs, {name: inputs["image"] for name in results}, about)


class _Graph:
  """Nodes and numbers so far. A value is the name of what a node, an input or a number holds."""

  def __init__(self):
    self._nodes: list[onnx.NodeProto] = []
    self._numbers: dict[str, np.ndarray] = {}

  def add(self, operator: str, *inputs: str, result: str = "", results: int = 1, **attributes: Any) -> Any:
    """Adds a node. Gives the name of its result, or the names of several."""
    names = [result or f"{operator}_{len(self._nodes)}_{index}" for index in range(results)]
    self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
    return names[0] if results == 1 else names

  def number(self, name: str, values: Any) -> str:
    """A stored array: integers as int64, others as float32."""
    values = np.asarray(values)
    self._numbers[name] = values.astype(np.int64 if values.dtype.kind == "i" else np.float32)
    return name

  def clip(self, value: str, low: float, high: float) -> str:
    return self.add("Clip", value, self.number(f"at_least_{low:g}", low), self.number(f"at_most_{high:g}", high))

  def rest(self, share: str) -> str:
    """`1 - share`."""
    return self.add("Sub", self.number("one", 1.0), share)

  def convolve(self, value: str, name: str, affine: Affine, taps: Taps) -> str:
    """A convolution; its numbers get the name."""
    kernel = self.number(f"{name}.kernel", np.swapaxes(affine.kernel, 0, 1))
    bias, (size, dilation), (down, right) = self.number(f"{name}.bias", affine.bias), grid(taps), grid(taps).padding
    where = {"kernel_shape": size, "dilations": dilation, "pads": [down, right, down, right]}
    return self.add("Conv", value, kernel, bias, **where)

  def model(self, inputs: dict[str, list], results: dict[str, list], about: dict[str, str]) -> onnx.ModelProto:
    describe = lambda values: [helper.make_tensor_value_info(name, TensorProto.FLOAT, values[name]) for name in values]
    numbers = [numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in self._numbers.items()]
    graph = helper.make_graph(self._nodes, "ruas", describe(inputs), describe(results), numbers)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="ruas_jax")
    helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    return model


def _of_stage(cells: FoldedCell, stage: int, stages: int) -> tuple[FoldedCell, int]:
  """The convolutions of a stage, and the number of their set: sets are stored once per stage, or once for all."""
  index = stage if jax.tree.leaves(cells)[0].shape[0] == stages else 0
  return jax.tree.map(lambda leaf: leaf[index], cells), index


def _cell(graph: _Graph, cell: Cell, folded: FoldedCell, x: str, name: str, slope: float) -> str:
  """`Cell.apply`."""

  def edge(x: str, place: str, affine: Affine | None, taps: Taps, *, remain: bool) -> str:
    if affine is not None:
      x = graph.convolve(x, f"{name}.{place}", affine, taps)
    elif remain:
      x = graph.add("Add", x, x)
    return graph.add("LeakyRelu", x, alpha=slope)

  distilled = []
  *nodes, last_taps = cell.node_taps()
  for node, (pair, taps) in enumerate(zip(folded.pairs, nodes, strict=True)):
    own = enumerate(zip(pair, taps, strict=True))
    edges = [edge(x, f"{node}.{index}", *convolution, remain=index == 1) for index, convolution in own]
    if len(edges) == 1:
      halves = graph.number(f"halves_{cell.channels}", np.array([cell.channels] * 2))
      edges = graph.add("Split", edges[0], halves, results=2, axis=1)
    distilled.append(edges[0])
    x = edges[1]
  distilled.append(edge(x, "last", folded.last, *last_taps, remain=False))
  return graph.convolve(graph.add("Concat", *distilled, axis=1), f"{name}.fusion", folded.fusion, identity_taps)


def _illuminate(
  graph: _Graph, module: IlluminationModule, folded: FoldedIllumination, y: str, mean: str
) -> tuple[str, str]:
  """`IlluminationModule.run`: u_K and t_K."""
  options = module.options
  if linear := options.light == "linear":
    y = to_light(graph, y)
  epsilon = _level(graph, folded.level, mean, options.floor, linear) if folded.level else None

  def warm_start(u: str) -> str:
    before = (options.region - 1) // 2 if options.window == "centred" else 0
    after, warm = options.region - 1 - before, u
    if options.region > 1:  # it pads with minus infinity, we with zero: the same, since u is not negative
      warm = graph.add("MaxPool", u, kernel_shape=[options.region] * 2, pads=[before, before, after, after])
    if options.one_illumination:
      warm = graph.add("Concat", *[graph.add("ReduceMax", warm, axes=[1])] * COLOURS, axis=1)
    if u != y and options.gamma:  # at u = y the rectification is zero
      rectification = graph.add("Mul", graph.number("gamma", options.gamma), graph.add("Sub", u, y))
      warm = graph.add("Sub", warm, rectification)
    return warm if epsilon is None else CURVES[options.curve](graph, warm, epsilon)

  first = warm_start(y)
  u, t = y, first
  for stage in range(options.stages):
    warm = warm_start(u) if stage and options.warm_start == "updated" else first
    cell, index = _of_stage(folded.cells, stage, options.stages)
    read = t if options.update == "residual" else warm
    value = _cell(graph, module.cell, cell, read, f"illumination.{index}", module.slope)
    if options.update == "residual":
      change = value if epsilon is None else graph.add("Mul", graph.rest(epsilon), value)
      t = graph.add("Sub", warm, change)
    else:
      t = graph.add("Sigmoid", value)
    if options.one_illumination:
      t = graph.add("Concat", *[graph.add("ReduceMean", t, axes=[1])] * COLOURS, axis=1)
    t = graph.clip(t, options.floor, 1.0)
    gain = t if options.exponent == 1 else graph.add("Pow", t, graph.number("exponent", options.exponent))
    u = graph.clip(graph.add("Div", y, gain), 0.0, 1.0)
  return (from_light(graph, u), from_light(graph, t)) if linear else (u, t)


def _level(graph: _Graph, level: Level, mean: str, floor: float, linear: bool) -> str:
  """The level of an adaptive illumination, `[batch, 1, 1, 1]`."""
  mean = graph.clip(mean, *MEAN_RANGE)
  if linear:
    mean = to_light(graph, mean)
  odds = graph.add("Div", mean, graph.rest(mean))
  scaled = graph.add("Mul", graph.number("level.slope", level.slope), graph.add("Log", odds))
  power = graph.add("Add", scaled, graph.number("level.offset", level.offset))
  return graph.clip(graph.add("Exp", power), floor, 1.0)


def _denoise(graph: _Graph, module: DenoisingModule, folded: FoldedDenoising, u: str, t: str) -> str:
  """`DenoisingModule.run`, clipped to [0, 1]."""
  options = module.options
  rest = graph.rest(t) if options.guided else ""

  def features_of(x: str) -> str:
    seen = graph.add("Concat", x, t, axis=1) if options.guided else x
    return graph.convolve(seen, "denoising.stem", folded.stem, _ENDS)

  def cell(stage: int, features: str) -> str:
    convolutions, index = _of_stage(folded.cells, stage, options.stages)
    return _cell(graph, module.cell, convolutions, features, f"denoising.{index}", module.slope)

  def without_noise(features: str) -> str:
    noise = graph.convolve(features, "denoising.head", folded.head, _ENDS)
    return graph.add("Sub", u, graph.add("Mul", rest, noise) if options.guided else noise)

  x = u
  if options.update == "residual":
    for stage in range(options.stages):
      x = without_noise(cell(stage, features_of(x)))
  else:
    features = features_of(u)
    for stage in range(options.stages):
      features = cell(stage, features)
    x = without_noise(features)
  return graph.clip(x, 0.0, 1.0)
