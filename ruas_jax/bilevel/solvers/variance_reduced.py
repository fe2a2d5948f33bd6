"""Single-loop methods whose directions have less and less variance.

They assume what `single_loop` assumes, and that the losses of every minibatch are smooth. saba and srba need a finite
number of examples. With constant step sizes they converge to the solution itself, as far as the outer loss at the inner
minimum is strongly convex in alpha (or satisfies the Polyak-Łojasiewicz condition). sustain and mrbo need falling ones.

Diagnostics: those of `single_loop`; `last_term` for sustain and mrbo.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from ruas_jax.bilevel.problem import ProblemError, PyTree
from ruas_jax.bilevel.solvers.linear import Truncation, draw_series, neumann_hypergradient, require_truncation
from ruas_jax.bilevel.solvers.rates import Rate, descend, rate_at, require_counts, require_positive
from ruas_jax.bilevel.solvers.single_loop import Directions, present_directions, recursive_momentum, report
from ruas_jax.bilevel.solvers.solver import Method, Move


class Table(NamedTuple):
  """The last value of each block, `[blocks, ...]`, and their mean."""

  values: PyTree
  mean: PyTree

  @property
  def length(self) -> int:
    return jax.tree.leaves(self.values)[0].shape[0]

  def check(self, name: str, blocks: int) -> None:
    """Raises ProblemError if the data now have another number of blocks than in `init`."""
    if blocks != self.length:
      raise ProblemError(f"{name} has {blocks} blocks, but the state was made for {self.length}: call `init` anew")

  def corrected(self, now: PyTree, block: jax.Array) -> tuple[PyTree, "Table"]:
    """`now − old + mean` for the block's new value `now`, and the table with it."""
    old = jax.tree.map(lambda values: values[block], self.values)
    change = optax.tree.sub(now, old)
    values = jax.tree.map(lambda values, new: values.at[block].set(new), self.values, now)
    return optax.tree.add(change, self.mean), Table(values, descend(self.mean, -1 / self.length, change))


def saba(*, inner: Rate, linear: Rate | None = None) -> Method:
  """SABA (Dagréou, Ablin, Vaiter, Moreau 2022): SOBA, each of whose five terms has a table of its last values by block.

      term = new − table[block] + mean of the table,   for ∂_w g, H v, C v, ∂_w f and ∂_a f

  The tables take as much memory as `3 · blocks` weights and `2 · blocks` alphas. `init` fills them in a pass over all
  examples.

  Args:
    inner: ρ.
    linear: ρ_v; None: ρ.
  """
  linear = inner if linear is None else linear
  require_positive("saba", inner=inner, linear=linear)

  def init(oracle, point, draws):
    v, key = optax.tree.zeros_like(point.weights), draws.key()

    def fill(examples, compute):
      indices = jnp.arange(draws.sampler.blocks(examples))
      sample = lambda index: draws.sampler.block(examples, index, jax.random.fold_in(key, index))
      _, values = oracle.scan(lambda carry, index: (carry, compute(sample(index))), 0, indices)
      return Table(values, jax.tree.map(lambda leaf: leaf.mean(axis=0), values))

    train = lambda sample: oracle.products(point.weights, point.alpha, sample, v, advance=False)
    validation = lambda sample: oracle.outer_gradients(point.weights, point.alpha, sample)[1:]
    return v, fill(draws.data.train, train), fill(draws.data.validation, validation)

  def step(oracle, point, draws):
    v, train_table, validation_table = point.memory
    train_table.check("train", draws.sampler.blocks(draws.data.train))
    validation_table.check("validation", draws.sampler.blocks(draws.data.validation))
    train, validation = draws.train(), draws.validation()
    now = oracle.products(point.weights, point.alpha, train, v)
    value, *outer_now = oracle.outer_gradients(point.weights, point.alpha, validation)
    (gradient, image, cross), train_table = train_table.corrected(now, train.block)
    (to_weights, direct), validation_table = validation_table.corrected(tuple(outer_now), validation.block)
    directions = Directions(gradient, optax.tree.add(image, to_weights), optax.tree.add(cross, direct))
    return Move(
      descend(point.weights, rate_at(inner, point.step), directions.weights),
      directions.alpha,
      (descend(v, rate_at(linear, point.step), directions.linear), train_table, validation_table),
      report(directions, value, to_weights),
    )

  return Method(init, step, blocks=True)


