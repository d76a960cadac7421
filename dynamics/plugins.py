"""A user's own code, which a spec names as "module:name": where it is looked for, and how its mistakes are told.

Rules, tasks, probes and activations share this. Nothing is imported but the modules that a spec names.
"""

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from dynamics.errors import PlasticodeError, meant, printable

_FOLDERS: list[str] = []


def look_in(*folders: Path | str) -> None:
    """Where a user's own modules of the specs that follow are, besides the working folder."""
    _FOLDERS[:] = [os.path.abspath(folder) for folder in folders]


def looked_in() -> list[str]:
    """The folders where the modules of a spec may be."""
    with contextlib.suppress(OSError):  # a working folder that was removed
        return list(dict.fromkeys([*_FOLDERS, os.getcwd()]))
    return list(_FOLDERS)


@contextlib.contextmanager
def own_folders() -> Iterator[None]:
    """A user's folders are on `sys.path`, after all that is installed, while a module that a spec names is imported.

    At no other time: whatever lies in a folder where a command runs would be imported under the name of a package.
    """
    added = looked_in()
    sys.path += added
    try:
        yield
    finally:
        for folder in reversed(added):
            with contextlib.suppress(ValueError):  # the module has a path of its own
                del sys.path[len(sys.path) - 1 - sys.path[::-1].index(folder)]


def is_own(name: str) -> bool:
    """Whether a rule, task, probe or activation of this name is a user's own."""
    return ":" in name


def modules_of(names: Iterable[str]) -> set[str]:
    """The modules of those names that are a user's own."""
    return {name.partition(":")[0] for name in names if is_own(name)}


def imported(kind: str, name: str, what: str) -> Any:
    """What "module:name" names, where a spec names a `kind` of thing that is a module and a `what` ("a class").

    This is the one place where a spec names code; whatever is wrong with it is told in a sentence.
    """
    if printable(name, 200) != name:
        raise PlasticodeError(f"{kind} '{printable(name)}' is not allowed: it must name a module and {what}")
    module_name, _, inner = name.partition(":")
    try:
        module = sys.modules.get(module_name) or _import(module_name)
    except (Exception, SystemExit) as error:  # whatever the user's own module does when it is imported
        place = place_of([module_name], error)
        why = f"it must name a module and {what} ({_said(error)}){place}"
        raise PlasticodeError(f"{kind} '{name}' cannot be imported: {why}") from None
    found = getattr(module, inner, None)
    if found is None:
        near = meant(inner, (other for other in vars(module) if not other.startswith("_")), 0.6)
        raise PlasticodeError(f"{kind} '{name}' does not exist: module '{module_name}' has no '{inner}'{near}")
    return found


def _import(name: str) -> ModuleType:
    with own_folders():
        return importlib.import_module(name)


@contextlib.contextmanager
def blamed(trouble: str, modules: Collection[str], elsewhere: str = "") -> Iterator[None]:
    """Whatever code of a user's `modules` raises in here is told as a sentence: the `trouble`, what was raised, where.

    `elsewhere` ends the sentence where it arose outside of the modules. Without modules nobody is to blame but us.
    """
    try:
        yield
    except PlasticodeError:
        raise
    except (Exception, SystemExit) as error:
        if not modules:
            raise
        raise PlasticodeError(f"{trouble} ({_said(error)}){place_of(modules, error) or elsewhere}") from error


def place_of(modules: Iterable[str], error: BaseException) -> str:
    """Where in a user's modules an error arose, as the end of a sentence; empty where it arose elsewhere."""
    files = {file for name in modules for file in _files(name)}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    if not frames:
        return ""
    return f": see {os.path.basename(frames[-1].filename)}, line {frames[-1].lineno}, in {frames[-1].name}"


def _files(module: str) -> list[str]:
    """The file of a module, and where it would be if it could be imported."""
    inner = os.path.join(*module.split(".")) if module else ""
    expected = [os.path.join(folder, inner) for folder in looked_in()]
    known = getattr(sys.modules.get(module), "__file__", None)
    return [*([known] if known else []), *(f"{path}{end}" for path in expected for end in (".py", "/__init__.py"))]


def _said(error: BaseException) -> str:
    """The type and the first line of what was raised."""
    lines = f"{type(error).__name__}: {error}".splitlines()
    return printable(lines[0], 300)
