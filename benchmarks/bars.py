"""The thresholds that this project set itself, each written once, with where it comes from."""

from ruas_jax.runtime.report import Bar

BARS = {
  "search_step_compile_seconds": Bar(
    20.0, "at_most", "issue 3: compiling one search step at 320x320 takes at most 20 s on two idle cores"
  ),
  "demo_seconds": Bar(180.0, "at_most", "the demo takes at most three minutes"),
  "test_seconds": Bar(600.0, "at_most", "the tests take at most ten minutes"),
  "lol_dev_psnr_above_input": Bar(7.22, "above", "mean PSNR on LOL development pairs is above the input's 7.22 dB"),
  "lol_dev_ssim_above_input": Bar(0.166, "above", "mean SSIM on LOL development pairs is above the input's 0.166"),
}
