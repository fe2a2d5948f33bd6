"""Tables 1 and 2 and figure 1 of the paper run on a tiny data set and report what they must."""

import json

import numpy as np
import pytest
from lol_folder import write_lol
from PIL import Image

from benchmarks.paper import fig1, published, table1, table2
from benchmarks.speed.inference import random_model
from ruas_jax.errors import UserError
from ruas_jax.evaluation.baselines import BASELINES
from ruas_jax.evaluation.metrics import psnr
from ruas_jax.photos.pretrained import load_pretrained

QUICK = 2
METHODS = {"ours i", "ours i+n", *BASELINES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return write_lol(tmp_path_factory.mktemp("lol"))


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory):
  """The JSON of both tables, at small sizes, and their files."""
  place = tmp_path_factory.mktemp("tables")
  asked = []
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(table1, "released", lambda path: asked.append(path) or random_model("i+n"))
    patch.setattr(table2, "MACS_SIZE", (40, 48))
    data = ["--data", str(folder), "--fivek", str(folder / "dev"), "--real", str(folder / "val" / "low")]
    theirs = ["--released", "lol=mine.npz", "--released", "upe=other.npz"]
    table1.main(["--quick", *data, *theirs, "--json", str(place / "table1.json")])
    table2.main(["--quick", "--json", str(place / "table2.json")])
  assert asked == ["mine.npz", "other.npz"]
  return place / "table1.json", place / "table2.json"


def results(path):
  return json.loads(path.read_text())["results"]


def test_table1_measures_every_set_with_its_weights(measured):
  tables = results(measured[0])["tables"]
  assert set(tables) == {"LOL dev", "LOL val", "FiveK"}
  assert [table["pairs"] for table in tables.values()] == [QUICK] * 3
  assert tables["LOL dev"]["weights"] == "lol" and tables["FiveK"]["weights"] == "general"
  assert "100 test images" in tables["FiveK"]["note"]
  assert set(tables["LOL dev"]["methods"]) == METHODS | {"released lol i+n"}
  assert set(tables["FiveK"]["methods"]) == METHODS | {"released upe i"}
  hashes = results(measured[0])["weights_sha256"]
  assert hashes["lol"] == load_pretrained("lol").weights_sha256() and len(hashes) == 4


def test_table1_is_the_mean_and_its_standard_error(folder, measured):
  row = results(measured[0])["tables"]["LOL dev"]["methods"]["input"]["psnr"]
  read = lambda name, index: np.asarray(Image.open(folder / "dev" / name / f"{index}.png"))
  figures = [psnr(read("low", index), read("high", index)) for index in range(QUICK)]
  assert row["mean"] == pytest.approx(np.mean(figures))
  assert row["error"] == pytest.approx(abs(figures[0] - figures[1]) / 2)


def test_table1_tells_the_variants_and_the_weights_apart(measured):
  methods = results(measured[0])["tables"]["LOL dev"]["methods"]
  assert len({row["psnr"]["mean"] for row in methods.values()}) == len(methods)


def test_photographs_have_every_figure_for_every_method(measured):
  photographs = results(measured[0])["photographs"]
  assert photographs["images"] == QUICK and photographs["weights"] == "general"
  assert set(photographs["methods"]) == METHODS | {"released lol i+n", "released upe i"}
  unchanged = photographs["methods"]["input"]
  for name in ("lightness_order_error", "newly_white_share", "colour_cast_shift"):
    assert unchanged[name] == {"mean": 0, "error": 0}
  assert all(set(row) == set(unchanged) for row in photographs["methods"].values())
  assert photographs["methods"]["lime"]["colour_cast_shift"]["mean"] > 0
  assert photographs["methods"]["curve"]["brightness"]["mean"] > 2 * unchanged["brightness"]["mean"]


