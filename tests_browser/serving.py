"""The page `docs/try` as tests and measurements open it: the server of its files, and a headless Chromium."""

import contextlib
import functools
import http.server
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

DOCS = pathlib.Path(__file__).parents[1] / "docs"


class _Quiet(http.server.SimpleHTTPRequestHandler):
  extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
  }

  def log_message(self, *_):
    pass


@contextlib.contextmanager
def served() -> Iterator[str]:
  """The origin under which the files of docs/ are served."""
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=os.fspath(DOCS)))
  threading.Thread(target=server.serve_forever, daemon=True).start()
  yield f"http://127.0.0.1:{server.server_port}"
  server.shutdown()
  server.server_close()


@contextlib.contextmanager
def launched(*options: str) -> Iterator[Browser]:
  """A Chromium: the one that `CHROMIUM` names, or else that of the system."""
  chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
  with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *options])
    yield browser
    browser.close()


def requests_elsewhere(requests: list[str], origin: str) -> list[str]:
  """Requests that left the origin. Nothing leaves the browser for blob: and data:."""
  return [url for url in requests if not url.startswith((f"{origin}/", "blob:", "data:"))]
