"""From architecture logits to mixing weights: the continuous relaxation of a discrete choice.

With logits `a` of one choice, temperature T, Gumbel noise g and one_hot(i) for the choice of operation i:

    softmax     softmax(a / T)                                                          DARTS, Liu et al. 2019
    gumbel      softmax((a + g) / T)                                                    SNAS, Xie et al. 2019
                one_hot(argmax(a + g)) with that gradient, if it is straight-through    GDAS, Dong and Yang 2019
    dirichlet   a draw from Dirichlet(elu(a) + 1), with its pathwise gradient           DrNAS, Chen et al. 2021
    sigmoid     sigmoid(a / T); the mixing weights of a choice do not sum to one        FairDARTS, Chu et al. 2020
    sparse      the point of the simplex that is nearest to a / T (sparsemax)           Martins and Astudillo 2016
    reinmax     one_hot of a draw from softmax(a), with a gradient that is exact to
                second order                                                            Liu et al. 2023
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ruas_jax.bilevel import split_inexact
from ruas_jax.bilevel.losses import takes
from ruas_jax.nas.gamma import gamma

Number = float | jax.Array

_SHARES, _PERTURBATION, _ATTACKS = 1, 2, 7  # what a key is folded with; steps of the adversarial perturbation


def softmax(alpha: Any) -> Any:
  """Mixing weights of architecture logits: the softmax along the last axis of every floating leaf (DARTS, Liu et al.
  2019). The structure and the shapes are those of `alpha`."""
  logits, merge = split_inexact(alpha)
  return merge(jax.tree.map(lambda leaf: jax.nn.softmax(leaf, axis=-1), logits))


def sparsemax(logits: jax.Array) -> jax.Array:
  """The Euclidean projection on the simplex, along the last axis (Martins and Astudillo 2016)."""
  falling = jnp.flip(jnp.sort(logits, axis=-1), axis=-1)
  positions = 1 + lax.broadcasted_iota(logits.dtype, falling.shape, falling.ndim - 1)
  inside = 1 + positions * falling > jnp.cumsum(falling, axis=-1)  # the largest ones, which keep a weight
  count = jnp.sum(inside, axis=-1, keepdims=True, dtype=logits.dtype)
  threshold = (jnp.sum(jnp.where(inside, falling, 0), axis=-1, keepdims=True) - 1) / count
  return jnp.maximum(logits - threshold, 0)


def _scaled(logits: jax.Array, temperature: Number) -> jax.Array:
  """A temperature that is always one leaves the program as it is without any."""
  return logits if isinstance(temperature, int | float) and temperature == 1 else logits / temperature


def _one_hot_like(soft: jax.Array, index: jax.Array) -> jax.Array:
  return jax.nn.one_hot(index, soft.shape[-1], dtype=soft.dtype)


def _with_gradient_of(soft: jax.Array, hard: jax.Array) -> jax.Array:
  return hard + (soft - lax.stop_gradient(soft))


def _gumbel(logits: jax.Array, temperature: Number, key: jax.Array) -> jax.Array:
  return jax.nn.softmax(_scaled(logits + jax.random.gumbel(key, logits.shape, logits.dtype), temperature), axis=-1)


def _straight_through(logits: jax.Array, temperature: Number, key: jax.Array) -> jax.Array:
  soft = _gumbel(logits, temperature, key)
  return _with_gradient_of(soft, _one_hot_like(soft, soft.argmax(-1)))


def concentration(logits: jax.Array) -> jax.Array:
  """DrNAS's concentration of the Dirichlet distribution, `elu(logits) + 1`."""
  return jax.nn.elu(logits) + 1


def _dirichlet(logits: jax.Array, temperature: Number, key: jax.Array) -> jax.Array:
  """Gamma variables divided by their sum. One of parameter c is `x u^(1/c)` with x from Gamma(c + 1) and a uniform u;
  its logarithm is always finite."""
  del temperature
  parameters = concentration(logits)
  gamma_key, uniform_key = jax.random.split(key)
  x = gamma(parameters + 1, gamma_key)
  u = jax.random.uniform(uniform_key, logits.shape, logits.dtype, jnp.finfo(logits.dtype).tiny, 1)
  return jax.nn.softmax(jnp.log(x) + jnp.log(u) / parameters, axis=-1)


