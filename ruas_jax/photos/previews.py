"""Pictures to look at before results are written: the left half shows the photograph, the right half the result."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ruas_jax.photos.colour import to_srgb
from ruas_jax.photos.conversion import convert
from ruas_jax.photos.photo import Metadata, Photo
from ruas_jax.photos.samples import to_pillow
from ruas_jax.photos.writing import write_samples

_SIDE = 2000  # the most pixels of a preview's side
_CELL = (480, 360)  # width and height into which a photograph of a contact sheet fits
_GAP, _LABEL = 12, 24
_QUALITY = 90
_LINE, _PAPER, _INK = (255, 255, 255), (32, 32, 32), (224, 224, 224)


def split_picture(photo: Photo, samples: np.ndarray) -> Image.Image:
  """An RGB picture in sRGB: its left half is from the photograph, its right half from the result `samples`."""
  before, after = (_as_srgb(photo, each) for each in (photo.samples, samples))
  width, height = before.size
  middle = width // 2
  before.paste(after.crop((middle, 0, width, height)), (middle, 0))
  before.thumbnail((_SIDE, _SIDE), reducing_gap=3)
  _draw_line(before)
  return before


def contact_sheet(pictures: Sequence[tuple[str, Image.Image]]) -> Image.Image:
  """One picture of many split pictures with their names."""
  columns = math.ceil(math.sqrt(len(pictures)))
  rows = math.ceil(len(pictures) / columns)
  (wide, tall), step = _CELL, (_CELL[0] + _GAP, _CELL[1] + _LABEL + _GAP)
  sheet = Image.new("RGB", (columns * step[0] + _GAP, rows * step[1] + _GAP), _PAPER)
  draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
  for index, (name, picture) in enumerate(pictures):
    left, top = _GAP + index % columns * step[0], _GAP + index // columns * step[1]
    sheet.paste(picture, (left + (wide - picture.width) // 2, top + (tall - picture.height) // 2))
    while draw.textlength(name, font) > wide:
      name = f"{name[: max(0, len(name) - 5)]}…"
    draw.text((left + wide / 2, top + tall + _LABEL / 2), name, _INK, font, anchor="mm")
  return sheet


def for_sheet(picture: Image.Image) -> Image.Image:
  """A split picture in the size that it has on a contact sheet."""
  picture = picture.copy()
  picture.thumbnail(_CELL, reducing_gap=3)
  _draw_line(picture)
  return picture


def write_picture(path: Path, picture: Image.Image, format: str, quality: int | None) -> None:
  """Writes an RGB picture in sRGB, completely or not at all."""
  samples = np.asarray(picture)
  photo = Photo(samples, path, "picture", Metadata())  # of no format whose compression could be kept
  write_samples(path, samples, photo, format, _QUALITY if quality is None else quality)


def _as_srgb(photo: Photo, samples: np.ndarray) -> Image.Image:
  samples, _, _ = convert(samples, photo, "BMP")  # 8 bits, transparent parts on white
  samples, _ = to_srgb(samples, photo.metadata.profile)
  return to_pillow(samples).convert("RGB")


def _draw_line(picture: Image.Image) -> None:
  middle = picture.width // 2
  ImageDraw.Draw(picture).line([(middle, 0), (middle, picture.height)], _LINE, max(1, picture.width // 500))
