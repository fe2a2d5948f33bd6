"""The configuration of an experiment, composed of the options of every part; how it is found by name, saved and
read."""

import dataclasses
import importlib.util
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from etils import epath

from ruas_jax.data.options import DataOptions
from ruas_jax.errors import UserError, require_at_least
from ruas_jax.lowlight.loss_options import LossOptions
from ruas_jax.lowlight.options import NetworkOptions
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.optimizers import OptimizerOptions
from ruas_jax.option_values import from_dict, replaced


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
  """How a derived network is trained."""

  steps: int = 800
  """Number of updates of the weights."""
  decay: bool = False
  """Reduce the learning rates to zero along half a cosine. The losses of single crops differ much; without this, the
  final weights depend on the last crop."""
  illumination_optimizer: OptimizerOptions = OptimizerOptions("adam", learning_rate=3e-3)
  denoising_optimizer: OptimizerOptions = OptimizerOptions("adam", learning_rate=3e-3)

  def __post_init__(self):
    require_at_least(1, self, "training", "steps")


@dataclasses.dataclass(frozen=True)
class Config:
  """An experiment. The recorded ones are in `configs/NAME.py`."""

  seed: int = 0
  """Random seed of the weights, the order of the images and the crops."""
  network: NetworkOptions = NetworkOptions()
  loss: LossOptions = LossOptions()
  data: DataOptions = DataOptions()
  search: RUASSearchOptions = RUASSearchOptions()
  training: TrainingOptions = TrainingOptions()

  def with_overrides(self, values: Mapping[str, Any]) -> "Config":
    """The configuration with some values replaced: `config.with_overrides({"loss.eta_t": 0.3, "data.crop": 64})`. They
    are replaced together, so options that must fit each other may be in any order.

    Raises:
      UserError: an option does not exist, or its value is not allowed.
    """
    return replaced(self, values)

  def __post_init__(self):
    if self.seed < 0:
      raise UserError(f"`seed` must be at least 0, not {self.seed}")
    if self.seed >= 2**31:
      raise UserError(f"`seed` must be less than {2**31}, not {self.seed}")


_FOLDERS = (pathlib.Path(__file__).parent / "configs", pathlib.Path(__file__).parent.parent / "configs")


def load_config(name: str) -> Config:
  """The configuration `name` of `configs/`, or of a file: a `.py` with `get_config()`, or a run's `config.json`."""
  if name.endswith(".json"):
    return read_config(name)
  if name.endswith(".py"):
    path = pathlib.Path(name)
  else:
    path = next((folder / f"{name}.py" for folder in _FOLDERS if (folder / f"{name}.py").is_file()), None)
    if path is None:
      known = sorted(file.stem for folder in _FOLDERS if folder.is_dir() for file in folder.glob("[!_]*.py"))
      raise UserError(f"no configuration {name!r}; give one of {', '.join(known)}, or a .py or .json file")
  if not path.is_file():
    raise UserError(f"configuration {path} does not exist")
  spec = importlib.util.spec_from_file_location(f"ruas_config_{path.stem}", path)
  assert spec and spec.loader  # a .py file has both
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    config = module.get_config()
  except UserError:
    raise
  except Exception as error:
    raise UserError(f"configuration {path} raised {type(error).__name__}: {error}") from None
  if not isinstance(config, Config):
    raise UserError(f"configuration {path}: get_config() must return a ruas_jax Config, not {type(config).__name__}")
  return config


def read_config(path: str | os.PathLike) -> Config:
  """The configuration that a run wrote as `config.json`.

  Raises:
    UserError: the file cannot be read, or holds an unknown option or a value that is not allowed.
  """
  try:
    values = json.loads(epath.Path(path).read_text())
  except (OSError, ValueError) as error:
    raise UserError(f"{path}: not a readable configuration ({error})") from None
  if isinstance(values, dict):
    values.pop("parts", None)  # what `search.method` stood for
  return from_dict(Config, values, str(path))
