"""The files that `ruas enhance` processes, the path of each result, and the pictures that are skipped, with reasons."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ruas_jax.data.formats import (
  PHOTO_FORMATS,
  RAW,
  RAW_FORMATS,
  UNSUPPORTED,
  VIDEO,
  VIDEO_RESULTS,
  format_of_content,
)
from ruas_jax.errors import UserError
from ruas_jax.photos.extras import missing

Picture = Literal["result", "preview", "sheet"]
"""What is written: each result, a picture of each before and after, or one such picture of all."""

_NAMED = 20  # files that a line names; more are only counted
_UNSUPPORTED = "is not supported"
_INSTEAD = "PNG, JPEG, WebP, TIFF or BMP"
_LINK = "a link to a folder"
_READ = PHOTO_FORMATS | RAW_FORMATS | dict.fromkeys(VIDEO_RESULTS, VIDEO)
_KNOWN = ", ".join(dict.fromkeys(_READ.values()))
_SUFFIXES = {
  format: next(suffix for suffix in PHOTO_FORMATS if PHOTO_FORMATS[suffix] == format)
  for format in PHOTO_FORMATS.values()
}
_ADDED_SUFFIXES = {RAW: ".cr3", VIDEO: ".mp4"}  # for files without one
_VIDEO_SUFFIXES = tuple(dict.fromkeys(VIDEO_RESULTS.values()))
_SHEET = "contact_sheet.jpg"


class Skipped(NamedTuple):
  """A picture or folder that is not processed, with the reason."""

  path: Path
  reason: str
  is_folder: bool = False


@dataclass(frozen=True)
class Inputs:
  """The inputs to enhance.

  Attributes:
    files: `(source, target)` of each photograph and video.
    out: folder of the results, or the output file.
    format: format of all photographs; None: each has the format of its source.
    skipped: pictures in the folders that are not processed, and folders that are not entered.
    is_file: whether `out` is a file, which is the target of every source.
    picture: what is written.
  """

  files: tuple[tuple[Path, Path], ...]
  out: Path
  format: str | None = None
  skipped: tuple[Skipped, ...] = ()
  is_file: bool = False
  picture: Picture = "result"


def collect_inputs(
  inputs: Iterable[str | os.PathLike],
  out: str | os.PathLike,
  *,
  recursive: bool = False,
  format: str | None = None,
  picture: Picture = "result",
) -> Inputs:
  """The photographs and videos in these files and folders, each with the path of its result.

  The images of a folder are sorted by name. Hidden files, hidden folders and the output folder are ignored. A result
  has the name of its source, with the extension of its format; that of a camera raw file is a TIFF, and that of a video
  whose container does not hold H.264 is a Matroska file. Where two results
  would get one name by that, the sources' extensions become parts of the names. But `out` is the result itself if there
  is one input file or one picture of all, and `out` ends like an image file and is not a folder.

  Args:
    inputs: files and folders.
    out: output folder, or output file.
    recursive: also enter the sub-folders; the results keep their layout.
    format: a value of `PHOTO_FORMATS`, for all photographs and pictures; None: each has the format of its source.
    picture: what is to be written.

  Raises:
    UserError: an input does not exist, is not a supported image, or is a folder without images; or two results have the
      same name; or `out` cannot be the result.
  """
  inputs, out_text = [Path(entry) for entry in inputs], os.fspath(out)
  out = Path(out_text)
  if not inputs:
    raise UserError("no image to enhance: give files or folders")
  found, skipped = [], []
  for entry in inputs:
    if entry.is_dir():
      files, others = _look_into(entry, out, recursive)
      if not files:
        raise UserError("; ".join([f"{entry}: the folder holds no image ({_KNOWN})", *report(others)]))
      found += files
      skipped += others
    else:
      _check_file(entry)
      found.append((entry, Path(entry.name)))
  is_folder = out.is_dir() or out_text.endswith(("/", os.sep))
  own = None if is_folder else _format_of_output(out, inputs, picture)
  if own and format not in (None, own):
    raise UserError(f"`out` {out} is the name of a file of {own}, but `format` asks for {format}")
  format = own or format
  lacking = format and missing(format)
  if lacking:
    raise UserError(f"`out` {out}: {lacking}" if own else f"`format`: {lacking}")
  rest = {"skipped": tuple(dict.fromkeys(skipped)), "picture": picture}
  if own or picture == "sheet":
    target = out if own else (out / _SHEET).with_suffix(_SUFFIXES[format or "JPEG"])
    sources = {source.resolve(): source for source, _ in reversed(found)}
    files = tuple((source, target) for source in reversed(sources.values()))
    return Inputs(files, target, format or "JPEG", is_file=True, **rest)
  named = {(source.resolve(), name): _name_of_result(name, format, picture) for source, name in found}
  times, targets = Counter(named.values()), {}
  for source, name in found:
    given = named[source.resolve(), name]
    if times[given] > 1 and given != name:  # such as a raw file and its JPEG: both extensions
      given = given.with_name(f"{name.stem}_{name.suffix[1:]}{given.name[len(name.stem) :]}")
    name = given
    other = targets.setdefault(name, source)
    if other.resolve() != source.resolve():
      raise UserError(f"{other} and {source} would both be written as {name}: give them separate folders")
  files = tuple((source, out / name) for name, source in targets.items())
  return Inputs(files, out, format or ("JPEG" if picture == "preview" else None), **rest)


def is_video(path: Path) -> bool:
  """Whether a file is a video, by its name."""
  return path.suffix.lower() in VIDEO_RESULTS


def report(skipped: Iterable[Skipped]) -> list[str]:
  """One line with the number and names of the skipped files, and one for the folders; no line if there are none."""
  lines = []
  for is_folder, what in ((False, "file"), (True, "sub-folder")):
    those = [item for item in skipped if item.is_folder == is_folder]
    if those:
      done = "not entered" if is_folder else "skipped"
      hint = f"; convert to {_INSTEAD}" if any(item.reason.endswith(_UNSUPPORTED) for item in those) else ""
      lines.append(f"{len(those)} {what}{'s' * (len(those) > 1)} {done}: {_named(those)}{hint}")
  return lines


def printable(path: str | os.PathLike) -> str:
  """A path that can be printed in one line on any terminal."""
  return "".join(letter if letter.isprintable() else "?" for letter in os.fspath(path))


def name_some(paths: Iterable[Path]) -> str:
  """The paths in one line: the first ones, and the number of the others."""
  names = [printable(path) for path in paths]
  more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
  return ", ".join([*names[:_NAMED], *more])


def _named(skipped: list[Skipped]) -> str:
  groups = []
  for reason in dict.fromkeys(item.reason for item in skipped):
    groups.append(f"{name_some(item.path for item in skipped if item.reason == reason)} ({reason})")
  return "; ".join(groups)


def _look_into(root: Path, out: Path, recursive: bool) -> tuple[list[tuple[Path, Path]], list[Skipped]]:
  """The images in a folder, each with its path relative to that folder, and what is skipped."""
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
  """All files, first those directly in the folder, and the folders that are not entered."""
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
      yield Skipped(entry, "set `recursive` to enter sub-folders", is_folder=True)
    elif entry.is_symlink() or entry.name.startswith("."):
      yield Skipped(entry, _LINK if entry.is_symlink() else "hidden", is_folder=True)
    else:
      yield from _walk(entry, out, recursive)


def _reason_against(path: Path) -> str | None:
  """Why a file in a folder is skipped. None: it is not skipped. Empty: it does not look like a picture."""
  suffix, hidden = path.suffix.lower(), path.name.startswith(".")
  if path.is_symlink() and not path.exists():
    return "" if hidden else "a broken link"
  if not path.is_file():
    return "not a regular file" if suffix in _READ else ""
  if hidden:
    return "hidden" if _format_inside(path) else ""
  if suffix in _READ:
    return missing(_READ[suffix])
  return _unsupported(path) or ""


def _unsupported(path: Path) -> str | None:
  """Why a file that looks like a picture, by its name or its first bytes, cannot be read; None for all other files."""
  kind = UNSUPPORTED.get(path.suffix.lower())
  if kind:
    return f"{kind} {_UNSUPPORTED}"
  kind = _format_inside(path)
  if kind in _SUFFIXES or kind in _ADDED_SUFFIXES:
    return f"{kind} without its extension: add {(_SUFFIXES | _ADDED_SUFFIXES)[kind]}"
  return kind and f"{kind} {_UNSUPPORTED}"


def _format_inside(path: Path) -> str | None:
  try:
    with path.open("rb") as file:
      return format_of_content(file.read(32))
  except OSError:
    return None


def _check_file(path: Path) -> None:
  """Raises UserError for an input that cannot be enhanced."""
  if path.is_symlink() and not path.exists():
    raise UserError(f"{path}: the link points to a file that does not exist ({os.readlink(path)})")
  if not path.exists():
    raise UserError(f"{path}: no such file or folder")
  if not path.is_file():
    raise UserError(f"{path}: not a regular file")
  suffix = path.suffix.lower()
  if suffix in _READ and (lacking := missing(_READ[suffix])):
    raise UserError(f"{path}: {lacking}")
  if suffix not in _READ:
    reason = _unsupported(path) or f"not a supported image ({_KNOWN})"
    hint = f": convert it to {_INSTEAD}" if reason.endswith(_UNSUPPORTED) else ""
    raise UserError(f"{path}: {reason}{hint}")


def _name_of_result(name: Path, format: str | None, picture: Picture) -> Path:
  if picture == "preview":
    return name.with_name(f"{name.stem}_preview{_SUFFIXES[format or 'JPEG']}")
  if is_video(name):
    suffix = VIDEO_RESULTS[name.suffix.lower()]
    return name if suffix == name.suffix.lower() else name.with_suffix(suffix)
  own = PHOTO_FORMATS.get(name.suffix.lower())
  format = format or own or "TIFF"
  return name if format == own else name.with_suffix(_SUFFIXES[format])


def _format_of_output(out: Path, inputs: list[Path], picture: Picture) -> str | None:
  """The format of the single output file `out`; None if `out` is a folder."""
  suffix = out.suffix.lower()
  if suffix not in _READ and suffix not in UNSUPPORTED:
    return None
  if picture != "sheet" and (len(inputs) > 1 or inputs[0].is_dir()):
    what = f"there are {len(inputs)} inputs" if len(inputs) > 1 else f"{inputs[0]} is a folder"
    raise UserError(f"`out` {out} is the name of a file, but {what}: give a folder for the results")
  if suffix in VIDEO_RESULTS or (picture == "result" and is_video(inputs[0])):
    if picture != "result" or not is_video(inputs[0]):
      raise UserError(f"`out` {out} is the name of a video: choose {', '.join(_SUFFIXES.values())}, or a folder")
    if suffix not in _VIDEO_SUFFIXES:
      raise UserError(f"`out` {out}: {inputs[0]} is a video: choose {', '.join(_VIDEO_SUFFIXES)}, or a folder")
    return VIDEO
  if suffix not in PHOTO_FORMATS:
    kind = UNSUPPORTED.get(suffix, RAW)
    raise UserError(f"`out` {out}: {kind} cannot be written: choose {', '.join(_SUFFIXES.values())}, or a folder")
  return PHOTO_FORMATS[suffix]
