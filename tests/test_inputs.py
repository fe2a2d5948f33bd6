"""Which files of folders are enhanced, and that every other picture is counted and named."""

import os

import pytest
from PIL import Image

from ruas_jax.data.formats import FORMATS, PHOTO_FORMATS, RAW_FORMATS, UNSUPPORTED
from ruas_jax.errors import UserError
from ruas_jax.photos import inputs as inputs_module
from ruas_jax.photos.inputs import Skipped, collect_inputs, name_some, report

JPEG = b"\xff\xd8\xff\xe0" + bytes(40)
ADDED = set((PHOTO_FORMATS | RAW_FORMATS).values()) - set(FORMATS.values())
CONTAINERS = {"AVIF": b"avif", "HEIC": b"heic"}  # their brands


def touch(folder, *names, content=b""):
  for name in names:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def names_of(inputs, root, out="bright"):
  return [(source.relative_to(root).as_posix(), target.as_posix()) for source, target in inputs.files]


def test_inputs_are_files_and_folders(tmp_path):
  folder, other = tmp_path / "folder", tmp_path / "other"
  touch(folder, "b.PNG", "a.jpg", "notes.txt", ".hidden.png", "deeper/c.png")
  touch(other, "a.jpg", "d.tif")
  inputs = collect_inputs([other / "d.tif", str(folder)], "bright")
  assert names_of(inputs, tmp_path) == [
    ("other/d.tif", "bright/d.tif"),
    ("folder/a.jpg", "bright/a.jpg"),
    ("folder/b.PNG", "bright/b.PNG"),
  ]
  assert inputs.format is None
  (tmp_path / "empty").mkdir()
  for wrong, message in (
    ([folder, other], "both be written as a.jpg"),
    ([tmp_path / "missing.png"], "missing.png: no such file"),
    ([folder / "notes.txt"], "notes.txt: not a supported image"),
    ([tmp_path / "empty"], "empty: the folder holds no image"),
    ([], "no image to enhance"),
  ):
    with pytest.raises(UserError, match=message):
      collect_inputs(wrong, "bright")
  assert len(collect_inputs([folder, folder / "a.jpg", folder], "bright").files) == 2


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_extension_of_a_format_is_taken(tmp_path, suffix):
  touch(tmp_path, f"a{suffix}", f"b{suffix.upper()}")
  assert len(collect_inputs([tmp_path], "bright").files) == 2


@pytest.mark.parametrize("suffix", [*UNSUPPORTED, ".GIF"])
def test_pictures_of_other_formats_are_named_with_the_reason(tmp_path, suffix):
  touch(tmp_path, "a.jpg", f"photo{suffix}")
  (skipped,) = collect_inputs([tmp_path], "bright").skipped
  assert skipped.path == tmp_path / f"photo{suffix}" and not skipped.is_folder
  assert skipped.reason == f"{UNSUPPORTED[suffix.lower()]} is not supported"
  assert report([skipped])[0].endswith("not supported); convert to PNG, JPEG, WebP, TIFF or BMP")
  with pytest.raises(UserError, match="is not supported: convert it to PNG"):
    collect_inputs([skipped.path], "bright")


def saved(path, format):
  """A file of a format, written by Pillow where every release of it can."""
  if format in CONTAINERS:
    path.write_bytes(b"\0\0\0\x18ftyp" + CONTAINERS[format] + bytes(40))
  else:
    Image.new("RGB", (3, 2)).save(path, format)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WebP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM", "AVIF", "HEIC"])
def test_pictures_are_known_by_their_content_where_the_name_says_nothing(tmp_path, name):
  touch(tmp_path, "a.jpg")
  for stem in ("IMG_1", "photo.bak", "IMG.2024"):
    saved(tmp_path / stem, name)
  skipped = collect_inputs([tmp_path], "bright").skipped
  assert {item.path.name for item in skipped} == {"IMG_1", "photo.bak", "IMG.2024"}
  kind = {"JPEG2000": "JPEG 2000", "PPM": "Netpbm"}.get(name, name)
  if kind in PHOTO_FORMATS.values():
    assert skipped[0].reason.startswith(f"{kind} without its extension: add .")
    assert PHOTO_FORMATS[skipped[0].reason.split()[-1]] == kind
  else:
    assert skipped[0].reason.startswith(f"{kind} is not supported")


def test_what_is_no_picture_is_not_named(tmp_path):
  touch(tmp_path, "a.jpg", "notes.txt", "empty", "._a.jpg", "Thumbs.db", "a.xmp", "BM.txt", "P1.md", ".DS_Store")
  (tmp_path / "BM.txt").write_bytes(b"BMW is a car maker from Munich")
  (tmp_path / "short").write_bytes(b"BM")
  (tmp_path / "P1.md").write_bytes(b"P1-notes")
  (tmp_path / ".#lock").symlink_to("nowhere")
  assert collect_inputs([tmp_path], "bright").skipped == ()


