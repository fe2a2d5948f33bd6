"""Photographs before and after, as JPEG inside the page."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from ruas_jax.report.markup import Markup, element

_QUALITY = 85


class Pair(NamedTuple):
  """A photograph, and the result of the network: float `[H, W, 3]` in [0, 1]."""

  name: str
  before: np.ndarray
  after: np.ndarray


def photographs_part(pairs: Sequence[Pair], *, made_by: str) -> Markup:
  """Each photograph before and after, side by side. `made_by` says which network made the results."""
  drawn = (
    element("div", _figure(pair.name, "before", pair.before), _figure(pair.name, "after", pair.after), class_="pair")
    for pair in pairs
  )
  return Markup(element("p", made_by, class_="note") + element("div", drawn, class_="charts"))


def _figure(name: str, when: str, image: np.ndarray) -> Markup:
  height, width = image.shape[:2]
  picture = element("img", src=_as_data(image), alt=f"{name} {when}", width=width, height=height)
  return element("figure", picture, element("figcaption", f"{name}, {when}"))


def picture_part(content: bytes, *, alt: str) -> Markup:
  """A PNG file as a picture of the page."""
  return element("img", src=_data("png", content), alt=alt, class_="picture")


def _as_data(image: np.ndarray) -> str:
  content = io.BytesIO()
  samples = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
  Image.fromarray(samples).save(content, format="JPEG", quality=_QUALITY, optimize=True)
  return _data("jpeg", content.getvalue())


def _data(format: str, content: bytes) -> str:
  return f"data:image/{format};base64,{base64.b64encode(content).decode()}"
