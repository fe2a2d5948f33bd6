"""Configurations survive JSON, mistakes in them are named, and the recorded ones are found from anywhere."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import tiny_problem

from ruas_jax.config import Config, load_config, read_config
from ruas_jax.data.options import DataOptions
from ruas_jax.errors import UserError
from ruas_jax.files import write_json
from ruas_jax.nas.options import DiagnosticsOptions
from ruas_jax.option_values import from_dict

ROOT = pathlib.Path(__file__).resolve().parents[1]
RECORDED = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("name", [*RECORDED, tiny_problem.CONFIG])
def test_every_configuration_survives_json(name, tmp_path):
  config = load_config(name)
  assert from_dict(Config, json.loads(json.dumps(dataclasses.asdict(config))), "here") == config
  write_json(tmp_path / "config.json", dataclasses.asdict(config))
  assert read_config(tmp_path / "config.json") == config


def test_every_field_is_written():
  values = dataclasses.asdict(Config())

  def compare(options, record):
    assert list(record) == [field.name for field in dataclasses.fields(options)]
    for name, value in record.items():
      if isinstance(value, dict):
        compare(getattr(options, name), value)

  compare(Config(), values)


def changed(path, value):
  values = dataclasses.asdict(Config())
  *parents, name = path.split(".")
  target = values
  for parent in parents:
    target = target[parent]
  target[name] = value
  return values


@pytest.mark.parametrize(
  "path, value, named",
  [
    ("sede", 1, "here: unknown option 'sede'"),
    ("search.stesp", 1, "here: search: unknown option 'stesp'"),
    ("network.illumination.gama", 1, "here: network: illumination: unknown option 'gama'"),
    ("seed", "1", "here: seed = '1'"),
    ("seed", None, "here: seed = None"),
    ("seed", -1, "`seed` must be at least 0"),
    ("data.crop", 8.5, "here: data: crop = 8.5"),
    ("data.crop", True, "here: data: crop = True"),
    ("data.crop", 0, "`data.crop` must be at least 1"),
    ("data.batch_size", 0, "`data.batch_size` must be at least 1"),
    ("data.val", 3, "here: data: val = 3"),
    ("search.steps", 0, "`search.steps` must be at least 1"),
    ("search.strategy", "greedy", "here: search: strategy = 'greedy'"),
    ("search.weight_optimizer.clip", "5", "here: search: weight_optimizer: clip = '5'"),
    ("training.denoising_optimizer.learning_rate", [], "denoising_optimizer: learning_rate = []"),
    ("network.illumination.share_weights", 1, "illumination: share_weights = 1"),
    ("network", [], "here: network = []: must be a group of options: illumination, denoising, space, var"),
    # names of earlier versions
    ("loss.exposure", 0.45, "here: loss: exposure = 0.45: must be a group of options: target, weight, colour_weight"),
    ("loss.exposure_weight", 10.0, "unknown option 'exposure_weight'; perhaps you meant exposure.weight"),
    ("loss.colour_weight", 3.0, "unknown option 'colour_weight'; perhaps you meant exposure.colour_weight"),
    ("loss.consistency", 0.3, "unknown option 'consistency'; perhaps you meant pairs.consistency"),
    ("loss.per_noise", True, "unknown option 'per_noise'; perhaps you meant pairs.per_noise"),
  ],
)
def test_mistakes_are_named(path, value, named):
  with pytest.raises(UserError) as caught:
    from_dict(Config, changed(path, value), "here")
  assert named in str(caught.value)


@pytest.mark.parametrize(
  "path, value", [("data.val", "there"), ("search.weight_optimizer.clip", 5.0), ("loss.beta", 2)]
)
def test_values_of_every_allowed_type_are_taken(path, value):
  options = from_dict(Config, changed(path, value), "here")
  for name in path.split("."):
    options = getattr(options, name)
  assert options == value


@pytest.mark.parametrize(
  "text, named", [("{", "not a readable"), ("null", "must be a JSON object"), (b"\xff", "not a readable")]
)
def test_a_damaged_config_json_is_named(text, named, tmp_path):
  path = tmp_path / "config.json"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(UserError, match=named) as caught:
    read_config(path)
  assert str(path) in str(caught.value)


def test_a_missing_config_json_is_named(tmp_path):
  with pytest.raises(UserError, match=r"none\.json"):
    read_config(tmp_path / "none.json")


def test_load_by_name_works_from_anywhere(tmp_path, monkeypatch):
  here = load_config("tiny")
  monkeypatch.chdir(tmp_path)
  assert load_config("tiny") == here


def test_load_by_path(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "from ruas_jax.config import load_config\n"
    "def get_config():\n  return load_config('tiny').with_overrides({'seed': 7})\n"
  )
  assert load_config(str(path)) == load_config("tiny").with_overrides({"seed": 7})


@pytest.mark.parametrize(
  "text, named",
  [
    ("def get_config(:", "SyntaxError"),
    ("import no_such_module", "no_such_module"),
    ("x = 1", "get_config"),
    ("def get_config():\n  return 3", "not int"),
    ("def get_config():\n  return 1 / 0", "ZeroDivisionError"),
    ("from ruas_jax.config import *\ndef get_config():\n  return Config(seed=-1)", "`seed` must be at least 0"),
    (
      "from ruas_jax.config import *\ndef get_config():\n  return Config(loss=LossOptions(exposure=0.45))",
      r"^loss\.exposure = 0\.45: must be ExposureOptions; a target is `loss\.exposure\.target`$",
    ),
  ],
)
def test_a_broken_file_is_named(text, named, tmp_path):
  path = tmp_path / "broken.py"
  path.write_text(text)
  with pytest.raises(UserError, match=named) as caught:
    load_config(str(path))
  assert len(str(caught.value).splitlines()) == 1


def test_an_unknown_name_lists_the_known_ones(tmp_path):
  with pytest.raises(UserError) as caught:
    load_config("tinny")
  assert "'tinny'" in str(caught.value) and all(name in str(caught.value) for name in RECORDED)
  with pytest.raises(UserError, match=r"none\.py"):
    load_config(str(tmp_path / "none.py"))


def test_an_installed_package_finds_them(tmp_path):
  """Laid out as the wheel is, by what pyproject.toml says goes into it, away from the repository."""
  wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
  for package in wheel["packages"]:
    shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
  for source, target in wheel["force-include"].items():
    shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
  code = "import ruas_jax; print(ruas_jax.__file__, ruas_jax.load_config('tiny'))"
  environment = os.environ | {"PYTHONPATH": str(tmp_path)}
  result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
  assert result.stdout.strip() == f"{tmp_path / 'ruas_jax' / '__init__.py'} {load_config('tiny')}", result.stderr


def test_overrides_replace_values_by_path():
  config = load_config("lol").with_overrides({"loss.eta_t": 0.3, "search.weight_optimizer.clip": 5.0, "seed": 4})
  assert (config.loss.eta_t, config.search.weight_optimizer.clip, config.seed) == (0.3, 5.0, 4)
  chosen = {"search.selection": "budget", "search.budget": ("parameters=9",)}  # each needs the other
  assert config.with_overrides(chosen).search.parts.budget == ("parameters=9",)
  measured = {"search.diagnostics.every": 2, "search.diagnostics.skips": 3}
  assert config.with_overrides(measured).search.diagnostics == DiagnosticsOptions(every=2, skips=3)
  back = {"loss.eta_t": 0.0, "search.weight_optimizer.clip": None, "seed": 0}
  assert config.with_overrides(back) == load_config("lol")


@pytest.mark.parametrize(
  ("path", "value", "said"),
  [
    ("loss.eta", 1.0, "there is no option `loss.eta`; perhaps you meant loss.beta"),
    ("loss.exposure", 0.3, "`loss.exposure` = 0.3: must be a group of options: target, weight, colour_weight"),
    ("loss.colour_weight", 0.3, "there is no option `loss.colour_weight`; perhaps you meant loss.exposure.col"),
    ("seed.x", 1, "there is no option `seed.x`: `seed` is a value, not a group of options"),
    ("search.strategy", "all", "`search.strategy` = 'all': allowed are 'cooperative', 'separate', 'joint'"),
    ("data.crop", 1.5, "`data.crop` = 1.5: must be a whole number"),
    ("loss.eta_t", -1.0, "`loss.eta_t` must be at least 0"),
  ],
)
def test_wrong_overrides_are_one_line(path, value, said):
  with pytest.raises(UserError, match=f"^{re.escape(said)}"):
    Config().with_overrides({path: value})


def test_defaults_are_the_built_in_data():
  assert (DataOptions().train, DataOptions().val) == ("builtin", None)
