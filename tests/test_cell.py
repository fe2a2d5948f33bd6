"""The cell: folded equals summed, in value, derivatives and hypergradient; derived cells; operations of one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from test_operations import ROW_MEAN
from tiny_problem import FEW

from ruas_jax.bilevel import BilevelProblem, make_estimator
from ruas_jax.lowlight import kinks
from ruas_jax.lowlight.cell import Cell
from ruas_jax.lowlight.genotype import EDGES
from ruas_jax.lowlight.operations import CANDIDATES

pytestmark = pytest.mark.usefixtures("x64_module")

CHANNELS = 3
OPERATIONS = (*CANDIDATES, ROW_MEAN)
IMAGES = np.random.default_rng(1).uniform(size=(2, CHANNELS, 7, 6))  # most pixels are within two of a border
TARGET = np.random.default_rng(2).normal(size=(1, CHANNELS, 7, 6))


activation = kinks.leaky_relu(0.05)


def random_like(tree, seed=0):
  """The tree with every leaf random, biases too."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) * 0.4, tree)


def assert_close(actual, expected):
  """Within 1e-12 of the largest number of each leaf."""
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.max(np.abs(other))),
    actual,
    expected,
  )


def make_supernet(operations):
  """A cell, its weights, mixing weights, and its two forms `(weights, shares, x) -> [B, C, H, W]` and how they are run.

  The summed form is not jitted: its derivatives' many operations would take half a minute to compile.
  """
  cell = Cell(CHANNELS, operations)
  weights = random_like(cell.init(jax.random.key(0), dtype=jnp.float64))
  shares = np.random.default_rng(3).normal(size=(len(EDGES), len(cell.operations)))

  def folded(weights, shares, x):
    return cell.apply(cell.fold(weights, shares), x, activation)

  def summed(weights, shares, x):
    return cell.apply_unfolded(weights, shares, x, activation)

  return cell, weights, shares, (folded, jax.jit), (summed, lambda function: function)


@pytest.fixture(scope="module")
def supernet(x64_module):
  return make_supernet(OPERATIONS)


