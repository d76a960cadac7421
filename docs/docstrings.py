"""For the site: paragraphs of docstrings that are laid out in columns keep their lines, as code does."""

import re
from typing import Any

import griffe

COLUMNS = re.compile(r"^\S.*\S {2,}\S|^\w+ {2,}\S", re.MULTILINE)


class Columns(griffe.Extension):
    """Fences such paragraphs, of which the docstrings of rules are made."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute that is read."""
        if obj.docstring is not None:
            obj.docstring.value = "\n\n".join(map(_fenced, obj.docstring.value.split("\n\n")))


def _fenced(paragraph: str) -> str:
    return f"```text\n{paragraph}\n```" if COLUMNS.search(paragraph) else paragraph
