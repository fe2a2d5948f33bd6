"""Which files `ruas enhance` enhances, where each result goes, and which pictures are left out for what reason."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ruas_jax.data.formats import FORMATS, IMAGE_SUFFIXES, UNSUPPORTED, format_of_content
from ruas_jax.errors import UserError

_NAMED = 20  # files of one line that are named; the others are counted
_UNSUPPORTED = "is not supported"
_INSTEAD = "PNG, JPEG, WebP, TIFF or BMP"
_LINK = "a link to a folder"


class Skipped(NamedTuple):
  """A picture or folder that is not processed, and why."""

  path: Path
  reason: str
  is_folder: bool = False


@dataclass(frozen=True)
class Inputs:
  """What is to be enhanced.

  Attributes:
    files: `(source, target)` of each photograph.
    out: the folder of the results, or the file where `format` is given.
    format: the format of the one file to write; None where each result has the format of its source.
    skipped: pictures in the folders that are not processed, and folders that are not entered.
  """

  files: tuple[tuple[Path, Path], ...]
  out: Path
  format: str | None = None
  skipped: tuple[Skipped, ...] = ()


def collect_inputs(inputs: Iterable[str | os.PathLike], out: str | os.PathLike, *, recursive: bool = False) -> Inputs:
  """The photographs among files and folders, each with the path of its result.

  A folder stands for its images in the order of their names. Hidden files and folders and the output folder are left
  out. A result has the name of its source; of one input file and an `out` that ends like an image and is no folder,
  `out` is the result.

  Args:
    inputs: files and folders.
    out: output folder, or output file.
    recursive: enter the folders of a folder too; the results keep their layout.

  Raises:
    UserError: an input that does not exist, is no supported image, or is a folder without one; two results of one name;
      an `out` that cannot be the result.
  """
  inputs, out_text = [Path(entry) for entry in inputs], os.fspath(out)
  out = Path(out_text)
  if not inputs:
    raise UserError("no image to enhance; name files or folders")
  found, skipped = [], []
  for entry in inputs:
    if entry.is_dir():
      files, others = _look_into(entry, out, recursive)
      if not files:
        raise UserError(
          "; ".join([f"{entry}: the folder holds no image ({', '.join(IMAGE_SUFFIXES)})", *report(others)])
        )
      found += files
      skipped += others
    else:
      _check_file(entry)
      found.append((entry, Path(entry.name)))
  format = None if out.is_dir() or out_text.endswith(("/", os.sep)) else _format_of_output(out, inputs)
  if format:
    return Inputs(((found[0][0], out),), out, format)
  targets = {}
  for source, name in found:
    other = targets.setdefault(name, source)
    if other.resolve() != source.resolve():
      raise UserError(f"{other} and {source} would both be written as {name}: give them separate folders")
  return Inputs(
    tuple((source, out / name) for name, source in targets.items()), out, skipped=tuple(dict.fromkeys(skipped))
  )


def report(skipped: Iterable[Skipped]) -> list[str]:
  """One line that counts and names the files, and one for the folders; none for neither."""
  lines = []
  for is_folder, what in ((False, "file"), (True, "sub-folder")):
    those = [item for item in skipped if item.is_folder == is_folder]
    if those:
      done = "not entered" if is_folder else "skipped"
      hint = f"; convert to {_INSTEAD}" if any(item.reason.endswith(_UNSUPPORTED) for item in those) else ""
      lines.append(f"{len(those)} {what}{'s' * (len(those) > 1)} {done}: {_named(those)}{hint}")
  return lines


def printable(path: str | os.PathLike) -> str:
  """A path for one line of text on any terminal."""
  return "".join(letter if letter.isprintable() else "?" for letter in os.fspath(path))


def name_some(paths: Iterable[Path]) -> str:
  """The paths in one line; of many the first ones and how many more there are."""
  names = [printable(path) for path in paths]
  more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
  return ", ".join([*names[:_NAMED], *more])


def _named(skipped: list[Skipped]) -> str:
  groups = []
  for reason in dict.fromkeys(item.reason for item in skipped):
    groups.append(f"{name_some(item.path for item in skipped if item.reason == reason)} ({reason})")
  return "; ".join(groups)


def _look_into(root: Path, out: Path, recursive: bool) -> tuple[list[tuple[Path, Path]], list[Skipped]]:
  """The images in a folder, each with its path below that folder, and what is left out."""
  files, skipped = [], []
  for item in _walk(root, out.resolve(), recursive):
    if isinstance(item, Skipped):
      skipped.append(item)
      continue
    reason = _reason_against(item)
    if reason is None:
      files.append((item, item.relative_to(root)))
    elif reason:
      skipped.append(Skipped(item, reason))
  return files, skipped


def _walk(folder: Path, out: Path, recursive: bool) -> Iterator[Path | Skipped]:
  """All files, those of the folder itself first, and the folders that are not entered."""
  try:
    entries = sorted(folder.iterdir())
  except OSError as error:
    yield Skipped(folder, f"cannot be opened: {error.strerror}", is_folder=True)
    return
  below = [entry for entry in entries if entry.is_dir()]
  yield from (entry for entry in entries if entry not in set(below))
  for entry in below:
    if entry.resolve() == out:
      continue  # results of an earlier run
    if not recursive:
      yield Skipped(entry, "--recursive enters sub-folders", is_folder=True)
    elif entry.is_symlink() or entry.name.startswith("."):
      yield Skipped(entry, _LINK if entry.is_symlink() else "hidden", is_folder=True)
    else:
      yield from _walk(entry, out, recursive)


def _reason_against(path: Path) -> str | None:
  """Why a file of a folder is left out; None where it is not, and empty for what does not look like a picture."""
  suffix, hidden = path.suffix.lower(), path.name.startswith(".")
  if path.is_symlink() and not path.exists():
    return "" if hidden else "a broken link"
  if not path.is_file():
    return "not a regular file" if suffix in FORMATS else ""
  if hidden:
    return "hidden" if _format_inside(path) else ""
  if suffix in FORMATS:
    return None
  return _unsupported(path) or ""


def _unsupported(path: Path) -> str | None:
  """Why a file that looks like a picture, by its name or by its first bytes, is not read; None for any other."""
  kind = UNSUPPORTED.get(path.suffix.lower())
  if kind:
    return f"{kind} {_UNSUPPORTED}"
  kind = _format_inside(path)
  if kind in FORMATS.values():
    return f"{kind} without its extension: add {next(suffix for suffix, name in FORMATS.items() if name == kind)}"
  return kind and f"{kind} {_UNSUPPORTED}"


def _format_inside(path: Path) -> str | None:
  try:
    with path.open("rb") as file:
      return format_of_content(file.read(32))
  except OSError:
    return None


def _check_file(path: Path) -> None:
  """Raises a UserError for an input that cannot be enhanced."""
  if path.is_symlink() and not path.exists():
    raise UserError(f"{path}: the link leads to no file ({os.readlink(path)})")
  if not path.exists():
    raise UserError(f"{path}: no such file or folder")
  if not path.is_file():
    raise UserError(f"{path}: not a regular file")
  if path.suffix.lower() not in FORMATS:
    reason = _unsupported(path) or f"not a supported image ({', '.join(IMAGE_SUFFIXES)})"
    hint = f": convert it to {_INSTEAD}" if reason.endswith(_UNSUPPORTED) else ""
    raise UserError(f"{path}: {reason}{hint}")


def _format_of_output(out: Path, inputs: list[Path]) -> str | None:
  """The format of the one file that `out` names; None where it names a folder."""
  suffix = out.suffix.lower()
  if suffix not in FORMATS and suffix not in UNSUPPORTED:
    return None
  if len(inputs) > 1 or inputs[0].is_dir():
    what = f"there are {len(inputs)} inputs" if len(inputs) > 1 else f"{inputs[0]} is a folder"
    raise UserError(f"--out {out} names one file, but {what}: name a folder for the results")
  if suffix in UNSUPPORTED:
    raise UserError(
      f"--out {out}: {UNSUPPORTED[suffix]} is not written: choose {', '.join(IMAGE_SUFFIXES)}, or a folder"
    )
  return FORMATS[suffix]
