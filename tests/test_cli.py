"""The command line: help, and one clear line and a non-zero exit for everything that can be wrong with its input."""

import ast
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_problem
from conftest import shared
from PIL import Image
from tiny_problem import dark_images, fresh_model, ruas, truncate, write_images

import ruas_jax
from ruas_jax.commands import app, experiment
from ruas_jax.commands.enhance import Enhance
from ruas_jax.commands.export import Export
from ruas_jax.commands.hypergrad import Hypergrad
from ruas_jax.commands.import_released import Import
from ruas_jax.commands.info import Info
from ruas_jax.commands.search import Search
from ruas_jax.commands.spelling import spell_options
from ruas_jax.commands.train import Train
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.option_values import paths
from ruas_jax.photos.model import enhance, load, save_model
from ruas_jax.photos.pretrained import load_pretrained

PUBLISHED = Genotype.named("published")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """A folder with good and bad inputs of every kind."""
  place = tmp_path_factory.mktemp("place")
  write_images(place / "images", dark_images(2))
  write_images(place / "one", dark_images(1))
  write_images(place / "bright", dark_images(2))
  write_images(place / "others", dark_images(3))
  write_images(place / "wide", dark_images(2, width=24))
  write_images(place / "cut", dark_images(2))
  truncate(place / "cut" / "1.png")
  write_images(place / "headless", dark_images(2))
  (place / "headless" / "1.png").write_bytes(b"no image")
  (place / "empty").mkdir()
  (place / "file").write_text("neither JSON nor an image")
  save_model(place / "model", fresh_model())
  shutil.copytree(place / "model", place / "damaged")
  truncate(place / "damaged" / "checkpoint" / "arrays" / "_METADATA")
  (place / "run").mkdir()
  (place / "run" / "metrics.jsonl").write_text('{"step": 1}\n')
  PUBLISHED.save(place / "genotype.json")
  text = PUBLISHED.to_json()
  (place / "unknown_operation.json").write_text(text.replace('"residual_conv_1x1"', '"conv_9x9"', 1))
  (place / "unknown_edge.json").write_text(text.replace("distill_1", "distil_1", 1))
  (place / "broken.py").write_text("def get_config(): return 1 / 0")
  np.savez(place / "weights.npz", **{"enhance_net.iems.0.cell.c5.weight": np.zeros((3, 12, 1, 1), np.float32)})
  return place


@pytest.fixture
def place(made, monkeypatch):
  """The same as the current folder; it must come out of the test as it went in."""
  monkeypatch.chdir(made)
  before = contents(made)
  yield made
  assert contents(made) == before


def contents(folder):
  return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


SEARCH = f"search --config {tiny_problem.CONFIG} --data.train"
TRAIN = f"train --config {tiny_problem.CONFIG} --workdir new --data.train"
ENHANCE = "enhance --checkpoint model --out new"
EVALUATE = "evaluate --checkpoint model --json new.json"


