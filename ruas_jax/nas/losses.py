"""Errors of a player's losses."""

import contextlib
from collections.abc import Iterator

from ruas_jax.bilevel import ProblemError


@contextlib.contextmanager
def naming(player: str) -> Iterator[None]:
  """Context in which an error about a loss, weights or alpha names the player."""
  try:
    yield
  except ProblemError as error:
    raise ProblemError(f"player {player!r}: {error}") from None
