"""Programs of earlier runs, found by what they follow from, before anything is traced.

jax's own store finds a program by its text, and making that takes longer than reading the program. So the programs of a
job lie beside it, in the folder that `machine.compilation` looks after, in one file. Its name is a digest of all that
they follow from: what tells jobs apart that are not alike, every line of this package, the versions of what it is built
on, jax's settings and the devices. A user's own code may change without any of that: its programs are not stored.
"""

import contextlib
import functools
import hashlib
import importlib.util
import io
import os
import pickle
import sys
import threading
import time
import zlib
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
from jax.experimental import serialize_executable
from jax.stages import Compiled

from experiments.machine import files
from experiments.machine.compilation import traced_folder
from experiments.machine.versions import version_of
from experiments.points.alike import PACKAGES

BUILT_ON = ("jax", "jaxlib", "equinox", "diffrax", "optax", "lineax", "optimistix", "numpy", "jaxtyping")
FLAGS = ("XLA_", "LIBTPU_")  # of a compiler, which jax's settings do not tell
NAMELESS = " at 0x"  # of an object that is told by its place in memory alone
_BEGUN = time.time()
HIT = "/jax/compilation_cache/cache_hits"
Made = TypeVar("Made")


class _Found(threading.local):
    """How many programs jax has found in its own store, in this thread. They cannot be written again: jaxlib leaves
    out the machine's code, which is missed when they run."""

    hits = 0

    def count(self, event: str, **_: Any) -> None:
        """Hear of an event."""
        self.hits += event == HIT


_FOUND = _Found()
jax.monitoring.register_event_listener(_FOUND.count)


def made(key: Hashable, make: Callable[[str], Made]) -> Made:
    """The programs that an earlier run has made for `key`, or those that `make` makes now, for later ones.

    It is told a name for them that others do not have, so that jax finds none of theirs instead.
    """
    path, programs = _path(key), None
    if path is not None:
        with contextlib.suppress(Exception):  # there is none, or none that can be read, whatever it has become
            programs = pickle.loads(zlib.decompress(path.read_bytes()))
    if programs is not None:
        return programs
    hits = _FOUND.hits
    programs = make("local" if path is None else path.name.replace("-", "_"))
    if path is not None and hits == _FOUND.hits:
        with contextlib.suppress(Exception):  # a full disk; programs that this version of jax cannot write
            file = io.BytesIO()
            _Pickler(file).dump(programs)
            files.write(path, path.with_name(f"{path.name}-{files.writer()}"), zlib.compress(file.getvalue(), 1))
    return programs


def _path(key: Hashable) -> Path | None:
    """Where programs for a key are, if they are kept at all and the key can be told to another process."""
    folder = traced_folder()
    code = None if folder is None else _code()
    if folder is None or code is None:
        return None
    settings = {name: value for name, value in jax.config.values.items() if "_cache" not in name}
    flags = {name: value for name, value in os.environ.items() if name.startswith(FLAGS)}
    devices = [(device.platform, device.device_kind, device.id) for device in jax.local_devices()]
    versions = (sys.version, *map(version_of, BUILT_ON))
    text = _text((key, code, versions, settings, flags, devices))
    return None if NAMELESS in text else folder / f"traced-{hashlib.sha256(text.encode()).hexdigest()}"


def _text(told: Any) -> str:
    """The same text in every process."""
    if isinstance(told, tuple | list):
        return f"({', '.join(map(_text, told))})"
    if isinstance(told, set | frozenset):
        return f"{{{', '.join(sorted(map(_text, told)))}}}"
    if isinstance(told, Mapping):
        return _text(sorted((str(name), _text(value)) for name, value in told.items()))
    if callable(told) and hasattr(told, "__qualname__"):
        return f"{told.__module__}.{told.__qualname__}"
    return repr(told)


@functools.cache
def _code() -> str | None:
    """A digest of every line of this package; None where lines have changed since they were imported, or are hidden."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        root = Path(found.origin).parent if found is not None and found.origin is not None else None
        paths = [] if root is None else sorted(root.rglob("*.py"))
        if not paths or any(path.stat().st_mtime > _BEGUN for path in paths):
            return None
        for path in paths:
            digest.update(f"{path.relative_to(root or '')} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()


class _Pickler(pickle.Pickler):
    """Writes compiled programs, too; of the shapes of arrays not where the arrays lie."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Compiled):
            program, *trees = serialize_executable.serialize(obj)
            return _loaded, (program, *(jax.tree.unflatten(tree, [0] * tree.num_leaves) for tree in trees))
        if isinstance(obj, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct, (obj.shape, obj.dtype)
        return NotImplemented


def _loaded(program: bytes, inputs: Any, outputs: Any) -> Compiled:
    return serialize_executable.deserialize_and_load(program, jax.tree.structure(inputs), jax.tree.structure(outputs))
