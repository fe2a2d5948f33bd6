"""Four dark photographs to try `ruas enhance` with: photographs that scikit-image ships, darkened by a physical model.

    python examples/dark_photographs.py dark
    ruas enhance dark --contact-sheet --out photographs.jpg

astronaut (NASA) and rocket (SpaceX) are in the public domain, coffee (R. Michetti) and chelsea (S. van der Walt) CC0.
"""

import pathlib
import sys

import skimage.data
from PIL import Image

from ruas_jax.data.sources import ImageArrays
from ruas_jax.data.synthetic import Darkened

NAMES = ("astronaut", "chelsea", "coffee", "rocket")


def main() -> None:
  folder = pathlib.Path(sys.argv[1])
  folder.mkdir(parents=True, exist_ok=True)
  photographs = ImageArrays(NAMES, [getattr(skimage.data, name)() for name in NAMES])
  for name, dark in zip(NAMES, Darkened(photographs, seed=0), strict=True):
    Image.fromarray(dark).save(folder / f"{name}.png")


if __name__ == "__main__":
  main()
