"""Forward passes of the published architecture, with and without noise removal, in both layouts."""

from benchmarks.speed.accelerator.part import Part
from benchmarks.speed.accelerator.ways import ways
from benchmarks.speed.inference import DTYPES, FORWARD, forward_rows

_SIZES = {"4K": (2160, 3840), "600x400": FORWARD}  # height, width
_VARIANTS = ("i+n", "i")
_REPEATS = 30


def measure(part: Part) -> None:
  sizes, variants, repeats = ({"96x64": (64, 96)}, ("i",), 3) if part.quick else (_SIZES, _VARIANTS, _REPEATS)
  for name, size in sizes.items():
    for variant in variants:
      for way in ways(("fast", "exact"))[: 2 if part.quick else None]:
        dtypes = DTYPES if way["precision"] == "fast" else DTYPES[:1]  # bfloat16 is never exact
        part.measure(
          {"image": name, **way},
          lambda: forward_rows(repeats, size=size, variants=(variant,), dtypes=dtypes, network=way),
        )
