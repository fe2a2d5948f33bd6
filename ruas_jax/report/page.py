"""The page around the sections: one HTML file that needs no other, and that fetches nothing.

Its security policy allows the page's style, its script and pictures inside it, and nothing else.
"""

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence
from typing import NamedTuple

from ruas_jax.report.markup import Content, Markup, element, facts


class Section(NamedTuple):
  """Attributes:
  title: heading and entry of the table of contents.
  content: the content; if it is empty, the section is left out.
  """

  title: str
  content: Content


def charts(drawings: Sequence[Markup]) -> Markup | None:
  """Charts side by side as far as there is room; None without charts."""
  return element("div", drawings, class_="charts") if drawings else None


def page(title: str, kind: str, about: Sequence[tuple[str, Content]], sections: Sequence[Section], *, made: str) -> str:
  """The whole document.

  Args:
    title: name of the run.
    kind: what it is, in a few words.
    about: facts at the top.
    sections: the sections in their order.
    made: line at the bottom.
  """
  style, script = _file("page.css"), _file("page.js")
  policy = (
    f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
  )
  sections = [section for section in sections if section.content]
  links = (element("a", section.title, href=f"#{_anchor(section)}") for section in sections)
  head = element(
    "head",
    element("meta", charset="utf-8"),
    element("meta", name="viewport", content="width=device-width, initial-scale=1"),
    element("meta", http_equiv="Content-Security-Policy", content=policy),
    element("meta", name="color-scheme", content="light dark"),
    element("title", f"{title} - {kind}"),
    element("link", rel="icon", href="data:,"),
    element("style", Markup(style)),
  )
  body = element(
    "body",
    element("header", element("p", kind, class_="kind"), element("h1", title), facts(about)),
    element("nav", links, aria_label="Sections"),
    element("main", map(_section, sections)),
    element("footer", made),
    element("script", Markup(script)),
  )
  return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _section(section: Section) -> Markup:
  anchor = _anchor(section)
  heading = element("h2", section.title, id=f"{anchor}-title")
  return element("section", heading, section.content, id=anchor, aria_labelledby=f"{anchor}-title")


def _anchor(section: Section) -> str:
  return "part-" + "".join(letter if letter.isalnum() else "-" for letter in section.title.lower())


def _file(name: str) -> str:
  return importlib.resources.files("ruas_jax.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
  return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
