"""A trained model: an architecture, how it is unrolled, and its weights; saved as a checkpoint.

Its arrays are the weights, and its description has the genotype, the network's options (the variant among them) and,
where training made it, the configuration of the run.
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

from ruas_jax.config import from_dict
from ruas_jax.engine.checkpoint import absolute, read_about, read_arrays, save_checkpoint
from ruas_jax.errors import UserError
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import FoldedNetwork, Network, build_network, count_macs, count_parameters, run_folded
from ruas_jax.lowlight.operations import CANDIDATES, Operation
from ruas_jax.lowlight.options import NetworkOptions, Variant

_FORMAT = 2
FOLDER = "checkpoint"  # of a work directory


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Model:
  """A derived network with its weights; a pytree whose leaves are the weights.

  Attributes:
    weights: `{"illumination", "denoising"}`.
    genotype: the architecture.
    options: how it is unrolled; `options.variant` says whether u_K ("i") or x_N ("i+n") is the result.
    operations: the candidates that the genotype's names refer to.
  """

  weights: Any
  genotype: Genotype = dataclasses.field(metadata={"static": True})
  options: NetworkOptions = dataclasses.field(metadata={"static": True})
  operations: tuple[Operation, ...] = dataclasses.field(default=CANDIDATES, metadata={"static": True})

  @property
  def network(self) -> Network:
    return build_network(self.options, self.genotype, self.operations)

  def with_variant(self, variant: Variant | None) -> "Model":
    """The same model with another result; None keeps its own."""
    return dataclasses.replace(self, options=dataclasses.replace(self.options, variant=variant)) if variant else self

  def parameters(self) -> int:
    """How many numbers the variant uses."""
    used = self.weights if self.options.variant == "i+n" else self.weights["illumination"]
    return count_parameters(used)

  def macs(self, height: int, width: int) -> int:
    """Multiply-accumulates for one image; see `count_macs`."""
    return count_macs(self.network, self.options.variant, height, width)

  def weights_sha256(self) -> str:
    """Identifies the weights: a hash of all names, shapes and float32 values."""
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
    convolutions: edges, pairs and residuals folded; without the noise removal in variant "i".
    network: which wiring they belong to.
  """

  convolutions: FoldedNetwork
  network: Network = dataclasses.field(metadata={"static": True})


def fold(model: Model) -> FoldedModel:
  """Does once what is the same for every image. Pure, like `enhance_folded`."""
  network = model.network
  return FoldedModel(network.fold(model.options.variant, model.weights, {}), network)


def enhance_folded(
  folded: FoldedModel,
  images: jax.Array | np.ndarray,
  valid: jax.Array | None = None,
  mean: jax.Array | None = None,
) -> jax.Array:
  """`enhance` from the folded form, computed in the common dtype of kernels and images.

  `valid`, bool `[1 or B, 1, H, W]`, marks the pixels that are the image where the rest of `images` only fills a larger
  shape: there, the result is that of the image alone, whatever the rest holds, and elsewhere it has no meaning.
  `mean`, `[B]`, is that of the whole images where `images` are windows of them.
  """
  if images.ndim < 3 or images.shape[-1] != 3 or not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(f"enhance takes float images [..., H, W, 3] in [0, 1], not {images.dtype} {images.shape}")
  batch = jnp.asarray(images).reshape(-1, *images.shape[-3:])
  return run_folded(folded.network, folded.convolutions, batch, valid, mean).image.reshape(images.shape)


def enhance(model: Model, images: jax.Array | np.ndarray) -> jax.Array:
  """Enhances `images [..., H, W, 3]`, float in [0, 1]; the result has the same shape and range. Pure: jit and vmap
  work."""
  return enhance_folded(fold(model), images)


def save_model(path: str | os.PathLike, model: Model, config: dict[str, Any] | None = None) -> None:
  """Writes the checkpoint `path/checkpoint`, in place of one that is there; appears whole or not at all.

  Raises:
    UserError: the weights do not fit the genotype, or the folder cannot be written.
  """
  save_checkpoint(epath.Path(path) / FOLDER, model.weights, describe(model) | {"config": config})


def describe(model: Model) -> dict[str, Any]:
  """All of a model but its weights, as a JSON object; `described` reads it.

  Raises:
    UserError: the weights do not fit the genotype.
  """
  if _shapes(model.weights) != _shapes(model.network.weight_shapes()):
    raise UserError("the model's weights do not fit its genotype and options")
  return {
    "format": _FORMAT,
    "genotype": json.loads(model.genotype.to_json()),
    "variant": model.options.variant,
    "network": dataclasses.asdict(model.options),
  }


def described(about: dict[str, Any], where: str, *, operations: tuple[Operation, ...] = CANDIDATES) -> Model:
  """The model of a description, with `jax.ShapeDtypeStruct`s in place of its weights.

  Raises:
    UserError: naming `where`, the description is not one of this version.
  """
  try:
    if about.get("format") != _FORMAT:
      raise UserError(f"its format is {about.get('format')}, and this version reads {_FORMAT}")
    genotype = Genotype.from_dict(about["genotype"])
    options = from_dict(NetworkOptions, about["network"], "network")
    shapes = build_network(options, genotype, operations).weight_shapes()
  except KeyError as error:
    raise UserError(f"{where} is no model: it has no {error}") from None
  except UserError as error:
    raise UserError(f"{where}: {error}") from None
  return Model(shapes, genotype, options, operations)


def has_checkpoint(path: str | os.PathLike) -> bool:
  """Whether the work directory holds a checkpoint."""
  return (absolute(path) / FOLDER).exists()


def load(path: str | os.PathLike, *, operations: tuple[Operation, ...] = CANDIDATES) -> Model:
  """The model of a checkpoint, given as a work directory or as the checkpoint folder in it.

  Args:
    path: local, or anything that `etils.epath` understands.
    operations: the candidates of its search; a checkpoint holds their names, not their functions.
  Raises:
    UserError: there is no checkpoint, it cannot be read, or its weights do not fit its genotype.
  """
  folder = epath.Path(path) / FOLDER if has_checkpoint(path) else path
  model = described(read_about(folder), f"checkpoint {path}", operations=operations)
  return dataclasses.replace(model, weights=read_arrays(folder, model.weights))


def _shapes(weights) -> Any:
  return jax.tree.map(lambda leaf: leaf.shape, weights)
