"""Candidate operations: their kernels and taps, the folded mixed operation, and operations of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ruas_jax.convolution.primitives import convolve, square_taps
from ruas_jax.lowlight.cell import Cell
from ruas_jax.lowlight.mixed_op import fold_edges, init_edges, sum_of_operations
from ruas_jax.lowlight.operations import (
  CANDIDATES,
  SKIP,
  Operation,
  _taps_of_each,
  convolution_operation,
  dilate,
  identity_kernel,
  kernel_on_taps,
  live_taps,
  operation_names,
  resize,
)

pytestmark = pytest.mark.usefixtures("x64_module")


def row_mean_kernel(weight, channels):
  """The example of the module's docstring."""
  row = jnp.ones((1, 3, 1, 1)) / 3
  return row * jnp.diag(weight)[None, None]


ROW_MEAN = Operation("row_mean", weight_shape=lambda channels: (channels,), to_kernel=row_mean_kernel)


def test_the_candidates_are_the_papers_seven():
  assert operation_names(CANDIDATES) == (
    "skip", "conv_1x1", "conv_3x3", "dilated_conv_3x3", "residual_conv_1x1", "residual_conv_3x3",
    "residual_dilated_conv_3x3",
  )  # fmt: skip


@pytest.mark.parametrize("operation", CANDIDATES, ids=operation_names(CANDIDATES))
def test_each_candidate_is_its_own_convolution(operation):
  """On its taps, at borders too, against the library's dilated convolution plus the input where it is residual."""
  channels, rng = 3, np.random.default_rng(0)
  x = rng.normal(size=(1, channels, 5, 6))
  if operation.weight_shape is None:
    weight, expected = None, x
  else:
    weight = rng.normal(size=operation.weight_shape(channels))
    rate = 2 if "dilated" in operation.name else 1
    dimensions = ("NCHW", "HWIO", "NCHW")
    expected = lax.conv_general_dilated(
      x, weight, (1, 1), "SAME", rhs_dilation=(rate, rate), dimension_numbers=dimensions
    )
    expected = expected + (x if operation.name.startswith("residual") else 0)
  taps = live_taps((operation,), channels)
  kernel = kernel_on_taps(operation.to_kernel(weight, channels), taps, x.dtype)
  np.testing.assert_allclose(convolve(x, kernel, taps), expected, rtol=0, atol=1e-13)


def test_live_taps_are_the_positions_that_are_used():
  assert (
    live_taps(CANDIDATES, 3) == tuple(sorted({*square_taps(3), *square_taps(3, 2)}))
    and len(live_taps(CANDIDATES, 3)) == 17
  )
  assert live_taps((SKIP,), 3) == ((0, 0),)
  assert live_taps((ROW_MEAN,), 3) == ((0, -1), (0, 0), (0, 1))
  shift = Operation(
    "shift", None, lambda _, channels: jnp.pad(identity_kernel(channels), ((0, 0), (2, 0), (0, 0), (0, 0)))
  )
  assert live_taps((shift,), 3) == ((0, 0), (0, 1))  # the centre is always there, for the residual
  with jax.enable_x64(False):
    _taps_of_each.cache_clear()
    assert jax.jit(lambda x: x * len(live_taps(CANDIDATES, 6)))(1) == 17  # inside a trace too


def test_kernels_grow_around_their_centre():
  kernel = np.arange(9.0).reshape(3, 3, 1, 1)
  grown = dilate(kernel, 2)
  assert grown.shape == (5, 5, 1, 1)
  np.testing.assert_array_equal(grown[::2, ::2], kernel)
  assert np.count_nonzero(grown) == 8
  np.testing.assert_array_equal(resize(kernel, 5, 7)[1:4, 2:5], kernel)
  assert np.count_nonzero(resize(kernel, 5, 7)) == 8


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (4, 4)])
def test_even_kernels_are_refused(shape):
  even = Operation("even", None, lambda _, channels: jnp.ones((*shape, channels, channels)))
  with pytest.raises(ValueError, match=r"'even'.*odd"):
    live_taps((SKIP, even), 3)
  with pytest.raises(ValueError, match=r"'even'.*odd"):
    Cell(3, (SKIP, even)).node_taps()


def test_two_operations_of_one_name_are_refused():
  with pytest.raises(ValueError, match="different names"):
    Cell(3, (SKIP, ROW_MEAN, convolution_operation("row_mean", 3)))


@pytest.mark.parametrize("operations", [CANDIDATES, (*CANDIDATES, ROW_MEAN), (SKIP, ROW_MEAN), (SKIP,)], ids=len)
def test_folded_edges_equal_the_sum_of_operations(operations):
  channels, edges, rng = 3, 2, np.random.default_rng(0)
  weights = init_edges(jax.random.key(0), operations, channels, edges, jnp.float64)
  weights = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), weights)  # biases too
  shares, x = rng.normal(size=(edges, len(operations))), rng.normal(size=(2, channels, 6, 5))
  taps = live_taps(operations, channels)

  @jax.jit
  def both(weights, shares):
    kernel, bias = fold_edges(weights, shares, operations, taps, channels)
    folded = jnp.split(convolve(x, kernel, taps) + bias[None, :, None, None], edges, axis=1)
    summed = [
      sum_of_operations(x, jax.tree.map(lambda leaf: leaf[e], weights), shares[e], operations) for e in range(edges)
    ]
    return jnp.stack(folded), jnp.stack(summed)

  folded, summed = both(weights, shares)
  np.testing.assert_allclose(folded, summed, rtol=1e-12, atol=1e-12 * np.max(np.abs(summed)))


def test_initial_weights():
  """Variance 1 / (3 fan_in), zero biases, and nothing shared between edges, operations or keys."""
  weights = init_edges(jax.random.key(0), CANDIDATES, 6, 200, jnp.float64)
  assert sorted(weights) == sorted(name for name in operation_names(CANDIDATES) if name != "skip")
  for name, own in weights.items():
    fan_in = 6 * (9 if "3x3" in name else 1)
    assert own["kernel"].shape == (200, *((3, 3) if "3x3" in name else (1, 1)), 6, 6)
    assert np.max(np.abs(own["kernel"])) <= fan_in**-0.5
    assert np.var(own["kernel"]) == pytest.approx(1 / (3 * fan_in), rel=0.05)
    assert own["bias"].shape == (200, 6) and not np.any(own["bias"])
  assert not np.array_equal(weights["conv_3x3"]["kernel"], weights["residual_conv_3x3"]["kernel"])
  assert len(np.unique(weights["conv_1x1"]["kernel"])) == 200 * 36
  reordered = init_edges(jax.random.key(1), CANDIDATES, 6, 2, jnp.float64)
  assert not np.array_equal(reordered["conv_1x1"]["kernel"], weights["conv_1x1"]["kernel"][:2])
