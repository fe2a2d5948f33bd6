"""The snapshots of a run in a folder, the lock of a work directory, and SIGTERM as a request: on tiny arrays."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import fsspec.implementations.memory
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from ruas_jax.engine import checkpoint
from ruas_jax.engine import snapshots as module
from ruas_jax.engine.lock import only_run_in
from ruas_jax.engine.preemption import notice_preemption
from ruas_jax.engine.snapshots import Snapshots
from ruas_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]


def arrays_of(step):
  return {"weights": np.arange(3, dtype=np.float32) + step, "count": np.int32(step)}


SHAPES = {"weights": jax.ShapeDtypeStruct((3,), np.float32), "count": jax.ShapeDtypeStruct((), np.int32)}


@pytest.fixture
def folder(tmp_path):
  return epath.Path(tmp_path) / "snapshots"


def write(folder, *steps, keep=3):
  with Snapshots(folder, keep=keep) as snapshots:
    for step in steps:
      snapshots.write(step, arrays_of(step), {"step": step})


def newest(folder):
  """The snapshot that a run would go on from, and what is said on the way."""
  said = []
  return Snapshots(folder, keep=3).newest(said.append), said


def files_of(folder, step):
  """The largest first."""
  files = [path for path in pathlib.Path(folder / f"{step:06}").rglob("*") if path.is_file()]
  return sorted(files, key=lambda path: -path.stat().st_size)


def damage(folder, step):
  """A flipped bit in the largest file."""
  path = files_of(folder, step)[0]
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_few_are_kept_and_the_newest_is_found(folder, keep):
  write(folder, 0, 2, 10, 100, 1000000, keep=keep)
  names = ["000010", "000100", "1000000"][-keep:]
  assert sorted(path.name for path in folder.iterdir()) == names
  snapshot, said = newest(folder)
  assert (snapshot.step, snapshot.about["step"], snapshot.path) == (10**6, 10**6, folder / "1000000") and not said
  found = snapshot.read(SHAPES)
  assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, arrays_of(0))
  jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), arrays_of(10**6))


@pytest.mark.parametrize(
  "others",
  [
    {"weights": SHAPES["weights"]},
    SHAPES | {"weights": jax.ShapeDtypeStruct((3, 1), np.float32)},
    SHAPES | {"weights": jax.ShapeDtypeStruct((3,), np.float16)},
    {"others": SHAPES["weights"], "count": SHAPES["count"]},
  ],
)
def test_other_arrays_than_those_written_are_one_line(others, folder):
  write(folder, 5)
  with pytest.raises(UserError, match="000005: its arrays have other names") as error:
    newest(folder)[0].read(others)
  assert "\n" not in str(error.value)


def test_arrays_of_several_dtypes_and_shapes_come_back(folder):
  arrays = {
    "a": jnp.arange(6.0).reshape(2, 3), "b": [np.int32(7), np.ones((), bool)], "c": np.zeros((0, 2), np.float32),
    "d": jnp.array([True, False]), "e": jnp.float32(3), "f": np.arange(3, dtype=np.int32),
  }  # fmt: skip
  with Snapshots(folder, keep=1) as snapshots:
    snapshots.write(1, arrays, {})
  found = newest(folder)[0].read(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arrays))
  assert jax.tree.structure(found) == jax.tree.structure(arrays)
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(arrays), strict=True):
    assert one.dtype == other.dtype and one.shape == other.shape
    np.testing.assert_array_equal(one, other)


def test_nothing_there_is_no_damage(folder):
  assert newest(folder) == (None, [])
  folder.mkdir()
  (folder / "notes.txt").write_text("somebody's own")
  assert newest(folder) == (None, [])
  Snapshots(folder, keep=1).clean()
  write(folder, 1, keep=1)
  assert sorted(path.name for path in folder.iterdir()) == ["000001", "notes.txt"]


def test_damaged_ones_are_named_and_passed_over(folder):
  write(folder, 1, 2, 3)
  damage(folder, 3)
  (folder / "000002" / "checksums.json").unlink()
  snapshot, said = newest(folder)
  assert snapshot.step == 1 and snapshot.about["step"] == 1
  assert len(said) == 2 and all("\n" not in line for line in said)
  assert "000003 is damaged: " in said[0] and "000002 is damaged or incomplete: checksums.json" in said[1]
  with pytest.raises(UserError, match="000003 is damaged"):
    Snapshots(folder, keep=3).at(3)
  damage(folder, 1)
  with pytest.raises(UserError, match=r"^.*snapshots: all checkpoints are damaged; choose another `workdir`"):
    newest(folder)


def test_every_file_of_a_snapshot_counts(folder):
  write(folder, 7)
  files, snapshots = files_of(folder, 7), Snapshots(folder, keep=1)
  assert {"about.json", "checksums.json", "_METADATA", ".zarray", "0"} == {path.name for path in files}
  for path in files:
    content = path.read_bytes()
    for changed in (content + b"\0", content[:-2]) if content else (b"\0",):
      path.write_bytes(changed)
      with pytest.raises(UserError, match="000007 is damaged"):
        snapshots.at(7)
    path.unlink()
    with pytest.raises(UserError, match="000007 is damaged"):
      snapshots.at(7)
    path.write_bytes(content)
  assert snapshots.at(7).about["step"] == 7


def test_a_future_that_was_given_up_is_removed(folder):
  """Of three snapshots two are damaged; the run goes on from the first, and what it writes is its own future."""
  write(folder, 1, 5, 9)
  damage(folder, 5)
  damage(folder, 9)
  write(folder, 5)
  assert sorted(path.name for path in folder.iterdir()) == ["000001", "000005"]
  assert newest(folder)[0].step == 5


def test_what_a_killed_process_left_half_done_is_removed(folder):
  write(folder, 1)
  for name in (".000002.99.new", ".000002.99.new.orbax-checkpoint-tmp", ".000000.99.gone", ".000001.99.old"):
    (folder / name / "arrays").mkdir(parents=True)
    (folder / name / "arrays" / "d").write_bytes(b"half")
  assert newest(folder)[0].step == 1  # they are nobody's snapshots
  Snapshots(folder, keep=3).clean()
  assert [path.name for path in folder.iterdir()] == ["000001"]
  Snapshots(folder / "nowhere", keep=3).clean()


def test_a_write_that_fails_is_one_error_at_the_next_call_and_hurts_no_other(folder, monkeypatch):
  write(folder, 1)

  def full(path, arrays, about):
    raise UserError(f"{path}: the checkpoint cannot be written (No space left on device)")

  for call in ("wait", "write", "leave"):
    snapshots = Snapshots(folder, keep=1)
    with pytest.raises(UserError, match="000002: the checkpoint cannot be written"), snapshots:
      monkeypatch.setattr(module, "save_checkpoint", full)
      snapshots.write(2, arrays_of(2), {})
      monkeypatch.undo()
      if call != "leave":
        snapshots.wait() if call == "wait" else snapshots.write(3, arrays_of(3), {})
        raise AssertionError("nothing was said")
    assert [path.name for path in folder.iterdir()] == ["000001"]
  assert newest(folder)[0].step == 1


def test_a_folder_that_cannot_be_made_is_one_line(folder):
  folder.write_text("a file in its place")
  with pytest.raises(UserError, match=r"^[^\n]*000001: the checkpoint cannot be written \([^\n]*\)$"):
    write(folder, 1)


def test_a_failed_write_leaves_nothing(folder, monkeypatch):
  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(checkpoint, "sync", full)  # all is written by then
  with pytest.raises(UserError, match=r"000001: the checkpoint cannot be written \(No space left on device\)$"):
    write(folder, 1)
  assert list(folder.iterdir()) == []


def test_files_of_a_remote_folder_are_found_by_whole_names(monkeypatch):
  """A bucket in memory; as of real ones, `epath`'s walk through it loses the beginning of its name."""

  class Bucket(fsspec.implementations.memory.MemoryFileSystem):
    store, pseudo_dirs = {}, [""]
    protocol = "gs"

    @classmethod
    def _strip_protocol(cls, path):
      return "/" + str(path).removeprefix("gs://").strip("/")

  monkeypatch.setattr(epath.backend.fsspec_backend, "_get_filesystem", lambda _: Bucket())
  folder = epath.Path("gs://bucket/run/000001")
  (folder / "arrays").mkdir(parents=True)
  (folder / "arrays" / "0").write_bytes(b"123")
  (folder / "about.json").write_text("{}")
  assert sorted(checkpoint._checksums(folder)) == ["about.json", "arrays/0"]


