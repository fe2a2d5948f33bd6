"""A message to the user when a search's hypergradient does not converge."""

from collections.abc import Sequence

from ruas_jax.engine.progress import say
from ruas_jax.engine.records import Record

_REMEDIES = {
  "cg": "a larger damping or more iterations",
  "neumann": "a smaller scale or a larger damping",
  "nystrom": "a larger rank or a larger damping",
}


class ConvergenceWatch:
  """Receives the new records of a search, or of each member of a population; prints one message for each player."""

  def __init__(self, hypergradient: str, members: Sequence[str] | None = None):
    """`hypergradient` is the estimator's name; `members` are the names of a population's members."""
    self._hypergradient, self._members = hypergradient, members
    self._told: set[str] = set()

  def __call__(self, records: Sequence[list[Record]]) -> None:
    for position, of_member in enumerate(records):
      for record in of_member:
        for name, converged in record.items():
          if name.endswith("_converged") and not converged:
            self._tell(name.removesuffix("_converged"), record, position)

  def _tell(self, player: str, record: Record, position: int) -> None:
    if player in self._told:
      return
    self._told.add(player)
    member = f" in {self._members[position]}" if self._members else ""
    residual = record.get(f"{player}_residual", float("nan"))
    remedy = _REMEDIES.get(self._hypergradient, "other values")
    say(
      f"search: the hypergradient of {player} did not converge at step {record['step']}{member} "
      f"({self._hypergradient}, residual {residual:.3g}), so alpha may move in a wrong direction; "
      f"set {remedy} in search.hypergradient_options. {player}_converged in metrics.jsonl shows the later steps"
    )
