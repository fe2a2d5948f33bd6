"""A model in the form in which it is exported: a network of dense convolutions, and its numbers."""

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from ruas_jax import __version__
from ruas_jax.errors import UserError
from ruas_jax.export.layout import DenseLayout
from ruas_jax.lowlight.network import FoldedNetwork, Network
from ruas_jax.photos.model import Model


class Program(NamedTuple):
  """What an exported file computes.

  Attributes:
    network: the network, whose convolutions are those of `DenseLayout`.
    folded: its numbers, as NumPy arrays.
    windows: whether the mean of the whole image is a second input. Only an adaptive illumination uses it.
  """

  network: Network
  folded: FoldedNetwork
  windows: bool


def build_program(model: Model, *, windows: bool) -> Program:
  """The program of a model.

  Raises:
    UserError: the network is smoothed, or `windows` has no meaning for it.
  """
  if model.options.smoothing:
    raise UserError("a network with `network.smoothing` cannot be exported: it is for studies of gradients")
  if windows and not model.options.illumination.adaptive:
    raise UserError("`windows` is only for a model whose illumination is adaptive: this one needs no mean of the image")

  def dense(module):
    return dataclasses.replace(module, cell=dataclasses.replace(module.cell, layout=DenseLayout()))

  network = Network(*map(dense, model.network))
  folded = jax.jit(lambda weights: network.fold(model.options.variant, weights, {}))(model.weights)
  return Program(network, jax.tree.map(np.asarray, folded), windows)


def describe(model: Model, *, name: str, licence: str, windows: bool) -> dict[str, str]:
  """What a file says of itself."""
  return {
    "name": name,
    "licence": licence,
    "variant": model.options.variant,
    "weights_sha256": model.weights_sha256(),
    "genotype": str(model.genotype),
    "input": "image: float32 [batch, height, width, 3], sRGB in [0, 1]"
    + ("; mean: float32 [batch], that of the whole image" if windows else ""),
    "output": "result: as the input",
    "reach": str(model.network.reach(model.options.variant)),
    "producer": f"ruas_jax {__version__}",
  }
