"""The README's Python examples run as they are printed, on a smaller configuration, and its figures are the records'.

`test_conformance` compares the number of its checks.
"""

import json
import pathlib
import re

import pytest
import test_mutations

import ruas_jax
from benchmarks.speed.accelerator.table import device_records, device_table

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def namespace():
  """What the examples share. They run in their order."""
  one_stage = {"network.illumination.stages": 1, "network.denoising.stages": 1}
  short = {"data.crop": 8, "search.steps": 2, "search.hypergradient": "first_order"}
  small = ruas_jax.load_config("tiny").with_overrides(one_stage | short)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(ruas_jax, "load_config", lambda name: small)
    yield {}


def test_there_are_three_examples():
  assert len(EXAMPLES) == 3


def test_enhancing(namespace):
  exec(EXAMPLES[0], namespace)
  assert namespace["bright"].shape == (64, 64, 3)
  assert 0.1 < float(namespace["bright"].mean()) <= 1


def test_searching_any_problem(namespace):
  exec(EXAMPLES[1], namespace)
  assert namespace["found"].derived == {"edge": [1]}
  assert "# {'edge': [1]}" in EXAMPLES[1]


def test_searching_with_another_operation_loss_and_optimiser(namespace):
  exec(EXAMPLES[2], namespace)
  found = namespace["found"]
  assert found.state.alpha["illumination"].shape == (7, 8)
  # The fidelity alone is the loss: no total variation in it.
  assert found.metrics[0]["illumination_train_loss"] < 0.05
  moments = found.state.weight_state["illumination"][0]
  assert hasattr(moments, "mu") and hasattr(moments, "nu")  # Adam's


def record(name):
  return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["results"]


def hundredths(share):
  """A share as the table has it, `.791`."""
  return f"{share:.3f}".removeprefix("0")


def quality():
  results = record("lol")
  both = lambda name, unit: [
    f"{results['figures'][name][part]['psnr']:.2f}{unit} / {hundredths(results['figures'][name][part]['ssim'])}"
    for part in ("dev", "val")
  ]
  return [*both("ours", " dB"), *both("released weights", ""), f"{results['parameters']:,} parameters"]


def quality_without_exposure():
  tables = record("table1")["tables"]
  return [
    f"{of['gt_mean_psnr']['mean']:.2f}{unit} / {hundredths(of['gt_mean_ssim']['mean'])}"
    for name, unit in (("ours i+n", " dB"), ("released lol i+n", ""))
    for of in (tables[f"LOL {part}"]["methods"][name] for part in ("dev", "val"))
  ]


def cost_aware():
  bundled, *several = record("cost_aware")["architectures"]
  found = min(several, key=lambda row: row["score"])
  quality = lambda row: f"{row['psnr']:.2f} dB / {hundredths(row['ssim'])}"
  return [f"{100 * found['share']:.0f} % of its multiply-accumulates, {quality(found)} (it has {quality(bundled)})"]


def cost_aware_wide():
  _, *found = record("cost_aware_wide")["architectures"]
  best = min(found, key=lambda row: row["score"])
  return [f"{100 * best['share']:.0f} % of them, {best['psnr']:.2f} dB / {hundredths(best['ssim'])}"]


def bilevel_steps():
  rows = record("bilevel_peers")
  faster = {
    large: [row["times_faster"] for row in rows if row["case"].startswith("large") == large] for large in (0, 1)
  }
  small = f"{min(faster[0]):.0f} to {max(faster[0]):.0f}× faster"
  return [f"{len({row['case'] for row in rows}) - 1} small bilevel problems", f"{small}, {min(faster[1]):.1f}×"]


def demo():
  results = record("demo_time")
  before, after = results["input"], results["mean"]
  return [
    f"{results['seconds']:.0f} s; {before['psnr']:.2f} → {after['psnr']:.2f} dB",
    f"SSIM {hundredths(before['ssim'])} → {hundredths(after['ssim'])} on four images",
  ]


def speed():
  steps = record("search_throughput")["steps"]
  fastest = {}
  for step in steps:
    if (step["module"], step["hypergradient"]) == ("illumination", "mixed_mode"):
      fastest[step["size"]] = step["times_faster"]
  return [f"64x64: {fastest[64]:.1f}×; 320x320: {fastest[320]:.1f}×"]


def memory():
  return [f"{max(row['peak_megabytes'] for row in record('inference')['photo']):.0f} MB"]


def start():
  seconds = {row["command"]: row["median"] for row in record("start")["seconds"]}
  of = lambda command: f"{seconds[command]:.2f} s"
  return [f"{of('ruas --help')}; {of('ruas enhance')} (`import jax` alone: {of('import jax')})"]


def first_step():
  rows = record("first_step_epyc")["seconds"]
  empty, filled = (row["first_step"] for row in rows if row["command"] == "search tiny")
  return [f"cache empty and filled | {empty:.0f} s, {filled:.1f} s |"]


def faults():
  results = record("faults")
  runs = sum(results[kind]["runs"] for kind in ("kill", "terminate", "corruption"))
  same = results["kill"]["resumed_to_same_bits"] + results["terminate"]["resumed_to_same_bits"]
  same += results["corruption"]["same_bits"]
  refused, wrong = results["corruption"]["refused"], results["silently_wrong"]
  return [
    f"in {runs} runs",
    f"{same} end with the undisturbed bits, {refused} are refused by name, {wrong} are silently wrong",
  ]


def mutations():
  return [f"{len(test_mutations.MUTATIONS)} known bugs"]


def devices():
  return [device_table(device_records())]


FIGURES = (
  quality,
  quality_without_exposure,
  cost_aware,
  cost_aware_wide,
  bilevel_steps,
  demo,
  speed,
  memory,
  start,
  first_step,
  faults,
  mutations,
  devices,
)


@pytest.mark.parametrize("figures", FIGURES)
def test_figures_are_those_of_the_records(figures):
  for figure in figures():
    assert figure in README


def test_links_lead_to_files():
  targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
  assert len(targets) >= 10
  missing = [target for target in targets if not (ROOT / target).exists()]
  assert not missing