def _dirichlet_mean(logits: jax.Array, temperature: Number) -> jax.Array:
  del temperature
  parameters = concentration(logits)
  return parameters / parameters.sum(axis=-1, keepdims=True)


def _reinmax(logits: jax.Array, temperature: Number, key: jax.Array) -> jax.Array:
  """Heun's rule: the gradient is that of `2 softmax(b) - softmax(a) / 2`, where softmax(b) is halfway between the draw
  and the softmax at the temperature (Liu et al. 2023, algorithm 2)."""
  plain = jax.nn.softmax(logits, axis=-1)
  drawn = _one_hot_like(plain, jax.random.categorical(key, lax.stop_gradient(logits), axis=-1))
  halfway = (drawn + jax.nn.softmax(_scaled(logits, temperature), axis=-1)) / 2
  halfway = jax.nn.softmax(logits + lax.stop_gradient(jnp.log(halfway) - logits), axis=-1)
  return _with_gradient_of(2 * halfway - plain / 2, drawn)


def _softmax(logits: jax.Array, temperature: Number, key: jax.Array | None = None) -> jax.Array:
  del key
  return jax.nn.softmax(_scaled(logits, temperature), axis=-1)


def _sigmoid(logits: jax.Array, temperature: Number, key: jax.Array | None = None) -> jax.Array:
  del key
  return jax.nn.sigmoid(_scaled(logits, temperature))


def _sparse(logits: jax.Array, temperature: Number, key: jax.Array | None = None) -> jax.Array:
  del key
  return sparsemax(_scaled(logits, temperature))


def _probabilities(logits: jax.Array, temperature: Number) -> jax.Array:
  """How often each operation is drawn; the temperature does not change it."""
  del temperature
  return jax.nn.softmax(logits, axis=-1)


class Kind(NamedTuple):
  """A relaxation of one leaf of logits.

  Attributes:
    draw: `(logits [..., O], temperature, key) -> mixing weights [..., O]`.
    mean: `(logits, temperature) -> mixing weights` without randomness: their expectation, or the draws' frequencies.
    random: whether `draw` uses its key.
  """

  draw: Callable[..., jax.Array]
  mean: Callable[..., jax.Array]
  random: bool


KINDS = {
  "softmax": Kind(_softmax, _softmax, False),
  "gumbel": Kind(_gumbel, _probabilities, True),
  "straight_through": Kind(_straight_through, _probabilities, True),
  "dirichlet": Kind(_dirichlet, _dirichlet_mean, True),
  "sigmoid": Kind(_sigmoid, _sigmoid, False),
  "sparse": Kind(_sparse, _sparse, False),
  "reinmax": Kind(_reinmax, _probabilities, True),
}


class PartialChannels(NamedTuple):
  """One of `parts` channels is mixed, the others have only the operation `skip` (PC-DARTS, Xu et al. 2020).

  Attributes:
    parts: K.
    channels: number of channels of every leaf of alpha, by its path.
    skip: column of the operation that passes its input on.
  """

  parts: int
  channels: Mapping[str, int]
  skip: int


