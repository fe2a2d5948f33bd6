"""HTML and SVG elements as text. What is not markup already is escaped."""

import html
from collections.abc import Iterable


class Markup(str):
  """Text that is HTML."""


Content = str | int | float | None | Iterable["Content"]

_VOID = ("br", "img", "input", "link", "meta", "wbr")  # elements without an end


def element(name: str, /, *inside: Content, **attributes: str | float | bool | None) -> Markup:
  """`<name attributes>inside</name>`.

  Args:
    name: the element's name.
    inside: its content, one thing after the other; texts are escaped.
    attributes: `class_` is class, and `stroke_width` is stroke-width; `viewBox` keeps its letters. None and False leave
      the attribute out, and True writes its name alone.
  """
  written = "".join(_attribute(key, value) for key, value in attributes.items() if value not in (None, False))
  return Markup(f"<{name}{written}>" + ("" if name in _VOID else f"{joined(inside)}</{name}>"))


def joined(content: Content) -> Markup:
  """The content as markup, one thing after the other."""
  if isinstance(content, Markup):
    return content
  if isinstance(content, Iterable) and not isinstance(content, str):
    return Markup("".join(map(joined, content)))
  return Markup("" if content is None else html.escape(str(content)))


def number(value: float | None, digits: int = 4) -> str:
  """A number for people to read: `1234.5` is "1,234" with four digits; None is a dash."""
  if value is None:
    return "–"
  if isinstance(value, int) or abs(value) >= 10**digits:
    return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3g}"
  return f"{value:.{digits}g}"


def table(head: Iterable[Content], rows: Iterable[Iterable[Content]], *, label: str, titled: bool = False) -> Markup:
  """A table that scrolls sideways alone where it is too wide. The first column names the row.

  `label` is its name, which is also its visible title if it is `titled`.
  """
  body = ([element("th", first, scope="row"), *(element("td", cell) for cell in rest)] for first, *rest in rows)
  return scrolling(
    element(
      "table",
      element("caption", label) if titled else None,
      element("thead", element("tr", (element("th", cell, scope="col") for cell in head))),
      element("tbody", (element("tr", row) for row in body)),
    ),
    label=label,
  )


def scrolling(inside: Markup, *, label: str) -> Markup:
  """Content that may be wider than a phone. It can be focused, so that the keyboard can scroll it."""
  return element("div", inside, class_="wide", tabindex=0, role="region", aria_label=label)


def facts(pairs: Iterable[tuple[str, Content]]) -> Markup:
  """A list of names and values. Pairs whose value is None are left out."""
  shown = (element("div", element("dt", name), element("dd", value)) for name, value in pairs if value is not None)
  return element("dl", shown, class_="facts")


def folded(summary: str, *inside: Content) -> Markup:
  """Content that a click opens."""
  return element("details", element("summary", summary), *inside)


def _attribute(key: str, value: str | float | bool | None) -> str:
  name = key.rstrip("_").replace("_", "-")
  if isinstance(value, float):
    value = f"{value:.5g}"
  return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
