"""The interface of an observer of the loop."""

from collections.abc import Sequence
from typing import Any, Protocol


class Observer(Protocol):
  """Measures a run, or every member of a population, at regular steps, and may end it.

  Attributes:
    every: steps between two measurements.
  """

  every: int

  @property
  def stopped(self) -> list[bool]:
    """For each member, whether the observer has ended it. A single run is one member."""
    ...

  def __call__(self, state: Any, batches: tuple, going: Sequence[bool]) -> list[dict[str, Any]]:
    """More metrics for the log of this step, for each member.

    Args:
      state: state after the step; for a population, every leaf has a leading axis of members.
      batches: the batches of the step, the same.
      going: which members took the step. The others get no metrics.
    """
    ...

  def about(self) -> dict[str, Any]:
    """The observer's state as a JSON object."""
    ...

  def restore(self, about: dict[str, Any], state: Any) -> None:
    """Restores the state that `about` holds; `state` has the shapes of the run's state."""
