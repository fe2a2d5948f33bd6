"""The formats that need a package of an extra, which is imported only when a file needs it."""

import importlib
import importlib.util
from typing import Any

from PIL import features

from ruas_jax.data.formats import RAW, VIDEO
from ruas_jax.photos.photo import Refused

# Format -> the packages that it needs; the first one decodes it.
_PACKAGES = {"HEIC": ("pillow_heif",), "JPEG XL": ("pillow_jxl", "brotli"), RAW: ("rawpy",), VIDEO: ("av",)}


def missing(format: str) -> str | None:
  """What has to be installed for a format, in one line; None if nothing is missing."""
  if format == "AVIF":  # of Pillow itself, from 11.3 on
    found = features.check_module("avif") if "avif" in features.modules else False
  else:
    found = all(importlib.util.find_spec(name) for name in _PACKAGES.get(format, ()))
  extra = "video" if format == VIDEO else "photos"
  return None if found else f'{format} needs more packages: pip install "ruas-jax[{extra}]"'


def package(format: str) -> Any:
  """The module for a format.

  Raises:
    Refused: it is not installed.
  """
  lacking = missing(format)
  if lacking:
    raise Refused(lacking)
  return importlib.import_module(_PACKAGES[format][0])
