"""Videos: colours, exposure over time, what is copied, what is refused, and that no half file gets a name."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import video_files
from PIL import Image
from tiny_problem import dark_images, fresh_model, ruas
from video_files import (
  EXACT,
  FRAMES,
  HEIGHT,
  WIDTH,
  dark_frames,
  frames_of,
  sound_of,
  times_of,
  write_sound,
  write_subtitled,
  write_video,
)

from ruas_jax.errors import UserError
from ruas_jax.photos import extras
from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.model import save_model
from ruas_jax.photos.pretrained import load_pretrained
from ruas_jax.video.colour import Layout, from_rgb, to_rgb, weights_of
from ruas_jax.video.enhance import enhance_videos, frames_at_once
from ruas_jax.video.exposure import CUT, distance, light_change, steady
from ruas_jax.video.reading import _layout_of, look_through, planes_of, read_middle
from ruas_jax.video.writing import rate_factor

av = video_files.av
ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model():
  return fresh_model().with_variant("i")  # compiles faster


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
  folder = tmp_path_factory.mktemp("model")
  save_model(folder, model)
  return folder


@pytest.fixture
def enhance(saved, tmp_path, monkeypatch, capfd):
  """Runs the command in a folder of its own; the exit code, and the lines of stdout without progress and of stderr."""
  monkeypatch.chdir(tmp_path)

  def run(*arguments):
    code = ruas("enhance", *arguments, "--checkpoint", saved)
    output = capfd.readouterr()
    lines = [line for line in output.out.splitlines() if not line.startswith(("enhance ", "look through "))]
    return code, lines, output.err.splitlines()

  return run


def names(folder):
  return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# Colours


@pytest.mark.parametrize(
  "bits, full, matrix, across, down",
  [(8, False, 1, 2, 2), (8, True, 6, 2, 2), (10, False, 9, 2, 1), (10, True, 1, 1, 1), (8, False, 5, 1, 1)],
)
def test_a_grey_ramp_comes_back_with_its_levels(bits, full, matrix, across, down):
  layout = Layout(bits, across, down, full, weights_of(matrix, HEIGHT))
  step = 2 ** (bits - 8)
  low, high = (0, 256 * step - 1) if full else (16 * step, 235 * step)
  y = np.tile(np.arange(low, high + 1 - (high - low + 1) % 2), (4, 1)).astype(np.uint16 if bits > 8 else np.uint8)
  grey = np.full((4 // down, y.shape[1] // across), 128 * step, y.dtype)
  values = np.asarray(to_rgb((y, grey, grey), layout))
  np.testing.assert_allclose(values, np.repeat(((y - low) / (high - low))[..., None], 3, axis=-1), atol=1e-5)
  for plane, back in zip((y, grey, grey), from_rgb(values, layout), strict=True):
    np.testing.assert_array_equal(np.asarray(back), plane)


@pytest.mark.parametrize("matrix, full, planes", [
  (1, False, (63, 102, 240)),  # red of BT.709
  (6, False, (81, 90, 240)),  # red of BT.601
  (1, True, (54, 99, 255)),
])  # fmt: skip
def test_red_has_the_samples_of_the_standards(matrix, full, planes):
  layout = Layout(8, 2, 2, full, weights_of(matrix, HEIGHT))
  red = np.zeros((4, 6, 3), np.float32)
  red[..., 0] = 1
  written = [np.asarray(plane) for plane in from_rgb(red, layout)]
  assert [plane.shape for plane in written] == [(4, 6), (2, 3), (2, 3)]
  assert all((plane == value).all() for plane, value in zip(written, planes, strict=True))
  np.testing.assert_allclose(np.asarray(to_rgb(tuple(written), layout)), red, atol=0.01)


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "nv12", "yuyv422", "yuv444p10le", "p010le", "rgb24", "gray"])
def test_colours_are_those_of_ffmpeg(pixels, tmp_path):
  picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8) + np.array([140, 90, 60], np.uint8)
  picture[:, : WIDTH // 2] = 40
  frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixels, dst_colorspace="ITU709")
  if pixels != "rgb24":
    frame.colorspace = 1

  class Stream:
    codec_context = type("Context", (), {"color_trc": 1, "codec_tag": "avc1"})

  layout = _layout_of(frame, Stream)
  values = np.asarray(to_rgb(planes_of(frame, layout), layout))
  expected = frame.to_ndarray(format="rgb24", interpolation=EXACT)
  inside = np.r_[0 : WIDTH // 2 - 4, WIDTH // 2 + 4 : WIDTH]  # not where colours are interpolated
  assert np.abs(255 * values - expected)[:, inside].max() < 1


def test_smooth_colours_survive_both_conversions():
  layout = Layout(8, 2, 2, False, weights_of(1, HEIGHT))
  rows, columns = np.mgrid[:HEIGHT, :WIDTH] / 64
  y, blue, red = 60 + 80 * rows, 118 + 20 * columns[::2, ::2], 138 - 20 * rows[::2, ::2]
  planes = tuple(np.rint(plane).astype(np.uint8) for plane in (y, blue, red))
  for plane, back in zip(planes, from_rgb(to_rgb(planes, layout), layout), strict=True):
    assert np.abs(np.asarray(back).astype(int) - plane).max() <= 1


# Exposure


def test_light_is_told_from_content():
  before = np.random.default_rng(0).uniform(0.02, 0.3, (18, 32))
  assert light_change(before, before * 1.3) == pytest.approx(np.log(1.3))
  assert distance(before, before * 1.3) == pytest.approx(0)
  after = before.copy()
  after[6:12, 8:16] = 0.3  # an object
  assert light_change(before, after) == 0
  assert 0 < distance(before, after) < CUT < distance(before, before[::-1] * (np.mgrid[:18, :32][1] > 16))


def test_content_is_smoothed_within_scenes_and_light_is_not():
  times = np.arange(96) / 24
  light = np.where(np.arange(96) % 2, 0.2, 0.0)
  content = np.where(np.arange(96) < 48, 0.1, 0.4) * np.where(np.arange(96) % 7, 1, 1.3)
  found = np.log(steady(content * np.exp(light), light, times, [0, 48])) - light
  assert np.abs(found[:48] - np.log(0.1)).max() < 0.06 and np.abs(found[48:] - np.log(0.4)).max() < 0.06
  assert np.abs(np.diff(found[:48])).max() < 0.01
  without_cut = np.log(steady(content * np.exp(light), light, times, [0])) - light
  assert np.abs(np.diff(without_cut)).max() < 0.1 and without_cut[47] > found[47] + 0.3


def test_a_batch_is_the_images_one_by_one():
  enhancer = Enhancer(load_pretrained("general"), tile=32)
  images = np.stack(dark_frames(2)).astype(np.float32) / 255
  plan, together = enhancer.plan(HEIGHT, WIDTH, 2), np.empty_like(images)
  for rows, columns, values in plan.parts(lambda rows, columns: images[:, rows, columns]):
    together[:, rows, columns] = values
  np.testing.assert_allclose(together, [enhancer(image) for image in images], atol=1e-5)
  for rows, columns, values in plan.parts(lambda rows, columns: images[:, rows, columns], np.array([0.01, 0.9])):
    together[:, rows, columns] = values
  assert together[0].mean() > 1.5 * together[1].mean()  # the mean is what chooses the exposure
  assert frames_at_once(HEIGHT, WIDTH) == 16 and frames_at_once(2160, 3840) >= 1


def test_light_that_flickers_and_an_object_that_passes_leave_the_result_steady(tmp_path):
  rng = np.random.default_rng(0)
  light = np.r_[1 + 0.2 * rng.uniform(-1, 1, 12), np.ones(12)]
  picture = np.repeat(np.repeat(rng.integers(10, 60, (12, 16, 3)), 4, 0), 4, 1).astype(float)
  frames = []
  for number, factor in enumerate(light):
    frame = picture * factor
    if 12 <= number < 20:  # from the left to the right
      frame[24:40, max(0, (number - 13) * 8) : (number - 11) * 8] = 120
    frames.append(np.rint(frame).astype(np.uint8))
  path = write_video(tmp_path / "clip.mp4", frames, steps=None)
  done = enhance_videos(load_pretrained("general"), [(path, tmp_path / "bright.mp4")])
  assert done.failures == []
  before, after = (np.array(frames_of(each), float) for each in (path, tmp_path / "bright.mp4"))
  assert after.mean() > 1.5 * before.mean()
  change = lambda means: np.abs(np.diff(np.log(means))).mean()
  flickering = change(after[:12].mean(axis=(1, 2, 3))) / change(before[:12].mean(axis=(1, 2, 3)))
  assert flickering < 0.3
  background = after[12:, :16].mean(axis=(1, 2, 3))
  alone = Enhancer(load_pretrained("general"))
  photographs = np.array([alone(frame.astype(np.float32) / 255)[:16].mean() for frame in before[12:]])
  spread = lambda means: means.max() / means.min() - 1
  assert spread(background) < 0.4 * spread(photographs)


# What is kept


@pytest.mark.parametrize("name, result, options", [
  ("a.mp4", "a.mp4", {"rotation": 90}),
  ("a.mov", "a.mov", {"sound": "pcm_s16le", "pixels": "yuv422p10le", "tags": (1, 1, 1, 1)}),
  ("a.mkv", "a.mkv", {"sound": "libopus", "pixels": "yuv444p", "tags": (6, 6, 6, 1), "steps": None}),
  ("a.m4v", "a.m4v", {"pixels": "yuvj420p", "tags": (5, 5, 6, 2)}),
  ("a.webm", "a.mkv", {"sound": "libopus", "codec": "libvpx-vp9", "steps": None, "encoder": {"crf": "10"}}),
  ("a.avi", "a.mkv", {"sound": "ac3", "codec": "mpeg4", "steps": None, "encoder": {"qscale": "2"}}),
])  # fmt: skip
def test_sound_times_and_form_are_copied(model, tmp_path, name, result, options):
  path, target = write_video(tmp_path / name, **options), tmp_path / "out" / result
  done = enhance_videos(model, [(path, target)])
  assert (done.failures, done.warnings, done.written) == ([], [], [target])
  assert names(tmp_path / "out") == [result]
  sound = sound_of(path)
  assert len(sound) >= 15
  if name.endswith(".avi"):  # Matroska has times of a millisecond
    assert [row[2] for row in sound_of(target)] == [row[2] for row in sound]
    assert np.allclose([float(row[0]) for row in sound_of(target)], [float(row[0]) for row in sound], atol=6e-4)
  else:
    assert sound_of(target) == sound
    assert [row[0] for row in times_of(target)] == [row[0] for row in times_of(path)]
    assert sum(row[1] for row in times_of(target)) == sum(row[1] for row in times_of(path))
  assert len(frames_of(target)) == FRAMES
  with av.open(str(path)) as before, av.open(str(target)) as after:
    assert after.metadata.get("title", after.metadata.get("TITLE")) == "a title"
    first, second = (next(each.decode(video=0)) for each in (before, after))
    other = after.streams.video[0]
    assert other.codec_context.name == "h264" and (other.width, other.height) == (WIDTH, HEIGHT)
    assert second.rotation == first.rotation == options.get("rotation", 0)
    assert second.format.name == first.format.name
    for tag in ("colorspace", "color_primaries", "color_trc", "color_range"):
      assert getattr(second, tag) == getattr(first, tag), tag
  assert np.mean(frames_of(target)) > 1.2 * np.mean(frames_of(path))


def test_subtitles_and_chapters_are_copied_where_the_container_holds_them(model, tmp_path):
  path = write_subtitled(tmp_path / "a.mkv")
  done = enhance_videos(model, [(path, tmp_path / "out" / name) for name in ("a.mkv", "a.mp4")])
  assert done.failures == [] and done.warnings == [(path, "it loses subtitles (srt)")]
  found = []
  for each in (path, tmp_path / "out" / "a.mkv"):
    with av.open(str(each)) as container:
      packets = [(packet.pts, packet.duration, bytes(packet)) for packet in container.demux(subtitles=0) if packet.size]
      found.append((container.chapters(), packets))
  assert found[0] == found[1] and [row[2] for row in found[0][1]] == [b"hello", b"world"]


@pytest.mark.parametrize(
  "pixels, tags", [("yuv420p", (1, 1, 1, 1)), ("yuvj420p", (6, 6, 6, 2)), ("yuv420p", (2, 2, 2, 0))]
)
def test_without_strength_a_grey_ramp_stays(model, tmp_path, pixels, tags):
  ramp = np.repeat(np.tile(np.linspace(0, 255, WIDTH), (HEIGHT, 1))[..., None], 3, axis=-1).astype(np.uint8)
  path = write_video(tmp_path / "a.mp4", [ramp] * 3, pixels=pixels, tags=tags, sound=None, encoder={"crf": "0"})
  assert enhance_videos(model, [(path, tmp_path / "b.mp4")], strength=0, quality=100).failures == []
  before, after = (np.array(frames_of(each), float) for each in (path, tmp_path / "b.mp4"))
  assert np.abs(before - after).max() <= 4 and abs(np.mean(before - after)) < 0.3


def test_odd_sides_are_written_with_all_colours(model, tmp_path):
  path = write_video(tmp_path / "a.mkv", [frame[:47, :63] for frame in dark_frames(3)], codec="ffv1", encoder={})
  done = enhance_videos(model, [(path, tmp_path / "b.mkv")])
  assert done.failures == [] and [text for _, text in done.warnings] == [
    "written as 4:4:4, because H.264 with fewer samples of colour needs even sides"
  ]
  assert frames_of(tmp_path / "b.mkv")[0].shape == (47, 63, 3)


def test_quality_is_a_rate_factor(model, tmp_path):
  assert [rate_factor(quality) for quality in (None, 100, 80, 5)] == [18, 10, 18, 48]
  path = write_video(tmp_path / "a.mp4", sound=None)
  sizes = []
  for quality in (95, 80, 20):
    enhance_videos(model, [(path, tmp_path / "b.mp4")], quality=quality, overwrite=True)
    sizes.append((tmp_path / "b.mp4").stat().st_size)
  assert sizes == sorted(sizes, reverse=True) and sizes[0] > 2 * sizes[2]
  with pytest.raises(UserError, match="`quality` must be between"):
    enhance_videos(model, [], quality=0)


# Bad input


def bad_videos(folder):
  """Name -> what the line about it says."""
  folder.mkdir(exist_ok=True)
  (folder / "empty.mp4").write_bytes(b"")
  (folder / "text.mkv").write_text("no video at all " * 9)
  Image.fromarray(dark_images(1)[0]).save(folder / "photo.mov", "JPEG")
  write_sound(folder / "sound.mp4")
  whole = write_video(folder / "cut.mp4").read_bytes()
  (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
  long = dark_frames(36)
  for name, options in (("early.mp4", {"options": {"movflags": "faststart"}}), ("early.mkv", {})):
    whole = write_video(folder / name, long, steps=None, sound=None, **options).read_bytes()
    (folder / name).write_bytes(whole[: int(0.55 * len(whole))])
  for name, curve in (("pq.mp4", 16), ("hlg.mov", 18)):
    write_video(
      folder / name,
      codec="libx265",
      pixels="yuv420p10le",
      tags=(9, 9, curve, 1),
      encoder={"x265-params": "log-level=none"},
    )
  write_video(folder / "lines.mkv", codec="mpeg2video", encoder={"flags": "+ildct+ilme"}, steps=None, interlaced=True)
  write_video(folder / "glass.mov", codec="qtrle", pixels="argb", encoder={}, steps=None)
  return {
    "empty.mp4": "the file is empty",
    "text.mkv": "not a readable video, it may be damaged or incomplete",
    "photo.mov": "it holds JPEG, not a video",
    "sound.mp4": "it has no video stream",
    "cut.mp4": "not a readable video, it may be damaged or incomplete",
    "early.mp4": "the file ends early",
    "early.mkv": "the file ends early",
    "pq.mp4": "HDR (PQ) is not supported: convert it to SDR",
    "hlg.mov": "HDR (HLG) is not supported: convert it to SDR",
    "lines.mkv": "interlaced videos are not supported: deinterlace it",
    "glass.mov": "videos with transparency are not supported",
  }


def test_a_line_for_each_bad_video_and_the_others_are_enhanced(enhance, tmp_path):
  said = bad_videos(tmp_path / "in")
  write_video(tmp_path / "in" / "good.mp4")
  Image.fromarray(dark_images(1)[0]).save(tmp_path / "in" / "good.png")
  code, out, err = enhance("in")
  assert code == 1 and out == [f"2 enhanced in bright, {len(said)} failed"]
  assert names(tmp_path / "bright") == ["good.mp4", "good.png"]
  lines = {line.removeprefix("ruas: in/").split(": ", 1)[0]: line for line in err}
  assert len(err) == len(lines) == len(said)
  for name, text in said.items():
    assert text in lines[name], lines[name]


def test_videos_without_their_extension_are_named(enhance, tmp_path):
  write_video(tmp_path / "in.mp4").rename(tmp_path / "clip")
  (tmp_path / "b").mkdir()
  (tmp_path / "clip").rename(tmp_path / "b" / "clip")
  write_video(tmp_path / "b" / "ok.mp4")
  (tmp_path / "b" / "film.jpg").write_bytes((tmp_path / "b" / "clip").read_bytes())
  code, out, err = enhance("b")
  assert code == 1
  assert out == ["1 enhanced in bright, 1 failed", "1 file skipped: b/clip (video without its extension: add .mp4)"]
  assert err == ["ruas: b/film.jpg: it holds a video: give it the extension of one, such as .mp4"]


def test_without_the_package_the_extra_is_named(enhance, tmp_path, monkeypatch):
  monkeypatch.setitem(extras._PACKAGES, "video", ("no_such_package",))
  Image.fromarray(dark_images(1)[0]).save(tmp_path / "a.png")
  (tmp_path / "a.mp4").write_bytes(b"")
  code, out, _ = enhance(".", "--out", "o")
  assert code == 0 and out[1] == '1 file skipped: a.mp4 (video needs more packages: pip install "ruas-jax[video]")'
  assert enhance("a.mp4")[2] == ['ruas: a.mp4: video needs more packages: pip install "ruas-jax[video]"']


# The command


def test_names_formats_and_pictures(enhance, tmp_path):
  write_video(tmp_path / "a.mp4", rotation=90)
  assert enhance("a.mp4", "--out", "new/b.mov") == (0, ["1 enhanced as new/b.mov"], [])
  assert sound_of(tmp_path / "new" / "b.mov") == sound_of(tmp_path / "a.mp4")
  for arguments, text in (
    (("a.mp4", "--out", "new/b.mov"), "exists already"),
    (("a.mp4", "--out", "b.jpg"), "is a video: choose .mp4, .m4v, .mov, .mkv, or a folder"),
    (("a.mp4", "--out", "b.webm"), "is a video: choose .mp4"),
    (("a.mp4", "--format", "jpeg"), "--format is for photographs"),
    (("a.mp4", "--white-balance", "1"), "--white-balance is for photographs"),
    (("a.mp4", "--preview", "--out", "b.mp4"), "is the name of a video: choose .png"),
  ):
    code, _, err = enhance(*arguments)
    assert code == 1 and len(err) == 1 and text in err[0], err
  Image.fromarray(dark_images(1)[0]).save(tmp_path / "a.png")
  assert enhance("a.png", "a.mp4", "--preview")[:2] == (0, ["2 previewed in bright"])
  assert names(tmp_path / "bright") == ["a_mp4_preview.jpg", "a_png_preview.jpg"]
  with Image.open(tmp_path / "bright" / "a_mp4_preview.jpg") as image:
    assert image.size == (HEIGHT, WIDTH)  # upright
  assert enhance("a.png", "a.mp4", "--contact-sheet", "--out", "all.png")[:2] == (0, ["2 previewed as all.png"])


def test_the_middle_frame_is_upright(tmp_path):
  picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
  picture[: HEIGHT // 2, : WIDTH // 2] = 200
  expected = {0: (0, 0), 90: (1, 0), 180: (1, 1), 270: (0, 1)}  # the bright corner, counter-clockwise
  for angle, corner in expected.items():
    path = write_video(tmp_path / f"{angle}.mp4", [picture] * 3, rotation=angle, sound=None)
    samples = read_middle(path).samples
    quarters = samples.reshape(2, samples.shape[0] // 2, 2, samples.shape[1] // 2, 3).mean(axis=(1, 3, 4))
    assert tuple(np.argwhere(quarters > 150)[0]) == corner, angle


# No half file


class Stop(Exception):
  pass


def test_a_stop_in_the_middle_leaves_nothing(model, tmp_path):
  path = write_video(tmp_path / "a.mp4", dark_frames(40))

  class Bar:
    def __init__(self, description):
      self.description = description

    def __enter__(self):
      return self

    def __exit__(self, *_):
      return None

    def update(self, step, **metrics):
      if self.description.startswith("enhance"):
        assert metrics["fps"] > 0
        assert any(name.startswith(".b.mp4.") for name in os.listdir(tmp_path / "out"))
        raise Stop

  with pytest.raises(Stop):
    enhance_videos(model, [(path, tmp_path / "out" / "b.mp4")], progress=lambda _, description: Bar(description))
  assert names(tmp_path / "out") == []


def test_a_kill_leaves_nothing_under_the_name(saved, model, tmp_path):
  path = write_video(tmp_path / "a.mp4", dark_frames(16) * 40, sound=None, steps=None)
  command = [sys.executable, "-m", "ruas_jax", "enhance", path, "--out", tmp_path / "out", "--checkpoint", saved]
  process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True)
  line = next(line for line in process.stdout if line.startswith("enhance a.mp4"))
  os.kill(process.pid, signal.SIGKILL)
  process.communicate()
  assert " fps " in line
  (left,) = names(tmp_path / "out")
  assert left.startswith(".a.mp4.")
  assert enhance_videos(model, [(write_video(path), tmp_path / "out" / "a.mp4")]).failures == []
  assert names(tmp_path / "out") == ["a.mp4"]


def test_a_video_is_measured_before_it_is_enhanced(tmp_path):
  other = (np.mgrid[:HEIGHT, :WIDTH][0] > 24)[..., None] * np.uint8(60)
  path = write_video(tmp_path / "a.mp4", dark_frames(8) + [frame[::-1] // 3 + other for frame in dark_frames(4)])
  survey = look_through(path)
  assert survey.starts == [0, 8] and len(survey.times) == len(survey.means) == 12
  means = [frame.mean() / 255 for frame in frames_of(path)]
  np.testing.assert_allclose(survey.means, means, atol=2e-3)
