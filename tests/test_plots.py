"""Each plot is a whole PNG whose pixels carry what it was given."""

import io
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ruas_jax import plots
from ruas_jax.errors import UserError
from ruas_jax.lowlight.genotype import EDGES, PUBLISHED, SHORT_NAMES, Genotype
from ruas_jax.plots.losses import running_median

OPERATIONS = tuple(SHORT_NAMES)


def _pixels(path):
  """RGB float pixels of a PNG, which must be whole and alone in its folder."""
  assert [file.name for file in path.parent.iterdir()] == [path.name]
  with Image.open(io.BytesIO(path.read_bytes())) as image:
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"), np.float32) / 255.0


def _near(pixels, color, tolerance=0.02):
  return np.abs(pixels - np.asarray(color)).max(axis=-1) < tolerance


def _drawn(monkeypatch):
  """Collects the figures that are written."""
  figures = []
  save = Figure.savefig
  monkeypatch.setattr(Figure, "savefig", lambda figure, *to, **how: (figures.append(figure), save(figure, *to, **how)))
  return figures


def test_alpha_boxes_mark_the_chosen_operations(tmp_path, monkeypatch):
  figures = _drawn(monkeypatch)
  alpha = np.zeros((7, 7))
  chosen = [3, 0, 6, 1, 5, 2, 4]
  alpha[np.arange(7), chosen] = 1.0
  plots.plot_alpha(tmp_path / "alpha.png", {"illumination": alpha, "denoising": alpha + 5.0}, OPERATIONS)
  assert _near(_pixels(tmp_path / "alpha.png"), (0.839, 0.153, 0.157)).any()  # the boxes' red

  left, right = (axis for axis in figures[0].axes if axis.get_images())
  assert left.get_title().startswith("IEM") and right.get_title().startswith("NRM")
  shares = np.asarray(left.get_images()[0].get_array())
  np.testing.assert_allclose(shares.sum(axis=1), 1.0)
  np.testing.assert_allclose(shares[0, 3], np.e / (np.e + 6))
  np.testing.assert_allclose(right.get_images()[0].get_array(), shares)  # softmax does not see a shift
  for axis in (left, right):
    boxes = [(patch.get_y() + 0.5, patch.get_x() + 0.5) for patch in axis.patches]
    assert boxes == list(enumerate(chosen))
    assert [text.get_text() for text in axis.texts][:4] == ["0.11", "0.11", "0.11", "0.31"]
    assert [tick.get_text() for tick in axis.get_xticklabels()][:2] == ["skip", "conv 1×1"]
  assert [tick.get_text() for tick in left.get_yticklabels()] == [edge.replace("_", " ") for edge in EDGES]


@pytest.mark.parametrize("alpha", [np.zeros((7, 6)), np.full((7, 7), np.nan)])
def test_alpha_that_has_no_heat_map_is_refused_without_a_file(tmp_path, alpha):
  with pytest.raises(UserError, match="alpha of denoising"):
    plots.plot_alpha(tmp_path / "alpha.png", {"denoising": alpha}, OPERATIONS)
  assert not list(tmp_path.iterdir())


def test_losses_are_sorted_into_panels(tmp_path, monkeypatch):
  figures = _drawn(monkeypatch)
  records = [
    {"step": step, "illumination_train_loss": 100.0 / step, "illumination_validation_loss": 50.0 / step,
     "validation_loss": 1.0 + 0.1 * step, "denoising_loss": None if step == 2 else -1.0, "rate": 0.1}
    for step in range(1, 101)
  ]  # fmt: skip
  records += [{"step": 3, "validation_loss": 9.0}, {"event": "checkpoint"}, {"loss": 1.0}]
  plots.plot_losses(tmp_path / "losses.png", records)
  assert _pixels(tmp_path / "losses.png").std() > 0.01

  panels = {axis.get_title(): axis for axis in figures[0].axes}
  assert list(panels) == ["IEM (illumination)", "NRM (noise removal)", "both modules"]
  labels = [[text.get_text() for text in axis.get_legend().get_texts()] for axis in panels.values()]
  assert labels == [["train", "validation"], ["loss"], ["validation"]]
  assert [axis.get_yscale() for axis in panels.values()] == ["log", "linear", "linear"]
  steps, losses = panels["both modules"].lines[0].get_data()
  np.testing.assert_array_equal(steps, np.arange(1, 101))
  assert losses[2] == 9.0  # a repeated step: the later record counts
  assert np.isnan(panels["NRM (noise removal)"].lines[0].get_ydata()[1])


