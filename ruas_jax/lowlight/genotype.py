"""The discrete result of a search: the operation on each searched edge of the two cells.

A genotype names seven operations for the illumination module's cell (IEM) and seven for the noise removal module's
(NRM), in the order of `EDGES`. Operations are plain names in this file; `require` checks them against a candidate set.
There are two written forms: JSON with the edges as keys (`to_json`, `from_json`), and one line in the paper's short
names, with edges that read the same node side by side (`str(genotype)`, `from_text`):
`IEM[SC 1-RC | 3-2-RDC 3-C | 3-C SC | 3-C] NRM[1-RC 1-RC | 3-2-RDC SC | 1-RC 1-RC | SC]`. A search of the wide space
also chooses stages and channels, which follow as `K=1 N=1 C=4`.
"""

from __future__ import annotations

import dataclasses
import json
import numbers
import os
import re
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from etils import epath

from ruas_jax.errors import UserError
from ruas_jax.files import write_atomically

EDGES = ("distill_1", "remain_1", "distill_2", "remain_2", "distill_3", "remain_3", "distill_4")
CELLS = {"illumination": "IEM", "denoising": "NRM"}
SHORT_NAMES = {
  "skip": "SC",
  "conv_1x1": "1-C",
  "conv_3x3": "3-C",
  "dilated_conv_3x3": "3-2-DC",
  "residual_conv_1x1": "1-RC",
  "residual_conv_3x3": "3-RC",
  "residual_dilated_conv_3x3": "3-2-RDC",
}
_FULL_NAMES = {short: name for name, short in SHORT_NAMES.items()}
_NAME = re.compile(r"[^\s|\[\]]+")  # any name that the one-line form can hold
_TEXT = re.compile(r"\s*IEM\s*\[([^\[\]]*)\]\s*NRM\s*\[([^\[\]]*)\]\s*(?:K=([0-9]+)\s+N=([0-9]+)\s+C=([0-9]+)\s*)?")


class Sizes(NamedTuple):
  """The sizes of a network, where a search has chosen them (`lowlight.space`).

  Attributes:
    illumination_stages: K, the stages of the illumination module.
    denoising_stages: N, the stages of the noise removal module.
    channels: C, the channels of the noise removal module.
  """

  illumination_stages: int
  denoising_stages: int
  channels: int


