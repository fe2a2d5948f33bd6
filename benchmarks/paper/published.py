"""Published results of others, quoted for comparison with our measurements. Nothing in this file was computed here.

`PAPER` is Liu, Ma, Zhang, Fan and Luo, "Retinex-Inspired Unrolling With Cooperative Prior Architecture Search for
Low-Light Image Enhancement", CVPR 2021. Its results on LOL are on 100 pairs that it sampled at random from 789 and does
not list (it trains on the other 689), so they cannot be compared with any other split. Its 100 test images of MIT-Adobe
FiveK are not listed either. It reports only PSNR and SSIM.
"""

from typing import Any

PAPER = "RUAS, CVPR 2021"
OTHER_SPLIT = "on the paper's own test images, which are not named: comparable with no figure measured here"

_METHODS = (
  *("LIME", "SDD", "MBLLEN", "GLADNet", "RetinexNet", "EnGAN", "SSIENet", "KinD", "DeepUPE", "ZeroDCE", "FIDE", "DRBN"),
  "RUAS",
)
_FIVEK = (
  (17.788, 17.617, 15.587, 16.728, 12.685, 15.014, 10.324, 17.169, 18.779, 16.463, 17.170, 15.954, 20.830),
  (0.826, 0.792, 0.713, 0.764, 0.644, 0.768, 0.620, 0.696, 0.822, 0.764, 0.696, 0.704, 0.854),
)
_LOL = (
  (14.916, 15.484, 13.931, 16.188, 13.096, 15.644, 14.176, 14.616, 13.041, 15.512, 16.718, 15.324, 18.226),
  (0.516, 0.578, 0.489, 0.605, 0.429, 0.578, 0.534, 0.636, 0.483, 0.553, 0.673, 0.699, 0.717),
)


def _by_method(methods, **columns) -> dict[str, dict[str, float]]:
  """Converts rows, as the paper prints them, to method -> {name: value}."""
  rows = zip(*columns.values(), strict=True)
  return {method: dict(zip(columns, row, strict=True)) for method, row in zip(methods, rows, strict=True)}


TABLE_1: dict[str, Any] = {
  "source": f"{PAPER}, Table 1",
  "note": OTHER_SPLIT,
  "FiveK": _by_method(_METHODS, psnr=_FIVEK[0], ssim=_FIVEK[1]),
  "LOL": _by_method(_METHODS, psnr=_LOL[0], ssim=_LOL[1]),
}
"""PSNR in dB and SSIM: data set -> method. RUAS is called "Ours" in the paper, GLADNet "GALDNet"."""

TABLE_2: dict[str, Any] = {
  "source": f"{PAPER}, Table 2",
  "note": "parameters and operations as rounded there; seconds on 600x400 pixels with a TITAN X GPU",
  "methods": _by_method(
    ("MBLLEN", "GLADNet", "RetinexNet", "EnGAN", "SSIENet", "KinD", "FIDE", "DRBN", "RUAS_i", "RUAS_i+n"),
    size_millions=(0.450, 1.128, 0.838, 8.636, 0.682, 8.540, 8.621, 0.577, 0.001, 0.003),
    flops_billions=(19.956, 252.141, 136.015, 61.010, 34.607, 29.130, 57.240, 37.790, 0.281, 0.832),
    seconds=(0.077, 0.025, 0.119, 0.010, 0.027, 0.181, 0.594, 0.053, 0.006, 0.016),
  ),
}
"""Cost by method. The paper's operations are multiply-accumulates: our count of the same network agrees within 6 %."""

_COLLECTED = "as collected from public sources in November 2026"

EVAL15: dict[str, Any] = {
  "source": _COLLECTED,
  "note": "on the 15 official test pairs of LOL, on which nothing here is chosen; their standard error is about 1 dB",
  "methods": {
    "RUAS, released weights": {
      "parameters": 3438,
      "psnr": 16.45,
      "ssim": 0.503,
      "source": "their forward pass, measured",
    },
    "SCI": {"parameters": 260, "psnr": 14.78, "ssim": 0.525, "source": f"CVPR 2022, {_COLLECTED}"},
    "Zero-DCE": {"parameters": 79_000, "psnr": 14.86, "ssim": 0.56, "source": f"CVPR 2020, {_COLLECTED}"},
    "RSFNet": {"parameters": 2_100, "psnr": 19.39, "ssim": 0.745, "source": f"CVPR 2024, {_COLLECTED}"},
    "LiteIE": {"parameters": 60, "psnr": (19.0, 19.7), "ssim": 0.61, "source": f"2025, {_COLLECTED}"},
    "Self-DACE, with denoiser": {"parameters": 654_000, "psnr": 19.69, "ssim": 0.78, "source": f"2023, {_COLLECTED}"},
    "PairLIE": {"parameters": 340_000, "psnr": (18.5, 19.7), "ssim": 0.74, "source": f"CVPR 2023, {_COLLECTED}"},
  },
}
"""Methods that learn without references (PairLIE needs pairs of low-light images). Two numbers are a range."""
