"""The data of a search: training and validation elements, and what a step reads of them."""

from typing import Any

import jax

from ruas_jax.engine.feed import Reading
from ruas_jax.engine.sources import Source, as_source, in_words, spec_of, split_in_half
from ruas_jax.errors import UserError
from ruas_jax.nas.options import SearchOptions
from ruas_jax.nas.problem import SearchProblem, as_it_is
from ruas_jax.nas.step import batches_per_step


def open_data(train: Any, validation: Any | None, *, seed: int) -> tuple[Source, Source]:
  """Both as sources; without validation data, seeded halves of the training data.

  Raises:
    UserError: one of them is empty or no data, or there is too little to split.
  """
  train = as_source("train", train)
  if validation is None:
    return split_in_half(train, seed=seed)
  return train, as_source("validation", validation)


def check_data(problem: SearchProblem, train: Source, validation: Source, *, batch_size: int, repeat: bool) -> None:
  """Raises UserError where the two differ in structure, or a batch is larger than the data and may not `repeat`."""
  one, other = spec_of(train), spec_of(validation)
  if jax.tree.structure(one) != jax.tree.structure(other):
    raise UserError(
      f"train and validation have different structures: {jax.tree.structure(one)} and {jax.tree.structure(other)}"
    )
  for (path, leaf), against in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
    alike = leaf.dtype == against.dtype and len(leaf.shape) == len(against.shape)
    if not alike or (problem.sample is as_it_is and leaf.shape != against.shape):
      where = jax.tree_util.keystr(path)
      raise UserError(f"train{where} is {in_words(leaf)} and validation{where} is {in_words(against)}: make them alike")
  if not repeat:
    for name, source in (("train", train), ("validation", validation)):
      if batch_size > len(source):
        raise UserError(f"batch_size {batch_size} is larger than the {name} data, which have {len(source)} elements")


def readings_of(
  problem: SearchProblem, options: SearchOptions, train: Source, validation: Source, *, batch_size: int, seed: int
) -> tuple[Reading, Reading]:
  """What a step reads: its training and its validation batches, `[N, B]` elements each."""
  numbers = batches_per_step(problem, options)
  of_train, of_validation = (
    Reading(source, (number, batch_size), seed=2 * seed + position)
    for position, (source, number) in enumerate(zip((train, validation), numbers, strict=True))
  )
  return of_train, of_validation
