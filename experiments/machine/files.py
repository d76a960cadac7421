"""Files that are whole or not there: written under a name of their own, flushed to the disk, and renamed.

What goes into a directory that is hidden until all of it is there (`netcdf.output_directory`) needs none of this.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def writer() -> str:
    """What the names that this process writes under have of it, among all processes that share a directory."""
    return f"{os.uname().nodename}-{os.getpid()}"


@contextlib.contextmanager
def temporary(partial: Path) -> Iterator[Path]:
    """A name to write under; what is still there at the end is removed."""
    partial.unlink(missing_ok=True)  # a link there would be followed
    try:
        yield partial
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(path: Path, partial: Path) -> Iterator[Path]:
    """`partial`, to write under: it takes the place of `path` at the end, and on any error it vanishes.

    Raises `OSError` where the disk does not take it.
    """
    with temporary(partial):
        yield partial
        flush(partial)
        partial.replace(path)
        with contextlib.suppress(OSError):  # so that the rename survives a crash of the machine; not every system can
            flush(path.parent)


def write(path: Path, partial: Path, content: str | bytes | memoryview) -> None:
    """Write `content` under `partial`, which then takes the place of `path`; see `replacing`."""
    with replacing(path, partial), partial.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def flush(path: Path) -> None:
    """Have the system bring a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
