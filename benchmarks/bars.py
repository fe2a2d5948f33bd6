"""The thresholds that this project set itself, each written once, with where it comes from."""

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Bar:
  """A threshold for one measured number.

  Attributes:
    threshold: the bar itself, in the unit that `source` gives.
    sense: whether a number must be "at_least", "at_most" or "above" the threshold; equality does not meet the last.
    source: the requirement in words.
  """

  threshold: float
  sense: Literal["at_least", "at_most", "above"]
  source: str

  def met(self, value: float) -> bool:
    """Whether this finite number meets the bar."""
    if self.sense == "at_most":
      return value <= self.threshold
    return value > self.threshold or (value == self.threshold and self.sense == "at_least")


BARS = {
  "search_step_compile_seconds": Bar(
    20.0, "at_most", "issue 3: compiling one search step at 320x320 takes at most 20 s on two idle cores"
  ),
  "demo_seconds": Bar(180.0, "at_most", "the demo takes at most three minutes"),
  "test_seconds": Bar(600.0, "at_most", "the tests take at most ten minutes"),
  "lol_dev_psnr_above_input": Bar(7.22, "above", "mean PSNR on LOL development pairs is above the input's 7.22 dB"),
  "lol_dev_ssim_above_input": Bar(0.166, "above", "mean SSIM on LOL development pairs is above the input's 0.166"),
}
