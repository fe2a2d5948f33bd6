"""`ruas hypergrad`: the study on a small problem with kinks, on a frozen search, and what it says about bad input."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_problem
from PIL import Image
from tiny_problem import dark_images, ruas, write_images

from ruas_jax.bilevel import BilevelProblem
from ruas_jax.bilevel.testing import conformance
from ruas_jax.engine.checkpoint import save_checkpoint
from ruas_jax.experiments import hypergrad as study
from ruas_jax.experiments.frozen_search import freeze
from ruas_jax.experiments.setting import load_search, open_both, search_setting
from ruas_jax.files import write_json
from ruas_jax.hypergradient_study.bars import BARS
from ruas_jax.hypergradient_study.frozen import Frozen, precision
from ruas_jax.hypergradient_study.measure import Case, Laboratory
from ruas_jax.hypergradient_study.sweeps import QUICK, Grid, plan
from ruas_jax.lowlight.operations import CANDIDATES, operation_names
from ruas_jax.nas.files import STATE_FORMAT

COLUMNS = (
  *("sweep", "estimator", "options", "epsilon", "steps", "rate", "dtype", "losses", "reference"),
  *("relative_error", "implicit_relative_error", "cosine", "sign_agreement"),
  *("milliseconds", "temporary_bytes", "compile_seconds", "residual", "inner_gradient_norm"),
)
GRID = Grid(
  epsilons=(1e-3, 3e-3, 1e-2),
  epsilon_dtypes=("float64",),
  horizons=(2,),
  lasts=(),
  longest=2,
  rates=(0.005, 0.05),
  dtypes=("float64", "bfloat16"),
  neumann_terms=(2,),
  implicit=(),
  rounds=1,
)


def lasso() -> Frozen:
  """Linear regression whose penalties on |w|, one per weight, are learned; one weight is almost zero."""
  rng = np.random.default_rng(0)

  def problem(smoothing):
    absolute = (lambda w: jnp.sqrt(w**2 + smoothing**2)) if smoothing else jnp.abs

    def error(weights, batch):
      return jnp.mean((batch["x"] @ weights - batch["y"]) ** 2)

    def inner(weights, alpha, batch):
      return error(weights, batch) + jnp.sum(jnp.exp(alpha) * absolute(weights))

    return BilevelProblem(inner, lambda weights, alpha, batch: error(weights, batch) + 0.1 * jnp.sum(alpha**2))

  def batches(*count):
    return {"x": rng.normal(size=(*count, 8, 5)), "y": rng.normal(size=(*count, 8))}

  return Frozen(
    problems={"raw": lambda others: problem(0), "smoothed": lambda others: problem(0.1)},
    make_inner=optax.sgd,
    rate=0.05,
    others=(),
    alpha=rng.normal(size=5) - 2,
    weights=np.array([1.0, -1.0, 0.5, 0.7, 1e-5]),
    inner_state=optax.sgd(0.1).init(()),
    train_batches=batches(2),
    val_batch=batches(),
  )


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
  """Work directories of searches and their images; in `still` the weights did not move."""
  place = tmp_path_factory.mktemp("searched")
  write_images(place / "images", dark_images(4))
  config = tiny_problem.get_config().with_overrides({"data.train": str(place / "images")})
  state = jax.jit(search_setting(config).init)(jax.random.key(0))
  still = config.with_overrides({"search.weight_optimizer.learning_rate": 0.0})
  for name, own in {"state": config, "still": still}.items():
    write_json(place / name / "config.json", dataclasses.asdict(own))
    about = {"format": STATE_FORMAT, "operations": operation_names(CANDIDATES)}
    save_checkpoint(study.epath.Path(place / name / "state"), state, about)
  terms = ("total", "direct", "shift", "implicit")
  record = {f"illumination_{term}_{figure}": 0.5 for term in terms for figure in ("norm", "cosine")}
  lines = [json.dumps({"step": step, **(record if step % 2 else {})}) for step in range(1, 5)]
  (place / "state" / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
  return place


@pytest.fixture(scope="module")
def studied(searched):
  """The folder and the report of a small study of everything."""
  folder = searched / "out"
  folder.mkdir()
  (folder / "mine.txt").write_text("stays")
  (folder / "rate.png").write_text("an earlier study's")
  few = conformance.conformance([conformance.reference_problems()[0]], ["first_order"])
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(conformance, "conformance", lambda: few)
    patch.setattr(study, "freeze", lambda *_, **__: lasso())
    report = study.hypergrad(out=folder, json=searched / "one.json", state=searched / "state", crop=8, grid=GRID)
  return folder, report


def test_everything_is_written_and_nothing_else_is_touched(studied):
  folder, report = studied
  assert {file.name for file in folder.iterdir()} == {*study.OUTPUTS, "mine.txt"}
  assert (folder / "mine.txt").read_text() == "stays"
  for file in folder.glob("*.png"):
    with Image.open(file) as image:
      assert image.format == "PNG" and image.size[0] > 600
  written = json.loads((folder / "hypergrad.json").read_text())
  assert written == report == json.loads((folder.parent / "one.json").read_text())
  assert set(report) == {"device", "versions", "commit", "date", "settings", "results", "bars"}
  assert set(report["bars"]) == set(BARS)
  assert report["results"]["conformance"]
  table = (folder / "hypergrad.txt").read_text()
  assert all(name in table for name in (*BARS, "neumann", "conformance", "horizon: against exact through 2 steps"))


def test_rows_and_csv_agree(studied):
  folder, report = studied
  rows = report["results"]["rows"]
  assert all(tuple(row) == COLUMNS for row in rows)
  assert len(rows) == sum(map(len, plan(GRID, 0.05).values()))
  with (folder / "hypergrad.csv").open() as file:
    for row, line in zip(rows, csv.DictReader(file), strict=True):
      assert line == {name: "" if value is None else str(value) for name, value in row.items()}
  for row in rows:
    assert row["milliseconds"] > 0 and row["compile_seconds"] > 0 and row["temporary_bytes"] > 0
    assert 0 <= row["sign_agreement"] <= 1 and -1 <= row["cosine"] <= 1 + 1e-9
    assert (row["epsilon"] is not None) == (row["estimator"] == "finite_difference")
    assert (row["residual"] is not None) == (row["estimator"] == "neumann")


def find(report, **wanted):
  found = [row for row in report["results"]["rows"] if all(row[name] == value for name, value in wanted.items())]
  assert found, wanted
  return found


def test_errors_are_what_they_should_be(studied):
  _, report = studied
  for row in find(report, sweep="rate", estimator="unrolled"):
    assert row["relative_error"] < 1e-12 and row["sign_agreement"] == 1
  slow, fast = find(report, sweep="rate", estimator="first_order")
  assert 1e-3 < slow["relative_error"] < fast["relative_error"]
  for name in ("unrolled", "mixed_mode", "forward"):
    (row,) = find(report, sweep="horizon", estimator=name)
    assert 1e-9 < row["relative_error"] < 1e-4  # float32
  (row,) = find(report, sweep="horizon", estimator="first_order")
  assert row["relative_error"] > 1e-3
  for name in ("unrolled", "first_order"):
    same, short = find(report, sweep="dtype", estimator=name)
    assert same["relative_error"] == 0 and 1e-4 < short["relative_error"] < 0.1
    assert same["reference"] == "the same in float64"


def test_the_finite_difference_converges_on_smooth_losses_only(studied):
  _, report = studied
  curves = report["results"]["finite_difference"]
  assert abs(curves["smoothed float64"]["slope"] - 2) < 0.01 < 0.5 < abs(curves["raw float64"]["slope"] - 2)
  for losses, least in (("smoothed", 0), ("raw", 1e-3)):
    errors = [row["implicit_relative_error"] for row in find(report, sweep="epsilon", losses=losses)]
    assert curves[f"{losses} float64"]["least"] == min(errors) > least
  met = {name: bar["met"] for name, bar in report["bars"].items() if name.startswith("finite_difference")}
  assert met["finite_difference_slope_error_smoothed"] and met["finite_difference_least_error_raw"]


def test_the_implicit_term_is_the_unit(studied):
  """Of plain SGD it is known: `-rate · mixedᵀ ∂_w′ L_out`, and mixed is diagonal."""
  _, report = studied
  frozen = lasso()
  x, y = (frozen.train_batches[name][0] for name in ("x", "y"))
  w, penalties = frozen.weights, np.exp(frozen.alpha)
  ahead = w - 0.05 * (2 / 8 * x.T @ (x @ w - y) + penalties * np.sign(w))
  x, y = frozen.val_batch["x"], frozen.val_batch["y"]
  implicit = -0.05 * penalties * np.sign(w) * (2 / 8 * x.T @ (x @ ahead - y))
  exact = 0.2 * frozen.alpha + implicit
  (row, *_) = find(report, sweep="epsilon", losses="raw")
  share = np.linalg.norm(implicit) / np.linalg.norm(exact)
  np.testing.assert_allclose(row["relative_error"] / row["implicit_relative_error"], share, rtol=1e-6)
  (row,) = find(report, sweep="rate", estimator="first_order", rate=0.05)
  np.testing.assert_allclose(row["implicit_relative_error"], 1, rtol=1e-6)  # here nothing shifts


def test_ratios_become_bars(studied):
  """The exact hypergradient counts with the faster way to it."""
  report = studied[1]
  costs, bars = report["results"]["costs"], report["bars"]
  for cheap in ("finite_difference", "first_order"):
    ways = [costs[f"{exact}_over_{cheap}_time"] for exact in ("unrolled", "mixed_mode")]
    assert bars[f"exact_over_{cheap}_time"]["value"] == min(ways) > 0
  assert bars["forward_long_over_two_memory"]["value"] == 1  # here the long horizon is two


def test_a_program_serves_all_rates_and_epsilons():
  laboratory = Laboratory(lasso())
  case = Case("a", "finite_difference", losses="smoothed", dtype="float64")
  program = laboratory.program(case)
  assert laboratory.program(case._replace(epsilon=0.3, rate=0.1, sweep="b")) is program
  assert laboratory.program(case._replace(losses="raw")) is not program
  one, far, fast = (program(*numbers)[0] for numbers in ((0.05, 0.01), (0.05, 0.3), (0.1, 0.01)))
  assert one.shape == (5,) and one.dtype == np.float64
  assert min(np.linalg.norm(one - far), np.linalg.norm(one - fast)) > 1e-5 * np.linalg.norm(one)
  assert laboratory.measure(Case("a", "unrolled", losses="smoothed", dtype="float64"))["relative_error"] < 1e-14


def test_times_are_taken_in_turns(monkeypatch):
  laboratory, called = Laboratory(lasso()), []
  cases = [Case("a", "unrolled"), Case("a", "first_order")]
  for case, seconds in zip(cases, (1.0, 0.1), strict=True):
    program = laboratory.program(case)
    monkeypatch.setattr(program, "seconds", lambda rate, case=case, s=seconds: called.append(case.estimator) or s)
  slow, fast = laboratory.times(cases, rounds=3, seconds=1.5)
  assert called == ["unrolled", "first_order", "unrolled", "first_order", "first_order"]
  assert (len(slow), len(fast)) == (2, 3)


def test_a_frozen_place_is_the_search_s_own(searched):
  """Losses, state, optimiser; and its losses stay in the dtype that they are asked for."""
  config = tiny_problem.get_config().with_overrides({"data.train": str(searched / "images")})
  setting = search_setting(config)
  state = jax.jit(setting.init)(jax.random.key(0))
  sources = open_both(config)
  frozen = freeze(config, state, *sources, module="denoising", smoothing=0.05, steps=2)
  assert frozen.train_batches.shape == (2, 1, 8, 8, 3) and frozen.val_batch.shape == (1, 8, 8, 3)
  assert set(frozen.weights) == set(frozen.alpha) == {"denoising"}
  ones = jax.tree.map(np.ones_like, frozen.weights)
  updates, _ = frozen.make_inner(frozen.rate).update(ones, frozen.inner_state, frozen.weights)
  expected, _ = setting.optimizers.at({})[0].update(ones, state.weight_state["denoising"], frozen.weights)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), updates, expected)

  player = next(player for player in setting.problem.players if player.name == "denoising")
  problems = [player.bilevel_problem(state.weights, state.alpha, {})]
  problems += [frozen.problems[name](frozen.others) for name in ("raw", "smoothed")]
  losses = jax.jit(lambda: [problem.inner_loss(frozen.weights, frozen.alpha, frozen.val_batch) for problem in problems])
  own, raw, smoothed = map(float, losses())
  assert own == raw and abs(smoothed - raw) > 1e-6

  for module in ("illumination", "denoising"):
    frozen = freeze(config, state, *sources, module=module, smoothing=0.05, steps=1)
    for losses, dtype in (("raw", "bfloat16"), ("smoothed", "bfloat16"), ("raw", "float64")):
      others, weights, alpha, _, _, images = frozen.arguments(1, dtype)
      with precision(dtype):
        shape = jax.eval_shape(
          lambda others: frozen.problems[losses](others).outer_loss(weights, alpha, images), others
        )
      assert shape.dtype.name == dtype


def test_a_frozen_search_can_be_measured(searched):
  config, state = load_search(searched / "state")
  frozen = freeze(config, state, *open_both(config), module="illumination", smoothing=0.05, steps=1)
  row = Laboratory(frozen).measure(Case("a", "unrolled"))
  assert 1e-9 < row["relative_error"] < 1e-4 and row["sign_agreement"] > 0.9


def test_a_quick_study_asks_for_what_the_bars_need():
  cases = [case for cases in plan(QUICK, 0.005).values() for case in cases]
  assert {case.sweep for case in cases} == {"epsilon"}
  assert {case.steps for case in cases} == {1}
  assert {(case.losses, case.dtype) for case in cases} == {
    ("raw", "float64"), ("smoothed", "float64"),
  }  # fmt: skip


STUDY = "hypergrad --crop 8 --out new --state"


@pytest.mark.parametrize(
  "command, said",
  [
    (f"{STUDY} missing", "missing holds no finished search"),
    (f"{STUDY} images", "images holds no finished search"),
    (f"{STUDY} still", "still: the weights of this search did not move"),
    (f"{STUDY} state --data.train missing", "missing does not exist"),
    (f"{STUDY} state --crop 17", ".png is 20x16, smaller than the crop of 17x17"),
    (f"{STUDY} state --crop 0", "`data.crop` must be at least 1"),
    (f"{STUDY} state --smoothing 0", "--smoothing must be greater than 0"),
    (f"{STUDY} state --seed -1", "--seed must be at least 0"),
    ("hypergrad --state state --crop 8 --out images/0.png", "cannot be written"),
    ("hypergrad --state state --crop 8 --quick --json images", "cannot be written (it is a folder)"),
    ("hypergrad --data.train missing --crop 8 --quick", "missing does not exist"),
    ("hypergrad --data.train images --quick", ".png is 20x16, smaller than the crop of 96x96"),
  ],
)
def test_bad_input_gets_one_line_before_any_work(command, said, searched, monkeypatch, capfd):
  monkeypatch.chdir(searched)
  for name in ("freeze", "search"):
    monkeypatch.setattr(study, name, lambda *_, **__: pytest.fail("work was begun"))
  assert ruas(*command.split()) == 1
  lines = capfd.readouterr().err.splitlines()
  assert len(lines) == 1 and lines[0].startswith("ruas: ") and said in lines[0], lines
  assert not list(searched.glob("new/*"))


def test_options_reach_the_study(searched, monkeypatch, capsys):
  asked = []
  monkeypatch.setattr(study, "hypergrad", lambda **options: asked.append(options))
  assert ruas("hypergrad", "--state", "w", "--data.train", "d", "--module", "denoising", "--seed", "3") == 0
  assert ruas("hypergrad", "--quick", "--json", "a.json") == 0
  full, quick = asked
  assert (full["state"], full["train"], full["module"], full["seed"], full["out"]) == (
    "w",
    "d",
    "denoising",
    3,
    "hypergrad",
  )
  assert (quick["out"], quick["json"], quick["quick"], quick["state"]) == (None, "a.json", True, None)
  assert "hypergrad.json" in capsys.readouterr().out


def test_a_short_search_is_made_where_none_is_given(searched, monkeypatch):
  """On the images given, with crops that fit, measuring its terms for the picture."""
  configs = []

  def search(config, *, train_images, val_images):
    configs.append(config)
    assert len(train_images) == len(val_images) == 2
    raise RuntimeError("far enough")

  monkeypatch.setattr(study, "search", search)
  for quick in (False, True):
    with pytest.raises(RuntimeError, match="far enough"):
      study.hypergrad(out=None, train=str(searched / "images"), crop=12, seed=5, quick=quick)
  full, quick = configs
  assert full.seed == 5 and full.data.crop == 12 and full.search.diagnostics.every
  assert quick.search.steps < full.search.steps
