"""Versions of what is installed; it imports nothing slow."""

from importlib import metadata


def version_of(package: str) -> str:
    """Of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