def srba(*, inner: Rate, linear: Rate | None = None, period: int) -> Method:
  """SRBA (Dagréou, Moreau, Vaiter, Ablin 2024): SARAH's recursion for the three directions of SOBA.

      Δ = D_all(w, v, a) in every `period`-th step, else Δ ← D_i(w, v, a) − D_i(w_before, v_before, a_before) + Δ

  Args:
    inner: ρ, also for v if `linear` is None.
    linear: ρ_v; None: ρ.
    period: number of steps between two passes over all examples.
  """
  linear = inner if linear is None else linear
  require_positive("srba", inner=inner, linear=linear)
  require_counts("srba", period=period)

  def init(oracle, point, draws):
    del oracle, draws
    v = optax.tree.zeros_like(point.weights)
    return v, (point.weights, point.alpha, v), Directions(v, v, optax.tree.zeros_like(point.alpha))

  def step(oracle, point, draws):
    v, before, directions = point.memory
    present = (point.weights, point.alpha, v)

    def directions_at(place, train, validation, advance=True):
      weights, alpha, v = place
      return present_directions(oracle, weights, alpha, v, train, validation, advance=advance)

    def anew():
      return directions_at(present, *draws.whole())

    def recursion():
      train, validation = draws.train(), draws.validation()
      now, outer = directions_at(present, train, validation)
      past, _ = directions_at(before, train, validation, advance=False)
      return optax.tree.add(optax.tree.sub(now, past), directions), outer

    directions, outer = oracle.cond(point.step % period == 0, anew, recursion)
    return Move(
      descend(point.weights, rate_at(inner, point.step), directions.weights),
      directions.alpha,
      (descend(v, rate_at(linear, point.step), directions.linear), present, directions),
      report(directions, *outer),
    )

  return Method(init, step, blocks=True)


def sustain(
  *,
  inner: Rate,
  linear: Rate,
  terms: int,
  inner_momentum: Rate,
  outer_momentum: Rate,
  truncation: Truncation = "random",
) -> Method:
  """SUSTAIN (Khanduri, Zeng, Hong, Wai, Wang, Yang 2021): recursive momentum for the weights and for alpha.

      d_w = ∂_w g(now) + (1 − η_w)(d_w − ∂_w g(before)),   w ← w − ρ d_w
      d_a = D(now) + (1 − η_a)(d_a − D(before)),           a ← a − γ d_a

  "before" is the previous point on the same samples. D has a Neumann series of random length, as in TTSA. The paper's
  steps fall as `k^(−1/3)` and the momenta as `k^(−2/3)`.

  Args:
    inner: ρ.
    linear: η, the scale of the Neumann series, at most 1 / L.
    terms: number of terms of the series; it has 0 to `terms − 1` factors.
    inner_momentum, outer_momentum: η_w and η_a. The first step takes 1.
    truncation: random, as in the paper; or full: its mean, the sum of all terms.
  """
  require_counts("sustain", terms=terms)
  return _recursive("sustain", inner, linear, terms - 1, inner_momentum, outer_momentum, truncation)


def mrbo(*, inner: Rate, linear: Rate, terms: int, inner_momentum: Rate, outer_momentum: Rate) -> Method:
  """MRBO (Yang, Ji, Liang 2021): the update of `sustain` with the whole Neumann series of stocBiO.

  Args:
    inner: ρ.
    linear: η, the scale of the Neumann series, at most 1 / L.
    terms: number of factors of the longest product.
    inner_momentum, outer_momentum: η_w and η_a. The first step takes 1.
  """
  require_counts("mrbo", terms=terms)
  return _recursive("mrbo", inner, linear, terms, inner_momentum, outer_momentum, "full")


def _recursive(
  name: str,
  inner: Rate,
  linear: Rate,
  factors: int,
  inner_momentum: Rate,
  outer_momentum: Rate,
  truncation: Truncation,
) -> Method:
  require_positive(name, inner=inner, linear=linear, inner_momentum=inner_momentum, outer_momentum=outer_momentum)
  require_truncation(name, truncation)

  def init(oracle, point, draws):
    del oracle, draws
    zeros = optax.tree.zeros_like((point.weights, point.alpha))
    return (point.weights, point.alpha), zeros

  def step(oracle, point, draws):
    before, (of_weights, of_alpha) = point.memory
    present, scale = (point.weights, point.alpha), rate_at(linear, point.step)
    train, series = draws.train(), draw_series(draws, factors, truncation)

    def directions(weights, alpha, advance):
      gradient = oracle.inner_gradient(weights, alpha, train, advance=advance)
      return gradient, neumann_hypergradient(oracle, weights, alpha, series, scale, factors, truncation)

    gradient, now = directions(*present, advance=True)
    gradient_before, past = directions(*before, advance=False)
    of_weights = recursive_momentum(gradient, of_weights, gradient_before, inner_momentum, point.step)
    of_alpha = recursive_momentum(now.gradient, of_alpha, past.gradient, outer_momentum, point.step)
    found = {"outer_loss": now.outer_loss, "inner_gradient_norm": optax.tree.norm(gradient), **now.diagnostics}
    weights = descend(point.weights, rate_at(inner, point.step), of_weights)
    return Move(weights, of_alpha, (present, (of_weights, of_alpha)), found)

  return Method(init, step)
