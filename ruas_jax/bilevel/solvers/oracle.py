"""All derivatives that the solvers use, counted where they are computed.

Notation of the formulas: `f(w, a)` is the outer loss, `g(w, a)` the inner one; `H = ∂²_ww g` and `C = ∂²_aw g`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ruas_jax.bilevel.conjugate_gradient import Solved
from ruas_jax.bilevel.constants import Merge
from ruas_jax.bilevel.losses import COLLECTION, wrap
from ruas_jax.bilevel.problem import BilevelProblem, PyTree, require_scalar
from ruas_jax.bilevel.solvers.sampling import Sample

EXTRAS = ("key", COLLECTION)


class Counts(NamedTuple):
  """Numbers of examples for which a derivative was computed, `[]` int32.

  Attributes:
    inner_gradients: gradients of g with respect to w, a, or both.
    outer_gradients: gradients of f with respect to w, a, or both.
    hessian_products: products of H with a vector.
    cross_products: products of C with a vector.
  """

  inner_gradients: Any = 0
  outer_gradients: Any = 0
  hessian_products: Any = 0
  cross_products: Any = 0


class Record(NamedTuple):
  """What an oracle remembers from one derivative to the next.

  Attributes:
    counts: the counts.
    curvature: `[]`, the smallest `v'Hv / v'v` of all products; infinity without any.
    noise: `[]`, a limit of its rounding: the largest `|Hv| / |v|` times the root of the dtype's epsilon.
    collection: the mutable collection of the inner loss; None: it has none.
  """

  counts: Counts
  curvature: jax.Array
  noise: jax.Array
  collection: PyTree

  @property
  def indefinite(self) -> jax.Array:
    """`[]`, whether H had a negative curvature by more than rounding."""
    return self.curvature < -self.noise


class Oracle:
  """The derivatives of one problem in the floating leaves of w and a, for one traced step.

  Its record grows with every call. Loops and branches with calls in them must therefore be those of the oracle, which
  carry the record; in a loop of jax's, the record would leak, which jax reports as an error.
  """

  def __init__(self, problem: BilevelProblem, merge_weights: Merge, merge_alpha: Merge, collection: PyTree = None):
    self.losses = wrap(problem, EXTRAS)
    self.merge_weights, self.merge_alpha = merge_weights, merge_alpha
    infinity = jnp.full((), jnp.inf)
    counts = Counts(*(jnp.zeros((), jnp.int32) for _ in Counts._fields))
    self.record = Record(counts, infinity, jnp.zeros_like(infinity), collection)

  # Gradients.

  def inner_gradient(self, weights: PyTree, alpha: PyTree, sample: Sample, *, advance: bool = True) -> PyTree:
    """`∂_w g`. It replaces the collection by the new one if `advance` is true."""
    return self.inner_gradients(weights, alpha, sample, advance=advance)[0]

  def inner_gradients(
    self, weights: PyTree, alpha: PyTree, sample: Sample, *, advance: bool = False
  ) -> tuple[PyTree, PyTree]:
    """`∂_w g` and `∂_a g`."""
    self._count(sample, "inner_gradients")
    gradients, collection = jax.grad(self._inner_value, argnums=(0, 1), has_aux=True)(weights, alpha, sample)
    if advance:
      self.record = self.record._replace(collection=collection)
    return gradients

  def inner_loss(self, weights: PyTree, alpha: PyTree, sample: Sample) -> jax.Array:
    """`g`, which is not counted."""
    return self._inner_value(weights, alpha, sample)[0]

  def outer_loss(self, weights: PyTree, alpha: PyTree, sample: Sample) -> jax.Array:
    """`f`, which is not counted."""
    inputs = self.inputs(sample.batch, sample.key)
    value = self.losses.outer_loss(self.merge_weights(weights), self.merge_alpha(alpha), inputs)
    return require_scalar("outer_loss", value)

  def outer_gradients(self, weights: PyTree, alpha: PyTree, sample: Sample) -> tuple[jax.Array, PyTree, PyTree]:
    """`f`, `∂_w f` and `∂_a f`."""
    self._count(sample, "outer_gradients")
    value, gradients = jax.value_and_grad(self.outer_loss, argnums=(0, 1))(weights, alpha, sample)
    return value, *gradients

  # Products with second derivatives: one directional derivative of the gradient has all of them.

  def products(
    self, weights: PyTree, alpha: PyTree, sample: Sample, vector: PyTree, *, advance: bool = True
  ) -> tuple[PyTree, PyTree, PyTree]:
    """`∂_w g`, `H v` and `C v`, of one sample."""
    (gradient, _), (image, cross), collection = self._directional(weights, alpha, sample, vector)
    if advance:
      self.record = self.record._replace(collection=collection)
    self._count(sample, "inner_gradients", "hessian_products", "cross_products")
    self._see_curvature(vector, image)
    return gradient, image, cross

  def hessian_product(self, weights: PyTree, alpha: PyTree, sample: Sample, vector: PyTree) -> PyTree:
    """`H v`."""
    _, (image, _), _ = self._directional(weights, alpha, sample, vector)
    self._count(sample, "hessian_products")
    self._see_curvature(vector, image)
    return image

  def cross_product(self, weights: PyTree, alpha: PyTree, sample: Sample, vector: PyTree) -> PyTree:
    """`C v`."""
    _, (_, cross), _ = self._directional(weights, alpha, sample, vector)
    self._count(sample, "cross_products")
    return cross

  def second_products(self, weights: PyTree, alpha: PyTree, sample: Sample, vector: PyTree) -> tuple[PyTree, PyTree]:
    """`H v` and `C v`."""
    _, (image, cross), _ = self._directional(weights, alpha, sample, vector)
    self._count(sample, "hessian_products", "cross_products")
    self._see_curvature(vector, image)
    return image, cross

  def outer_second_products(
    self, weights: PyTree, alpha: PyTree, sample: Sample, vector: PyTree
  ) -> tuple[PyTree, PyTree]:
    """`∂²_ww f v` and `∂²_aw f v`, counted with the products of g."""
    gradients = lambda weights: jax.grad(self.outer_loss, argnums=(0, 1))(weights, alpha, sample)
    self._count(sample, "hessian_products", "cross_products")
    return jax.jvp(gradients, (weights,), (vector,))[1]

  def hessian_operator(self, weights: PyTree, alpha: PyTree, sample: Sample) -> Callable[[PyTree], PyTree]:
    """The function `v -> H v`, which is not counted: `count_solution` tells how often it was called."""
    gradient = lambda weights: jax.grad(lambda weights: self._inner_value(weights, alpha, sample)[0])(weights)
    return jax.linearize(gradient, weights)[1]

  def count_solution(self, sample: Sample, solved: Solved, products: int = 0) -> None:
    """Counts the products of a linear solver, its iterations and `products` more, and keeps what it has found out."""
    counts = self.record.counts
    products = counts.hessian_products + sample.size * (solved.iterations + products)
    self.record = self.record._replace(counts=counts._replace(hessian_products=products))
    self._see(solved.curvature, solved.noise)

  # Loops and branches.

  def loop(self, length: int | jax.Array, body: Callable[[jax.Array, Any], Any], carry: Any) -> Any:
    """`carry = body(index, carry)`, `length` times."""

    def iterate(index, both):
      self.record, carry = both
      carry = body(index, carry)
      return self.record, carry

    self.record, carry = lax.fori_loop(0, length, iterate, (self.record, carry))
    return carry

  def while_loop(self, condition: Callable[[Any], jax.Array], body: Callable[[Any], Any], carry: Any) -> Any:
    """`carry = body(carry)` while the condition of the carry is true."""

    def iterate(both):
      self.record, carry = both
      carry = body(carry)
      return self.record, carry

    self.record, carry = lax.while_loop(lambda both: condition(both[1]), iterate, (self.record, carry))
    return carry

  def scan(self, body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, inputs: Any, *, reverse: bool = False):
    """`carry, output = body(carry, input)` for every input; returns the last carry and all outputs."""

    def iterate(both, element):
      self.record, carry = both
      carry, output = body(carry, element)
      return (self.record, carry), output

    (self.record, carry), outputs = lax.scan(iterate, (self.record, carry), inputs, reverse=reverse)
    return carry, outputs

  def cond(self, condition: jax.Array, if_true: Callable[[], Any], if_false: Callable[[], Any]) -> Any:
    """The result of one of the two functions."""

    def branch(function):
      def run(record):
        self.record = record
        result = function()
        return self.record, result

      return run

    self.record, result = lax.cond(condition, branch(if_true), branch(if_false), self.record)
    return result

  def metrics(self, weights: PyTree, alpha: PyTree, train: Sample, validation: Sample) -> dict[str, jax.Array]:
    """The metrics that the losses return, as `train_NAME` and `validation_NAME`."""
    weights, alpha = self.merge_weights(weights), self.merge_alpha(alpha)
    sides = zip(("train", "validation"), self.losses, (train, validation), strict=True)
    return {
      f"{side}_{name}": value
      for side, loss, sample in sides
      for name, value in loss.metrics(weights, alpha, self.inputs(sample.batch, sample.key)).items()
    }

  def inputs(self, batch: PyTree, key: jax.Array, collection: PyTree = None) -> PyTree:
    """What the losses receive as their batch: the batch, and the key and the collection if they take them. None: the
    collection of the record."""
    extras = {"key": key, COLLECTION: self.record.collection if collection is None else collection}
    taken = self.losses.inner_loss.extras
    return (batch, *(extras[name] for name in taken)) if taken else batch

  def _inner_value(self, weights, alpha, sample):
    inputs = self.inputs(sample.batch, sample.key)
    value, collection = self.losses.inner_loss.with_collection(
      self.merge_weights(weights), self.merge_alpha(alpha), inputs
    )
    return require_scalar("inner_loss", value), lax.stop_gradient(collection)

  def _directional(self, weights, alpha, sample, vector):
    def gradients(weights):
      return jax.grad(self._inner_value, argnums=(0, 1), has_aux=True)(weights, alpha, sample)

    return jax.jvp(gradients, (weights,), (vector,), has_aux=True)

  def _count(self, sample, *names):
    counts = self.record.counts
    counts = counts._replace(**{name: getattr(counts, name) + sample.size for name in names})
    self.record = self.record._replace(counts=counts)

  def _see_curvature(self, vector, image):
    length = optax.tree.norm(vector)
    length = jnp.where(length > 0, length, jnp.ones_like(length))
    curvature = jnp.where(optax.tree.norm(vector) > 0, optax.tree.vdot(vector, image) / length**2, jnp.inf)
    epsilon = max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(vector))
    self._see(curvature, epsilon**0.5 * optax.tree.norm(image) / length)

  def _see(self, curvature, noise):
    record = self.record
    self.record = record._replace(
      curvature=jnp.minimum(record.curvature, curvature.astype(record.curvature.dtype)),
      noise=jnp.maximum(record.noise, noise.astype(record.noise.dtype)),
    )
