"""The README's Python examples run as they are printed, on a smaller configuration."""

import dataclasses
import pathlib
import re

import pytest

import ruas_jax

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
  """What the examples share, after the first has run."""
  config = ruas_jax.load_config("tiny")
  small = dataclasses.replace(
    config,
    network=dataclasses.replace(
      config.network,
      illumination=dataclasses.replace(config.network.illumination, stages=2),
      denoising=dataclasses.replace(config.network.denoising, stages=2),
    ),
    data=dataclasses.replace(config.data, crop=8),
    training=dataclasses.replace(config.training, steps=3),
  )
  values = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(tmp_path_factory.mktemp("readme"))
    patch.setattr(ruas_jax, "load_config", lambda name: small)
    exec(_examples()[0], values)
    values["folder"] = pathlib.Path.cwd()
  return values


def _examples() -> list[str]:
  return re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_search_train_and_enhance(namespace):
  assert len(namespace["found"].metrics) == 20
  assert namespace["bright"].shape == (64, 64, 3)
  assert float(namespace["bright"].mean()) > 0.05
  loaded = ruas_jax.load(namespace["folder"] / "runs" / "model")
  assert loaded.weights_sha256() == namespace["trained"].model.weights_sha256()


def test_own_operation_loss_and_optimiser(namespace):
  namespace["config"] = dataclasses.replace(
    namespace["config"], search=dataclasses.replace(namespace["config"].search, steps=2)
  )
  exec(_examples()[1], namespace)
  assert namespace["found"].state.alpha["illumination"].shape == (7, 8)
  # The fidelity alone is the loss: no total variation in it.
  assert namespace["found"].metrics[0]["illumination_train_loss"] < 0.05


def test_there_are_two_examples():
  assert len(_examples()) == 2
