"""What `ruas search` and `ruas train` have in common: a configuration, a work directory, how the run is carried out."""

import dataclasses
import os
import sys

import tyro

from ruas_jax.config import Config, load_config
from ruas_jax.engine.run_options import RunOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(RunOptions, Config):
  config: str = "lol"
  """Where the options below start from: a name in configs/, or a Python file with a get_config()."""
  workdir: str
  """Folder of the results; anything that etils.epath understands. A run that stopped there goes on by itself."""
  distributed: str | None = None
  """Take part as one of several hosts: `auto`, or ADDRESS:PORT,HOSTS,NUMBER where nothing tells it by itself."""

  def experiment(self) -> Config:
    return self._only(Config)

  def how(self) -> RunOptions:
    """Joins the other hosts, if there are, before the first computation."""
    from ruas_jax.engine.distributed import join

    if self.distributed and join(self.distributed):
      sys.stdout = open(os.devnull, "w")  # the first one speaks for all  # noqa: SIM115
    return self._only(RunOptions)

  def _only(self, kind):
    return kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(kind)})


def with_config(kind: type[Experiment], arguments: list[str]) -> tuple[list[str], Experiment]:
  """The arguments as a parser can read them, and the command of this kind that they change: that of `--config`."""
  config = _named_config(arguments)
  options = {field.name: getattr(load_config(config), field.name) for field in dataclasses.fields(Config)}
  required = {field.name: tyro.MISSING for field in dataclasses.fields(kind) if field.name in ("workdir", "genotype")}
  return _listed_sweep(arguments), kind(**options, **required, config=config)


def _named_config(arguments: list[str]) -> str:
  """The value of `--config`: it must be known before the options that change it can be read."""
  name = "lol"
  for position, argument in enumerate(arguments):
    if argument == "--config" and position + 1 < len(arguments):
      name = arguments[position + 1]
    elif argument.startswith("--config="):
      name = argument.removeprefix("--config=")
  return name


def _listed_sweep(arguments: list[str]) -> list[str]:
  """`--population.sweep.PATH VALUES`, of which no parser knows all, as one `--population.sweep PATH=VALUES ...`."""
  prefix, others, sweep = "--population.sweep", [], []
  rest = iter(arguments)
  for argument in rest:
    name, equals, value = argument.partition("=")
    if not name.startswith(f"{prefix}."):
      others.append(argument)
      continue
    sweep.append(f"{name.removeprefix(f'{prefix}.')}={value if equals else next(rest, '')}")
  if not sweep:
    return arguments
  if prefix in others:  # its own values follow it
    place = others.index(prefix) + 1
    return [*others[:place], *sweep, *others[place:]]
  return [*others, prefix, *sweep]
