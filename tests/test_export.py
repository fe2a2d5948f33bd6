"""Exported files: what they compute, what they say of themselves, and that a wrong one is never written."""

import importlib.util
import json
import pathlib
import re
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_problem import NETWORK, dark_images, fresh_model, ruas

from ruas_jax.convolution.parts import whole
from ruas_jax.convolution.primitives import convolve, square_taps
from ruas_jax.errors import UserError
from ruas_jax.export import check
from ruas_jax.export.files import LICENCES, export_model
from ruas_jax.export.layout import DenseLayout, grid
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.options import RELEASED, DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.photos.model import Model, enhance, save_model
from ruas_jax.photos.pretrained import load_pretrained

ROOT = pathlib.Path(__file__).parents[1]
MISSING = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}, which the extra `export` installs")
IMAGES = np.stack(dark_images(2)).astype(np.float32) / 255


@pytest.fixture(autouse=True)
def one_size(monkeypatch):
  """Every size is compiled: one is enough for a test, and it is small."""
  monkeypatch.setattr(check, "SIZES", ((13, 18),))


def untrained(options):
  genotype = Genotype.named("published")
  return Model(jax.jit(build_network(options, genotype).init_weights)(jax.random.key(1)), genotype, options)


def numbers(differences):
  return [difference.largest for difference in differences]


@pytest.mark.parametrize(
  "taps, size, dilation",
  [
    (((0, 0),), (1, 1), (1, 1)),
    (square_taps(3, 2), (3, 3), (2, 2)),
    (((-1, 0), (0, 0), (2, 4)), (5, 3), (1, 4)),
  ],
)
def test_a_dense_convolution_is_that_of_its_taps(taps, size, dilation):
  assert grid(taps) == (size, dilation)
  rng = np.random.default_rng(0)
  image, kernel, bias = (
    jnp.asarray(rng.random(shape, np.float32)) for shape in ((1, 2, 6, 7), (len(taps), 3, 2), (3,))
  )
  layout = DenseLayout()
  dense = layout.convolve([whole(image)], layout.kernel(kernel, taps), bias, taps)
  np.testing.assert_allclose(dense, convolve(image, kernel, taps, bias), rtol=1e-5)


def test_stablehlo_of_windows_is_read_back(tmp_path):
  model, path = load_pretrained("general"), tmp_path / "model.stablehlo"
  done = export_model(path, model, name="general", licence="a licence", windows=True)
  assert path.stat().st_size == done.size <= 100_000
  assert len(done.differences) == 1 and max(numbers(done.differences)) <= 1e-5
  read = jax.export.deserialize(bytearray(path.read_bytes()))
  assert read.platforms == ("cpu", "cuda", "tpu")
  assert b"ruas_convolve" not in path.read_bytes()  # the compiled call of this package
  about = json.loads(read.fun_name)
  assert about["licence"] == "a licence" and about["variant"] == "i+n"
  assert about["weights_sha256"] == model.weights_sha256()
  assert about["input"].endswith("; mean: float32 [batch], that of the whole image")
  assert int(about["reach"]) == model.network.reach("i+n")
  mean = IMAGES.mean(axis=(1, 2, 3))
  assert float(jnp.abs(read.call(IMAGES, mean) - read.call(IMAGES, 2 * mean)).max()) > 1e-3


FORMS = {
  "the paper's": NETWORK,
  "released": RELEASED,
  "all others": NetworkOptions(
    illumination=IlluminationOptions(
      stages=2,
      one_illumination=True,
      share_weights=True,
      exponent=0.8,
      window="forward",
      region=4,
      adaptive=True,
      brightness="brightest",
    ),
    denoising=DenoisingOptions(stages=2, guided=True, channels=4),
  ),
  "in linear light": NetworkOptions(
    illumination=IlluminationOptions(stages=2, region=1, adaptive=True, curve="exponential", light="linear"),
    denoising=DenoisingOptions(stages=1, guided=True),
  ),
}


def test_the_guide_reads_a_file_back(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL)
  values = {}
  exec(block, values)
  assert capsys.readouterr().out == "i+n (1, 20, 30, 3)\n"
  expected = enhance(load_pretrained("general"), jnp.full((20, 30, 3), 0.05))
  np.testing.assert_allclose(values["bright"][0], expected, atol=1e-5)


@needs_onnx
@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
def test_onnx_computes_what_the_model_computes(options, tmp_path):
  import onnx

  model = untrained(options)
  done = export_model(tmp_path / "model.onnx", model, name="a name", licence="a licence")
  assert {difference.result for difference in done.differences} == {"result", "illuminated"}
  assert max(numbers(done.differences)) <= 1e-5 and done.size <= 100_000
  written = onnx.load(tmp_path / "model.onnx")
  assert [opset.version for opset in written.opset_import] == [17]
  about = {entry.key: entry.value for entry in written.metadata_props}
  assert about["name"] == "a name" and about["weights_sha256"] == model.weights_sha256()
  sides = [side.dim_param or side.dim_value for side in written.graph.input[0].type.tensor_type.shape.dim]
  assert sides == ["batch", "height", "width", 3]


