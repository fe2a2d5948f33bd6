"""The front of cost and loss that a population writes."""

import pytest

from ruas_jax.experiments.front import front_of
from ruas_jax.plots import plot_front


def row(name, cost, loss, **values):
  return {"name": name, "cost": cost, "loss": loss, "values": {f"search.{key}": value for key, value in values.items()}}


ROWS = [row("a", 90, 0.1, cost_weight=0.0), row("b", 40, 0.2, cost_weight=0.1), row("c", 50, 0.3, cost_weight=1.0)]


def test_a_front_by_hand():
  front = front_of(ROWS, cost="macs", largest=100, loss="loss")
  assert [(point["name"], point["relative_cost"], point["on_front"]) for point in front["points"]] == [
    ("b", 0.4, True), ("c", 0.5, False), ("a", 0.9, True),
  ]  # fmt: skip
  assert front["reference"] == {"cost": 100, "loss": 0.3}
  assert front["hypervolume"] == pytest.approx(0.6 * 0.1 + 0.1 * 0.1)


def test_the_picture_labels_what_is_on_the_front(tmp_path, monkeypatch):
  figures = []
  monkeypatch.setattr("ruas_jax.plots.front.save_figure", lambda figure, path: figures.append(figure))
  plot_front(tmp_path / "front.png", front_of(ROWS, cost="macs", largest=100, loss="loss"))
  axis = figures[0].axes[0]
  assert [text.get_text() for text in axis.texts] == ["cost weight 0.1", "cost weight 0"]
  dominated, best = (collection.get_offsets().tolist() for collection in axis.collections)
  assert dominated == [[50, 0.3]] and best == [[40, 0.2], [90, 0.1]]
  assert "multiply-accumulates" in axis.get_xlabel()
