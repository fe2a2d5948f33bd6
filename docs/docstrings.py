"""Makes docstrings of this package readable for the reference. Two forms need help.

A docstring may begin with a section, such as `Attributes:`. Python removes the indentation that all lines but the first
share, so that the section seems to be empty. And a section may follow another one without an empty line between them.
"""

import re

import griffe

_TITLE = r"(?:Attributes|Args|Raises|Returns):"


class SeparateSections(griffe.Extension):
  """Indents what follows a title in the first line, and puts an empty line before every other title."""

  def on_instance(self, *, obj: griffe.Object, **_) -> None:
    """Called for every module, class, function and attribute."""
    if not obj.docstring:
      return
    text = obj.docstring.value
    if re.match(rf"{_TITLE}\n(?=\S)", text):
      title, _, content = text.partition("\n")
      section, *others = content.split("\n\n", 1)
      text = "\n\n".join([title + "\n  " + section.replace("\n", "\n  "), *others])
    obj.docstring.value = re.sub(rf"(?<!\n)\n({_TITLE}\n)(?=  )", r"\n\n\1", text)
