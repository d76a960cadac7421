"""Directories of unfinished runs that were tampered with: header, lock, failures, chunks, checkpoints."""

import json
import os
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.tamper_files import ODD_TEXTS, change_results, special
from experiments.storage.chunks import ChunkStore

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2.5, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "x", [], {}, [1], {"a": 1},
    [[[]]], "x" * 5000, *ODD_TEXTS,
)  # fmt: skip
TEXTS = ("", "{", "[" * 100_000, '{"a":' * 50_000, "null", "3", '"x"', "[]", "\ufeff{}", "9" * 5000, "[1e999]", "nan")


def change_json(path: Path, random: Random) -> str:
    """Another value, key or text somewhere in a JSON file."""
    if random.random() < 0.25:
        text = random.choice(TEXTS)
        path.write_bytes(random.choice([text.encode(), text.encode("utf-16"), b"\xff\xfe" + text.encode()]))
        return f"text {text[:10]!r}"
    content = json.loads(path.read_text())
    found = list(places(content))
    place = random.choice(found)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    kind, value = random.choice(["value", "value", "value", "gone", "more"]), random.choice(VALUES)
    if kind == "value":
        inner[place[-1]] = value
    elif kind == "gone":
        del inner[place[-1]]
    elif isinstance(inner, dict):
        inner[random.choice(["other", *ODD_TEXTS[:3]])] = value
    else:
        inner.append(value)
    path.write_text(json.dumps(content))
    return f"{kind} at {place}: {str(value)[:20]!r}"


def places(content: Any, above: tuple = ()) -> Any:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from places(value, (*above, key))


def change_chunk(directory: Path, random: Random) -> str:
    """A chunk file whose checksum is right, with another content: the key of the checksum is no secret."""
    path = random.choice(sorted(directory.glob("*.nc")))
    stem = path.name.rsplit(".", 2)[0]
    told = change_results(path, random)
    if not path.is_file() or path.is_symlink() or path.stat().st_size > 2**30:
        return f"chunk {told}"
    header = json.loads((directory / "run.json").read_text())
    identity = json.dumps({key: header[key] for key in ("run", "chunking")}, sort_keys=True)
    checksum = ChunkStore(directory, identity)._checksum(stem, path.read_bytes())
    path.rename(directory / f"{stem}.{checksum}.nc")
    return f"chunk {told}"


def change_directory(target: Path, random: Random) -> str:
    """Change what an unfinished run left in `target` in one way, at random; returns a few words on what was done."""
    directory, outside = target / "chunks", target.parent / "outside"
    kind = random.choice(
        ["header", "header", "lock", "lock", "failure", "chunk", "chunk", "file", "file", "folder", "lost"]
    )
    if kind == "header":
        return f"run.json {change_json(directory / 'run.json', random)}"
    if kind == "lock":
        return f"lock {change_json(directory / 'lock', random)}"
    if kind == "failure":
        return f"failure {change_json(next(directory.glob('*.failed.json')), random)}"
    if kind == "chunk":
        return change_chunk(directory, random)
    if kind == "lost":  # the chunks alone must tell what run they are of
        (directory / "run.json").unlink()
        return f"no run.json, chunk {change_results(random.choice(sorted(directory.glob('*.nc'))), random)}"
    if kind == "folder":
        directory.rename(target / "elsewhere")
        if random.random() < 0.5:
            directory.symlink_to(outside)
            return "chunks is a link"
        return f"chunks is special: {special(directory, random, outside / 'private.txt')}"
    names = sorted(path.name for path in directory.iterdir()) + ["lock-1-of-2", f"{_stem(directory)}-0.checkpoint"]
    name = random.choice(names)
    outside_file = outside / random.choice(["private.txt", "private.h5", "private.raw"])
    return f"{name.split('.')[-1]} {special(directory / name, random, outside_file)}"


def _stem(directory: Path) -> str:
    return os.path.basename(sorted(directory.glob("*.nc"))[0]).rsplit(".", 2)[0]