def test_folded_equals_summed_in_value_and_gradients(supernet):
  _, weights, shares, *forms = supernet

  def value_and_gradients(form, compiled):
    def loss(weights, shares, x):
      value = form(weights, shares, x)
      return jnp.sum(value * TARGET[:, :1] + value**2), value

    return compiled(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(weights, shares, IMAGES[:1])

  folded, summed = (value_and_gradients(*form) for form in forms)
  assert_close(folded, summed)
  border = np.zeros((7, 6), bool)
  border[[0, -1]] = border[:, [0, -1]] = True
  assert_close(folded[0][1][..., border], summed[0][1][..., border])


def test_folded_equals_summed_in_the_hypergradient(x64_module):
  """Through one step of SGD with momentum already under way, with one operation of each kind."""
  _, weights, shares, *forms = make_supernet((*FEW, ROW_MEAN))
  optimizer = optax.sgd(0.1, momentum=0.9)
  estimator = make_estimator("unrolled", inner=optimizer)
  state = random_like(optimizer.init(weights), seed=4)

  def estimate(form, compiled):
    def loss(weights, shares, x):
      return jnp.mean((form(weights, shares, x[None]) - TARGET) ** 2)

    problem = BilevelProblem(loss, loss)
    return compiled(lambda shares: estimator(problem, weights, shares, state, IMAGES[:1], IMAGES[1]))(shares)

  folded, summed = (estimate(*form) for form in forms)
  assert_close(folded.gradient, summed.gradient)
  assert_close(
    (folded.outer_loss, folded.weights, folded.inner_state), (summed.outer_loss, summed.weights, summed.inner_state)
  )
  assert np.max(np.abs(folded.gradient)) > 1e-3


def test_supernet_folds_into_pairs(supernet):
  cell, weights, shares, *_ = supernet
  folded = jax.eval_shape(cell.fold, weights, shares)
  taps = len(cell.node_taps()[0][0])
  shapes = jax.tree.map(jnp.shape, folded)
  assert shapes.pairs == ((((taps, 2 * CHANNELS, CHANNELS), (2 * CHANNELS,)),),) * 3
  assert shapes.last == ((taps, CHANNELS, CHANNELS), (CHANNELS,))
  assert shapes.fusion == ((1, CHANNELS, 4 * CHANNELS), (CHANNELS,))


GENOTYPES = {
  "mixed": (
    "skip",
    "residual_conv_1x1",
    "row_mean",
    "conv_3x3",
    "dilated_conv_3x3",
    "skip",
    "residual_dilated_conv_3x3",
  ),
  "one_operation": ("conv_3x3",) * 7,
  "all_skip": ("skip",) * 7,
}


def derived_by_definition(weights, genotype, x):
  """The module's equations with `lax.conv`, edge by edge."""

  def edge(name, operation, r):
    if operation == "skip":
      return r
    own = weights["edges"][name]
    if operation == "row_mean":
      padded = np.pad(r, ((0, 0),) * 3 + ((1, 1),))
      result = sum(padded[..., i : i + r.shape[-1]] for i in range(3)) / 3 * own["kernel"][:, None, None]
    else:
      rate = 2 if "dilated" in operation else 1
      layout = ("NCHW", "HWIO", "NCHW")
      result = lax.conv_general_dilated(
        r, own["kernel"], (1, 1), "SAME", rhs_dilation=(rate, rate), dimension_numbers=layout
      )
    return np.asarray(result) + own["bias"][:, None, None] + (r if operation.startswith("residual") else 0)

  weights = jax.tree.map(np.asarray, weights)
  named = dict(zip(EDGES, genotype, strict=True))
  r, distilled = x, []
  for i in (1, 2, 3):
    distilled.append(activation(edge(f"distill_{i}", named[f"distill_{i}"], r)))
    r = activation(edge(f"remain_{i}", named[f"remain_{i}"], r) + r)
  distilled.append(activation(edge("distill_4", named["distill_4"], r)))
  features = np.concatenate(distilled, axis=1)
  return (
    np.einsum("io,bihw->bohw", weights["fusion"]["kernel"][0, 0], features) + weights["fusion"]["bias"][:, None, None]
  )


@pytest.mark.parametrize("name", GENOTYPES)
def test_derived_cell_is_its_definition(name):
  cell = Cell(CHANNELS, OPERATIONS, GENOTYPES[name])
  weights = random_like(cell.init(jax.random.key(0), dtype=jnp.float64))
  assert set(weights["edges"]) == {edge for edge, own in zip(EDGES, GENOTYPES[name], strict=True) if own != "skip"}
  result = jax.jit(lambda weights, x: cell.apply(cell.fold(weights, None), x, activation))(weights, IMAGES)
  assert_close(result, derived_by_definition(weights, GENOTYPES[name], IMAGES))


def test_derived_cell_computes_only_its_own_taps():
  cell = Cell(CHANNELS, OPERATIONS, GENOTYPES["mixed"])
  assert [tuple(map(len, node)) for node in cell.node_taps()] == [(0, 1), (3, 9), (9, 0), (9,)]
  assert Cell(CHANNELS, OPERATIONS, GENOTYPES["all_skip"]).node_taps() == (((), ()),) * 3 + (((),),)


def test_derived_cell_is_the_limit_of_the_supernet():
  """Where the mixing weights are one-hot, the supernet computes what the derived network with its weights computes."""
  genotype = GENOTYPES["mixed"]
  supernet, derived = (Cell(CHANNELS, OPERATIONS, names) for names in (None, genotype))
  weights = random_like(supernet.init(jax.random.key(0), dtype=jnp.float64))
  names = [operation.name for operation in supernet.operations]
  shares = np.array([[float(name == own) for name in names] for own in genotype])
  own = {
    edge: jax.tree.map(lambda leaf, row=row: leaf[row], weights["edges"][name])
    for row, (edge, name) in enumerate(zip(EDGES, genotype, strict=True))
    if name != "skip"
  }

  def value(cell, weights, shares):
    return jax.jit(lambda weights: cell.apply(cell.fold(weights, shares), IMAGES, activation))(weights)

  of_derived = value(derived, {"edges": own, "fusion": weights["fusion"]}, None)
  assert_close(of_derived, value(supernet, weights, shares))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
  "genotype", [None, GENOTYPES["mixed"], GENOTYPES["all_skip"]], ids=["supernet", "mixed", "all_skip"]
)
def test_dtype_of_the_weights_is_kept(genotype, dtype):
  """Even where float64 is enabled, where an edge has no weights of its own, and where an operation makes wider
  kernels."""
  cell = Cell(CHANNELS, OPERATIONS, genotype)

  def fold_and_apply():
    weights = cell.init(jax.random.key(0), dtype=dtype)
    folded = cell.fold(weights, None if genotype else jnp.zeros((7, 8), dtype))
    return weights, folded, cell.apply(folded, jnp.asarray(IMAGES, dtype), activation)

  assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(fold_and_apply))} == {jnp.dtype(dtype)}


def test_output_scale_multiplies_the_fusion_only():
  cell = Cell(CHANNELS)
  plain, scaled = (cell.init(jax.random.key(0), output_scale=scale, dtype=jnp.float64) for scale in (1.0, 0.1))
  assert_close(scaled["fusion"]["kernel"], 0.1 * plain["fusion"]["kernel"])
  jax.tree.map(np.testing.assert_array_equal, scaled["edges"], plain["edges"])
