"""Enhances a photograph with an exported model. It needs onnxruntime, NumPy and Pillow, but not ruas_jax.

    ruas export model.onnx
    python examples/onnx_enhance.py model.onnx dark.jpg bright.png

The whole image is computed at once. `docs/export.md` says how to compute a large one in windows.
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
dark = ImageOps.exif_transpose(Image.open(source)).convert("RGB")
images = np.asarray(dark, np.float32)[None] / 255  # [1, H, W, 3], sRGB in [0, 1]
(bright,) = session.run(["result"], {"image": images})
Image.fromarray((np.asarray(bright)[0] * 255).round().astype(np.uint8)).save(target)
about = session.get_modelmeta().custom_metadata_map
print(f"{target}: by {about['name']}, variant {about['variant']}, licence {about['licence']}")
