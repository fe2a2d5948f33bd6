"""The conformance table, built once for all tests that read it."""

import functools

import jax
from tiny_smooth import smooth_cell

from ruas_jax.bilevel.testing.conformance import Row, conformance


@functools.cache
def reference_rows() -> list[Row]:
  """Every estimator on every problem of the testbed."""
  return conformance()


@functools.cache
def cell_rows() -> list[Row]:
  """A smooth supernet cell, on one step of plain SGD: its programs take seconds each to compile."""
  with jax.enable_x64(True):
    cell = smooth_cell()
  return conformance([cell], ["unrolled", "mixed_mode", "forward", "finite_difference"])


def about(row: Row) -> tuple:
  """What a row is of, without its figure."""
  return row.problem, row.estimator, str(row.options), row.inner, row.steps, row.against, row.measure