@pytest.mark.parametrize(
  "command, said",
  [
    # data
    (f"{SEARCH} missing --workdir new", "missing does not exist"),
    (f"{SEARCH} empty --workdir new", "empty holds no image"),
    (f"{SEARCH} file --workdir new", "file is not a folder"),
    (f"{SEARCH} images --data.val missing --workdir new", "missing does not exist"),
    (f"{SEARCH} images --data.val empty --workdir new", "empty holds no image"),
    (f"{SEARCH} headless --workdir new", "headless/1.png"),
    (f"{SEARCH} one --workdir new", "one element cannot be split into training and validation data"),
    (f"{SEARCH} images --data.crop 17 --workdir new", ".png is 20x16, smaller than the crop of 17x17"),
    (f"{SEARCH} images --data.crop 0 --workdir new", "--data.crop must be at least 1"),
    (f"{SEARCH} images --seed -1 --workdir new", "--seed must be at least 0"),
    (f"{SEARCH} images --search.steps 0 --workdir new", "--search.steps must be at least 1"),
    (f"{SEARCH} builtin:nothing --workdir new", "builtin:nothing"),
    (f"{SEARCH} images --network.illumination.stages 0 --workdir new", "stages"),
    (f"{SEARCH} images --network.denoising.channels 0 --workdir new", "channels"),
    (f"{TRAIN} images --genotype published --training.steps 0", "steps"),
    (f"{TRAIN} missing --genotype published", "missing does not exist"),
    (f"{TRAIN} headless --genotype published", "headless/1.png"),
    (f"{TRAIN} images --genotype published --data.crop 18", ".png is 20x16, smaller than the crop of 18x18"),
    # work directories
    (
      f"{SEARCH} images --workdir run",
      "run holds a run already, but no snapshot to resume it from; choose another --workdir",
    ),
    (f"{SEARCH} images --workdir file", "--workdir file: cannot be written"),
    (f"{SEARCH} images --workdir file/below", "--workdir file/below: cannot be written"),
    (f"{SEARCH} images --workdir new --search.parameters 10", "--search.parameters 10: the smallest network"),
    # configurations
    ("search --config nothing --workdir new", "no configuration 'nothing'; give one of fivek_paper, general"),
    ("search --config=nothing --workdir new", "no configuration 'nothing'"),
    ("search --config nothing.py --workdir new", "configuration nothing.py does not exist"),
    ("search nothing --workdir new", "no configuration 'nothing'; give one of fivek_paper, general"),
    ("search tiny --workdir new --config lol", "two configurations are given, tiny and --config lol: give only one"),
    ("train --config broken.py --genotype published --workdir new", "broken.py raised ZeroDivisionError"),
    # genotypes
    (f"{TRAIN} images --genotype missing.json", "missing.json: no such file"),
    (f"{TRAIN} images --genotype file", "file: genotype: invalid JSON"),
    (f"{TRAIN} images --genotype images", "images: cannot be read"),
    (f"{TRAIN} images --genotype images/0.png", "images/0.png: cannot be read"),
    (f"{TRAIN} images --genotype unknown_edge.json", "unknown_edge.json: genotype, illumination: unknown distil_1"),
    (f"{TRAIN} images --genotype unknown_operation.json", "illumination, remain_1: unknown operation 'conv_9x9'"),
    # enhancement
    ("enhance images --checkpoint missing --out new", "no checkpoint at missing"),
    ("enhance images --checkpoint model --pretrained lol", "--checkpoint and --pretrained exclude each other"),
    ("enhance images --checkpoint empty --out new", "no checkpoint at empty"),
    ("enhance images --checkpoint file --out new", "no checkpoint at file"),
    ("enhance images --checkpoint damaged --out new", "checkpoint damaged/checkpoint is damaged: arrays/_METADATA"),
    (f"{ENHANCE} missing.png", "missing.png: no such file or folder"),
    (f"{ENHANCE} empty", "empty: the folder holds no image"),
    (f"{ENHANCE} file", "file: not a supported image"),
    (f"{ENHANCE} images one", "would both be written as 0.png"),
    (f"{ENHANCE}", "no image to enhance"),
    (f"{ENHANCE} images --strength 1.5", "--strength must be between 0 and 1, not 1.5"),
    (f"{ENHANCE} images --strength nan", "--strength must be between 0 and 1, not nan"),
    (f"{ENHANCE} images --quality 0", "--quality must be between 1 and 100, not 0"),
    ("enhance images/0.png --checkpoint model --out new.gif", "--out new.gif: GIF cannot be written: choose .png"),
    ("enhance images --checkpoint model --out new.jpg", "--out new.jpg is the name of a file, but images is a folder"),
    ("enhance images/0.png one/0.png --checkpoint model --out new.jpg", "name of a file, but there are 2 inputs"),
    ("enhance images/0.png --checkpoint model --out images/1.png", "images/1.png exists already; choose another --out"),
    ("enhance images/0.png --checkpoint model --out images/0.png", "images/0.png: the output would replace the input"),
    ("enhance images/0.png --checkpoint model --out file/new.jpg", "--out file/new.jpg: cannot be written"),
    ("enhance images/0.png --checkpoint model --out images", "images/0.png: the output would replace the input"),
    ("enhance images --checkpoint model --out file", "--out file: cannot be written"),
    ("enhance images --checkpoint model --out file/below", "--out file/below: cannot be written"),
    # evaluation
    (f"{EVALUATE} --low images --high missing", "missing does not exist"),
    (f"{EVALUATE} --low empty --high images", "empty holds no image"),
    (f"{EVALUATE} --low others --high images", "others/2.png has no partner named 2.* in images"),
    (f"{EVALUATE} --low images --high others", "others/2.png has no partner named 2.* in images"),
    (f"{EVALUATE} --low images --high wide", "pair 0: low is 20x16 but high is 24x16"),
    (f"{EVALUATE} --low headless --high images", "headless/1.png"),
    ("evaluate --checkpoint damaged --json new.json --low images --high images", "damaged/checkpoint is damaged"),
    ("evaluate --checkpoint model --json file/new.json --low images --high images", "file/new.json: cannot be written"),
    ("evaluate --checkpoint model --json images --low images --high images", "'images': cannot be written"),
    (f"{SEARCH} images --seed 99999999999999999999 --workdir new", "--seed must be less than"),
    (f"{SEARCH} images --loss.eta-t inf --workdir new", "--loss.eta-t must be at least 0 and finite, not inf"),
    (f"{SEARCH} images --network.smoothing -0.01 --workdir new", "--network.smoothing must be at least 0"),
    (f"{SEARCH} images --network.illumination.floor 2 --workdir new", "--network.illumination.floor must be at most"),
    (f"{SEARCH} images --search.weight-optimizer.clip 0 --workdir new", "`optimizer.clip` must be at least"),
    ("demo --out .", "cannot be the current folder"),
    # released weights
    ("import missing.npz --out new", "missing.npz: cannot read the weights"),
    ("import file --out new", "file: cannot read the weights"),
    ("import weights.npz --out new", "released weights: no array 'enhance_net.iems."),
    ("import weights.npz --out new --genotype missing.json", "missing.json: no such file"),
    ("import weights.npz --out model", "model holds a checkpoint already; choose another --out, or set --overwrite"),
    # the demo
    ("demo --out images", "images exists and is not an earlier demo"),
    ("demo --out file/below", "--out file/below: cannot be written"),
  ],
)
def test_bad_input_gets_one_line(command, said, place, capfd):
  assert ruas(*command.split()) == 1
  lines = capfd.readouterr().err.splitlines()
  assert len(lines) == 1 and lines[0].startswith("ruas: "), lines
  assert said in lines[0]


