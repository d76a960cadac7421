"""What tests of specs share: a file of a text."""

from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path):
    """Write a spec file, and give its path."""

    def write(text: str | bytes, name: str = "mine.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write