@needs_onnx
def test_windows_of_an_image_are_its_parts(tmp_path):
  import onnxruntime

  model = load_pretrained("general").with_variant("i")
  export_model(tmp_path / "model.onnx", model, name="general", licence="", windows=True)
  session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
  image = np.concatenate([IMAGES[:1], IMAGES[1:]], axis=1)
  compute = lambda image, mean: session.run(["result"], {"image": image, "mean": np.array([mean], np.float32)})[0]
  whole = compute(image, image.mean())
  halo = model.network.reach("i")
  part = compute(image[:, : 5 + halo], image.mean())[:, :5]
  assert 5 + halo < image.shape[1]
  np.testing.assert_allclose(part, whole[:, :5], atol=1e-6)


@needs_onnx
def test_the_example_needs_only_the_file(tmp_path, monkeypatch, capsys):
  model = load_pretrained("lol")
  assert ruas("export", tmp_path / "model.onnx", "--pretrained", "lol", "--licence", "mine") == 0
  assert re.search(r"model.onnx: \d\d\.\d kB; largest difference at 1 sizes \de-0\d\n", capsys.readouterr().out)
  Image.fromarray(dark_images(1)[0]).save(tmp_path / "dark.png")
  monkeypatch.setattr(
    sys, "argv", ["onnx_enhance.py", *(str(tmp_path / n) for n in ("model.onnx", "dark.png", "b.png"))]
  )
  runpy.run_path(str(ROOT / "examples" / "onnx_enhance.py"), run_name="__main__")
  assert "by lol, variant i+n, licence mine" in capsys.readouterr().out
  expected = np.asarray(enhance(model, dark_images(1)[0] / np.float32(255))) * 255
  assert np.abs(np.asarray(Image.open(tmp_path / "b.png")) - expected).max() <= 0.51


def test_another_result_is_not_written(tmp_path, monkeypatch):
  monkeypatch.setattr(check, "LARGEST_DIFFERENCE", 0.0)
  with pytest.raises(UserError, match=r"model.stablehlo: not written: result at .* differs by .*e-"):
    export_model(tmp_path / "model.stablehlo", fresh_model(), name="", licence="")
  assert not list(tmp_path.iterdir())


def test_not_a_number_is_another_result():
  model = fresh_model()
  with pytest.raises(UserError, match="differs by nan"):
    check.compare(model, lambda images, _: {"result": np.full_like(images, np.nan)})


def test_without_the_extra(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  assert ruas("export", tmp_path / "model.onnx") == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert 'ONNX needs the extra export: pip install "ruas-jax[export]"' in line
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "arguments, said",
  [
    (["model.pt"], "model.pt: its name must end in .onnx or .stablehlo"),
    (["there.stablehlo"], "there.stablehlo exists already; set --overwrite to replace it"),
    (["file/model.stablehlo"], "file/model.stablehlo: cannot be written"),
    (["folder.stablehlo"], "folder.stablehlo': cannot be written (it is a folder)"),
    (["new.stablehlo", "--checkpoint", "nothing"], "nothing"),
    (["new.stablehlo", "--checkpoint", "plain", "--windows"], "--windows is only for a model whose illumination is"),
  ],
)
def test_mistakes_are_one_line_and_leave_nothing(arguments, said, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "folder.stablehlo").mkdir()
  for name in ("there.stablehlo", "file"):
    (tmp_path / name).write_text("as it was")
  if "plain" in arguments:
    save_model("plain", fresh_model())
  before = sorted(tmp_path.rglob("*"))
  assert ruas("export", *arguments) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert said in line
  assert sorted(tmp_path.rglob("*")) == before
  assert (tmp_path / "there.stablehlo").read_text() == "as it was"


def test_the_licences_are_those_of_the_model_card():
  card = (ROOT / "ruas_jax" / "photos" / "weights" / "README.md").read_text()
  row = next(line for line in card.splitlines() if line.startswith("| licence"))
  _, general, lol = (cell.strip() for cell in row.strip("| ").split("|"))
  assert general.startswith(LICENCES["general"])
  assert "without a stated licence: check whether your use allows it" in lol and LICENCES["lol"].endswith(
    "without a stated licence: check whether your use allows it"
  )


def record(name):
  return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())["results"]


def test_the_figures_of_the_guides_are_those_of_the_records():
  export, browser = ((ROOT / "docs" / f"{name}.md").read_text() for name in ("export", "browser"))
  results = record("exported")
  assert len(results["differences"]) == 8 and len(results["speed"]) == 4
  for row in results["differences"]:
    (line,) = (line for line in export.splitlines() if line.startswith(f"| `{row['weights']}` | `{row['variant']}` |"))
    largest = max(value for name, value in row.items() if re.fullmatch(r"\d+x\d+", name))
    assert f"{row['kilobytes']:.1f} kB" in line and f"{largest:.1e}" in line
  for row in results["speed"]:
    seconds = [row[f"{name}_seconds"] for name in ("ours", "onnxruntime")]
    texts = [f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s" for value in seconds]
    assert f"| `{row['variant']}` | {' | '.join(texts)} | {row['times_ours']:.1f} times as long |" in export
  cells = {"seconds": "{:.1f} s", "peak_megabytes": "{:.0f} MB", "page_thread_seconds": "{:.2f} s"}
  for name, form in (cells | {"largest_levels": "{:.2f}"}).items():
    assert " | ".join(form.format(row[name]) for row in record("browser")) in browser
  assert [row["requests_elsewhere"] for row in record("browser")] == [[], []]
