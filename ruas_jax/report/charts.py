"""Line charts and scatter plots as SVG, drawn from plain numbers. Their colours are those of the page, light and dark.

A chart is as wide as its column. It is drawn for 360 units, about the width of a phone, so that its letters are legible
there.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ruas_jax.report.markup import Content, Markup, element

WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 8, 8, 36
_MOST_POINTS = 500  # of a curve: more cannot be told apart
_COLORS = 8  # that the page has


class Curve(NamedTuple):
  """Attributes:
  label: text of the legend; empty: the curve is not in it.
  x, y: numbers `[n]`; NaN in `y` is a gap.
  color: number of the curve's colour.
  style: any of the words `faint`, `dashed` and `points`.
  """

  label: str
  x: Sequence[float] | np.ndarray
  y: Sequence[float] | np.ndarray
  color: int = 0
  style: str = ""


class Axis(NamedTuple):
  """Attributes:
  label: text beside the axis.
  log: whether it is logarithmic. Numbers that are not positive are then gaps.
  limits: the ends; None: those of the numbers.
  """

  label: str
  log: bool = False
  limits: tuple[float, float] | None = None


def line_chart(
  title: str,
  curves: Sequence[Curve],
  x: Axis,
  y: Axis,
  *,
  levels: Sequence[tuple[float, str]] = (),
  note: Content = None,
) -> Markup:
  """A chart with its title, legend and a note. `levels` are horizontal lines, each at a number, with a text."""
  curves = [curve._replace(x=np.asarray(curve.x, float), y=_drawable(curve.y, y.log)) for curve in curves]
  across = _scale(x, [*(curve.x for curve in curves)], _LEFT, WIDTH - _RIGHT)
  up = _scale(y, [*(curve.y for curve in curves), [level for level, _ in levels]], HEIGHT - _BOTTOM, _TOP)
  inside: list[Markup] = [*_grid(across, up, x, y)]
  for level, text in levels:
    at = up.place(level)
    inside.append(element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=at, y2=at, class_="level"))
    inside.append(element("text", text, x=_LEFT + 4, y=at - 4, class_="tick"))
  for curve in curves:
    inside += _drawn(curve, across.place, up.place)
  spoken = f"{title}: {y.label} over {x.label}. " + "; ".join(_spoken(curve) for curve in curves if curve.label)
  return framed(title, inside, spoken=spoken, legend=legend(curves), note=note)


def framed(
  title: str, inside: Content, *, spoken: str, size: tuple[int, int] = (WIDTH, HEIGHT), legend: Content = None,
  note: Content = None,
) -> Markup:  # fmt: skip
  """A drawing in a figure with its title. `spoken` is the text for those who do not see it."""
  drawing = element("svg", inside, viewBox=f"0 0 {size[0]} {size[1]}", role="img", aria_label=spoken)
  caption = element("figcaption", element("h3", title), legend, element("p", note, class_="note") if note else None)
  return element("figure", caption, drawing, class_="chart")


def legend(curves: Sequence[Curve]) -> Markup | None:
  """The labels of the curves, each with a piece of its line. One curve needs none."""
  named = [curve for curve in curves if curve.label]
  if len(named) < 2:
    return None

  def item(curve):
    line = element("line", x1=0, x2=18, y1=5, y2=5, class_=_class(curve))
    return element("li", element("svg", line, viewBox="0 0 18 10", class_="key", aria_hidden="true"), curve.label)

  return element("ul", map(item, named), class_="legend")


class _Scale(NamedTuple):
  place: Callable[[float], float]
  ticks: list[float]


def _drawable(values, log: bool) -> np.ndarray:
  values = np.array([np.nan if value is None else value for value in values], float)
  return np.where((values > 0) | (not log), values, np.nan)


def _scale(axis: Axis, values: Sequence[Sequence[float] | np.ndarray], first: float, last: float) -> _Scale:
  """Places numbers between two coordinates."""
  every = np.concatenate([np.asarray(each, float) for each in (*values, axis.limits or ())])
  every = every[np.isfinite(every) & ((every > 0) | (not axis.log))]
  low, high = (float(every.min()), float(every.max())) if every.size else (1.0, 1.0)
  if axis.log:
    low, high = (low, high) if low < high else (low / 2, low * 2)
    ends = (math.log10(low), math.log10(high))
  else:
    spread = high - low or abs(high) or 1.0
    ends = (low, high) if axis.limits or low < high else (low - spread / 2, high + spread / 2)
  margin = 0.0 if axis.limits else 0.03 * (ends[1] - ends[0])
  ends = (ends[0] - margin, ends[1] + margin)

  def place(value: float) -> float:
    value = math.log10(value) if axis.log else value
    return round(first + (value - ends[0]) / (ends[1] - ends[0]) * (last - first), 1)

  return _Scale(place, _log_ticks(*ends) if axis.log else _ticks(*ends))


def _ticks(low: float, high: float) -> list[float]:
  """Four to eight round numbers."""
  step = 10.0 ** math.floor(math.log10((high - low) / 4))
  step *= next(factor for factor in (5, 2, 1) if (high - low) / (factor * step) >= 3 or factor == 1)
  first = math.ceil(low / step - 1e-9)
  return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
  """Powers of ten; 1, 2 and 5 times them where there are fewer than three."""
  powers = range(math.floor(low), math.ceil(high) + 1)
  stride = max(1, math.ceil(len(powers) / 6))
  inside = lambda values: [value for value in values if low - 1e-9 <= math.log10(value) <= high + 1e-9]
  ticks = inside(10.0**power for power in powers if power % stride == 0)
  return ticks if len(ticks) > 2 else inside(factor * 10.0**power for power in powers for factor in (1, 2, 5))


def _grid(across: _Scale, up: _Scale, x: Axis, y: Axis) -> list[Markup]:
  bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
  drawn = []
  for tick in up.ticks:
    at = up.place(tick)
    drawn.append(element("line", x1=_LEFT, x2=right, y1=at, y2=at, class_="grid"))
    drawn.append(element("text", _short(tick), x=_LEFT - 5, y=at + 3.5, class_="tick end"))
  for tick in across.ticks:
    at = across.place(tick)
    drawn.append(element("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="axis"))
    drawn.append(element("text", _short(tick), x=at, y=bottom + 15, class_="tick middle"))
  drawn.append(element("line", x1=_LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
  drawn.append(element("text", x.label, x=(_LEFT + right) / 2, y=HEIGHT - 4, class_="label middle"))
  middle = (_TOP + bottom) / 2
  drawn.append(element("text", y.label, x=11, y=middle, transform=f"rotate(-90 11 {middle})", class_="label middle"))
  return drawn


def _drawn(curve: Curve, across: Callable[[float], float], up: Callable[[float], float]) -> list[Markup]:
  """A line for every stretch without a gap, and points."""
  x, y = np.asarray(curve.x), np.asarray(curve.y)
  stride = max(1, math.ceil(len(x) / _MOST_POINTS))
  kept = np.unique([*range(0, len(x), stride), *range(len(x))[-1:]]).astype(int)
  x, y = x[kept], y[kept]
  drawn, alone = [], "points" in curve.style.split()
  for stretch in np.split(np.arange(len(y)), np.flatnonzero(~np.isfinite(y))):
    spots = [(across(float(x[index])), up(float(y[index]))) for index in stretch if np.isfinite(y[index])]
    if len(spots) > 1:
      drawn.append(element("polyline", points=" ".join(f"{a:g},{b:g}" for a, b in spots), class_=_class(curve)))
    if alone or len(spots) == 1:
      drawn += [element("circle", cx=a, cy=b, r=2.5, class_=_class(curve)) for a, b in spots]
  return drawn


def _class(curve: Curve) -> str:
  return f"curve c{curve.color % _COLORS} {curve.style}".strip()


def _spoken(curve: Curve) -> str:
  values = np.asarray(curve.y)
  values = values[np.isfinite(values)]
  if not values.size:
    return f"{curve.label}: no value"
  return f"{curve.label}: first {values[0]:.4g}, last {values[-1]:.4g}, smallest {values.min():.4g}"


def _short(value: float) -> str:
  if value and not 1e-3 <= abs(value) < 1e5:
    return f"{value:.0e}".replace("e-0", "e−").replace("e+0", "e").replace("e-", "e−")
  return f"{value:,.6g}"
