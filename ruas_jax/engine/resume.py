"""Finds the snapshot from which a run is resumed."""

import functools
from collections.abc import Iterable
from typing import Any

from etils import epath

from ruas_jax.engine.environment import versions
from ruas_jax.engine.identity import differences
from ruas_jax.engine.leftovers import SNAPSHOTS, outputs_in
from ruas_jax.engine.progress import say
from ruas_jax.engine.report import checked_out_commit
from ruas_jax.engine.run_options import START_ANEW
from ruas_jax.engine.snapshots import Snapshot, Snapshots
from ruas_jax.errors import UserError

_commit = functools.cache(checked_out_commit)
_FORMAT = 4  # version of the arrays and the description of a snapshot


def about_run(identity: dict[str, Any], arithmetic: str | None) -> dict[str, Any]:
  """The description of the run in every snapshot."""
  environment = {"versions": versions(), "commit": _commit()}
  return {"format": _FORMAT, "identity": identity, "arithmetic": arithmetic} | environment


def find_start(
  folder: epath.Path,
  snapshots: Snapshots,
  identity: dict[str, Any],
  steps: int,
  names: Iterable[str],
  arithmetic: str | None,
) -> Snapshot | None:
  """The newest healthy snapshot of this run; None if the folder has no run.

  Args:
    folder: the run folder.
    snapshots: snapshots in that folder.
    identity: identity of the run that is to be resumed.
    steps: total number of steps of the run.
    names: names of the files that such a run writes.
    arithmetic: name of the arithmetic with which the run must have been computed so far; None: any.

  Raises:
    UserError: the folder holds another run, a run with more steps or with another arithmetic, or a run without a
      snapshot.
  """
  start = snapshots.newest(on_damage=say)
  if start is None:
    if any(path.name != SNAPSHOTS for path in outputs_in(folder, names)):  # empty: killed during its first write
      raise UserError(f"{folder} holds a run already, but no snapshot to resume it from; {START_ANEW}")
    return None
  about = start.about
  if about.get("format") != _FORMAT:
    raise UserError(
      f"{start.path} was written by another version of ruas_jax (format {about.get('format')}, not {_FORMAT}); "
      f"{START_ANEW}"
    )
  others = list(differences(about["identity"], identity))
  if others:
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    raise UserError(
      f"{folder} belongs to another configuration ({others[0]}{more}); resume with the same options, {START_ANEW}"
    )
  if start.step > steps:
    raise UserError(
      f"{folder} holds a run of {start.step} steps, which is more than the {steps} steps of the options; allow more "
      f"steps, {START_ANEW}"
    )
  computed_with = about.get("arithmetic")  # older snapshots have none
  if arithmetic and computed_with not in (None, arithmetic) and 0 < start.step < steps:
    raise UserError(
      f"{folder} was computed with {computed_with} and would be resumed with {arithmetic}, which changes the last bits."
      " Resume with the same form, or set `allow_other_arithmetic` to true"
    )
  for name, version in versions().items():
    if (before := about["versions"].get(name, version)) != version:
      say(f"{folder} was written with {name} {before} and is resumed with {version}: the last bits may differ")
  if snapshots.steps() != [0]:  # a run with only the first snapshot has done no step
    say(f"resuming after step {start.step} from {start.path}")
  return start