def test_hidden_pictures_broken_links_and_pipes_are_named(tmp_path):
  touch(tmp_path, "a.jpg", content=JPEG)
  touch(tmp_path, ".hidden.jpg", content=JPEG)
  (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
  (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
  os.mkfifo(tmp_path / "pipe.jpg")
  inputs = collect_inputs([tmp_path], "bright")
  assert names_of(inputs, tmp_path) == [("a.jpg", "bright/a.jpg"), ("link.jpg", "bright/link.jpg")]
  assert inputs.skipped == (
    Skipped(tmp_path / ".hidden.jpg", "hidden"),
    Skipped(tmp_path / "gone.jpg", "a broken link"),
    Skipped(tmp_path / "pipe.jpg", "not a regular file"),
  )
  for name, message in (("gone.jpg", "a file that does not exist"), ("pipe.jpg", "not a regular file")):
    with pytest.raises(UserError, match=message):
      collect_inputs([tmp_path / name], "bright")


def nested(tmp_path):
  touch(tmp_path, "a.jpg", "one/a.jpg", "one/b.gif", "one/two/c.png", "empty/notes.txt", ".cache/d.jpg", "bright/a.jpg")
  (tmp_path / "loop").symlink_to(tmp_path)
  return tmp_path


def test_sub_folders_that_are_not_entered_are_named_and_the_output_is_not(tmp_path):
  inputs = collect_inputs([nested(tmp_path)], tmp_path / "bright")
  assert names_of(inputs, tmp_path) == [("a.jpg", f"{tmp_path}/bright/a.jpg")]
  assert [item.path.name for item in inputs.skipped] == [".cache", "empty", "loop", "one"]
  assert all(item.is_folder and "`recursive`" in item.reason for item in inputs.skipped)


def test_recursive_keeps_the_layout_and_enters_neither_output_nor_links(tmp_path):
  (tmp_path / "bright").mkdir()
  inputs = collect_inputs([nested(tmp_path)], tmp_path / "elsewhere" / ".." / "bright", recursive=True)
  assert [target.resolve().relative_to(tmp_path).as_posix() for _, target in inputs.files] == [
    "bright/a.jpg",
    "bright/one/a.jpg",
    "bright/one/two/c.png",
  ]
  assert inputs.skipped == (
    Skipped(tmp_path / ".cache", "hidden", True),
    Skipped(tmp_path / "loop", "a link to a folder", True),
    Skipped(tmp_path / "one" / "b.gif", inputs.skipped[2].reason),
  )
  touch(tmp_path / "second", "one/a.jpg")
  with pytest.raises(UserError, match=r"would both be written as one/a\.jpg"):
    collect_inputs([tmp_path, tmp_path / "second"], "out", recursive=True)


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
  touch(tmp_path, "a.jpg", "closed/b.jpg")
  kind, listed = type(tmp_path), type(tmp_path).iterdir

  def iterdir(path):
    if path.name == "closed":
      raise PermissionError(13, "Permission denied")
    return listed(path)

  monkeypatch.setattr(kind, "iterdir", iterdir)
  inputs = collect_inputs([tmp_path], "bright", recursive=True)
  assert inputs.skipped == (Skipped(tmp_path / "closed", "cannot be opened: Permission denied", True),)


def test_what_is_given_twice_is_named_once(tmp_path):
  touch(tmp_path, "a.jpg", "b.gif")
  assert len(collect_inputs([tmp_path, tmp_path], "bright").skipped) == 1


def test_a_folder_without_an_image_says_what_it_has(tmp_path):
  touch(tmp_path, "a.gif", "below/b.jpg")
  with pytest.raises(UserError, match=r"holds no image.*1 file skipped: .*a\.gif.*; 1 sub-folder not entered: .*below"):
    collect_inputs([tmp_path], "bright")


def test_the_report_counts_names_and_groups_by_reason(tmp_path):
  skipped = [Skipped(tmp_path / f"{number}.gif", "GIF") for number in range(25)]
  skipped += [Skipped(tmp_path / "a\nb\udcff.heic", "HEIC"), Skipped(tmp_path / "below", "closed", True)]
  files, folders = report(skipped)
  assert files.startswith("26 files skipped: ") and "19.gif, 5 more (GIF); " in files and "20.gif" not in files
  assert files.endswith("a?b?.heic (HEIC)") and files.isprintable()
  assert folders == f"1 sub-folder not entered: {tmp_path / 'below'} (closed)"
  assert report([]) == [] and name_some([tmp_path]) == str(tmp_path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_output_with_an_extension_of_an_image_is_that_file(tmp_path, suffix):
  touch(tmp_path, "a.jpg")
  inputs = collect_inputs([tmp_path / "a.jpg"], tmp_path / f"new{suffix}")
  assert inputs.files == ((tmp_path / "a.jpg", tmp_path / f"new{suffix}"),) and inputs.format == FORMATS[suffix]


def test_an_output_that_is_a_folder_stays_one(tmp_path):
  touch(tmp_path, "a.jpg")
  (tmp_path / "there.jpg").mkdir()
  for out in (tmp_path / "there.jpg", f"{tmp_path}/new.jpg/", tmp_path / "2024.05", tmp_path / "plain"):
    inputs = collect_inputs([tmp_path / "a.jpg"], out)
    assert inputs.format is None and inputs.files[0][1].name == "a.jpg"


def test_an_output_file_that_cannot_be_is_refused_with_what_to_do(tmp_path):
  touch(tmp_path, "a.jpg", "b.jpg")
  both = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
  for inputs, out, message in (
    (both, "new.jpg", "new.jpg is the name of a file, but there are 2 inputs: give a folder"),
    (both, "new.gif", "give a folder"),
    ([tmp_path], "new.jpg", "is a folder: give a folder for the results"),
    (both[:1], "new.gif", r"new.gif: GIF cannot be written: choose \.png, .*or a folder"),
    (both[:1], "new.JP2", "JPEG 2000 cannot be written"),
    (both[:1], "new.dng", "camera raw cannot be written"),
  ):
    with pytest.raises(UserError, match=message) as caught:
      collect_inputs(inputs, tmp_path / out)
    assert "\n" not in str(caught.value)


def test_formats_that_need_more_packages_name_them(tmp_path, monkeypatch):
  monkeypatch.setattr(inputs_module, "missing", lambda format: f"{format} needs x" if format in ADDED else None)
  for suffix in [*PHOTO_FORMATS, *RAW_FORMATS]:
    touch(tmp_path, f"photo{suffix}")
  inputs = collect_inputs([tmp_path], tmp_path / "bright")
  assert [source.suffix for source, _ in inputs.files] == sorted(FORMATS)
  assert {item.path.suffix: item.reason for item in inputs.skipped} == {
    suffix: f"{format} needs x" for suffix, format in (PHOTO_FORMATS | RAW_FORMATS).items() if format in ADDED
  }
  for call in (
    lambda: collect_inputs([tmp_path / "photo.heic"], "bright"),
    lambda: collect_inputs([tmp_path / "photo.png"], "a.heic"),
    lambda: collect_inputs([tmp_path], "bright", format="HEIC"),
  ):
    with pytest.raises(UserError, match=": HEIC needs x"):
      call()


def test_a_format_renames_the_results(tmp_path, monkeypatch):
  monkeypatch.setattr(inputs_module, "missing", lambda format: None)
  touch(tmp_path, "a.JPEG", "b.png", "c.nef", "d.heif")
  names = lambda **options: [target.name for _, target in collect_inputs([tmp_path], "bright", **options).files]
  assert names() == ["a.JPEG", "b.png", "c.tif", "d.heif"]
  assert names(format="JPEG") == ["a.JPEG", "b.jpg", "c.jpg", "d.jpg"]
  assert names(format="JPEG XL") == ["a.jxl", "b.jxl", "c.jxl", "d.jxl"]
  assert names(picture="preview") == ["a_preview.jpg", "b_preview.jpg", "c_preview.jpg", "d_preview.jpg"]
  assert names(picture="preview", format="PNG")[0] == "a_preview.png"
  assert names(picture="sheet") == ["contact_sheet.jpg"] * 4
  assert collect_inputs([tmp_path], "all.png", picture="sheet").format == "PNG"
  touch(tmp_path, "b.tif")
  assert names(format="JPEG") == ["a.JPEG", "b_png.jpg", "b_tif.jpg", "c.jpg", "d.jpg"]
  assert names(picture="preview")[1:3] == ["b_png_preview.jpg", "b_tif_preview.jpg"]
  touch(tmp_path, "b.jpg")
  assert names(format="JPEG")[1:4] == ["b.jpg", "b_png.jpg", "b_tif.jpg"]
  with pytest.raises(UserError, match=r"new\.png is the name of a file of PNG, but `format` asks for JPEG"):
    collect_inputs([tmp_path / "b.png"], "new.png", format="JPEG")
