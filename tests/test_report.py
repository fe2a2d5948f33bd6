"""`ruas report`: what of a run folder enters the page, what is left out, and that the page can do no harm."""

import base64
import hashlib
import html.parser
import json
import re
import shutil

import numpy as np
import pytest
import tiny_problem
from tiny_problem import dark_images, ruas, truncate, write_images

from ruas_jax.engine.metric_log import read_metrics
from ruas_jax.experiments.agreement import Found, summarize_agreement
from ruas_jax.experiments.front import front_of
from ruas_jax.files import write_json
from ruas_jax.lowlight.genotype import CELLS, EDGES, PUBLISHED, SHORT_NAMES
from ruas_jax.report.architecture import alpha_history
from ruas_jax.report.charts import Axis, Curve, line_chart
from ruas_jax.report.markup import element, number

pytestmark = pytest.mark.usefixtures("kept_programs")
STEPS = 21
OPERATIONS = tuple(SHORT_NAMES)
EVIL = '<script>alert("1")</script>&'


class Page(html.parser.HTMLParser):
  """A parsed page: its elements, its text, and whether every element ends."""

  VOID = ("br", "img", "input", "link", "meta", "wbr")

  def __init__(self, text):
    super().__init__()
    self.elements, self.open, self.sections, self.text = [], [], [], text
    self.words = ""
    self.feed(text)
    assert not self.open

  def handle_starttag(self, name, attributes):
    self.elements.append((name, dict(attributes)))
    if name not in self.VOID:
      self.open.append(name)

  def handle_endtag(self, name):
    assert self.open.pop() == name

  def handle_data(self, data):
    if self.open and self.open[-1] == "h2":
      self.sections.append(data)
    if not self.open or self.open[-1] not in ("script", "style"):
      self.words += data

  def all(self, name):
    return [attributes for found, attributes in self.elements if found == name]

  def inside(self, name):
    return re.findall(rf"<{name}[^>]*>(.*?)</{name}>", self.text, re.DOTALL)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp("images"), dark_images(4))


@pytest.fixture(scope="module")
def searched(images, tmp_path_factory, kept_programs):
  """The run folder of a search."""
  workdir = tmp_path_factory.mktemp("runs") / "search"
  command = ("search", "--config", tiny_problem.CONFIG, "--search.steps", STEPS, "--data.train", images)
  assert ruas(*command, "--workdir", workdir) == 0
  return workdir


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory, kept_programs):
  workdir = tmp_path_factory.mktemp("runs") / "train"
  command = ("train", "--config", tiny_problem.CONFIG, "--genotype", "published", "--data.train", images)
  assert ruas(*command, "--workdir", workdir) == 0
  return workdir


def reported(run, tmp_path, *options):
  """The page of a run. It must be sound HTML that loads nothing from elsewhere."""
  assert ruas("report", run, "--out", tmp_path / "report.html", *options) == 0
  page = Page((tmp_path / "report.html").read_text())
  for name, attributes in page.elements:
    assert "style" not in attributes and not any(key.startswith("on") for key in attributes)
    for key in ("src", "href"):
      assert attributes.get(key, "data:").startswith(("data:", "#")), name
    if name == "img":
      assert attributes["alt"]
    if name == "svg":
      assert attributes.get("aria-label") or attributes["aria-hidden"] == "true"
  return page


def test_a_search(searched, tmp_path, capsys):
  page = reported(searched, tmp_path)
  parts = ["Genotype", "Alpha over time", "Losses", "Before and after", "Diagnostics", "Configuration", "Versions"]
  assert page.sections == [part for part in parts if part != "Diagnostics"]  # none was measured
  said = capsys.readouterr().out
  assert "report.html" in said and "alpha over time, losses, before and after" in said
  assert f"{STEPS} of {STEPS}" in page.words
  assert "search.hypergradient" in page.words and "first_order" in page.words
  assert "jaxlib" in page.words and "commit" in page.words
  assert len(page.all("img")) == 6


def test_alpha_of_every_recorded_step_is_in_the_page(searched, tmp_path):
  page = reported(searched, tmp_path, "--photographs", 0)
  assert "Before and after" not in page.sections
  data = json.loads(next(text for text in page.inside("script") if text.startswith("{")))
  assert data["steps"] == [1, 20, STEPS]
  logged = {record["step"]: record for record in read_metrics(searched / "metrics.jsonl")}
  with np.load(searched / "alpha.npz") as last:
    for cell in CELLS:
      for alpha, shares in zip((*(logged[step][f"alpha_{cell}"] for step in (1, 20)), last[cell]),
                               data["shares"][cell], strict=True):  # fmt: skip
        powers = np.exp(np.asarray(alpha))
        np.testing.assert_allclose(shares, powers / powers.sum(axis=1, keepdims=True), atol=1e-4)
  assert sum("chosen" in attributes.get("class", "") for attributes in page.all("td")) == len(CELLS) * len(EDGES)


