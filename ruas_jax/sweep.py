"""The options of a population: the same search with several seeds, and with several values of some options."""

import dataclasses
import itertools
import typing
from typing import NamedTuple

from ruas_jax.config import Config
from ruas_jax.errors import UserError, require_at_least
from ruas_jax.nas.options import SWEPT, is_swept
from ruas_jax.option_values import paths, perhaps_meant

_SWEPT = (
  *("network.", "loss.", "search.weight_optimizer.", "search.alpha_optimizer.", "search.tolerance"),
  *SWEPT,
)


@dataclasses.dataclass(frozen=True)
class PopulationOptions:
  """Many searches in one program: every setting of the sweep with every seed."""

  seeds: int = 1
  """Number of seeds for every setting, counted up from the seed of the configuration."""
  sweep: tuple[str, ...] = ()
  """Values of numeric options as PATH=VALUE,VALUE,...; all combinations of several options are searched. The command
  line also takes `--population.sweep.loss.eta_t 0.1,0.3`."""

  def __post_init__(self):
    require_at_least(1, self, "population", "seeds")
    axes = [path for path, _ in map(_parse, self.sweep)]
    for path in axes:
      if axes.count(path) > 1:
        raise UserError(f"`population.sweep`: {path} is given twice; list all its values at once")

  @property
  def is_one(self) -> bool:
    """Whether the population is a single search."""
    return self.seeds == 1 and not self.sweep


class Member(NamedTuple):
  """One search of a population.

  Attributes:
    config: the configuration of the same search alone.
    values: values of the swept options, by path.
  """

  config: Config
  values: dict[str, float]


def list_members(config: Config, population: PopulationOptions) -> list[Member]:
  """All members. The settings keep the order given, with the last option changing fastest; each has all seeds.

  Raises:
    UserError: a value is not allowed for its option.
  """
  axes = [[(path, value) for value in values] for path, values in map(_parse, population.sweep)]
  members = []
  for setting in itertools.product(*axes):
    for seed in range(config.seed, config.seed + population.seeds):
      values = dict(setting)
      members.append(Member(config.with_overrides({"seed": seed} | values), values))
  return members


def swept_values(population: PopulationOptions) -> dict[str, tuple[float, ...]]:
  """The values of every swept option, by path."""
  return dict(map(_parse, population.sweep))


def _parse(text: str) -> tuple[str, tuple[float, ...]]:
  """The path and the values of `PATH=VALUE,VALUE,...`."""
  path, _, listed = text.partition("=")
  path = path.strip().replace("-", "_")
  _check_path(path)
  try:
    values = tuple(float(value) for value in listed.split(","))
  except ValueError:
    raise UserError(f"`population.sweep`: {path} must be numbers separated by commas, not {listed!r}") from None
  if len(set(values)) < len(values):
    raise UserError(f"`population.sweep`: {path}={listed} holds a value twice; list every value once")
  return path, values


def _check_path(path: str) -> None:
  """Raises UserError unless `path` is a float option of Config that changes a search, or a regulariser's weight."""
  options = {option: float in (hint, *typing.get_args(hint)) for option, hint in paths(Config).items()}
  known = [option for option, is_number in options.items() if is_number and option.startswith(_SWEPT)]
  if path in known or is_swept(path):
    return
  if path not in options:
    raise UserError(f"`population.sweep`: there is no option {path!r}{perhaps_meant(path, known)}")
  is_number = options[path] and not path.startswith("search.")
  reason = "a search does not depend on it" if is_number else "each of its values needs a separate compilation"
  raise UserError(f"`population.sweep`: {path} cannot be swept: {reason}{perhaps_meant(path, known)}")
