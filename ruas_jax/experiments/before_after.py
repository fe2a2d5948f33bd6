"""Training images of a run before and after its network."""

import os

import jax
import numpy as np
from etils import epath
from PIL import Image

from ruas_jax.config import read_config
from ruas_jax.data.opening import open_source
from ruas_jax.engine.leftovers import CONFIG
from ruas_jax.experiments.setting import load_search, search_setting
from ruas_jax.lowlight.network import build_network
from ruas_jax.nas.schedule import moment
from ruas_jax.photos.model import FoldedModel, enhance_folded, fold, has_checkpoint, load
from ruas_jax.report.photographs import Pair

_SIDE = 512  # the most pixels of a picture's side


def before_after(run: str | os.PathLike, count: int) -> tuple[list[Pair], str]:
  """The first `count` training images of a finished run with the results of its network, and which network that is.

  Larger images are made smaller first. A search has no trained network yet, so its supernet is taken.

  Raises:
    UserError: the run is not finished, had custom operations, or its images cannot be opened now.
  """
  data = read_config(epath.Path(run) / CONFIG).data
  source = open_source(data.train, tfds_dir=data.tfds_dir)
  folded, made_by = _trained(run) if has_checkpoint(run) else _supernet(run)
  forward, pairs = jax.jit(enhance_folded), []
  for index in range(min(count, len(source))):
    picture = Image.fromarray(source[index])
    picture.thumbnail((_SIDE, _SIDE))
    before = np.asarray(picture, np.float32) / 255
    pairs.append(Pair(source.names[index], before, np.asarray(forward(folded, before))))
  return pairs, f"The first training images, at most {_SIDE} pixels a side. {made_by}"


def _trained(run: str | os.PathLike) -> tuple[FoldedModel, str]:
  return fold(load(run)), "After: the trained network."


def _supernet(run: str | os.PathLike) -> tuple[FoldedModel, str]:
  config, state = load_search(run)
  network = build_network(config.network)
  now = moment(search_setting(config).problem, config.search, state.step, {})
  shares = now.relaxation.mean(state.alpha)
  folded = network.fold(config.network.variant, state.weights, shares)
  return FoldedModel(folded, network), "After: the supernet with its last mixing weights; nothing is trained yet."
