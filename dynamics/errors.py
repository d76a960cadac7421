"""The one error a user can cause, and the sentence it is told in."""

import difflib
from collections.abc import Iterable


class PlasticodeError(ValueError):
    """A user's mistake, told in one sentence: the key, the value, what is allowed.

    The command line prints the sentence and ends with exit code 2; from Python it is an ordinary `ValueError`.
    """


class NotOkWarning(UserWarning):
    """A run from Python whose numbers are not right to the tolerance that was asked for."""


def unknown(kind: str, name: str, allowed: Iterable[str]) -> PlasticodeError:
    """The error for a `name` that is none of `allowed`; it suggests the nearest allowed one."""
    allowed = sorted(allowed)
    listed = ", ".join(allowed)
    return PlasticodeError(f"{kind} '{name}' is not known: it must be one of {listed}{meant(name, allowed)}")


def meant(name: str, allowed: Iterable[str], likeness: float = 0.4) -> str:
    """The end of a sentence about a `name` that is none of `allowed`: the nearest of them, if any is near."""
    near = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=likeness)
    return f"; did you mean '{near[0]}'?" if near else ""


def refused(key: str, value: object, why: str) -> PlasticodeError:
    """The sentence for a `value` that `key` cannot have."""
    return PlasticodeError(f"{printable(key)} = {shown(value)} is not allowed: {why}")


def shown(value: object) -> str:
    """A value as a sentence quotes it: one line, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        return "a number of thousands of digits"
    return printable(text)


def reason(error: BaseException) -> str:
    """Why something could not be done, on one line: in the words of the system, where it has some."""
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def printable(text: str, longest: int = 80) -> str:
    """Text made fit for a one-line message."""
    text = text if text.isprintable() else text.encode("unicode_escape").decode()
    return text if len(text) <= longest else text[: longest - 3] + "..."


def visible(text: str) -> str:
    """Text as it is, but for what would steer a terminal or turn the direction of reading, which is spelt out."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\xa0" else _spelt(char) for char in text)


def _spelt(char: str) -> str:
    return char.encode("unicode_escape").decode()
