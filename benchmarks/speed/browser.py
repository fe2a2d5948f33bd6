"""The page `docs/try` in a headless Chromium: seconds, memory, and how far its results are from ours.

    python -m benchmarks.speed.browser --json benchmarks/results/browser.json [--picture docs/browser.png]

It needs the extra `browser` and Chromium (`make test-browser`). Memory is the sum of all processes of the browser (PSS,
Linux), at its peak and minus that before the photograph was opened. `page_thread_seconds` is the processor time of all
tasks of the page's thread together: only other programs can make it pause for longer.
"""

import io
import pathlib
import re
import tempfile
import threading
import time

import numpy as np
from PIL import Image

from benchmarks.report import argument_parser, print_table, write_report
from ruas_jax.photos.enhancer import Enhancer
from ruas_jax.photos.pretrained import load_pretrained
from tests_browser.serving import launched, requests_elsewhere, served

SIZES = ((1154, 1732), (3000, 4000))  # 2 and 12 megapixels


def photograph(height: int, width: int) -> np.ndarray:
  """uint8 [H, W, 3]: an enlarged photograph, dark."""
  from skimage.data import coffee

  enlarged = np.asarray(Image.fromarray(coffee()).resize((width, height)))
  return ((enlarged / 255) ** 2.2 * 0.15 * 255).round().astype(np.uint8)


class Memory(threading.Thread):
  """Watches the memory of all Chromium processes under this one."""

  def __init__(self):
    super().__init__(daemon=True)
    self.first, self.peak, self.done = _megabytes(), 0.0, threading.Event()

  def run(self):
    while not self.done.wait(0.2):
      self.peak = max(self.peak, _megabytes())


def _megabytes() -> float:
  """PSS of the browser that this process started."""
  total = 0
  for status in pathlib.Path("/proc").glob("[0-9]*/smaps_rollup"):
    try:
      if b"chromium" in (status.parent / "cmdline").read_bytes().split(b"\0")[0]:
        total += int(re.findall(r"^Pss: +(\d+)", status.read_text(), re.MULTILINE)[0])
    except (OSError, IndexError):  # it ended
      continue
  return total * 1024 / 1e6


def _task_seconds(session) -> float:
  """Processor time of the tasks of the page's thread so far."""
  metrics = {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}
  return metrics["TaskDuration"]


def measure(browser, origin: str, height: int, width: int, picture: pathlib.Path | None) -> dict:
  """One photograph in a new page."""
  page, requests = browser.new_page(viewport={"width": 720, "height": 800}, color_scheme="light"), []
  page.on("request", lambda request: requests.append(request.url))
  page.goto(f"{origin}/try/index.html")
  page.get_by_text("Computed by").wait_for()
  image = photograph(height, width)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "photograph.png"
    Image.fromarray(image).save(path)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    busy = -_task_seconds(session)
    memory = Memory()
    memory.start()
    page.set_input_files("#pick", path)
    page.wait_for_selector("#stage[data-done=yes]", timeout=600_000)
    seconds = page.evaluate("Number(document.getElementById('stage').dataset.seconds)")
    busy += _task_seconds(session)
    start = time.perf_counter()
    page.locator("#strength").fill("0.5")
    page.locator("#strength").fill("1")
    with page.expect_download(timeout=120_000) as download:
      page.click("#save")
    found = np.asarray(Image.open(download.value.path()).convert("RGB"))
    saved = time.perf_counter() - start
    memory.done.set()
  if picture:
    Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB").quantize(256).save(picture, optimize=True)
  about = page.text_content("#about")
  page.close()
  ours = Enhancer(load_pretrained("general"))(image.astype(np.float32) / 255) * 255
  return {
    "height": height,
    "width": width,
    "megapixels": height * width / 1e6,
    "seconds": seconds,
    "peak_megabytes": memory.peak - memory.first,
    "page_thread_seconds": busy,
    "knobs_and_download_seconds": saved,
    "largest_levels": float(np.abs(found - ours).max()),
    "requests_elsewhere": requests_elsewhere(requests, origin),
    "computed": re.findall(r"Computed by (.*)\.", about)[0],
  }


def main() -> None:
  parser = argument_parser(__doc__.split("\n")[0])
  parser.add_argument("--picture", type=pathlib.Path, help="write a picture of the page to this file")
  arguments = parser.parse_args()
  sizes = SIZES[:1] if arguments.quick else SIZES
  with served() as origin, launched() as browser:
    version = browser.version
    rows = [measure(browser, origin, *size, arguments.picture if size == SIZES[0] else None) for size in sizes]
  print_table(rows, "the page in Chromium, from picking a photograph to its picture")
  write_report(
    arguments.json,
    settings={"sizes": sizes, "quick": arguments.quick, "chromium": version},
    results=rows,
    bars={"page_largest_levels": max(row["largest_levels"] for row in rows)},
  )


if __name__ == "__main__":
  main()