def test_the_published_figures_stand_beside(measured):
  quoted = results(measured[0])["published"]["Table 1"]
  assert quoted["LOL"]["RUAS"] == {"psnr": 18.226, "ssim": 0.717}
  assert quoted["FiveK"]["DeepUPE"] == {"psnr": 18.779, "ssim": 0.822}
  assert "comparable with no figure" in quoted["note"]
  row = results(measured[1])["published"]["Table 2"]["methods"]["RUAS_i+n"]
  assert row == {"size_millions": 0.003, "flops_billions": 0.832, "seconds": 0.016}


def test_published_data_is_complete():
  assert set(published.TABLE_1["LOL"]) == set(published.TABLE_1["FiveK"]) and len(published.TABLE_1["LOL"]) == 13
  assert max(published.TABLE_1["LOL"], key=lambda name: published.TABLE_1["LOL"][name]["psnr"]) == "RUAS"
  for table in (published.TABLE_1, published.TABLE_2, published.EVAL15, *published.EVAL15["methods"].values()):
    assert table["source"]


def test_table2_counts_what_the_variant_uses(measured):
  rows = {(row["method"], row["weights"]): row for row in results(measured[1])["rows"]}
  assert len(rows) == 6
  for (method, weights), row in rows.items():
    model = load_pretrained(weights) if weights else random_model("i+n")
    model = model.with_variant(method.split()[1])
    assert (row["parameters"], row["macs"]) == (model.parameters(), model.macs(40, 48))
    assert row["seconds"] > 0
  assert rows["released i+n", None]["parameters"] == 3438
  assert rows["ours i", "lol"]["parameters"] < rows["ours i+n", "lol"]["parameters"]


def test_fig1_joins_both_tables(measured, tmp_path):
  first, second = measured
  files = {"--picture": tmp_path / "fig1.png", "--json": tmp_path / "fig1.json"}
  arguments = [str(part) for option in files.items() for part in option]
  fig1.main(["--quick", "--table1", str(first), "--table2", str(second), *arguments])
  drawn = results(files["--json"])
  tables, rows = results(first)["tables"], results(second)["rows"]
  points = {point["label"]: point for point in drawn["measured"]}
  parts = [tables[name]["methods"]["ours i+n"]["psnr"] for name in ("LOL dev", "LOL val")]
  assert points["ours, i+n"]["psnr"] == pytest.approx(np.mean([part["mean"] for part in parts]))
  assert points["ours, i+n"]["error"] == pytest.approx(np.hypot(*(part["error"] for part in parts)) / 2)
  own = next(row for row in rows if row["method"] == "ours i+n" and row["weights"] == "lol")
  assert points["ours, i+n"]["parameters"] == own["parameters"] and points["ours, i+n"]["macs"] == own["macs"]
  assert points["released weights"]["parameters"] == 3438
  assert len(drawn["published"]["points"]) == 9 and "comparable with no figure" in drawn["published"]["note"]
  with Image.open(files["--picture"]) as picture:
    assert min(picture.size) > 400 and np.asarray(picture.convert("L")).std() > 5


def test_fig1_names_what_it_lacks(measured, tmp_path):
  other = tmp_path / "other.json"
  other.write_text(json.dumps({"results": {"tables": {"FiveK": {}}}}))
  with pytest.raises(UserError, match=r"other\.json has no figures of LOL"):
    fig1.main(["--table1", str(other), "--table2", str(measured[1])])
  with pytest.raises(UserError, match=r"other\.json.*'rows'"):
    fig1.main(["--table1", str(measured[0]), "--table2", str(other)])
  with pytest.raises(UserError, match=r"absent\.json"):
    fig1.main(["--table1", str(tmp_path / "absent.json"), "--table2", str(other)])


@pytest.mark.parametrize(
  ("arguments", "message"), [([], "--data"), (["--released", "lol"], "NAME=FILE"), (["--released", "x=y"], "upe")]
)
def test_table1_says_what_to_give(arguments, message, capsys):
  with pytest.raises(SystemExit):
    table1.main(arguments)
  assert message in capsys.readouterr().err
