"""The metric log survives kills and stays valid JSON; progress is quiet off a terminal."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from ruas_jax.engine import metric_log
from ruas_jax.engine import progress as progress_file
from ruas_jax.engine.metric_log import MetricLog, read_metrics, to_json_value
from ruas_jax.engine.progress import progress
from ruas_jax.errors import UserError


def test_records_come_back_with_plain_numbers(tmp_path):
  path = tmp_path / "run" / "metrics.jsonl"
  with MetricLog(path) as log:
    log.write({"step": 1, "loss": jnp.float32(0.5), "rates": np.array([1.0, 2.0])})
    log.write({"step": np.int64(2), "loss": 0.25, "kind": "train"})
  first, second = read_metrics(path)
  assert first == {"step": 1, "loss": 0.5, "rates": [1.0, 2.0]}
  assert second == {"step": 2, "loss": 0.25, "kind": "train"}
  assert path.read_text().count("\n") == 2


def test_every_record_is_on_disk_at_once(tmp_path):
  path = tmp_path / "metrics.jsonl"
  log = MetricLog(path)
  log.write({"step": 1})
  assert read_metrics(path) == [{"step": 1}]
  log.close()


def test_numbers_that_json_has_not_become_null(tmp_path):
  path = tmp_path / "metrics.jsonl"
  with MetricLog(path) as log:
    log.write({"a": float("nan"), "b": jnp.inf, "c": jnp.float32(-jnp.inf), "d": np.array([1.0, np.nan])})

  def refuse(word):
    raise AssertionError(f"not JSON: {word}")

  assert json.loads(path.read_text(), parse_constant=refuse) == {"a": None, "b": None, "c": None, "d": [1.0, None]}


def test_a_value_without_json_form_is_refused_before_anything_is_written(tmp_path):
  path = tmp_path / "metrics.jsonl"
  with MetricLog(path) as log, pytest.raises(TypeError, match="object"):
    log.write({"step": 1, "what": object()})
  assert path.read_text() == ""


def test_nested_values():
  assert to_json_value({"a": (1, {"b": True}), 2: None}) == {"a": [1, {"b": True}], "2": None}


@pytest.mark.parametrize("tail", ['{"step": 3, "lo', '{"step": 3', "{", "3"])
def test_a_torn_last_line_is_ignored_and_then_dropped(tmp_path, tail):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\n{"step": 2}\n' + tail)
  assert read_metrics(path) == [{"step": 1}, {"step": 2}]
  with MetricLog(path) as log:
    log.write({"step": 3})
  assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3}]


def test_a_whole_last_line_without_newline_is_kept(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\n{"step": 2}')
  assert read_metrics(path) == [{"step": 1}, {"step": 2}]
  with MetricLog(path) as log:
    log.write({"step": 3})
  assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3}]


@pytest.mark.parametrize("bad", ["{", "", "[1]", "NaN"])
def test_another_bad_line_is_named(tmp_path, bad):
  path = tmp_path / "metrics.jsonl"
  path.write_text(f'{{"step": 1}}\n{bad}\n{{"step": 2}}\n')
  with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
    read_metrics(path)


def test_what_cannot_be_read_is_named(tmp_path):
  with pytest.raises(UserError, match=r"nothing\.jsonl: cannot be read"):
    read_metrics(tmp_path / "nothing.jsonl")
  (tmp_path / "binary").write_bytes(b"\xff\xfe\n")
  with pytest.raises(UserError, match="binary, line 1"):
    read_metrics(tmp_path / "binary")


def test_a_remote_log_is_rewritten_on_closing_and_when_old(tmp_path, monkeypatch):
  monkeypatch.setattr(metric_log, "_is_remote", lambda path: True)
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\n{"st')
  with MetricLog(path) as log:
    log.write({"step": 2})
    assert read_metrics(path) == [{"step": 1}]
    monkeypatch.setattr(metric_log, "_REMOTE_SECONDS", 0.0)
    log.write({"step": 3})
    assert len(read_metrics(path)) == 3
    monkeypatch.setattr(metric_log, "_REMOTE_SECONDS", 1e9)
    log.write({"step": 4})
  assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4]


def test_a_store_s_address_is_remote():
  assert metric_log._is_remote(metric_log.epath.Path("gs://bucket/run/metrics.jsonl"))
  assert not metric_log._is_remote(metric_log.epath.Path("run/metrics.jsonl"))


def test_progress_prints_a_line_per_tenth_off_a_terminal(capsys):
  with progress(200, "search") as bar:
    for step in range(1, 201):
      bar.update(step, loss=jnp.float32(1.0 / step))
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 10
  assert lines[0].startswith("search 20/200 ") and lines[0].endswith(" loss 0.05")
  assert lines[-1].startswith("search 200/200 ")


def test_progress_prints_when_the_last_line_is_old(capsys, monkeypatch):
  now = iter([0.0, 4.0, 11.0, 12.0, 22.0])
  monkeypatch.setattr(progress_file.time, "monotonic", lambda: next(now))
  with progress(1000, "train") as bar:
    for step in range(1, 5):
      bar.update(step)
  assert capsys.readouterr().out.splitlines() == ["train 2/1000 11 s", "train 4/1000 22 s"]


def test_progress_draws_a_bar_on_a_terminal(capsys, monkeypatch):
  monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
  monkeypatch.setenv("COLUMNS", "120")
  with progress(10, "search") as bar:
    bar.update(7, loss=0.125)
  out = capsys.readouterr().out
  assert "7/10" in out and "loss 0.125" in out
