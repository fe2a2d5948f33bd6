"""A trained model: architecture, network options and weights; saved as a checkpoint.

The arrays of the checkpoint are the weights. Its description holds the genotype, the network options with the variant
and, for a trained model, the configuration of the run.
"""

import dataclasses
import hashlib
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ruas_jax.engine.checkpoint import absolute, read_about, read_arrays, save_checkpoint
from ruas_jax.errors import UserError
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import FoldedNetwork, Network, build_network, count_macs, count_parameters, run_folded
from ruas_jax.lowlight.operations import CANDIDATES, Operation
from ruas_jax.lowlight.options import NetworkOptions, Variant
from ruas_jax.option_values import from_dict

_FORMAT = 2
FOLDER = "checkpoint"  # its name in a run folder


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Model:
  """A derived network with its weights; a pytree whose leaves are the weights.

  Attributes:
    weights: `{"illumination", "denoising"}`.
    genotype: the architecture.
    options: the network options; `options.variant` selects u_K ("i") or x_N ("i+n") as the result.
    operations: the candidate operations that the genotype names.
  """

  weights: Any
  genotype: Genotype = dataclasses.field(metadata={"static": True})
  options: NetworkOptions = dataclasses.field(metadata={"static": True})
  operations: tuple[Operation, ...] = dataclasses.field(default=CANDIDATES, metadata={"static": True})

  @property
  def network(self) -> Network:
    return build_network(self.options, self.genotype, self.operations)

  def with_variant(self, variant: Variant | None) -> "Model":
    """The same model with another output; None keeps the output."""
    return dataclasses.replace(self, options=dataclasses.replace(self.options, variant=variant)) if variant else self

  def parameters(self) -> int:
    """Number of parameters that the variant uses."""
    used = self.weights if self.options.variant == "i+n" else self.weights["illumination"]
    return count_parameters(used)

  def macs(self, height: int, width: int) -> int:
    """Multiply-accumulates for one image; see `count_macs`."""
    return count_macs(self.network, self.options.variant, height, width)

  def weights_sha256(self) -> str:
    """A hash of all names, shapes and float32 values of the weights, to identify them."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(self.weights)[0]:
      values = np.ascontiguousarray(leaf, np.float32)
      digest.update(f"{jax.tree_util.keystr(path)}{values.shape}".encode() + values.tobytes())
    return digest.hexdigest()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FoldedModel:
  """A model whose convolutions are ready to run; a pytree whose leaves are their kernels and biases.

  Attributes:
    convolutions: folded edges, pairs and residuals; without noise removal for variant "i".
    network: the network that they belong to.
  """

  convolutions: FoldedNetwork
  network: Network = dataclasses.field(metadata={"static": True})


@jax.jit
def fold(model: Model) -> FoldedModel:
  """Does the work that is the same for every image. It is pure, like `enhance_folded`."""
  network = model.network
  return FoldedModel(network.fold(model.options.variant, model.weights, {}), network)


def enhance_folded(
  folded: FoldedModel,
  images: jax.Array | np.ndarray,
  valid: jax.Array | None = None,
  mean: jax.Array | None = None,
  denoise: jax.Array | None = None,
) -> jax.Array:
  """`enhance` with folded convolutions, computed in the common dtype of kernels and images.

  `valid`, bool `[1 or B, 1, H, W]`, marks the pixels of the image if `images` is larger. At these pixels the result is
  that of the image alone, whatever the other pixels are. Elsewhere the result has no meaning. `mean`, `[B]`, is the
  mean of each whole image, if `images` are windows of them. `denoise`, a number from 0 to 1, blends the images before
  (0) and after noise removal (1).
  """
  if images.ndim < 3 or images.shape[-1] != 3 or not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(f"images must be float [..., H, W, 3] in [0, 1], not {images.dtype} {images.shape}")
  batch = jnp.asarray(images).reshape(-1, *images.shape[-3:])
  output = run_folded(folded.network, folded.convolutions, batch, valid, mean)
  image = output.image if denoise is None else denoise * output.image + (1 - denoise) * output.u[-1]
  return image.reshape(images.shape)


def enhance(model: Model, images: jax.Array | np.ndarray) -> jax.Array:
  """Enhances `images [..., H, W, 3]`, float in [0, 1]. The result has the same shape and range. The function is pure:
  jit and vmap work."""
  return enhance_folded(fold(model), images)


def save_model(path: str | os.PathLike, model: Model, config: dict[str, Any] | None = None) -> None:
  """Writes the checkpoint `path/checkpoint`, completely or not at all; replaces an existing one.

  Raises:
    UserError: the weights do not fit the genotype, or the folder cannot be written.
  """
  save_checkpoint(epath.Path(path) / FOLDER, model.weights, describe(model) | {"config": config})


def describe(model: Model) -> dict[str, Any]:
  """Everything in a model except its weights, as a JSON object. `described` is its inverse.

  Raises:
    UserError: the weights do not fit the genotype.
  """
  if _shapes(model.weights) != _shapes(model.network.weight_shapes()):
    raise UserError("the model's weights do not fit its genotype and options")
  return {
    "format": _FORMAT,
    "genotype": json.loads(model.genotype.to_json()),
    "variant": model.options.variant,
    # Layout and precision are no properties of a model: it may run on another device.
    "network": dataclasses.asdict(dataclasses.replace(model.options, layout="auto", precision="exact")),
  }


def described(about: dict[str, Any], where: str, *, operations: tuple[Operation, ...] = CANDIDATES) -> Model:
  """The model of a description, with `jax.ShapeDtypeStruct`s instead of weights.

  Raises:
    UserError: the description is not one of this version; the message names `where`.
  """
  try:
    if about.get("format") != _FORMAT:
      raise UserError(f"its format is {about.get('format')}, but this version of ruas_jax reads {_FORMAT}")
    genotype = Genotype.from_dict(about["genotype"])
    options = from_dict(NetworkOptions, about["network"], "network")
    shapes = build_network(options, genotype, operations).weight_shapes()
  except KeyError as error:
    raise UserError(f"{where} is not a model: it has no {error}") from None
  except UserError as error:
    raise UserError(f"{where}: {error}") from None
  return Model(shapes, genotype, options, operations)


def has_checkpoint(path: str | os.PathLike) -> bool:
  """Whether the folder holds a checkpoint."""
  return (absolute(path) / FOLDER).exists()


def load(path: str | os.PathLike, *, operations: tuple[Operation, ...] = CANDIDATES) -> Model:
  """The model of a checkpoint. `path` is a run folder, or the checkpoint folder in it.

  Args:
    path: local, or anything that `etils.epath` understands.
    operations: the candidate operations of its search; a checkpoint holds only their names.
  Raises:
    UserError: there is no checkpoint, it cannot be read, or its weights do not fit its genotype.
  """
  folder = epath.Path(path) / FOLDER if has_checkpoint(path) else path
  model = described(read_about(folder), f"checkpoint {path}", operations=operations)
  return dataclasses.replace(model, weights=read_arrays(folder, model.weights))


def _shapes(weights) -> Any:
  return jax.tree.map(lambda leaf: leaf.shape, weights)
