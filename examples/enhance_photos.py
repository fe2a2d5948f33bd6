"""Enhances photographs from Python: arrays with a jitted function, and a folder of files.

    python examples/enhance_photos.py [PHOTO] [--quick]

Without PHOTO, a photograph from scikit-image is darkened and enhanced. The result is `enhanced.png` in the current
folder, next to the input.
"""

import sys

import jax
import numpy as np
from PIL import Image
from skimage.data import astronaut

import ruas_jax

quick = "--quick" in sys.argv
paths = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
if paths:
  dark = np.asarray(Image.open(paths[0]).convert("RGB"), np.float32) / 255
else:
  dark = (np.asarray(astronaut(), np.float32) / 255) ** 2.2 * 0.15
if quick:
  dark = dark[:64, :64]

model = ruas_jax.load_pretrained("general")
enhance = jax.jit(ruas_jax.enhance)  # a pure function: jit, vmap and grad work
bright = np.asarray(enhance(model, dark))  # float [H, W, 3] in [0, 1]
print(f"mean brightness {dark.mean():.3f} -> {bright.mean():.3f}")
side_by_side = np.concatenate([dark, bright], axis=1)
Image.fromarray((side_by_side * 255).round().astype(np.uint8)).save("enhanced.png")
print("see enhanced.png")
