"""The metrics of a step, and their names in the log."""

from typing import Any, NamedTuple

import jax


class StepMetrics(NamedTuple):
  """The metrics of one part of a step: a player of a search, or a module in training.

  In the log, the loss `train` of the part `cell` is `cell_train_loss`; its scalar `residual` is `cell_residual`.

  Attributes:
    losses: `[]` by name. A loss that is not finite, or larger than the run's limit, stops the run.
    scalars: `[]` by name; arrays are logged too, as lists.
    active: bool `[]`, whether the part took part in this step; if not, its values are not logged.
  """

  losses: dict[str, jax.Array]
  scalars: dict[str, jax.Array] = {}  # noqa: RUF012  never changed
  active: jax.Array | bool = True


Metrics = dict[str, StepMetrics]
"""The metrics of a whole step: its parts by name."""


def losses_of(metrics: Metrics) -> list[jax.Array]:
  """All losses of a step."""
  return [loss for part in metrics.values() for loss in part.losses.values()]


def columns_of(part: str, metrics: StepMetrics) -> dict[str, Any]:
  """The values of a part, by their names in the log."""
  losses = {f"{part}_{name}_loss": value for name, value in metrics.losses.items()}
  return losses | {f"{part}_{name}": value for name, value in metrics.scalars.items()}