@dataclasses.dataclass(frozen=True)
class Genotype:
  """The operation on every searched edge, by name, in the order of `EDGES`.

  Attributes:
    illumination: seven operation names for the illumination module's cell.
    denoising: seven operation names for the noise removal module's cell.
    sizes: stages and channels; None: those of the network's options.

  Raises:
    UserError: a cell does not have seven names, or a size is not an integer of at least 1.
  """

  illumination: tuple[str, ...]
  denoising: tuple[str, ...]
  sizes: Sizes | None = None

  EDGES: ClassVar[tuple[str, ...]] = EDGES

  def __post_init__(self):
    for cell in CELLS:
      names = getattr(self, cell)
      if isinstance(names, str) or len(names) != len(EDGES):
        raise UserError(f"genotype, {cell}: expected {len(EDGES)} operation names (one per edge), got {names!r}")
      for edge, name in zip(EDGES, names, strict=True):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
          raise UserError(f"genotype, {cell}, {edge}: {name!r} is not an operation name")
      object.__setattr__(self, cell, tuple(names))  # a list is not hashable
    if self.sizes is None:
      return
    if not isinstance(self.sizes, Sizes):
      raise UserError(f"genotype, sizes: expected Sizes({', '.join(Sizes._fields)}), got {self.sizes!r}")
    for name, size in self.sizes._asdict().items():
      if isinstance(size, bool) or not isinstance(size, numbers.Integral) or size < 1:
        raise UserError(f"genotype, sizes, {name}: {size!r} is not an integer of at least 1")
    object.__setattr__(self, "sizes", Sizes._make(map(int, self.sizes)))  # JSON does not hold NumPy's integers

  def require(self, operation_names: Sequence[str]) -> None:
    """Raises UserError for the first operation that is not in `operation_names`."""
    for cell in CELLS:
      for edge, name in zip(EDGES, getattr(self, cell), strict=True):
        if name not in operation_names:
          known = ", ".join(operation_names)
          raise UserError(f"genotype, {cell}, {edge}: unknown operation {name!r} (known: {known})")

  @classmethod
  def derive(cls, alpha_illumination, alpha_denoising, operation_names: Sequence[str]) -> Genotype:
    """The strongest operation of each edge: the argmax of softmax(alpha), the first one on ties.

    Args:
      alpha_illumination: architecture logits `[7, O]` of the illumination cell; rows are in the order of `EDGES`.
      alpha_denoising: the same for the noise removal cell.
      operation_names: the O candidate operations, in the order of the columns.

    Raises:
      UserError: alpha has another shape, or the softmax of an edge is undefined (NaN, infinity, or only minus
        infinity).
    """
    cells = {}
    for cell, alpha in zip(CELLS, (alpha_illumination, alpha_denoising), strict=True):
      strongest = checked_alpha(alpha, cell=cell, operation_names=operation_names).argmax(axis=1)
      cells[cell] = tuple(operation_names[index] for index in strongest)
    return cls(**cells)

  @classmethod
  def named(cls, name: str) -> Genotype:
    """A genotype with a name: "published" is the one that the paper's authors released."""
    if name not in _NAMED:
      raise UserError(f"genotype {name!r} is unknown (known: {', '.join(_NAMED)})")
    return _NAMED[name]

  def replace(self, cell: str, edge: int, name: str) -> Genotype:
    """This genotype with another operation on one edge of `cell` ("illumination" or "denoising")."""
    names = getattr(self, cell)
    return dataclasses.replace(self, **{cell: (*names[:edge], name, *names[edge + 1 :])})

  def to_dict(self) -> dict[str, dict[str, Any]]:
    """The content of `genotype.json`: for each cell, edge -> operation; and the sizes, if it has any."""
    record: dict[str, Any] = {cell: dict(zip(EDGES, getattr(self, cell), strict=True)) for cell in CELLS}
    return record | ({"sizes": self.sizes._asdict()} if self.sizes else {})

  def to_json(self) -> str:
    """`to_dict` as JSON text."""
    return json.dumps(self.to_dict(), indent=2) + "\n"

  @classmethod
  def from_json(cls, text: str) -> Genotype:
    """The genotype in `to_json`'s text. Raises UserError for invalid JSON, and as `from_dict`."""
    try:
      return cls.from_dict(json.loads(text))
    except json.JSONDecodeError as error:
      raise UserError(f"genotype: invalid JSON ({error})") from None

  @classmethod
  def from_dict(cls, record: dict[str, dict[str, Any]]) -> Genotype:
    """The genotype in `to_dict`'s dictionary. Raises UserError for unknown or missing cells, edges and sizes."""
    _require_keys(record, tuple(CELLS), "genotype", optional=("sizes",))
    for cell in CELLS:
      _require_keys(record[cell], EDGES, f"genotype, {cell}")
    illumination, denoising = (tuple(record[cell][edge] for edge in EDGES) for cell in CELLS)
    if record.get("sizes") is None:
      return cls(illumination, denoising)
    _require_keys(record["sizes"], Sizes._fields, "genotype, sizes")
    return cls(illumination, denoising, Sizes(**record["sizes"]))

  def save(self, path: str | os.PathLike) -> None:
    """Writes the JSON form to `path` (local or remote), completely or not at all. Makes the folder."""
    write_atomically(path, self.to_json().encode())

  @classmethod
  def load(cls, path_or_name: str | os.PathLike) -> Genotype:
    """The genotype with this name ("published"), or else the one in this file.

    Raises:
      UserError: the file is missing, unreadable or not a genotype; the message is one line with its name.
    """
    if isinstance(path_or_name, str) and path_or_name in _NAMED:
      return _NAMED[path_or_name]
    try:
      return cls.from_json(epath.Path(path_or_name).read_text())
    except FileNotFoundError:
      raise UserError(f"{path_or_name}: no such file, and not a genotype's name (known: {', '.join(_NAMED)})") from None
    except (OSError, UnicodeDecodeError) as error:
      raise UserError(f"{path_or_name}: cannot be read ({error})") from None
    except UserError as error:
      raise UserError(f"{path_or_name}: {error}") from None

  def __str__(self) -> str:
    texts = []
    for cell, label in CELLS.items():
      operations: tuple[str, ...] = getattr(self, cell)
      names = [SHORT_NAMES.get(name, name) for name in operations]
      levels = [" ".join(names[index : index + 2]) for index in range(0, len(names), 2)]
      texts.append(f"{label}[{' | '.join(levels)}]")
    if self.sizes:
      texts += (f"{letter}={size}" for letter, size in zip("KNC", self.sizes, strict=True))
    return " ".join(texts)

  @classmethod
  def from_text(cls, text: str) -> Genotype:
    """The genotype in the one-line form, with short or full operation names. Raises UserError for any other text."""
    match = _TEXT.fullmatch(text)
    if not match:
      raise UserError(
        f"genotype: expected one line IEM[...] NRM[...], or with sizes IEM[...] NRM[...] K=1 N=1 C=6, got {text!r}"
      )
    illumination, denoising, *sizes = match.groups()
    found = Sizes._make(map(int, sizes)) if sizes[0] else None
    return cls(_full_names(illumination), _full_names(denoising), found)


