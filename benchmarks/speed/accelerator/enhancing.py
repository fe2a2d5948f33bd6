"""Forward passes of the published architecture, with and without noise removal, in float32 and bfloat16."""

from benchmarks.speed.accelerator.part import Part
from benchmarks.speed.inference import FORWARD, VARIANTS, forward_rows

_SIZES = {"600x400": FORWARD, "1080p": (1080, 1920), "4K": (2160, 3840)}  # height, width
_REPEATS = 30


def measure(part: Part) -> None:
  sizes, repeats, variants = ({"96x64": (64, 96)}, 3, VARIANTS[:1]) if part.quick else (_SIZES, _REPEATS, VARIANTS)
  for name, size in sizes.items():
    for variant in variants:
      part.measure({"image": name}, lambda: forward_rows(repeats, size=size, variants=(variant,)))