@pytest.mark.parametrize(
  "command, said",
  [
    ("serch --workdir new", "search, train, enhance, evaluate, import, export, demo, hypergrad, latency"),
    ("search --workdir new --search.step 3", "--search.steps"),
    ("search --workdir new --search.hypergradiant unrolled", "--search.hypergradient"),
    ("train --workdir new --genotype published --training.step 3", "--training.steps"),
    ("enhance images --checkpoint model --out new --strenght 0.5", "--strength"),
    ("evaluate --low a --high b --checkpoint c --jason d", "--json"),
    ("search", "--workdir"),
    ("train --workdir new", "--genotype"),
    ("enhance images --pretrained all --out new", "--pretrained"),
    ("import", "RELEASED"),
    ("search --workdir new --seed one", "--seed"),
    ("search --workdir new --search.strategy greedy", "cooperative"),
    ("enhance images --checkpoint model --out new --variant n", "i+n"),
    ("search --config", "--config"),
    ("hypergrad --stat w", "--state"),
    ("hypergrad --module both", "illumination"),
  ],
)
def test_wrong_options_are_refused_with_what_was_meant(command, said, place, capfd):
  assert ruas(*command.split()) == 2
  lines = capfd.readouterr().err.splitlines()
  assert len(lines) == 1 and lines[0].startswith("ruas: ") and said in lines[0], lines


@pytest.mark.parametrize(
  "command, options",
  [
    ("", ["search", "train", "enhance", "evaluate", "import", "demo", "hypergrad", "latency"]),
    ("search", ["--config", "--workdir", "--seed", "--data.train", "--data.val", "--search.steps"]),
    ("search", ["--fresh", "--overwrite", "--checkpoint.every", "--mesh.population", "--mesh.data", "--distributed"]),
    ("train", ["--config", "--workdir", "--genotype", "--data.train", "--training.steps", "--network.variant"]),
    ("enhance", ["INPUT...", "--checkpoint", "--pretrained", "--out", "--recursive", "--quality", "--strength"]),
    ("enhance", ["--variant", "--overwrite"]),
    ("evaluate", ["--low", "--high", "--checkpoint", "--pretrained", "--json", "--variant"]),
    ("import", ["--out", "--variant", "--genotype", "--overwrite"]),
    ("demo", ["--out"]),
    ("hypergrad", ["--state", "--data.train", "--module", "--crop", "--smoothing", "--out", "--json", "--quick"]),
  ],
)
def test_help(command, options, capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "200")
  assert ruas(*command.split(), "--help") == 0
  output = capsys.readouterr()
  assert output.err == ""
  for option in options:
    assert option in output.out


