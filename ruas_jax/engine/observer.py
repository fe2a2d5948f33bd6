"""The interface of an observer of the loop."""

from typing import Any, Protocol


class Observer(Protocol):
  """Measures a run at regular steps, and may end it.

  Attributes:
    every: steps between two measurements.
    stopped: whether it has ended the run.
  """

  every: int
  stopped: bool

  def __call__(self, state: Any, batches: tuple) -> tuple[dict[str, Any], bool]:
    """More metrics for the log of this step, and whether to end the run. `batches` are those of the step."""
    ...

  def about(self) -> dict[str, Any]:
    """The observer's state as a JSON object."""
    ...

  def restore(self, about: dict[str, Any], state: Any) -> None:
    """Restores the state that `about` holds; `state` has the shapes of the run's state."""
