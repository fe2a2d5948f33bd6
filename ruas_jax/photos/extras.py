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
  return None if found else f"{format} needs more packages: {_install(format)}"


def package(format: str) -> Any:
  """The module for a format.

  Raises:
    Refused: it is not installed, or its installation is broken.
  """
  lacking = missing(format)
  if lacking:
    raise Refused(lacking)
  name = _PACKAGES[format][0]
  try:
    return importlib.import_module(name)
  except Exception as error:  # an ImportError where a library is missing, but a broken package raises anything
    reason = " ".join(str(error).split())
    anew = _install(format, "--force-reinstall ")
    raise Refused(f"the package {name} cannot be imported ({reason}); install it anew: {anew}") from error


def _install(format: str, options: str = "") -> str:
  return f'pip install {options}"ruas-jax[{"video" if format == VIDEO else "photos"}]"'
