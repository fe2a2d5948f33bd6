"""The files that a search writes into its run folder."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from etils import epath

from ruas_jax.engine.checkpoint import save_checkpoint
from ruas_jax.engine.metric_log import to_json_value
from ruas_jax.errors import UserError
from ruas_jax.files import write_json
from ruas_jax.nas.problem import SearchProblem
from ruas_jax.nas.result import SearchResult
from ruas_jax.nas.state import SearchState

STATE = "state"
STATE_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class RunFiles:
  """The files that an application adds to a run folder of the engine.

  Attributes:
    config: content of `config.json`; None: the search's options.
    identity: everything that determines the numbers of the run, as JSON; None: the options, the data, and the names of
      functions.
    program: everything that determines the step's program, as JSON; the traced program is then kept for the next start.
      None: it is traced at every start.
    arithmetic: name of the arithmetic that determines the last bits of the run. A run with another one is resumed only
      with `RunOptions.allow_other_arithmetic`. None: nothing is compared.
    derived: name of the file of the derived result. It is written last, so its presence means a complete run.
    outputs: names of the other files that `write` makes.
    about: description that is saved with `state/`, as JSON.
    write: called with the folder and the result, before `derived` is written.
  """

  config: dict[str, Any] | None = None
  identity: dict[str, Any] | None = None
  program: Any = None
  arithmetic: str | None = None
  derived: str = "derived.json"
  outputs: Sequence[str] = ()
  about: dict[str, Any] = dataclasses.field(default_factory=dict)
  write: Callable[[epath.Path, SearchResult], None] = lambda folder, result: None

  @property
  def names(self) -> tuple[str, ...]:
    """Names of all result files."""
    return (self.derived, *self.outputs, STATE)


def finish(
  problem: SearchProblem,
  state: SearchState,
  records: list[dict[str, Any]],
  folder: epath.Path | None,
  files: RunFiles,
  select: Callable[[], Any],
) -> SearchResult:
  """Makes the result of a search that has done all its steps, and writes it into the run folder. `select` gives what
  the problem's `derive` receives.

  Raises:
    UserError: the selection fails; or the problem's `derive` raises, or returns a value that JSON cannot hold. The
      state has been written.
  """
  if folder:
    save_checkpoint(folder / STATE, state, {"format": STATE_FORMAT} | files.about)
  kept = f" The search's last state is in {folder / STATE}" if folder else ""
  selected = select()
  try:
    derived = problem.derive(selected)
    as_json = to_json_value(derived)
  except UserError:
    raise
  except Exception as error:
    raise UserError(f"the problem's derive raised {type(error).__name__}: {error}.{kept}") from error
  result = SearchResult(derived, state.alpha, state.weights, records, state)
  if folder:
    files.write(folder, result)
    write_json(folder / files.derived, as_json)
  return result
