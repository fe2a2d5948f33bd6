"""Genotypes: derivation, validation, and both written forms."""

import dataclasses
import json

import numpy as np
import pytest

from ruas_jax.errors import UserError
from ruas_jax.lowlight.genotype import EDGES, PUBLISHED, SHORT_NAMES, Genotype

OPERATIONS = tuple(SHORT_NAMES)


def _alpha(names):
  """Logits whose largest entry of each row is the named operation's, far from one-hot."""
  alpha = np.random.default_rng(0).uniform(-3.0, -2.0, (len(EDGES), len(OPERATIONS)))
  alpha[np.arange(len(EDGES)), [OPERATIONS.index(name) for name in names]] = -1.9
  return alpha


def test_published_names_follow_the_edge_order():
  assert PUBLISHED.illumination == (
    "skip", "residual_conv_1x1", "residual_dilated_conv_3x3", "conv_3x3", "conv_3x3", "skip", "conv_3x3",
  )  # fmt: skip
  assert PUBLISHED.denoising == (
    "residual_conv_1x1", "residual_conv_1x1", "residual_dilated_conv_3x3", "skip", "residual_conv_1x1",
    "residual_conv_1x1", "skip",
  )  # fmt: skip
  assert Genotype.named("published") == PUBLISHED
  with pytest.raises(UserError, match=r"'best'.*published"):
    Genotype.named("best")


def test_derive_takes_the_strongest_operation_of_each_edge():
  derived = Genotype.derive(_alpha(PUBLISHED.illumination), _alpha(PUBLISHED.denoising), OPERATIONS)
  assert derived == PUBLISHED
  assert hash(derived) == hash(PUBLISHED)


def test_derive_takes_the_first_on_ties():
  alpha = np.zeros((7, 7), np.float32)
  later = alpha.copy()
  later[:, 3:] = 1.0
  derived = Genotype.derive(alpha, later, OPERATIONS)
  assert derived == Genotype(("skip",) * 7, ("dilated_conv_3x3",) * 7)


def test_derive_allows_a_masked_operation():
  alpha = np.zeros((7, 7))
  alpha[:, 0] = -np.inf
  assert set(Genotype.derive(alpha, alpha, OPERATIONS).denoising) == {"conv_1x1"}


@pytest.mark.parametrize("row", [[np.nan] + [1.0] * 6, [np.inf] + [0.0] * 6, [-np.inf] * 7])
def test_derive_refuses_undefined_softmax(row):
  alpha = np.zeros((7, 7))
  alpha[3] = row
  with pytest.raises(UserError, match="alpha of denoising, remain_2"):
    Genotype.derive(np.zeros((7, 7)), alpha, OPERATIONS)


def test_derive_refuses_another_shape():
  with pytest.raises(UserError, match=r"alpha of illumination: shape \(7, 6\), expected \(7, 7\)"):
    Genotype.derive(np.zeros((7, 6)), np.zeros((7, 7)), OPERATIONS)


@pytest.mark.parametrize(
  "names", [("skip",) * 6, ("skip",) * 8, "skipped", (*("skip",) * 6, ""), (*("skip",) * 6, "a b")]
)
def test_a_cell_holds_seven_names(names):
  with pytest.raises(UserError, match="genotype, denoising"):
    Genotype(PUBLISHED.illumination, names)


def test_is_frozen_and_hashable_even_from_lists():
  genotype = Genotype(list(PUBLISHED.illumination), list(PUBLISHED.denoising))
  assert {genotype: 1}[PUBLISHED] == 1
  with pytest.raises(dataclasses.FrozenInstanceError):
    genotype.illumination = ()


def test_require_names_the_unknown_operation():
  PUBLISHED.require(OPERATIONS)
  with pytest.raises(UserError, match="genotype, illumination, distill_1: unknown operation 'skip'"):
    PUBLISHED.require(OPERATIONS[1:])


def test_json_has_edges_as_keys_and_comes_back():
  record = json.loads(PUBLISHED.to_json())
  assert tuple(record) == ("illumination", "denoising")
  assert tuple(record["illumination"]) == EDGES
  assert record["denoising"]["remain_2"] == "skip"
  assert Genotype.from_json(PUBLISHED.to_json()) == PUBLISHED


def test_json_edges_may_come_in_any_order():
  record = {cell: dict(reversed(edges.items())) for cell, edges in json.loads(PUBLISHED.to_json()).items()}
  assert Genotype.from_json(json.dumps(record)) == PUBLISHED


def _without(record, cell, edge):
  return {**record, cell: {key: name for key, name in record[cell].items() if key != edge}}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda record: _without(record, "denoising", "remain_1"), "genotype, denoising: missing remain_1"),
    (lambda record: {**record, "denoising": {**record["denoising"], "extra": "skip"}}, "denoising: unknown extra"),
    (lambda record: {"illumination": record["illumination"]}, "genotype: missing denoising"),
    (lambda record: {**record, "score": 1.0}, "genotype: unknown score"),
    (lambda record: {**record, "denoising": ["skip"] * 7}, "genotype, denoising: expected an object"),
    (lambda record: {**record, "denoising": dict.fromkeys(EDGES, 3)}, "distill_1: 3 is not an operation name"),
  ],
)
def test_from_json_names_what_is_wrong(change, message):
  with pytest.raises(UserError, match=message):
    Genotype.from_json(json.dumps(change(json.loads(PUBLISHED.to_json()))))


def test_save_and_load(tmp_path):
  path = tmp_path / "new" / "genotype.json"
  PUBLISHED.save(path)
  other = Genotype(("free_name",) * 7, PUBLISHED.denoising)
  other.save(path)
  assert Genotype.load(path) == Genotype.load(str(path)) == other
  assert [file.name for file in path.parent.iterdir()] == ["genotype.json"]
  assert Genotype.load("published") == PUBLISHED


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe"])
def test_load_names_a_bad_file(tmp_path, content):
  path = tmp_path / "bad.json"
  path.write_bytes(content)
  with pytest.raises(UserError, match=r"bad\.json") as caught:
    Genotype.load(path)
  assert "\n" not in str(caught.value)


def test_load_names_a_missing_file_or_folder(tmp_path):
  with pytest.raises(UserError, match=r"nothing\.json: no such file"):
    Genotype.load(tmp_path / "nothing.json")
  with pytest.raises(UserError, match="cannot be read"):
    Genotype.load(tmp_path)


def test_one_line_form():
  text = "IEM[SC 1-RC | 3-2-RDC 3-C | 3-C SC | 3-C] NRM[1-RC 1-RC | 3-2-RDC SC | 1-RC 1-RC | SC]"
  assert str(PUBLISHED) == text
  assert Genotype.from_text(text) == PUBLISHED
  everything = Genotype(OPERATIONS, ("mine",) * 7)
  assert Genotype.from_text(str(everything)) == everything


@pytest.mark.parametrize("text", ["", "IEM[SC]", "NRM[SC] IEM[SC]", "IEM[SC SC] NRM[SC SC]"])
def test_from_text_refuses_anything_else(text):
  with pytest.raises(UserError, match="genotype"):
    Genotype.from_text(text)
