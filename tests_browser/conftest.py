"""The page `docs/try` in a headless Chromium, which `CHROMIUM` names, and the server of its files."""

import functools
import http.server
import os
import pathlib
import shutil
import threading

import pytest
from playwright.sync_api import sync_playwright

DOCS = pathlib.Path(__file__).parents[1] / "docs"


class _Quiet(http.server.SimpleHTTPRequestHandler):
  extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
  }

  def log_message(self, *_):
    pass


@pytest.fixture(scope="session")
def origin():
  """The address under which the files of docs/ are served."""
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=os.fspath(DOCS)))
  threading.Thread(target=server.serve_forever, daemon=True).start()
  yield f"http://127.0.0.1:{server.server_port}"
  server.shutdown()
  server.server_close()


@pytest.fixture(scope="session")
def browser():
  chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
  with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture
def page(browser, origin):
  """The page, loaded. After the test, nothing may have gone wrong in it, and nothing may have left its origin."""
  page, requests, wrong = browser.new_page(), [], []
  page.on("request", lambda request: requests.append(request.url))
  page.on("pageerror", lambda error: wrong.append(str(error)))
  page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
  page.goto(f"{origin}/try/index.html")
  yield page
  page.close()
  left = [url for url in requests if not url.startswith((f"{origin}/", "blob:", "data:"))]
  assert requests and left == []
  assert wrong == []
