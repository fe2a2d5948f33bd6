"""The curves of an illumination as nodes of an ONNX graph: that of sRGB, and the warm start of an adaptive module."""

from typing import Protocol

from ruas_jax.lowlight.curves import SERIES, SMALL
from ruas_jax.srgb import EXPONENT, LIGHT_THERE, LINE_ENDS, OFFSET, SLOPE


class Graph(Protocol):
  """What is used of a graph."""

  def add(self, operator: str, *inputs: str) -> str: ...
  def number(self, name: str, values: float) -> str: ...
  def rest(self, share: str) -> str: ...


def to_light(graph: Graph, values: str) -> str:
  """`srgb.to_light`."""
  ends = graph.number("line_ends", LINE_ENDS)
  shifted = graph.add("Add", graph.add("Max", values, ends), graph.number("offset", OFFSET))
  share = graph.add("Div", shifted, graph.number("one_and_offset", 1 + OFFSET))
  curved = graph.add("Pow", share, graph.number("decoding_exponent", EXPONENT))
  line = graph.add("Div", values, graph.number("line_slope", SLOPE))
  return graph.add("Where", graph.add("LessOrEqual", values, ends), line, curved)


def from_light(graph: Graph, light: str) -> str:
  """`srgb.from_light`."""
  ends = graph.number("light_there", LIGHT_THERE)
  power = graph.add("Pow", graph.add("Max", light, ends), graph.number("encoding_exponent", 1 / EXPONENT))
  scaled = graph.add("Mul", graph.number("one_and_offset", 1 + OFFSET), power)
  curved = graph.add("Sub", scaled, graph.number("offset", OFFSET))
  line = graph.add("Mul", graph.number("line_slope", SLOPE), light)
  return graph.add("Where", graph.add("LessOrEqual", light, ends), line, curved)


def rational(graph: Graph, y: str, epsilon: str) -> str:
  """`lowlight.curves.rational`."""
  return graph.add("Add", epsilon, graph.add("Mul", graph.rest(epsilon), y))


def exponential(graph: Graph, y: str, epsilon: str) -> str:
  """`lowlight.curves.exponential`."""
  k = graph.add("Div", graph.rest(epsilon), epsilon)
  positive = graph.add("Max", y, graph.number("zero", 0.0))
  return graph.add("Div", _mean_decay(graph, k), _mean_decay(graph, graph.add("Mul", k, positive)))


def _mean_decay(graph: Graph, x: str) -> str:
  """`lowlight.curves.mean_decay`."""
  small = graph.number("small", SMALL)
  large = graph.add("Max", x, small)
  series = graph.number("series_8", SERIES[-1])
  for power, coefficient in reversed(list(enumerate(SERIES[:-1]))):
    series = graph.add("Add", graph.add("Mul", series, x), graph.number(f"series_{power}", coefficient))
  decay = graph.add("Div", graph.rest(graph.add("Exp", graph.add("Neg", large))), large)
  return graph.add("Where", graph.add("Less", x, small), series, decay)


CURVES = {"rational": rational, "exponential": exponential}
