"""The page of `ruas report`, opened as a file: it fetches nothing, fits a phone, and its slider changes the drawing."""

import dataclasses
import json

import numpy as np
import pytest
from playwright.sync_api import expect

from ruas_jax.config import load_config
from ruas_jax.experiments.report import report
from ruas_jax.files import write_json
from ruas_jax.lowlight.genotype import CELLS, PUBLISHED, SHORT_NAMES
from ruas_jax.photos.model import save_model
from ruas_jax.photos.pretrained import load_pretrained

STEPS = [1, 20, 40]
SIZES = [(390, 844), (1280, 900)]


def alpha_after(step):
  """Logits `[7, 7]`: skip is strongest in the beginning, and another operation in the end."""
  alpha = np.zeros((7, 7))
  alpha[:, 0], alpha[:, 3] = 0.5, step / 20
  return alpha.tolist()


@pytest.fixture(scope="session")
def searched(tmp_path_factory):
  """The page of a search, from a folder with what a report reads of it."""
  run = tmp_path_factory.mktemp("search")
  records = []
  for step in range(1, STEPS[-1] + 1):
    record = {"step": step} | {f"{cell}_train_loss": 1 / step for cell in CELLS}
    record |= {f"alpha_{cell}": alpha_after(step) for cell in CELLS if step in STEPS}
    record |= {f"illumination_{term}_norm": 1.0 for term in ("direct", "shift", "implicit", "total")}
    records.append(record)
  (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
  write_json(run / "config.json", dataclasses.asdict(load_config("tiny")))
  PUBLISHED.save(run / "genotype.json")
  np.savez(run / "alpha.npz", operations=list(SHORT_NAMES), **{cell: alpha_after(STEPS[-1]) for cell in CELLS})
  report(run, run / "report.html", photographs=0)
  return run / "report.html"


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
  """The page of a training, with photographs."""
  run, model, config = tmp_path_factory.mktemp("train"), load_pretrained("general"), load_config("tiny")
  save_model(run, model)
  write_json(run / "config.json", dataclasses.asdict(config))
  assert not report(run, run / "report.html", photographs=2).left_out
  return run / "report.html"


@pytest.fixture
def opened(browser):
  """Opens a page as a file. It may request nothing but itself, and nothing may go wrong in it."""
  requests, wrong, pages = [], [], []

  def open_file(path, *, size=SIZES[0], scheme="light"):
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.goto(path.as_uri())
    pages.append((page, path.as_uri()))
    return page

  yield open_file
  own = {uri for _, uri in pages}
  assert [url for url in requests if url not in own and not url.startswith("data:")] == []
  assert wrong == []
  for page, _ in pages:
    page.close()


def cells_of(page):
  return page.eval_on_selector_all("table.shares td", "cells => cells.map(cell => cell.className + cell.textContent)")


def test_the_slider_shows_alpha_after_earlier_steps(opened, searched):
  page = opened(searched)
  last = cells_of(page)
  assert page.text_content("#alpha-step") == "40"
  page.focus("#alpha-at")
  page.keyboard.press("Home")
  first = cells_of(page)
  assert page.text_content("#alpha-step") == "1" and first != last
  assert page.get_attribute("#alpha-at", "aria-valuetext") == "after step 1"
  strongest = "table.shares tbody tr:first-child .chosen"
  column = "cell => cell.cellIndex"
  assert page.eval_on_selector(strongest, column) == 1  # skip
  page.keyboard.press("End")
  assert cells_of(page) == last


def test_the_animation_runs_to_the_last_step(opened, searched):
  page = opened(searched)
  last = cells_of(page)
  page.focus("#alpha-play")
  page.keyboard.press("Enter")
  assert page.text_content("#alpha-step") == "1" and page.text_content("#alpha-play") == "Pause"
  expect(page.locator("#alpha-play")).to_have_text("Play", timeout=60_000)
  assert page.text_content("#alpha-step") == "40" and cells_of(page) == last


def test_without_scripts_the_last_alpha_is_shown(browser, searched):
  context = browser.new_context(java_script_enabled=False)
  page = context.new_page()
  page.goto(searched.as_uri())
  assert page.locator("table.shares td.chosen").count() == 14
  assert not page.locator("#alpha-at").is_visible()
  context.close()


@pytest.mark.parametrize("size", SIZES, ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(opened, searched, trained, size, scheme):
  for path in (searched, trained):
    page = opened(path, size=size, scheme=scheme)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]


def test_the_page_is_dark_where_the_reader_wants_it(opened, searched):
  channels = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
  assert min(opened(searched).evaluate(channels)) > 200
  assert max(opened(searched, scheme="dark").evaluate(channels)) < 60


def test_photographs_are_inside_the_page(opened, trained):
  page = opened(trained)
  assert page.eval_on_selector_all("img", "all => all.map(one => one.complete && one.naturalWidth > 0)") == [True] * 4
