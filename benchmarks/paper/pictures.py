"""Grids of pictures for the paper's figures: columns with headings, captions, illumination maps and enlarged squares.

Images are RGB [H, W, 3], float in [0, 1] or uint8. An illumination map is float [H, W] and is drawn in false colours,
with one scale and one colour bar for the whole grid; the brightest half percent of all maps is beyond the end of the
scale. Files are JPEG or PNG, by their suffix.
"""

import io
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy import ndimage

from ruas_jax.data.sources import Pairs
from ruas_jax.errors import UserError
from ruas_jax.evaluation.evaluate import evaluate_images
from ruas_jax.evaluation.metrics import to_uint8
from ruas_jax.files import write_atomically
from ruas_jax.plots import make_figure

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
BOX_COLORS = ("#d62728", "#2f7fd0")
MAP_COLORS = "magma"

_DOTS_PER_INCH = 150
_SHOWN_SHARE = 0.995
_GAP, _HEAD, _FOOT, _LEFT, _BAR = 0.08, 0.34, 0.3, 0.34, 0.62
_CENTERED = {"ha": "center", "va": "center"}


class Picture(NamedTuple):
  """An image or an illumination map, and its caption."""

  image: np.ndarray
  caption: str = ""


class Box(NamedTuple):
  """A rectangle of an image in pixels."""

  top: int
  left: int
  height: int
  width: int

  def of(self, image: np.ndarray) -> np.ndarray:
    return image[self.top : self.top + self.height, self.left : self.left + self.width]


class Row(NamedTuple):
  """Pictures of one size, one for each column; None leaves a gap. The part in each box is shown enlarged below them."""

  name: str
  pictures: Sequence[Picture | None]
  boxes: Sequence[Box] = ()


def save_grid(path: str | os.PathLike, rows: Sequence[Row], *, columns: Sequence[str], width: float = 2.7) -> None:
  """Writes the grid to a file.

  Args:
    path: the file.
    rows: rows from top to bottom.
    columns: headings of the columns.
    width: width of a column in inches; for a portrait picture, its height.
  """
  maps = [picture.image.ravel() for row in rows for picture in row.pictures if picture and picture.image.ndim == 2]
  largest = float(np.quantile(np.concatenate(maps), _SHOWN_SHARE)) if maps else 0.0
  heights = [_height(row, width) for row in rows]
  total = (_LEFT + len(columns) * (width + _GAP), _HEAD + sum(heights) + (_BAR if maps else 0.0))
  figure = make_figure(*total)
  axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))  # in inches
  axis.set_axis_off()
  starts = [_LEFT + index * (width + _GAP) for index in range(len(columns))]
  for heading, x in zip(columns, starts, strict=True):
    axis.text(x + width / 2, total[1] - 0.5 * _HEAD, heading, fontsize=12, **_CENTERED)
  top = total[1] - _HEAD
  for row, height in zip(rows, heights, strict=True):
    axis.text(_LEFT / 2, top - (height - _FOOT) / 2, row.name, fontsize=10.5, rotation=90, **_CENTERED)
    for picture, x in zip(row.pictures, starts, strict=True):
      if picture is not None:
        _draw(axis, picture, row.boxes, x, top, width, largest)
    top -= height
  axis.set(xlim=(0.0, total[0]), ylim=(0.0, total[1]))  # after imshow, which changes the limits
  if maps:
    _draw_bar(figure, total, largest)
  save_figure(figure, path)


def save_figure(figure: Figure, path: str | os.PathLike) -> None:
  """Writes a figure in the format of its suffix, completely or not at all."""
  suffix = pathlib.Path(path).suffix.lower()
  if suffix not in FORMATS:
    raise UserError(f"--picture {path}: the name must end in {', '.join(FORMATS)}")
  content = io.BytesIO()
  options = {"quality": 88, "optimize": True} if FORMATS[suffix] == "jpeg" else {"optimize": True}
  figure.savefig(content, format=FORMATS[suffix], dpi=_DOTS_PER_INCH, pil_kwargs=options)
  write_atomically(path, content.getvalue())


def evaluate_pictures(transform, pairs: Pairs) -> tuple[dict, list[Picture]]:
  """The result of `evaluate_images`, and every enhanced picture with its metrics as caption."""
  results = []

  def keep(image):
    results.append(transform(image))
    return results[-1]

  report = evaluate_images(keep, pairs)
  return report, [
    Picture(result, figures_text(figures)) for result, figures in zip(results, report["images"].values(), strict=True)
  ]


