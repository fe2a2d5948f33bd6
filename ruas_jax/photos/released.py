"""Conversion of the authors' released weights to weights of this package (`ruas import`).

The user provides a copy. Its arrays are renamed and transposed (OIHW to HWIO). The arrays do not say which operation
they belong to (a residual convolution has the same shape as a plain one), so the genotype is needed too.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ruas_jax.errors import UserError
from ruas_jax.lowlight.cell import Weights
from ruas_jax.lowlight.genotype import EDGES, Genotype
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.operations import CANDIDATES
from ruas_jax.lowlight.options import RELEASED

_RELEASED_EDGES = dict(zip(EDGES, ("c1_d", "c1_r", "c2_d", "c2_r", "c3_d", "c3_r", "c4"), strict=True))


def convert_released(arrays: Mapping[str, np.ndarray], genotype: Genotype | None) -> dict[str, Weights]:
  """Network weights from a released state dict.

  Args:
    arrays: the state dict, convolution weights OIHW float.
    genotype: genotype of the derived network; None: the weights are a released supernet.
  Raises:
    UserError: arrays are missing or left over, or do not have the genotype's shapes.
  """
  network = build_network(RELEASED, genotype)
  unused = dict(arrays)

  def dense(prefix):
    try:
      kernel, bias = unused.pop(f"{prefix}.weight"), unused.pop(f"{prefix}.bias")
    except KeyError as error:
      raise UserError(
        f"released weights: no array {error.args[0]!r}, which this genotype needs; check `genotype`"
      ) from None
    return {"kernel": jnp.asarray(kernel).transpose(2, 3, 1, 0), "bias": jnp.asarray(bias)}

  def edges(prefix, cell):
    if cell.genotype is None:
      return {
        operation.name: _stack(
          [dense(f"{prefix}.{released}._ops.{column}.op") for released in _RELEASED_EDGES.values()]
        )
        for column, operation in enumerate(CANDIDATES)
        if operation.weight_shape is not None
      }
    return {
      edge: dense(f"{prefix}.{released}.op")
      for (edge, released), operation in zip(_RELEASED_EDGES.items(), cell.edge_operations, strict=True)
      if operation.weight_shape is not None
    }

  def stage(prefix, cell):
    return {"edges": edges(prefix, cell), "fusion": dense(f"{prefix}.c5")}

  def stages(prefix, suffix, module):
    return _stack([stage(f"{prefix}.{k}{suffix}", module.cell) for k in range(module.options.stages)])

  weights = {
    "illumination": stages("enhance_net.iems", ".cell", network.illumination),
    "denoising": {
      "stem": dense("denoise_net.stem"),
      "cells": stages("denoise_net.nrms", "", network.denoising),
      "head": dense("denoise_net.activate.0"),
    },
  }
  if unused:
    raise UserError(
      f"released weights: {len(unused)} arrays do not belong to this genotype, first {min(unused)!r}; check `genotype`"
    )
  expected = network.weight_shapes()
  if jax.tree.map(jnp.shape, weights) != jax.tree.map(jnp.shape, expected):
    raise UserError("released weights: the arrays do not have the shapes of this genotype; check `genotype`")
  return weights


def _stack(trees):
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