@dataclasses.dataclass(frozen=True)
class Relaxation:
  """The relaxation of a search in one step.

  Attributes:
    kind: the relaxation of a leaf.
    temperature: temperature in this step.
    partial: None: all channels are mixed.
    perturbation: none, random or adversarial: change of the mixing weights in the inner losses (SmoothDARTS, Chen and
      Hsieh 2020).
    size: largest change of a mixing weight by the perturbation.
  """

  kind: Kind = KINDS["softmax"]
  temperature: Number = 1.0
  partial: PartialChannels | None = None
  perturbation: str = "none"
  size: Number = 0.0

  @property
  def random(self) -> bool:
    """Whether mixing weights are drawn."""
    return self.kind.random or self.partial is not None

  def __call__(self, alpha: Any, key: jax.Array | None = None) -> Any:
    """The mixing weights of alpha, in its structure; with partial channels, leaves `[..., O]` become `[..., O, C]`.
    Every leaf has a separate draw, from the key and its path."""

    def of_leaf(path, logits):
      where = jax.tree_util.keystr(path)
      own: Any = None if key is None else jax.random.fold_in(key, zlib.crc32(where.encode()))
      shares = self.kind.draw(logits, self.temperature, own)
      return shares if self.partial is None else _some_channels(self.partial, where, shares, own)

    logits, merge = split_inexact(alpha)
    return merge(jax.tree.map_with_path(of_leaf, logits))

  def mean(self, alpha: Any) -> Any:
    """The mixing weights without randomness, in alpha's structure and shapes."""
    logits, merge = split_inexact(alpha)
    return merge(jax.tree.map(lambda leaf: self.kind.mean(leaf, self.temperature), logits))

  @property
  def without_draws(self) -> "Relaxation":
    """The relaxation whose mixing weights are the means, for measurements."""
    mean = self.kind.mean
    return Relaxation(Kind(lambda logits, temperature, key: mean(logits, temperature), mean, False), self.temperature)

  def of_inner(self, loss: Callable) -> Callable:
    """An inner loss of mixing weights as one of alpha."""
    if self.perturbation == "none":
      return self.of_outer(loss)

    def perturbed(weights, shares, batch, key):
      of_loss = {"key": key} if takes(loss, "key") else {}
      floating, merge = split_inexact(weights)
      fixed = merge(lax.stop_gradient(floating))
      value = lambda shares: _scalar(loss(fixed, shares, batch, **of_loss))
      return loss(weights, self._perturbed(value, shares, key), batch, **of_loss)

    return self.of_outer(perturbed)

  def of_outer(self, loss: Callable) -> Callable:
    """An outer loss of mixing weights as one of alpha. If mixing weights are drawn, it has a parameter `key`."""
    keyed = takes(loss, "key")
    if not self.random:

      @functools.wraps(loss)
      def relaxed(weights: Any, alpha: Any, batch: Any, **key: jax.Array) -> Any:
        return loss(weights, self(alpha), batch, **key)

      return relaxed

    def drawn(weights: Any, alpha: Any, batch: Any, key: jax.Array) -> Any:
      shares = self(alpha, jax.random.fold_in(key, _SHARES))
      return loss(weights, shares, batch, **({"key": key} if keyed else {}))

    return drawn

  def _perturbed(self, value: Callable, shares: Any, key: jax.Array) -> Any:
    """The mixing weights, changed by at most `size` each."""
    floating, merge = split_inexact(shares)

    def within(tree):
      return jax.tree.map(lambda leaf: jnp.clip(leaf, -self.size, self.size).astype(leaf.dtype), tree)

    if self.perturbation == "random":
      leaves, structure = jax.tree.flatten(floating)
      keys = jax.random.split(jax.random.fold_in(key, _PERTURBATION), len(leaves))
      change = structure.unflatten(
        self.size * jax.random.uniform(key, leaf.shape, leaf.dtype, -1, 1)
        for key, leaf in zip(keys, leaves, strict=True)
      )
    else:  # projected gradient ascent, from no change
      fixed = lax.stop_gradient(floating)
      slope = jax.grad(lambda change: value(merge(jax.tree.map(jnp.add, fixed, change))))

      def ascend(_, change):
        rate = 2 * self.size / _ATTACKS
        return within(jax.tree.map(lambda at, up: (at + rate * jnp.sign(up)).astype(at.dtype), change, slope(change)))

      change = lax.stop_gradient(lax.fori_loop(0, _ATTACKS, ascend, jax.tree.map(jnp.zeros_like, fixed)))
    return merge(jax.tree.map(jnp.add, floating, within(change)))


def _scalar(value: Any) -> jax.Array:
  return value[0] if isinstance(value, tuple) else value


def _some_channels(partial: PartialChannels, path: str, shares: jax.Array, key: jax.Array) -> jax.Array:
  """The mixing weights of every channel, `[..., O, C]`: `shares` for every K-th channel, from a random one on, and one
  for skip else. With fewer than K channels, it is one of them."""
  channels = partial.channels[path]
  every = min(partial.parts, channels)
  first = jax.random.randint(jax.random.fold_in(key, 1), (*shares.shape[:-1], 1, 1), 0, every)
  mixed = lax.broadcasted_iota(jnp.int32, (*shares.shape[:-1], 1, channels), shares.ndim) % every == first
  skip = (jnp.arange(shares.shape[-1]) == partial.skip).astype(shares.dtype)[:, None]
  return jnp.where(mixed, shares[..., None], jnp.broadcast_to(skip, (*shares.shape, channels)))
