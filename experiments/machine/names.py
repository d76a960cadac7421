"""The right name for one that nobody knows: spelt in another way, or a module of the user's own."""

import difflib
import os
from collections.abc import Collection, Iterable

from dynamics.errors import PlasticodeError, printable, unknown
from dynamics.plugins import looked_in


def hint(name: object, allowed: Collection[str], inner: str = "") -> str:
    """The end of a sentence about a `name` that is none of `allowed`: the nearest of them, whatever its case.

    Where something of the user's own may be meant, `inner` is what stands behind the name of its module ("Class").
    """
    if not isinstance(name, str):
        return ""
    module, _, given = name.partition(".")
    if inner and module.isidentifier() and any(os.path.isfile(f"{folder}/{module}.py") for folder in looked_in()):
        return f"; did you mean '{module}:{given or inner}'?"
    near = nearest(name, allowed, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def nearest(name: str, allowed: Iterable[str], most: int) -> list[str]:
    """Those of `allowed` that a name is most like, whatever its case: `most` at most, the nearest first."""
    spelt = {known.lower(): known for known in allowed}
    return [spelt[near] for near in difflib.get_close_matches(name.lower(), spelt, n=most, cutoff=0.4)]


def one_of(name: str, allowed: Collection[str], inner: str = "") -> str:
    """A `name` that is allowed; the `ValueError` of any other says which ones are, with a `hint`."""
    if name not in allowed:
        *most, last = map(repr, allowed)
        raise ValueError(f"it must be {', '.join(most)} or {last}{hint(name, allowed, inner)}")
    return name


def unknown_name(kind: str, name: str, allowed: Collection[str], inner: str = "") -> PlasticodeError:
    """The error for a `name` that is none of `allowed`, with a `hint`."""
    sentence, _, _ = str(unknown(kind, printable(name), allowed)).partition("; did you mean ")
    return PlasticodeError(sentence + hint(name, allowed, inner))


def unknown_of_many(kind: str, name: str, allowed: Iterable[str], listed: str, inner: str = "") -> PlasticodeError:
    """As `unknown_name`, where there are too many names to tell: the nearest ones, and the command that lists all."""
    near = " or ".join(f"'{known}'" for known in nearest(name, allowed, 3))
    meant = hint(name, (), inner) or (f"; did you mean {near}?" if near else "")
    return PlasticodeError(f"{kind} '{printable(name)}' is not known: `{listed}` tells what there is{meant}")
