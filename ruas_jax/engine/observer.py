"""What the loop asks of somebody who watches a run."""

from typing import Any, Protocol


class Observer(Protocol):
  """Measures a run every so many steps, and may end it.

  Attributes:
    every: steps between two measurements.
    stopped: whether it has ended the run.
  """

  every: int
  stopped: bool

  def __call__(self, state: Any, batches: tuple) -> tuple[dict[str, Any], bool]:
    """More metrics for the log of this step, and whether to end the run; `batches` are those of the step."""
    ...

  def about(self) -> dict[str, Any]:
    """All that it remembers, as a JSON object."""
    ...

  def restore(self, about: dict[str, Any], state: Any) -> None:
    """Remembers what `about` says; `state` has the shapes of the run's state."""
