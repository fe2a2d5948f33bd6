"""The options that `ruas search` and `ruas train` share: a configuration, a run folder, and how the run is carried
out."""

import argparse
import dataclasses
import os
import sys

import tyro

from ruas_jax.config import Config, load_config
from ruas_jax.engine.run_options import RunOptions
from ruas_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(RunOptions, Config):
  config: str = "lol"
  """Configuration that the options below change: a name in configs/, or a Python file with get_config(). It may also be
  the first argument, without `--config`."""
  workdir: str
  """Run folder, local or remote (etils.epath). A run that stopped there is resumed."""
  distributed: str | None = None
  """Join a run of several hosts: `auto` (TPU pods, Slurm), or ADDRESS:PORT,HOSTS,NUMBER with NUMBER from 0."""

  def experiment(self) -> Config:
    return self._only(Config)

  def how(self) -> RunOptions:
    """The run options. With `--distributed`, this first joins the other hosts, before any computation."""
    from ruas_jax.engine.distributed import join

    if self.distributed and join(self.distributed):
      sys.stdout = open(os.devnull, "w")  # only the first host prints  # noqa: SIM115
    return self._only(RunOptions)

  def _only(self, kind):
    return kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(kind)})


def with_config(kind: type[Experiment], arguments: list[str]) -> tuple[list[str], Experiment]:
  """The arguments in a form that the parser can read, and the command with the configuration's values as its defaults.

  Raises:
    UserError: there is no such configuration, or two are given.
  """
  name = _named_config(arguments)
  if arguments and not arguments[0].startswith("-"):  # `ruas search tiny`
    first, *arguments = arguments
    if name:
      raise UserError(f"two configurations are given, {first} and --config {name}: give only one of them")
    name = first
  config = name or "lol"
  options = {field.name: getattr(load_config(config), field.name) for field in dataclasses.fields(Config)}
  required = {field.name: tyro.MISSING for field in dataclasses.fields(kind) if field.name in ("workdir", "genotype")}
  return _listed_sweep(arguments), kind(**options, **required, config=config)


def _named_config(arguments: list[str]) -> str | None:
  """The value of `--config`. It is needed before the other options are read, since it gives their defaults."""
  parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
  parser.add_argument("--config", nargs="?")  # without a value it is an error, which the other parser reports
  return parser.parse_known_args(arguments)[0].config


def _listed_sweep(arguments: list[str]) -> list[str]:
  """Rewrites `--population.sweep.PATH VALUES` as `--population.sweep PATH=VALUES ...`.

  The parser cannot know every PATH.
  """
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
  if prefix in others:  # values follow it already
    index = others.index(prefix) + 1
    return [*others[:index], *sweep, *others[index:]]
  return [*others, prefix, *sweep]
