"""Versions of what is installed; it imports nothing slow."""

import functools
from importlib import metadata


@functools.cache
def version_of(package: str) -> str:
    """Of an installed package, as it was when this process first asked: what it has imported stays."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