def help_texts(shown):
  """The text of every option in the output of `--help`, without its default, by the option."""
  texts, positional = {}, False
  for row in shown.replace("│", " ").splitlines():
    if re.match(r" ?\w|╭", row):  # the title of a group
      positional = "positional" in row
    elif re.match(r"  \w" if positional else r"  -[\w.-]+\b[ ,]", row):
      option, *first = re.split(r"\s{2,}", row.strip(), maxsplit=1)
      texts[option] = " ".join(first)
    elif texts and row.startswith("   "):
      texts[option] += f" {row.strip()}"
  return {option: re.sub(r"\((default: .*|required)\)$", "", text.strip()).strip() for option, text in texts.items()}


@pytest.mark.parametrize("command", app._COMMANDS)
def test_every_option_has_a_help_text(command, capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "100")  # one column of options
  assert ruas(command, "--help") == 0
  texts = help_texts(capsys.readouterr().out)
  assert texts["-h, --help"] == "show this help message and exit"
  assert [option for option, text in texts.items() if not text] == []


def test_no_arguments_show_the_help(capsys):
  assert ruas() == 0
  assert "enhance" in capsys.readouterr().out


def test_help_shows_the_values_of_the_configuration(capsys, monkeypatch):
  monkeypatch.setenv("COLUMNS", "200")
  assert ruas("search", "--config", tiny_problem.CONFIG, "--help") == 0
  assert "(default: 8)" in capsys.readouterr().out  # its crop


def test_a_truncated_image_does_not_stop_the_others(made, tmp_path, capfd):
  model, cut = made / "model", made / "cut"
  assert ruas("enhance", cut, "--checkpoint", model, "--out", tmp_path / "out") == 1
  output = capfd.readouterr()
  assert "1 enhanced" in output.out
  assert len(output.err.splitlines()) == 1 and f"{cut / '1.png'}: " in output.err
  assert os.listdir(tmp_path / "out") == ["0.png"]
  with Image.open(tmp_path / "out" / "0.png") as image:
    assert image.size == (tiny_problem.WIDTH, tiny_problem.HEIGHT)


def test_enhance_options_reach_the_files(made, tmp_path, capsys):
  source, out = made / "images" / "0.png", tmp_path / "out"

  def enhanced(*arguments):
    assert ruas("enhance", source, "--checkpoint", made / "model", "--out", out, "--overwrite", *arguments) == 0
    return np.asarray(Image.open(out / "0.png")).astype(int)

  original = np.asarray(Image.open(source))
  whole, lit = enhanced(), enhanced("--variant", "i")
  np.testing.assert_array_equal(enhanced("--strength", "0"), original)
  assert np.abs(enhanced("--strength", "0.5") - (original + whole) / 2).max() <= 0.76
  assert (lit != whole).any()
  assert ruas("enhance", source, "--checkpoint", made / "model", "--out", out) == 1
  assert "--overwrite" in capsys.readouterr().err


def test_bundled_weights_enhance_where_no_checkpoint_is_named(made, tmp_path, capsys):
  source = made / "images" / "0.png"
  for name, arguments in (("general", ()), ("lol", ("--pretrained", "lol"))):
    assert ruas("enhance", source, "--out", tmp_path / name, *arguments) == 0
    image = np.asarray(Image.open(source), np.float32) / 255
    expected = np.asarray(jax.jit(enhance)(load_pretrained(name), image))
    result = np.asarray(Image.open(tmp_path / name / "0.png")).astype(float)
    assert np.abs(result - 255 * expected).max() <= 0.51
    assert result.mean() > 255 * image.mean() * 1.5
  capsys.readouterr()


