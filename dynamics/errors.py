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
    near = difflib.get_close_matches(str(name), allowed, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return PlasticodeError(f"{kind} '{name}' is not known: it must be one of {', '.join(allowed)}{hint}")
