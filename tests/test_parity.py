"""The forward pass equals the authors' released model on their own weights (arrays in ../shared/reference)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import shared

from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import build_network, count_macs, count_parameters, run
from ruas_jax.lowlight.options import RELEASED
from ruas_jax.nas.relaxation import softmax
from ruas_jax.photos.released import convert_released

PUBLISHED = Genotype.named("published")


def forward(network, weights, shares, y):
  output = jax.jit(lambda weights, shares, y: run(network, "i+n", weights, shares, y))(
    weights, shares, jnp.asarray(y)[None]
  )
  return {"t": output.t[:, 0], "u": output.u[:, 0], "x": output.x[0]}


def assert_golden(result, golden):
  for name, value in result.items():
    np.testing.assert_allclose(value, golden[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", ["lol", "upe", "dark"])
def test_released_checkpoints(name):
  weights = convert_released(np.load(shared(f"reference/checkpoint_{name}.npz")), PUBLISHED)
  golden = np.load(shared(f"reference/golden_forward_{name}.npz"))
  assert count_parameters(weights) == 3438
  assert_golden(forward(build_network(RELEASED, PUBLISHED), weights, {}, golden["y"]), golden)


def test_released_supernet():
  golden = np.load(shared("reference/golden_supernet.npz"))
  arrays = {name.removeprefix("weights/"): golden[name] for name in golden.files if name.startswith("weights/")}
  weights = convert_released(arrays, None)
  shares = softmax({"illumination": jnp.asarray(golden["alpha_iem"]), "denoising": jnp.asarray(golden["alpha_nrm"])})
  assert_golden(forward(build_network(RELEASED), weights, shares, golden["y"]), golden)


def test_published_size_and_operations():
  network = build_network(RELEASED, PUBLISHED)
  # Table 2 of the paper: 0.281 G and 0.832 G operations at 600x400 (its count has the warm start and activations too).
  assert count_macs(network, "i", 400, 600) == pytest.approx(0.281e9, rel=0.06)
  assert count_macs(network, "i+n", 400, 600) == pytest.approx(0.832e9, rel=0.06)
