"""The page `docs/try`, loaded in a headless Chromium."""

import pytest
from serving import launched, requests_elsewhere, served


@pytest.fixture(scope="session")
def origin():
  with served() as origin:
    yield origin


@pytest.fixture(scope="session")
def browser():
  with launched() as browser:
    yield browser


@pytest.fixture
def page(browser, origin):
  """The page. After the test, nothing may have gone wrong in it, and no request may have left its origin."""
  page, requests, wrong = browser.new_page(), [], []
  page.on("request", lambda request: requests.append(request.url))
  page.on("pageerror", lambda error: wrong.append(str(error)))
  page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
  page.goto(f"{origin}/try/index.html")
  yield page
  page.close()
  assert requests and requests_elsewhere(requests, origin) == []
  assert wrong == []
