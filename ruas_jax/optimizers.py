"""Optimisers as options. optax is imported only when an optimiser is built, so that command help is fast."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
  import optax

from ruas_jax.errors import require_at_least


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
  """An optax optimiser."""

  name: Literal["sgd", "adam"] = "adam"
  """sgd: stochastic gradient descent with momentum. adam: Adam (Kingma and Ba 2015)."""
  learning_rate: float = 3e-4
  """Learning rate."""
  momentum: float = 0.9
  """Momentum of SGD, or the first decay rate of Adam."""
  second_moment: float = 0.999
  """Second decay rate of Adam."""
  weight_decay: float = 0.0
  """Weight of an L2 penalty. Its gradient is added to that of the loss before the optimiser, as in PyTorch."""
  clip: float | None = None
  """Maximum global norm of the gradient. None: no clipping."""

  def __post_init__(self):
    require_at_least(0, self, "optimizer", "learning_rate", "weight_decay")
    require_at_least(0, self, "optimizer", "momentum", "second_moment", most=0.999999)
    if self.clip is not None:
      require_at_least(1e-12, self, "optimizer", "clip")


def make_optimizer(options: OptimizerOptions, *, decay_steps: int | None = None) -> optax.GradientTransformation:
  """The optimiser. Every number in the options may be a traced value.

  With `decay_steps`, the learning rate falls to zero over that many steps, along half a cosine.

  A weight decay that is the Python number zero costs nothing. The structure of the state does not depend on it.
  """
  import optax

  rate = options.learning_rate
  if decay_steps is not None:
    rate = optax.cosine_decay_schedule(rate, decay_steps)
  parts = []
  if options.clip is not None:
    parts.append(optax.clip_by_global_norm(options.clip))
  decays = not isinstance(options.weight_decay, int | float) or options.weight_decay
  parts.append(optax.add_decayed_weights(options.weight_decay) if decays else optax.identity())
  if options.name == "sgd":
    parts.append(optax.sgd(rate, momentum=options.momentum))
  else:
    parts.append(optax.adam(rate, b1=options.momentum, b2=options.second_moment))
  return optax.chain(*parts)