def _full_names(listed: str) -> tuple[str, ...]:
  names: list[str] = _NAME.findall(listed)
  return tuple(_FULL_NAMES.get(name, name) for name in names)


def checked_alpha(alpha, *, cell: str, operation_names: Sequence[str]) -> np.ndarray:
  """A cell's logits as float64 `[7, O]`, each row with a defined softmax. UserError names the cell and the edge."""
  alpha = np.asarray(alpha, np.float64)
  expected = (len(EDGES), len(operation_names))
  if alpha.shape != expected:
    raise UserError(f"alpha of {cell}: shape {alpha.shape}, expected {expected} (edges, operations)")
  for edge, largest in zip(EDGES, alpha.max(axis=1), strict=True):  # max propagates NaN
    if not np.isfinite(largest):
      raise UserError(f"alpha of {cell}, {edge}: not finite, so its softmax is undefined")
  return alpha


def alpha_shares(alpha, *, cell: str, operation_names: Sequence[str]) -> np.ndarray:
  """softmax(alpha) of a cell's logits, float64 `[7, O]`. Raises the errors of `checked_alpha`."""
  return softmax(checked_alpha(alpha, cell=cell, operation_names=operation_names))


def softmax(logits: np.ndarray) -> np.ndarray:
  """The softmax along the last axis, without jax."""
  powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return powers / powers.sum(axis=-1, keepdims=True)


def _require_keys(record, keys: tuple[str, ...], where: str, optional: tuple[str, ...] = ()) -> None:
  """Raises UserError unless `record` is a JSON object with exactly these keys, and perhaps the optional ones."""
  if not isinstance(record, dict):
    raise UserError(f"{where}: expected an object with the keys {', '.join(keys)}")
  for problem, names in (
    ("unknown", record.keys() - {*keys, *optional}),
    ("missing", set(keys) - record.keys()),
  ):
    if names:
      raise UserError(f"{where}: {problem} {', '.join(sorted(names))} (expected: {', '.join(keys)})")


PUBLISHED = Genotype.from_text("IEM[SC 1-RC | 3-2-RDC 3-C | 3-C SC | 3-C] NRM[1-RC 1-RC | 3-2-RDC SC | 1-RC 1-RC | SC]")
_NAMED = {"published": PUBLISHED}
