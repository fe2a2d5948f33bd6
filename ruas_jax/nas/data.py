"""The data of a search: training and validation elements, and the batches that a step reads."""

from typing import Any

import jax

from ruas_jax.engine.feed import Reading
from ruas_jax.engine.sources import Source, as_source, in_words, spec_of, split_in_half
from ruas_jax.errors import UserError
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.problem import SearchProblem, as_it_is
from ruas_jax.nas.step import batches_per_step


def open_data(train: Any, validation: Any | None, *, seed: int) -> tuple[Source, Source]:
  """Both as sources. Without validation data, these are random halves of the training data.

  Raises:
    UserError: a source is empty or not data, or there are too few elements to split.
  """
  train = as_source("train", train)
  if validation is None:
    return split_in_half(train, seed=seed)
  return train, as_source("validation", validation)


def check_data(problem: SearchProblem, train: Source, validation: Source, *, batch_size: int, repeat: bool) -> None:
  """Raises UserError where the structures differ, or where a batch is larger than the data and `repeat` is false."""
  train_spec, validation_spec = spec_of(train), spec_of(validation)
  train_tree, validation_tree = jax.tree.structure(train_spec), jax.tree.structure(validation_spec)
  if train_tree != validation_tree:
    raise UserError(
      f"train and validation have different structures, {train_tree} and {validation_tree}: make them equal"
    )
  pairs = zip(jax.tree.leaves_with_path(train_spec), jax.tree.leaves(validation_spec), strict=True)
  for (path, leaf), against in pairs:
    alike = leaf.dtype == against.dtype and len(leaf.shape) == len(against.shape)
    if not alike or (problem.sample is as_it_is and leaf.shape != against.shape):
      where = jax.tree_util.keystr(path)
      raise UserError(
        f"train{where} is {in_words(leaf)} and validation{where} is {in_words(against)}: "
        "give both the same shape and dtype"
      )
  if not repeat:
    for name, source in (("train", train), ("validation", validation)):
      if batch_size > len(source):
        raise UserError(
          f"`batch_size` {batch_size} is larger than the {name} data, which have {len(source)} elements; "
          "use a smaller `batch_size`, or set `repeat`"
        )


def readings_of(
  problem: SearchProblem, options: SearchOptions, train: Source, validation: Source, *, batch_size: int, seed: int
) -> tuple[Reading, Reading]:
  """The training and the validation batches that a step reads, `[N, B]` elements each."""
  numbers = batches_per_step(problem, options)
  of_train, of_validation = (
    Reading(source, (number, batch_size), seed=2 * seed + position)
    for position, (source, number) in enumerate(zip((train, validation), numbers, strict=True))
  )
  return of_train, of_validation


def held_out_reading(options: SearchOptions, validation: Source, *, batch_size: int, seed: int) -> Reading:
  """The validation batches that a measurement of the diagnostics reads, `[N, B]` elements."""
  return Reading(validation, (options.diagnostics.batches, batch_size), seed=2 * seed + 1)
