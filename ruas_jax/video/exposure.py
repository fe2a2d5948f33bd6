"""The exposure of each frame: steady within a scene, new after a cut.

A network is a function of each pixel's surroundings and, if it is adaptive, of the mean of the whole image, from which
it chooses the exposure (`lowlight.illumination`). Two things change that mean m from frame to frame:

    log m = log light + log content

The light changes all parts of a picture by one factor, as a lamp that flickers or is switched on. The network should
follow it at once, because it then removes the flicker. The content changes by an object that passes or by noise. If the
network followed it, everything else would become brighter and darker. So the content is smoothed over time, and the
light is not.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ruas_jax.lowlight.illumination import brightness
from ruas_jax.video.colour import Layout, Planes, to_rgb

SECONDS = 1.0
"""Standard deviation of the smoothing."""
CUT = 0.15
"""Distance of two neighbouring frames from which on a cut lies between them; that of two pictures without any light in
common is 1. Slow pans, noise, and light that changes everywhere are far below. `docs/video.md` has figures."""
_THUMBNAIL = (18, 32)  # rows and columns
_WIDEST = 3  # standard deviations at which the smoothing ends
_LEAST = 1e-4  # of a mean, so that a black frame has a logarithm


class Glance(NamedTuple):
  """What is measured of a frame: its mean brightness, and its brightness as a small picture."""

  mean: float
  thumbnail: np.ndarray


def glance(planes: Planes, layout: Layout, measure: str = "mean") -> Glance:
  """Measures a frame, its brightness as a model with this measure does."""
  mean, thumbnail = _glance(planes, layout, measure)
  return Glance(float(mean), np.asarray(thumbnail))


def distance(one: np.ndarray, other: np.ndarray) -> float:
  """Half the mean difference of two thumbnails, each divided by its mean: from 0 to 1, whatever the light is."""
  one, other = (np.maximum(each, 0) / max(float(each.mean()), _LEAST) for each in (one, other))
  return float(np.abs(one - other).mean() / 2)


def light_change(one: np.ndarray, other: np.ndarray) -> float:
  """Logarithm of the factor by which the light changes between two thumbnails: the median over the brighter half of
  their parts, where noise matters least, and which an object that moves does not change."""
  bright = one >= np.median(one)
  return float(np.median(np.log(np.maximum(other[bright], _LEAST) / np.maximum(one[bright], _LEAST))))


def steady(means: Sequence[float], light: Sequence[float], times: Sequence[float], starts: Sequence[int]) -> np.ndarray:
  """Means whose content is smoothed over time, before and after each frame, by a Gaussian of their logarithms.

  Args:
    means: mean of each frame.
    light: logarithm of the light of each frame, relative to the first frame of its scene.
    times: time of each frame in seconds, increasing.
    starts: the first frame of each scene; no scene sees another one's frames.
  """
  logs, seconds = np.log(np.maximum(means, _LEAST)) - light, np.asarray(times)
  result = np.empty(len(logs))
  for start, stop in zip(starts, [*starts[1:], len(logs)], strict=True):
    scene = seconds[start:stop]
    first, last = (np.searchsorted(scene, scene + sign * _WIDEST * SECONDS) for sign in (-1, 1))
    for index in range(stop - start):
      near = slice(start + first[index], start + max(last[index], index + 1))
      weights = np.exp(-(((seconds[near] - scene[index]) / SECONDS) ** 2) / 2)
      result[start + index] = weights @ logs[near] / weights.sum()
  return np.exp(result + light)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _glance(planes: Planes, layout: Layout, measure: str):
  values = to_rgb(planes, layout)
  rows, columns = (_averages(length, few) for length, few in zip(values.shape, _THUMBNAIL, strict=False))
  return brightness(values, measure).mean(), rows @ values.mean(axis=-1) @ columns.T


def _averages(length: int, few: int) -> np.ndarray:
  """`[few, length]`: each row averages an equal part of an axis."""
  edges = np.linspace(0, length, min(few, length) + 1).astype(int)
  parts = np.zeros((len(edges) - 1, length), np.float32)
  for part, (start, stop) in enumerate(itertools.pairwise(edges)):
    parts[part, start:stop] = 1 / (stop - start)
  return parts
