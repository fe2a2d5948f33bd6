"""A small part of the fault campaign (`benchmarks/reliability/faults.py`): real processes, signals and damage."""

import signal

import numpy as np
import pytest

from benchmarks.reliability import faults


@pytest.fixture(scope="module")
def results(tmp_path_factory):
  """With caches of its own, also of traced programs: only the first of a dozen processes traces and compiles."""
  folder = tmp_path_factory.mktemp("campaign")
  with pytest.MonkeyPatch.context() as patch:
    patch.delenv("RUAS_JAX_CACHE")
    patch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    return faults.campaign(folder / "faults", quick=True)


def test_nothing_is_silently_wrong_or_unclear(results):
  assert [row for row in results["runs"] if row["outcome"] not in ("same bits", "refused")] == []
  assert results["silently_wrong"] == results["unclear"] == 0


def test_a_search_that_was_killed_inside_writes_ends_with_the_same_bits(results):
  counts = results["kill"]
  # Not how many were inside: a quick machine may end the write between the look and the kill.
  assert (counts["runs"], counts["kills"], counts["resumed_to_same_bits"]) == (1, 2, 1)
  (row,) = [row for row in results["runs"] if row["fault"] == "kill"]
  assert row["moments"] == ["in a write", "in a write"] and "resuming after step" in row["lines"][-1]


def test_sigterm_saves_and_exits_with_its_own_code(results):
  assert results["terminate"] == {"runs": 1, "saved": 1, "resumed_to_same_bits": 1}


def test_damage_is_named(results):
  assert results["corruption"] == {"runs": 3, "files": 5, "of_snapshots": 4, "named": 5, "same_bits": 1, "refused": 2}


@pytest.mark.parametrize("how", ["flip", "truncate", "delete"])
def test_damage_is_damage(how, tmp_path):
  path, content = tmp_path / "file", bytes(range(100))
  path.write_bytes(content)
  faults._damage(path, how, np.random.default_rng(0))
  left = path.read_bytes() if path.exists() else None
  if how == "flip":
    (difference,) = [one ^ other for one, other in zip(left, content, strict=True) if one != other]
    assert difference.bit_count() == 1
  else:
    assert left is None if how == "delete" else content.startswith(left) and len(left) < 99


class Faked(faults.Laboratory):
  """Runs nothing: every search ends as it is told to."""

  def __init__(self, ending, *, bits="right", signalled=-signal.SIGTERM):
    self.folder, self.steps, self.bits, self.life = None, 4, "right", 1.0
    self._ending, self._bits, self._signalled = ending, bits, signalled

  def interrupt(self, workdir, number, moment):
    return self._signalled

  def finish(self, workdir):
    return self._ending

  def bits_in(self, workdir):
    return self._bits


@pytest.fixture
def stopped(tmp_path):
  for step in range(3):
    (tmp_path / "stopped" / "snapshots" / f"{step:06}").mkdir(parents=True)
    (tmp_path / "stopped" / "snapshots" / f"{step:06}" / "file").write_bytes(b"content")
  (tmp_path / "stopped" / "metrics.jsonl").write_bytes(b"{}\n")
  return tmp_path / "stopped"


SOUND, NAMED, REFUSED = (faults.Ending(*ending) for ending in (
  (0, []), (0, ["ruas: 000002 is damaged"]), (1, ["ruas: 000002 000001 000000 metrics.jsonl"]),
))  # fmt: skip


@pytest.mark.parametrize(
  "ending, bits, newest, outcome",
  [
    (NAMED, "right", 1, "same bits"),
    (NAMED, "wrong", 1, "other bits"),
    (SOUND, "right", 1, "unclear"),  # what was damaged was not named
    (SOUND, "wrong", 1, "other bits"),
    (NAMED, "right", 2, "unclear"),  # nor all of it
    (REFUSED, "right", 1, "unclear"),  # there was one before
    (REFUSED, "right", 3, "refused"),
    (NAMED, "right", 3, "unclear"),  # nothing sound was left to go on from
    (REFUSED, "right", None, "refused"),
    (faults.Ending(1, ["Traceback", "000002"]), "right", 3, "unclear"),
    (faults.Ending(0, ["ruas: 000002", "Traceback"]), "right", 1, "unclear"),
  ],
)
def test_damage_is_judged(ending, bits, newest, outcome, stopped, tmp_path):
  row = faults.damaged(Faked(ending, bits=bits), tmp_path / "run", stopped=stopped, newest=newest, how="flip", seed=0)
  assert row["outcome"] == outcome and row["files"] == (newest or 1)
  run = tmp_path / "run"
  files = [path.relative_to(run) for path in run.rglob("*") if path.is_file()]
  assert sum((run / file).read_bytes() != (stopped / file).read_bytes() for file in files) == row["files"]


@pytest.mark.parametrize(
  "code, ending, bits, log, how, outcome",
  [
    (75, SOUND, "right", True, "saved", "same bits"),
    (75, SOUND, "wrong", True, "saved", "other bits"),
    (0, SOUND, "right", True, "had_finished", "same bits"),
    (-15, SOUND, "right", False, "before_the_loop", "same bits"),
    (-15, SOUND, "right", True, "exit_code_-15", "unclear"),
    (1, SOUND, "right", True, "exit_code_1", "unclear"),
    (75, faults.Ending(-11, []), "right", True, "saved", "unclear"),
  ],
)
def test_a_termination_is_judged(code, ending, bits, log, how, outcome, tmp_path):
  if log:
    (tmp_path / "metrics.jsonl").touch()
  row = faults.terminated(Faked(ending, bits=bits, signalled=code), tmp_path, moment=faults.anywhere(0))
  assert (row["how"], row["outcome"]) == (how, outcome)