def test_the_program_itself_prints_one_line_for_a_damaged_checkpoint(made):
  code = "from ruas_jax.commands.app import main; main()"
  command = [sys.executable, "-c", code, "enhance", "images", "--checkpoint", "damaged", "--out", "new"]
  environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).resolve().parents[1])}
  result = subprocess.run(command, cwd=made, env=environment, capture_output=True, text=True)
  assert (result.returncode, result.stdout) == (1, "")
  assert result.stderr.startswith("ruas: checkpoint damaged/checkpoint is damaged: ") and result.stderr.count("\n") == 1


def test_released_weights_are_imported_exactly(tmp_path, capsys):
  released, golden = shared("reference/checkpoint_lol.npz"), np.load(shared("reference/golden_forward_lol.npz"))
  common = ("import", released, "--out", tmp_path / "model")
  assert ruas(*common) == 0
  assert "3438 parameters, variant i+n" in capsys.readouterr().out
  model = load(tmp_path / "model")
  assert (model.options.variant, model.genotype) == ("i+n", PUBLISHED)
  y = jnp.asarray(golden["y"])
  np.testing.assert_allclose(jax.jit(enhance)(model, y), np.clip(golden["x"], 0, 1), rtol=0, atol=1e-5)
  lit = jax.jit(enhance)(model.with_variant("i"), y)
  np.testing.assert_allclose(lit, np.clip(golden["u"][-1], 0, 1), rtol=0, atol=1e-5)
  assert ruas(*common, "--overwrite", "--variant", "i") == 0
  assert "1161 parameters, variant i" in capsys.readouterr().out
  assert load(tmp_path / "model").options.variant == "i"
  assert load(tmp_path / "model").weights_sha256() == model.weights_sha256()


@pytest.mark.parametrize("cell", ["illumination", "denoising"])
def test_released_weights_of_another_genotype_are_refused(cell, tmp_path, capsys):
  released = shared("reference/checkpoint_lol.npz")
  dataclasses.replace(PUBLISHED, **{cell: ("conv_3x3",) * 7}).save(tmp_path / "other.json")
  assert ruas("import", released, "--out", tmp_path / "model", "--genotype", tmp_path / "other.json") == 1
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 1 and lines[0].startswith("ruas: released weights: ") and "genotype" in lines[0]
  assert not (tmp_path / "model").exists()


def test_errors_of_the_api_name_fields_and_the_command_line_its_options():
  message = "`workdir` a: `loss.eta_t` of `optimizer.clip`; set `overwrite`"
  assert spell_options(message, Search) == "--workdir a: --loss.eta-t of `optimizer.clip`; set --overwrite"
  assert spell_options(message, Info) == message


def test_messages_outside_the_commands_name_arguments_in_backticks_and_nothing_else():
  """A caller of the Python API has no options of a command line."""
  package = pathlib.Path(ruas_jax.__file__).parent
  arguments = {name for kind in (Search, Train, Enhance, Export, Hypergrad, Import) for name in paths(kind)}
  arguments |= {"batch_size", "repeat", "sweep"}  # of `ruas_jax.search` for any problem
  arguments |= {"network", "search"}  # a message may name any of their options
  arguments |= {"ruas latency"}
  for file in sorted(set(package.rglob("*.py")) - set((package / "commands").rglob("*.py"))):
    for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
      if getattr(call.func, "id", "") in ("UserError", "Refused", "Skipped", "say", "print"):
        message = re.sub(r"\{.*?\}", "", ast.unparse(call))
        assert not re.search(r"(?<![\w-])--[a-z]", message), (file, message)
        assert {name.strip(".") for name in re.findall("`([^`]*)`", message)} - {""} <= arguments, (file, message)


def test_the_last_of_two_configurations_counts():
  """As the last of any option does."""
  assert experiment._named_config(["search", "--config", "lol", "--config=tiny"]) == "tiny"


def test_a_configuration_may_be_the_first_argument():
  arguments, named = ["--workdir", "w"], ["--config", tiny_problem.CONFIG]
  first = experiment.with_config(Search, [tiny_problem.CONFIG, *arguments])
  assert first == (arguments, experiment.with_config(Search, [*arguments, *named])[1])
  assert first[1].config == tiny_problem.CONFIG and first[1].data.crop == 8
