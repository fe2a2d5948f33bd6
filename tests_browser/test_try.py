"""The page `docs/try`: its results are this package's, and what cannot be read gets a message."""

import io

import numpy as np
import pytest
from PIL import Image
from serving import DOCS, served
from skimage.data import coffee, rocket

from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.knobs import expose
from ruas_jax.photos.pretrained import load_pretrained
from ruas_jax.photos.sizes import split

MOST_LEVELS = 2


def darkened(photograph):
  return ((photograph / 255) ** 2.2 * 0.15 * 255).round().astype(np.uint8)


PHOTOGRAPH = np.tile(darkened(coffee()), (2, 2, 1))[:700, :900]  # more than one window, no multiple of anything


def write(path, samples, **how):
  Image.fromarray(samples).save(path, **how)
  return path


def enhance(page, path):
  page.set_input_files("#pick", path)
  page.wait_for_selector("#stage[data-done=yes]", timeout=300_000)


def turn(page, **knobs):
  for name, value in knobs.items():
    page.locator(f"#{name}").fill(str(value))


def download(page):
  """The samples of the downloaded file, and its name."""
  with page.expect_download() as download:
    page.click("#save")
  with open(download.value.path(), "rb") as file:
    return np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")), download.value.suggested_filename


@pytest.fixture(scope="module")
def ours():
  """u_K and x_N of the photograph."""
  model, image = load_pretrained("general"), PHOTOGRAPH.astype(np.float32) / 255
  return {variant: Enhancer(model.with_variant(variant))(image) for variant in ("i", "i+n")}


def largest_difference(found, expected):
  return np.abs(found - np.clip(expected, 0, 1) * 255).max()


def test_results_are_those_of_the_package(page, ours, tmp_path):
  enhance(page, write(tmp_path / "dark.png", PHOTOGRAPH))
  assert "Computed by" in page.text_content("#about") and "Apache-2.0" in page.text_content("#about")
  found, name = download(page)
  assert name == "dark-bright.png" and found.shape == PHOTOGRAPH.shape
  assert found.mean() > 2 * PHOTOGRAPH.mean()
  assert largest_difference(found, ours["i+n"]) <= MOST_LEVELS
  turn(page, strength=0.5, denoise=0.25, exposure=0.7)
  mixed = 0.5 * PHOTOGRAPH / 255 + 0.5 * (0.25 * ours["i+n"] + 0.75 * ours["i"])
  assert largest_difference(download(page)[0], expose(mixed, 0.7)) <= MOST_LEVELS
  turn(page, strength=0, exposure=0)
  assert np.array_equal(download(page)[0], PHOTOGRAPH)
  page.click("#reset")
  assert np.array_equal(download(page)[0], found)


def test_a_photograph_is_turned_upright(page, tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  dark = darkened(rocket())[:200, :300]
  path = write(tmp_path / "turned.jpg", dark, quality=100, subsampling=0, exif=exif)
  with Image.open(path) as stored:
    image = np.rot90(np.asarray(stored), -1).astype(np.float32) / 255
  enhance(page, path)
  turn(page, strength=0)
  found, name = download(page)
  assert name == "turned-bright.jpg" and found.shape == image.shape == (300, 200, 3)
  assert np.abs(found - image * 255).mean() < 1  # the download is a JPEG again


def test_another_photograph_replaces_one_under_way(page, tmp_path):
  page.set_input_files("#pick", write(tmp_path / "first.png", PHOTOGRAPH))
  page.wait_for_selector("#stage[data-done=no]")
  second = PHOTOGRAPH[:60, :80]
  enhance(page, write(tmp_path / "second.png", second))
  found, name = download(page)
  assert name == "second-bright.png" and found.shape == second.shape
  expected = Enhancer(load_pretrained("general"))(second.astype(np.float32) / 255)
  assert largest_difference(found, expected) <= MOST_LEVELS


@pytest.mark.parametrize("content", [b"", b"no image", "head"])
def test_an_unreadable_file_gets_a_message(page, content, tmp_path):
  path = write(tmp_path / "broken.png", PHOTOGRAPH[:40, :40])
  path.write_bytes(path.read_bytes()[:30] if content == "head" else content)
  page.set_input_files("#pick", path)
  page.wait_for_selector("#status.wrong")
  assert "broken.png cannot be read" in page.text_content("#status")
  assert page.is_disabled("#save") and page.is_hidden("#stage") and page.is_hidden("#progress")
  enhance(page, write(tmp_path / "sound.png", PHOTOGRAPH[:40, :40]))
  assert page.is_enabled("#save") and page.locator("#status.wrong").count() == 0


def test_a_dropped_file_is_enhanced(page):
  data = io.BytesIO()
  Image.fromarray(PHOTOGRAPH[:40, :50]).save(data, "PNG")
  page.evaluate(
    """(bytes) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
      document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
    }""",
    list(data.getvalue()),
  )
  page.wait_for_selector("#stage[data-done=yes]")
  assert "dropped.png was enhanced" in page.text_content("#status")


def test_the_keyboard_reaches_everything_and_everything_has_a_name(page, tmp_path):
  enhance(page, write(tmp_path / "dark.png", PHOTOGRAPH[:40, :50]))
  page.focus("#pick")
  reached = []
  for _ in range(7):
    reached.append(page.evaluate("document.activeElement.id"))
    page.keyboard.press("Tab")
  assert reached == ["pick", "divide", "strength", "denoise", "exposure", "reset", "save"]
  page.focus("#divide")
  page.keyboard.press("End")
  assert page.evaluate("document.getElementById('stage').style.getPropertyValue('--divide')") == "100%"
  for role, name in (("slider", "Border between before and after"), ("slider", "Strength"), ("button", "Download")):
    assert page.get_by_role(role, name=name).count() == 1
  assert page.get_by_role("status").count() == 1


@pytest.mark.parametrize("file", ["photo.js", "tile.js"])
def test_the_workers_too_may_not_leave_the_origin(browser, origin, file):
  page = browser.new_page()
  with served() as elsewhere:
    leak = f'\nfetch("{elsewhere}/try/style.css", {{ mode: "no-cors" }})'
    leak += '.then(() => "it left", () => "it was refused").then((error) => postMessage({ error }));'
    code = (DOCS / "try" / file).read_text() + leak
    page.route(f"**/{file}", lambda route: route.fulfill(body=code, content_type="text/javascript"))
    page.goto(f"{origin}/try/index.html")
    page.wait_for_selector("#status.wrong")
    assert page.text_content("#status").endswith("it was refused")
  page.close()


def test_a_missing_model_gets_a_message_that_stays(browser, origin, tmp_path):
  page = browser.new_page()
  page.route("**/model.onnx", lambda route: route.fulfill(status=404))
  page.goto(f"{origin}/try/index.html")
  page.get_by_text("The model could not be loaded: model.onnx: 404").wait_for()
  page.set_input_files("#pick", write(tmp_path / "dark.png", PHOTOGRAPH[:40, :40]))
  page.wait_for_selector("#stage[data-done=no]", state="attached")
  page.get_by_text("The model could not be loaded: model.onnx: 404").wait_for()
  page.close()


def test_windows_are_those_of_the_package(page):
  lengths = [(length, side, halo) for length in (1, 40, 513, 1024, 4001) for side in (64, 512) for halo in (0, 37)]
  found = page.evaluate(
    """async (lengths) => {
      const { split } = await import(new URL("tiles.js", location).href);
      return lengths.map((of) => split(...of).map(({ start, stop, first, last }) => [start, stop, first, last]));
    }""",
    lengths,
  )
  assert found == [[list(span) for span in split(*of)] for of in lengths]