def test_a_training(trained, tmp_path):
  page = reported(trained, tmp_path)
  assert page.sections == ["Genotype", "Losses", "Before and after", "Configuration", "Versions"]
  assert str(PUBLISHED) in page.words and "the trained network" in page.words
  assert not page.all("input")


def test_a_run_that_is_not_finished_is_reported_as_far_as_it_is(searched, tmp_path):
  run = tmp_path / "run"
  shutil.copytree(searched, run)
  for name in ("genotype.json", "alpha.npz", "state"):
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
  page = reported(run, tmp_path)
  assert page.sections == ["Alpha over time", "Losses", "Configuration", "Versions"]


def test_photographs_that_are_gone_are_left_out_with_the_reason(searched, tmp_path, capsys):
  run = tmp_path / "run"
  shutil.copytree(searched, run)
  config = json.loads((run / "config.json").read_text())
  config["data"]["train"] = "gone"
  (run / "config.json").write_text(json.dumps(config))
  assert "Before and after" not in reported(run, tmp_path).sections
  assert "left out: photographs: folder gone does not exist" in capsys.readouterr().err


def test_terms_and_diagnostics_are_drawn_where_they_were_measured(tmp_path):
  run = tmp_path / "run"
  write_json(run / "config.json", {"search": {"steps": 4}, "seed": 0})
  records = []
  for step in range(1, 5):
    record = {"step": step, "illumination_train_loss": 1 / step, "illumination_entropy": step}
    for term in ("direct", "shift", "implicit", "total"):
      record |= {f"illumination_{term}_norm": step, f"illumination_{term}_cosine": None}
    records.append(record)
  (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  page = reported(run, tmp_path)
  assert page.sections == ["Losses", "Hypergradient", "Diagnostics", "Configuration"]
  spoken = [attributes["aria-label"] for attributes in page.all("svg") if "aria-label" in attributes]
  assert any("size of each term" in text and "implicit" in text and "last 4" in text for text in spoken)
  assert any(text.startswith("Entropy") for text in spoken)


@pytest.fixture
def population(tmp_path):
  """The folder of a population of three, one of which failed, as far as a report reads it."""
  run = tmp_path / "many"
  other = PUBLISHED.replace("denoising", 0, "skip")
  members = [Found(f"member_{seed:03}", seed, {"search.cost_weight": 0.1}, (PUBLISHED, other)[seed]) for seed in (0, 1)]
  rows = [member._asdict() | {"genotype": str(member.genotype), "steps": 2, "failure": None} for member in members]
  for row in rows:
    row["losses"] = {"illumination_validation": 0.5}
    records = [{"step": step, "illumination_validation_loss": 1 / step} for step in (1, 2)]
    (run / row["name"]).mkdir(parents=True)
    (run / row["name"] / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  failed = {"name": "member_002", "seed": 2, "values": {"search.cost_weight": 0.1}, "steps": 1, "losses": {}}
  rows.append(failed | {"genotype": None, "failure": EVIL})
  write_json(run / "config.json", {"search": {"steps": 2}})
  write_json(run / "population.json", {"members": rows, **summarize_agreement(members)})
  priced = [row | {"cost": cost, "loss": loss} for row, cost, loss in zip(rows, (9, 4), (0.2, 0.3), strict=False)]
  write_json(run / "front.json", front_of(priced, cost="macs", largest=10, loss="a loss"))
  return run


def test_a_population_with_its_front(population, tmp_path):
  page = reported(population, tmp_path)
  members = ["Agreement", "Front", "Members", "Validation losses of the members"]
  assert page.sections == [*members, "Configuration"]
  assert "93%" in page.words  # 13 of 14 edges
  assert EVIL in page.words and EVIL not in page.text
  (population / "front.json").unlink()
  assert "Front" not in reported(population, tmp_path, "--overwrite").sections


def test_a_study(tmp_path):
  run = tmp_path / "study"
  row = {"options": "", "steps": 1, "dtype": "float64", "losses": "raw", "relative_error": 0.1, "cosine": 1.0,
         "milliseconds": 1.0, "temporary_bytes": 2**20, "implicit_relative_error": 0.5}  # fmt: skip
  rows = [row | {"sweep": "epsilon", "estimator": "finite_difference", "epsilon": 10.0**power} for power in (-2, -1)]
  rows += [row | {"sweep": "horizon", "estimator": "unrolled", "steps": steps} for steps in (1, 2)]
  bars = {"a_number": {"value": 2.0, "bar": 1.0, "met": False}}
  results = {"rows": rows, "costs": {}, "conformance": []}
  about = {"commit": "f" * 40 + "-dirty", "device": "cpu", "versions": {"jax": "1.2.3"}, "date": "2026-01-01"}
  write_json(run / "hypergrad.json", {"settings": {"crop": 8}, "results": results, "bars": bars, **about})
  page = reported(run, tmp_path)
  assert page.sections == ["Thresholds", "Sweeps", "Cases", "Versions"]
  assert "missed" in page.words and "1.2.3" in page.words and f"{'f' * 12}-dirty" in page.words
  assert len([attributes for attributes in page.all("svg") if "aria-label" in attributes]) == 4


def test_texts_of_files_are_escaped(tmp_path):
  run = tmp_path / "<b>run"
  write_json(run / "config.json", {"search": {"method": EVIL, EVIL: EVIL}, "data": {"train": EVIL}})
  (run / "metrics.jsonl").write_text(json.dumps({"step": 1, f"{EVIL}_loss": 1.0}) + "\n")
  page = reported(run, tmp_path)
  assert EVIL in page.words and EVIL not in page.text and "<b>run" not in page.text
  assert len(page.all("script")) == 1


def test_the_policy_allows_the_page_s_own_style_and_script_only(trained, tmp_path):
  page = reported(trained, tmp_path, "--photographs", 0)
  policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
  assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
  for kind in ("style", "script"):
    (text,) = page.inside(kind)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"{kind}-src 'sha256-{digest}'" in policy
  assert page.all("meta")[1]["name"] == "viewport"


@pytest.mark.parametrize(
  "make, said",
  [
    (lambda run: None, "run: no such folder"),
    (lambda run: run.write_text(""), "run: not a folder"),
    (lambda run: run.mkdir(), "run: holds no run of"),
    (lambda run: write_json(run / "config.json", []), "config.json: not a JSON object"),
    (lambda run: (run.mkdir(), (run / "config.json").write_text("{")), "config.json: cannot be read as JSON"),
  ],
)
def test_what_is_no_run_is_named_in_one_line(make, said, tmp_path, capsys):
  make(tmp_path / "run")
  assert ruas("report", tmp_path / "run", "--out", tmp_path / "report.html") == 1
  captured = capsys.readouterr()
  assert said in captured.err and captured.err.count("\n") == 1
  assert not (tmp_path / "report.html").exists()


def test_a_damaged_alpha_is_named(searched, tmp_path, capsys):
  run = tmp_path / "run"
  shutil.copytree(searched, run)
  truncate(run / "alpha.npz")
  assert ruas("report", run, "--out", tmp_path / "report.html") == 1
  assert "alpha.npz: cannot be read" in capsys.readouterr().err


def test_a_file_is_replaced_only_with_overwrite(tmp_path, capsys):
  run, out = tmp_path / "run", tmp_path / "report.html"
  write_json(run / "config.json", {})
  out.write_text("mine")
  assert ruas("report", run, "--out", out) == 1
  assert "--overwrite" in capsys.readouterr().err and out.read_text() == "mine"
  assert ruas("report", run, "--out", out, "--overwrite") == 0
  assert "Configuration" in Page(out.read_text()).sections


def test_history_skips_what_is_no_alpha():
  zeros, bad = np.zeros((7, 7)).tolist(), [[None] * 7] * 7
  records = [{"step": step, **{f"alpha_{cell}": zeros for cell in CELLS}} for step in (1, 20)]
  records[1]["alpha_denoising"] = bad
  history = alpha_history(records, OPERATIONS, None)
  assert history.steps == [1] and np.allclose(history.shares["denoising"], 1 / 7)
  assert alpha_history([{"step": 1}], OPERATIONS, None) is None


def test_a_chart_places_numbers_on_its_axes():
  """Two points of a curve, on a linear and on a logarithmic axis; a gap divides a line."""
  chart = line_chart("t", [Curve("a", [0, 1, 2, 3, 4], [1, 10, None, 100, 1000])], Axis("x"), Axis("y", log=True))
  lines = [
    [tuple(map(float, spot.split(","))) for spot in points.split()] for points in re.findall('points="(.*?)"', chart)
  ]
  assert [len(line) for line in lines] == [2, 2]
  (x0, y0), (x1, y1) = lines[0]
  (x3, y3), (_, y4) = lines[1]
  assert x3 - x0 == pytest.approx(3 * (x1 - x0), abs=0.5)
  assert y0 - y1 == pytest.approx(y3 - y4, abs=0.2) and y0 - y3 == pytest.approx(2 * (y0 - y1), abs=0.3)
  for nothing in ([], [None], [float("nan")]):
    assert "svg" in line_chart("t", [Curve("a", range(len(nothing)), nothing)], Axis("x"), Axis("y"))


def test_elements_and_numbers():
  assert element("a", "x < y", None, class_="b", hidden=False, href='"') == '<a class="b" href="&quot;">x &lt; y</a>'
  assert element("input", hidden=True) == "<input hidden>"
  assert [number(value) for value in (None, 3, 0.12345, 12345.6)] == ["–", "3", "0.1235", "12,346"]