def evaluate_methods(
  methods: Mapping[str, Callable[[np.ndarray], np.ndarray]], pairs: Pairs
) -> tuple[dict[str, dict], dict[str, list[Picture]]]:
  """`evaluate_pictures` for each method: its metrics and its column of a grid, by name."""
  figures, columns = {}, {}
  for name, transform in methods.items():
    report, columns[name] = evaluate_pictures(transform, pairs)
    figures[name] = {key: report[key] for key in ("mean", "images")}
  return figures, columns


def figures_text(figures) -> str:
  """PSNR and SSIM as short text; a PSNR of None means equal images."""
  psnr = "∞" if figures["psnr"] is None else f"{figures['psnr']:.2f}"
  return f"{psnr} dB / {figures['ssim']:.3f}"


def choose_boxes(image: np.ndarray, *, share: float = 0.22) -> tuple[Box, Box]:
  """Two squares to enlarge: the one with the most detail, and the flattest one that is neither dark nor white. `share`
  is their side divided by the shorter side of the image."""
  grey = to_uint8(image).mean(axis=-1) / 255
  side = max(4, round(share * min(grey.shape)))
  detail = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1))
  inner = tuple(slice(side // 2, length - side + side // 2 + 1) for length in grey.shape)
  detail, level = (ndimage.uniform_filter(values, side)[inner] for values in (detail, grey))
  usable = (level > 0.2) & (level < 0.85)
  flat = np.where(usable, detail, detail.max())
  corners = [np.unravel_index(index, detail.shape) for index in (detail.argmax(), flat.argmin())]
  return tuple(Box(int(top), int(left), side, side) for top, left in corners)


def _size(image: np.ndarray, width: float) -> tuple[float, float]:
  """Width and height of a picture in inches."""
  scale = width / max(image.shape[:2]) if image.shape[0] > image.shape[1] else width / image.shape[1]
  return scale * image.shape[1], scale * image.shape[0]


def _height(row: Row, width: float) -> float:
  images = [picture.image for picture in row.pictures if picture]
  zooms = (width - _GAP * (len(row.boxes) - 1)) / len(row.boxes) + _GAP if row.boxes else 0.0
  return max(_size(image, width)[1] for image in images) + zooms + _FOOT


def _draw(axis, picture: Picture, boxes: Sequence[Box], x: float, top: float, width: float, largest: float) -> None:
  image = np.asarray(picture.image)
  own_width, height = _size(image, width)
  x_own = x + (width - own_width) / 2
  options = {"cmap": MAP_COLORS, "vmin": 0.0, "vmax": largest} if image.ndim == 2 else {}
  shown = image if image.ndim == 2 else to_uint8(image)
  axis.imshow(shown, extent=(x_own, x_own + own_width, top - height, top), aspect="auto", **options)
  scale, bottom = own_width / image.shape[1], top - height
  side = (width - _GAP * (len(boxes) - 1)) / max(len(boxes), 1)
  for index, (box, color) in enumerate(zip(boxes, BOX_COLORS, strict=False)):
    frame = {"fill": False, "edgecolor": color, "linewidth": 1.8}
    corner = (x_own + scale * box.left, top - scale * (box.top + box.height))
    axis.add_patch(Rectangle(corner, scale * box.width, scale * box.height, **frame))
    left, under = x + index * (side + _GAP), bottom - _GAP - side
    axis.imshow(box.of(shown), extent=(left, left + side, under, under + side), aspect="auto",
                interpolation="nearest", **options)  # fmt: skip
    axis.add_patch(Rectangle((left, under), side, side, **frame))
  bottom -= side + _GAP if boxes else 0.0
  axis.text(x + width / 2, bottom - 0.45 * _FOOT, picture.caption, fontsize=10, **_CENTERED)


def _draw_bar(figure: Figure, total: tuple[float, float], largest: float) -> None:
  """Draws the colour bar of the maps at the bottom."""
  width = min(4.0, 0.5 * total[0])
  box = ((total[0] - width) / 2 / total[0], 0.36 / total[1], width / total[0], 0.12 / total[1])
  bar = figure.add_axes(box)
  bar.imshow(np.linspace(0, 1, 256)[None], cmap=MAP_COLORS, extent=(0, largest, 0, 1), aspect="auto")
  bar.set_yticks([])
  bar.tick_params(labelsize=9, length=2)
  bar.text(-0.03, 0.5, "illumination", transform=bar.transAxes, fontsize=10, ha="right", va="center")
