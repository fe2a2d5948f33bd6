"""The thresholds that this project set itself, each written once, with where it comes from."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Bar:
  """A threshold for one measured number.

  Attributes:
    threshold: the bar itself, in the unit that `source` gives.
    sense: whether a number meets the bar from above ("at_least") or from below ("at_most"); equality meets it.
    source: the requirement in words.
  """

  threshold: float
  sense: Literal["at_least", "at_most"]
  source: str

  def met(self, value: float) -> bool:
    """Whether this finite number meets the bar."""
    return value >= self.threshold if self.sense == "at_least" else value <= self.threshold


BARS = {
  "search_step_compile_seconds": Bar(
    20.0, "at_most", "issue 3: compiling one search step at 320x320 takes at most 20 s on two idle cores"
  ),
  "demo_seconds": Bar(180.0, "at_most", "the demo takes at most three minutes"),
  "test_seconds": Bar(600.0, "at_most", "the tests take at most ten minutes"),
  "lol_dev_psnr_above_input": Bar(7.22, "at_least", "mean PSNR on LOL development pairs is above the input's 7.22 dB"),
  "lol_dev_ssim_above_input": Bar(0.166, "at_least", "mean SSIM on LOL development pairs is above the input's 0.166"),
}
