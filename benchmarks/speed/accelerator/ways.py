"""The ways in which the network runs: layouts and precisions, the most important ones first."""

from collections.abc import Sequence

from ruas_jax.config import Config

LAYOUTS = ("pixels", "blocks")
PRECISIONS = ("exact", "fast", "high")
Way = dict[str, str]
"""Options of the network: `layout` and `precision`."""


def ways(precisions: Sequence[str] = PRECISIONS) -> list[Way]:
  """These precisions, each in all layouts."""
  return [{"layout": layout, "precision": precision} for precision in precisions for layout in LAYOUTS]


def in_way(config: Config, way: Way) -> Config:
  return config.with_overrides({f"network.{name}": value for name, value in way.items()})
