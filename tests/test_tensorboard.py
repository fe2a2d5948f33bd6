"""What TensorBoard reads is what the log says."""

import struct
import sys

import pytest
from tiny_problem import dark_images, get_config, logged

from ruas_jax.data.sources import ImageArrays
from ruas_jax.engine.run_options import RunOptions
from ruas_jax.engine.tensorboard import TensorBoardLog
from ruas_jax.errors import UserError
from ruas_jax.experiments.train import train


def scalars_in(folder):
  """`{(name, step): value}` of all event files as TensorBoard shows them: a file's start takes back what earlier ones
  say from its step on."""
  event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
  shown = {}
  for file in sorted(folder.iterdir()):
    content = file.read_bytes()
    while content:
      (size,) = struct.unpack("<Q", content[:8])  # then its checksum, the event, and that one's checksum
      event, content = event_pb2.Event.FromString(content[12 : 12 + size]), content[size + 16 :]
      if event.HasField("session_log"):
        shown = {key: value for key, value in shown.items() if key[1] < event.step}
      shown.update({(value.tag, event.step): value.simple_value for value in event.summary.value})
  return shown


def test_a_later_process_takes_back_what_the_run_does_not_come_from(tmp_path):
  pytest.importorskip("tensorboardX")
  with TensorBoardLog(tmp_path, after=0) as log:
    log.write({"step": 1, "a_loss": 0.5, "rates": [1.0], "nothing": None}, {"step": 2, "a_loss": 0.25})
    log.write({"step": 3, "a_loss": 9.0})
  with TensorBoardLog(tmp_path, after=1) as log:
    log.write({"step": 2, "a_loss": 0.125})
  assert scalars_in(tmp_path) == {("a_loss", 1): 0.5, ("a_loss", 2): 0.125}


def test_a_run_tells_tensorboard_what_it_logs(tmp_path):
  pytest.importorskip("tensorboardX")
  options = RunOptions(tensorboard=True)
  images = ImageArrays(["a", "b", "c"], dark_images(3))
  for steps in (1, 3):
    train(get_config().with_overrides({"training.steps": steps}), workdir=tmp_path, run=options, images=images)
  shown, records = scalars_in(tmp_path / "tensorboard"), logged(tmp_path)
  expected = {(name, record["step"]): value for record in records for name, value in record.items() if name != "step"}
  assert {step for _, step in expected} == {1, 2, 3}
  assert {key: shown[key] for key in expected} == pytest.approx(expected)  # float32 in event files
  assert {name for name, _ in shown.keys() - expected.keys()} == {"seconds", "steps_per_second", "peak_bytes"}


def test_without_the_extra_it_is_one_line(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorboardX", None)
  with pytest.raises(UserError, match=r'^`tensorboard` needs the extra: pip install "ruas-jax\[tensorboard\]"$'):
    TensorBoardLog(tmp_path, after=0)