def test_the_error_of_the_run_is_not_hidden_by_that_of_the_write(folder, monkeypatch):
  monkeypatch.setattr(module, "save_checkpoint", lambda *_: 1 / 0)
  with pytest.raises(KeyError, match="own"), Snapshots(folder, keep=1) as snapshots:
    snapshots.write(1, arrays_of(1), {})
    raise KeyError("own")


def test_writing_goes_on_in_the_background_and_leaving_waits_for_it(folder, monkeypatch):
  save, release = module.save_checkpoint, threading.Event()

  def slow(*arguments):
    assert release.wait(10) and threading.current_thread() is not threading.main_thread()
    save(*arguments)

  monkeypatch.setattr(module, "save_checkpoint", slow)
  with Snapshots(folder, keep=1) as snapshots:
    snapshots.write(1, arrays_of(1), {"step": 1})
    assert not (folder / "000001").exists()
    release.set()
  assert newest(folder)[0].step == 1


HOLD = """
import sys, time
from etils import epath
from ruas_jax.engine.lock import only_run_in
with only_run_in(epath.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(60)
"""


def test_one_run_holds_a_folder_until_it_ends(tmp_path):
  place = epath.Path(tmp_path)
  said = rf"^`workdir` {tmp_path}: another run uses this folder; wait until it ends, or choose another `workdir`$"
  with only_run_in(place):
    with pytest.raises(UserError, match=said), only_run_in(place):
      pass
    with only_run_in(place.parent):  # another folder is another matter
      pass
  with pytest.raises(ValueError, match="own"), only_run_in(place):
    raise ValueError("own")
  with only_run_in(place):
    pass
  assert list(place.iterdir()) == []


def test_the_lock_of_another_process_is_free_when_that_is_killed(tmp_path):
  command = [sys.executable, "-c", HOLD, str(tmp_path)]
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another run uses this folder"), only_run_in(epath.Path(tmp_path)):
      pass
    process.kill()
    process.wait()
    with only_run_in(epath.Path(tmp_path)):
      pass


def test_sigterm_is_noticed_inside_and_left_alone_outside():
  heard = []
  before = signal.signal(signal.SIGTERM, lambda *_: heard.append("outside"))
  try:
    with notice_preemption() as noticed:
      assert not noticed()
      for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 10
        while not noticed() and time.monotonic() < deadline:
          time.sleep(0.001)
      assert noticed() and not heard
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), notice_preemption():
      1 / 0  # noqa: B018
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == ["outside", "outside"] and noticed()
    with notice_preemption() as again:
      assert not again()
  finally:
    signal.signal(signal.SIGTERM, before)


def test_in_another_thread_signals_are_not_touched():
  answers = []

  def work():
    with notice_preemption() as noticed:
      answers.extend((signal.getsignal(signal.SIGTERM), noticed()))

  before = signal.getsignal(signal.SIGTERM)
  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert answers == [before, False]
