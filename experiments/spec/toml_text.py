"""TOML in and out: files read defensively, values of the command line, and a small writer."""

import datetime
import errno
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dynamics.errors import PlasticodeError, printable, reason
from experiments.machine.names import hint
from experiments.machine.reading import read_bytes

LARGEST_FILE = 1_000_000  # bytes
DEEPEST = 20  # levels of nested lists and tables; a spec needs 5
MOST_KEYS = 10_000  # and lists and tables; a spec of 100 parts has some thousands
MOST_VALUES = 200_000  # of lists
MOST_DOTTED = 10  # parts of a key; a spec needs 6
# Strings and comments as a whole, and what is counted outside of them; what ends nowhere ends with the text.
# Loops are unrolled, so that none can go back. (Possessive ones match wrongly before Python 3.11.5.)
_TOKEN = re.compile(
    r'"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:"{3,5}|\Z)'
    r"|'''[^']*(?:'(?!'')[^']*)*(?:'{3,5}|\Z)"
    r'|"[^"\\\n]*(?:\\.[^"\\\n]*)*"?'
    r"|'[^'\n]*'?"
    r"|(?:#[^\n]*|\n)(?:#[^\n]*|\s+)*|[\[\]{}=.,]",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a file; a file that is missing, too large, no text or no TOML raises `PlasticodeError`."""
    file = f"spec file '{printable(str(path))}'"
    try:
        if not path.exists():
            near = hint(path.name, [other.name for other in path.parent.glob("*.toml")])
            told = "does not exist: it must be the path of a TOML file, or the name of a spec"
            raise PlasticodeError(f"{file} {told}{near}")
        if not path.is_file():
            raise PlasticodeError(f"{file} is not a file: it must be the path of a TOML file")
        content = read_bytes(path, LARGEST_FILE)
    except (OSError, ValueError) as error:
        if isinstance(error, PlasticodeError):
            raise
        if getattr(error, "errno", None) == errno.EFBIG:
            raise PlasticodeError(f"{file} is too large: a spec has at most {LARGEST_FILE} bytes") from None
        raise PlasticodeError(f"{file} cannot be read: {reason(error)}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise PlasticodeError(f"{file} is not UTF-8 text (line {line}): a spec must be") from None
    return parse_toml(text, file)


def parse_toml(text: str, what: str = "the spec") -> dict[str, Any]:
    """The tables of a text; `what` names it in the sentence of a `PlasticodeError`."""
    _check_text(text, what)
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise PlasticodeError(f"{what} is nested too deeply: at most {DEEPEST} levels are allowed") from None
    except tomllib.TOMLDecodeError as error:
        end = f"at the end, line {len(text.splitlines()) or 1}"
        said = str(error).replace("at end of document", end)
        raise PlasticodeError(f"{what} is not valid TOML: {printable(said, 200)}") from None
    except ValueError as error:  # such as an integer of thousands of digits, or the 31st of February
        raise PlasticodeError(f"{what} has a value that cannot be read: {printable(str(error), 200)}") from None
    _check_nesting(table, what)
    return table


def parse_setting(text: str) -> tuple[str, Any]:
    """Split "path=value" and read the value as TOML; what is no TOML value is a text, so that `gap=50 ms` works."""
    path, equals, value = text.partition("=")
    path, value = path.strip(), value.strip()
    if not equals or not path:
        raise PlasticodeError(f"the setting '{printable(text)}' is not allowed: it must have the form path=value")
    path = path.replace('"', "")
    _check_text(text, f"the setting '{printable(text)}'")
    try:
        table = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        return path, value
    if list(table) != ["value"]:  # a line break in the value could add keys
        return path, value
    _check_nesting(table, f"the setting '{printable(text)}'")
    return path, table["value"]


def _check_text(text: str, what: str) -> None:
    """Refuse what a parser would take long for, by a look at brackets, equals signs and dots outside of strings.

    As far as the text is TOML, this sees what the parser sees; and where it ceases to be, the parser ends.
    """
    if len(text) > LARGEST_FILE:
        raise PlasticodeError(f"{what} is too large: at most {LARGEST_FILE} characters are allowed")
    depth = keys = values = parts = 0
    for token in _TOKEN.finditer(text):
        kind = token[0]
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(kind, 0)
        keys += kind in ("=", "[", "{")
        values += kind == ","
        parts = parts + 1 if kind == "." else parts if kind[0] in "\"'" else 0  # a part may be quoted
        if depth > DEEPEST:
            raise PlasticodeError(f"{what} is nested too deeply: at most {DEEPEST} levels are allowed")
        if keys > MOST_KEYS:
            raise PlasticodeError(f"{what} has too many keys, lists and tables: at most {MOST_KEYS} are allowed")
        if values > MOST_VALUES:
            raise PlasticodeError(f"{what} has too many values: at most {MOST_VALUES} are allowed")
        if parts >= MOST_DOTTED:
            raise PlasticodeError(f"{what} has a key of too many parts: at most {MOST_DOTTED} are allowed")


def _check_nesting(table: Mapping[str, Any], what: str) -> None:
    """Refuse deep nesting, which later recursions could not bear, and dates, which no key takes."""
    level: list[Any] = [table]
    for _ in range(DEEPEST):
        level = [item for value in level for item in _items(value)]
        for item in level:
            if isinstance(item, datetime.date | datetime.time):
                raise PlasticodeError(f"{what} has the date or time of day {item}: no key takes one")
    if level:
        raise PlasticodeError(f"{what} is nested too deeply: at most {DEEPEST} levels are allowed")


def _items(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        return iter(value.values())
    return iter(value) if isinstance(value, list) else iter(())


def write_toml(spec: Mapping[str, Any]) -> str:
    """The TOML text of a spec's tables.

    Values inside a table stay on one line each: the order of the keys in [sweep] is the order of the grid's axes.
    """
    sections = {(): {key: value for key, value in spec.items() if not isinstance(value, Mapping)}}
    sections |= {(key,): value for key, value in spec.items() if isinstance(value, Mapping) and key != "parts"}
    for name, part in spec.get("parts", {}).items():
        sections |= {("parts", name): {}} | {("parts", name, key): value for key, value in part.items()}
    return "\n".join(_section(header, values) for header, values in sections.items())


def _section(header: tuple[str, ...], values: Mapping[str, Any]) -> str:
    title = f"[{'.'.join(map(_key, header))}]\n" if header else ""
    return title + "".join(f"{_key(key)} = {inline(value)}\n" for key, value in values.items())


def inline(value: Any) -> str:
    """One value in TOML's notation, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(inline, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else inline(key)
