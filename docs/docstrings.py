"""For the site: classes are shown as they are called, and paragraphs that are laid out in columns keep their lines."""

import inspect
import re
from typing import Any

import griffe

import plasticode

COLUMNS = re.compile(r"^\S.*\S {2,}\S|^\w+ {2,}\S", re.MULTILINE)
PLAIN = (str, int, float, bool, type(None), tuple)


class Docstrings(griffe.Extension):
    """What docstrings of this code need that those of other code do not."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute that is read."""
        if obj.docstring is None:
            return
        paragraphs = [_fenced(paragraph) for paragraph in obj.docstring.value.split("\n\n")]
        public = getattr(plasticode, obj.name, None) if obj.name in dir(plasticode) else None
        if (
            isinstance(public, type)
            and not issubclass(public, Exception)
            and f"{public.__module__}.{public.__name__}" == obj.path
        ):
            paragraphs.insert(0, _called(public))
        obj.docstring.value = "\n\n".join(paragraphs)


def _fenced(paragraph: str) -> str:
    return f"```text\n{paragraph}\n```" if COLUMNS.search(paragraph) else paragraph


def _called(public: type) -> str:
    """The call of a class, whose fields equinox, pydantic and dataclasses make parameters of."""
    fields = [_field(one) for one in inspect.signature(public).parameters.values()]
    inside = "".join(f"    {field},\n" for field in fields)
    return f"```python\n{public.__name__}(\n{inside})\n```" if fields else f"```python\n{public.__name__}()\n```"


def _field(one: inspect.Parameter) -> str:
    annotation = one.annotation if isinstance(one.annotation, str) else inspect.formatannotation(one.annotation)
    typed = one.name if one.annotation in (one.empty, Any) else f"{one.name}: {annotation}"  # Any: it is converted
    if one.default is one.empty:
        return typed
    return f"{typed} = {one.default!r}" if isinstance(one.default, PLAIN) else f"{typed} = ..."
