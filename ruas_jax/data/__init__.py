"""Data: sources of images, the built-in set, LOL, batches in a seeded order, crops on the device."""

from ruas_jax.data.crops import random_crops
from ruas_jax.data.feed import Reading, open_feed
from ruas_jax.data.pipeline import ImageOrder, check_crop, check_images, make_batches
from ruas_jax.data.sources import (
  IMAGE_SUFFIXES,
  ImageArrays,
  ImageFolder,
  ImageSource,
  PairFolders,
  Pairs,
  Subset,
  list_images,
  open_pairs,
  open_source,
  read_image,
  split_fivek,
  split_in_half,
  split_pairs,
)
from ruas_jax.data.synthetic import Darkened, builtin_pairs, darken

__all__ = [
  "IMAGE_SUFFIXES",
  "Darkened",
  "ImageArrays",
  "ImageFolder",
  "ImageOrder",
  "ImageSource",
  "PairFolders",
  "Pairs",
  "Reading",
  "Subset",
  "builtin_pairs",
  "check_crop",
  "check_images",
  "darken",
  "list_images",
  "make_batches",
  "open_feed",
  "open_pairs",
  "open_source",
  "random_crops",
  "read_image",
  "split_fivek",
  "split_in_half",
  "split_pairs",
]