def test_running_median_ignores_an_outlier_and_keeps_the_ends():
  values = np.arange(200.0)
  values[100] = 1e6
  smooth = running_median(values)
  assert smooth.shape == values.shape
  np.testing.assert_allclose(smooth[20:90], np.arange(20.0, 90.0))
  assert smooth[100] < 110 and smooth[0] == 2.5  # the median of the six values 0..5
  np.testing.assert_array_equal(running_median(values[:30]), values[:30])


@pytest.mark.parametrize("records", [[], [{"step": 1, "accuracy": 1.0}], [{"loss": 1.0}]])
def test_losses_without_a_loss_are_refused(tmp_path, records):
  with pytest.raises(UserError, match=r"losses\.png: nothing to draw"):
    plots.plot_losses(tmp_path / "losses.png", records)


def _flat(color):
  return np.full((4, 6, 3), color, np.float32)


def test_before_after_shows_every_picture_at_the_same_size(tmp_path):
  blue, green, red = (0.0, 0.0, 0.2), (0.2, 0.8, 0.2), (0.8, 0.0, 0.0)
  rows = [
    {"name": "first", "input": _flat(blue), "output": _flat(green), "reference": _flat(red),
     "captions": {"output": "15.2 dB"}},
    {"name": "second", "input": _flat(blue), "output": _flat(green)},
  ]  # fmt: skip
  plots.plot_before_after(tmp_path / "grid.png", rows)
  pixels = _pixels(tmp_path / "grid.png")
  one = 3.2 * 120 * 3.2 * 120 * 4 / 6  # pixels of one picture
  for color, count in ((blue, 2), (green, 2), (red, 1)):
    assert _near(pixels, color).sum() == pytest.approx(count * one, rel=0.02)


def test_before_after_columns_and_captions(tmp_path, monkeypatch):
  figures = _drawn(monkeypatch)
  rows = [{"name": "night", "input": _flat(0.1), "output": _flat(0.4), "captions": {"output": "15.2 dB, 0.71"}}]
  plots.plot_before_after(tmp_path / "grid.png", rows, titles={"output": "RUAS"}, amplify=True)
  axis = figures[0].axes[0]
  texts = [text.get_text() for text in axis.texts]
  assert texts == ["input", "amplified", "RUAS", "night", "", "× 4.0", "15.2 dB, 0.71"]
  shown = [image.get_array() for image in axis.get_images()]
  np.testing.assert_allclose(shown[1], 0.4, rtol=1e-6)


def test_genotype_is_drawn_with_every_edge(tmp_path, monkeypatch):
  figures = _drawn(monkeypatch)
  path = tmp_path / "genotype.png"
  plots.draw_genotype(path, PUBLISHED)
  published = _pixels(path)
  for axis, cell in zip(figures[0].axes, (PUBLISHED.illumination, PUBLISHED.denoising), strict=True):
    texts = [text.get_text().replace("\n", " ") for text in axis.texts]
    for name in set(cell):
      assert texts.count(name.replace("_", " ").replace("x", "×")) == cell.count(name)
    assert {edge.replace("_", " ") for edge in EDGES} <= set(texts)
  plots.draw_genotype(path, Genotype(PUBLISHED.illumination, ("somebody_s_own",) * 7))
  height = len(published) // 2
  np.testing.assert_array_equal(_pixels(path)[:height], published[:height])
  assert (_pixels(path)[height:] != published[height:]).any()


def test_pyplot_is_not_imported():
  code = "import sys; import ruas_jax.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
