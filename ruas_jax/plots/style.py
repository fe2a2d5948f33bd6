"""Titles of the cells, and names and colours of the operations: the same in all pictures."""

from ruas_jax.lowlight.genotype import SHORT_NAMES

TITLES = {"illumination": "IEM (illumination)", "denoising": "NRM (noise removal)"}
RED = "#d62728"
GREY = "#5f6b76"
LIGHT = {"conv_1x1": "#9ecae9", "conv_3x3": "#a5d8ae", "dilated_conv_3x3": "#dfb0d8"}  # forms without a residual


def color_of(operation: str) -> str:
  """One hue per kernel: 1x1, 3x3, dilated. skip and custom operations are grey."""
  if operation not in SHORT_NAMES or operation == "skip":
    return GREY
  if "dilated" in operation:
    return "#a2418f"
  return "#1f77b4" if operation.endswith("1x1") else "#2a8a4a"


def shade_of(operation: str) -> str:
  """`color_of`; operations without a residual are lighter than those with one."""
  return LIGHT.get(operation, color_of(operation))


def words(name: str) -> str:
  """The name of an operation or edge as it is printed: `conv_3x3` is "conv 3×3"."""
  return name.replace("_", " ").replace("1x1", "1×1").replace("3x3", "3×3")
