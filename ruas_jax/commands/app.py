"""The command line `ruas`: each command is a dataclass of its options and one `run`.

jax is imported only after the options are read, so that help and errors in options are fast.
"""

import contextlib
import functools
import io
import itertools
import operator
import os
import re
import sys
from typing import Annotated, Any, cast

import tyro

from ruas_jax import __version__
from ruas_jax.commands.demo import Demo
from ruas_jax.commands.enhance import Enhance
from ruas_jax.commands.evaluate import Evaluate
from ruas_jax.commands.experiment import Experiment, with_config
from ruas_jax.commands.export import Export
from ruas_jax.commands.hypergrad import Hypergrad
from ruas_jax.commands.import_released import Import
from ruas_jax.commands.info import Info
from ruas_jax.commands.latency import Latency
from ruas_jax.commands.report import Report
from ruas_jax.commands.search import Search
from ruas_jax.commands.spelling import spell_options
from ruas_jax.commands.train import Train
from ruas_jax.engine.preemption import EXIT_CODE, Preempted
from ruas_jax.errors import UserError
from ruas_jax.option_values import perhaps_meant

_COMMANDS = {
  "search": Search,
  "train": Train,
  "enhance": Enhance,
  "evaluate": Evaluate,
  "import": Import,
  "export": Export,
  "demo": Demo,
  "hypergrad": Hypergrad,
  "latency": Latency,
  "report": Report,
  "info": Info,
}
_DESCRIPTION = """RUAS for JAX: search, train and use low-light enhancement networks of 3,400 numbers.

`ruas COMMAND --help` shows the options of a command. `ruas --version` shows the version."""


def _parse(arguments: list[str]):
  """The command with its options. Help, the version and unknown options end the process here."""
  if arguments == ["--version"]:
    print(f"ruas_jax {__version__}")
    sys.exit()
  if not arguments or arguments[0] not in _COMMANDS:
    subcommands = (Annotated[kind, tyro.conf.subcommand(name)] for name, kind in _COMMANDS.items())
    choice = functools.reduce(operator.or_, subcommands)
    return tyro.cli(cast(Any, choice), args=arguments or ["--help"], prog="ruas", description=_DESCRIPTION)
  kind, options, start = _COMMANDS[arguments[0]], arguments[1:], {}
  if issubclass(kind, Experiment):
    options, start["default"] = with_config(kind, options)
  return tyro.cli(kind, args=options, prog=f"ruas {arguments[0]}", **start)


def _one_line(box: str) -> str:
  """tyro's boxed message about wrong options as one line: what is wrong, and which option has a similar name."""
  inside = [row.strip("│ ") for row in box.splitlines() if row.startswith("│")]
  sections = [list(rows) for rule, rows in itertools.groupby(inside, lambda row: row.startswith("──")) if not rule]
  if not sections:
    return box.strip()
  near = [row.split()[0] for rows in sections if rows[0].startswith("Perhaps") for row in rows if row.startswith("--")]
  known = [" ".join(rows) for rows in sections if rows[0].startswith("Available")]
  said = " ".join(sections[0])
  if choice := re.search(r"invalid choice '(.*?)'.*one of \((.*)\)", said):
    said = said.rstrip(".") + perhaps_meant(choice[1], re.findall("'(.*?)'", choice[2]))
  return "; ".join([said, *known] + [f"perhaps you meant {' or '.join(near)}"] * bool(near))


def _run(command) -> None:
  from ruas_jax.engine.compile_cache import enable_compilation_cache

  enable_compilation_cache()
  command.run()


def main(arguments: list[str] | None = None) -> None:
  """Runs `ruas` and exits.

  Exit codes: 0 for success; 1 for a mistake in the input and 2 for a mistake in the options, each after a line that
  says what is wrong; 75 where SIGTERM stopped a run, whose state is saved.
  """
  arguments = sys.argv[1:] if arguments is None else arguments
  try:
    message = io.StringIO()
    try:
      with contextlib.redirect_stderr(message):
        command = _parse(arguments)
    except SystemExit:
      if message.getvalue():
        print(f"ruas: {_one_line(message.getvalue())}", file=sys.stderr)
      raise
    _run(command)
  except UserError as error:
    for line in spell_options(str(error), _COMMANDS[arguments[0]]).splitlines():
      print(f"ruas: {line}", file=sys.stderr)
    sys.exit(1)
  except Preempted as stop:
    print(f"ruas: {stop}", file=sys.stderr)
    sys.exit(EXIT_CODE)
  except KeyboardInterrupt:
    sys.exit(130)
  except BrokenPipeError:  # `ruas ... | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
  except OSError as error:  # a path that the system refuses: no permission, a name too long
    print(f"ruas: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    sys.exit(1)
