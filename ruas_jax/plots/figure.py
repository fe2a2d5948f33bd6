"""Empty figures, and figures as PNG files. pyplot is not used, so no global state changes and no display is needed."""

import io
import os

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ruas_jax.files import write_atomically

_DOTS_PER_INCH = 120


def make_figure(width: float, height: float, **options) -> Figure:
  """An empty white figure of this size in inches; `options` are passed to `matplotlib.figure.Figure`."""
  figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, facecolor="white", **options)
  FigureCanvasAgg(figure)
  if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
    engine.set(w_pad=0.12, h_pad=0.08)
  return figure


def inch_axis(figure: Figure, box: tuple[float, float, float, float]):
  """An axis without decoration over this part of the figure; the caller sets its limits to its size in inches."""
  axis = figure.add_axes(box)
  axis.set_axis_off()
  return axis


def tidy(axis) -> None:
  """A faint grid and no box around the curves."""
  axis.grid(alpha=0.25)
  axis.spines[["top", "right"]].set_visible(False)


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
  """Writes the figure as PNG, completely or not at all."""
  content = io.BytesIO()
  # At the default level of compression, photographs take longer to compress than to draw.
  figure.savefig(content, format="png", dpi=_DOTS_PER_INCH, pil_kwargs={"compress_level": 2})
  write_atomically(path, content.getvalue())
