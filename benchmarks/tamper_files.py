"""Results files that were tampered with: each function changes one, at random, in one way."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import h5py
import numpy as np

SECRET = "belongs-to-somebody-else"  # what files outside the directory hold
SECRET_NUMBER = 4711.25
HUGE = 2**40
ODD_TEXTS = (
    "\x1b[31mred\x1b[0m",
    "\u202etxt.exe",
    "a\nb",
    "\x00",
    "\x9b2J",
    "<script>alert(1)</script>",
    "$\\frac{",
    "",
)
ODD_VALUES = (-1, 2**63 - 1, 1.5, float("nan"), float("inf"), "", "x", *ODD_TEXTS[:3], "[" * 5000, "{}", "[1]", "null")
ODD_TYPES = ("f8", "i8", "u1", "c16", "S3", "?", "V5", np.dtype([("a", "i4"), ("b", "f4")]))
ATTRIBUTES = (
    "units", "long_name", "path", "coordinates", "_FillValue", "scale_factor",
    "add_offset", "dtype", "calendar", "_Netcdf4Dimid", "_Netcdf4Coordinates",
    "CLASS", "NAME", "flag_values", "missing_value", "DIMENSION_LIST",
    "REFERENCE_LIST", "_Unsigned", "_Encoding",
)  # fmt: skip
OF_FILE = ("run", "complete", "versions", "device", "dtype", "seconds", "spec", "spec_hash", "matmul_precision",
           "outputs", "part", "format", "parts", "_NCProperties")  # fmt: skip
UNITS = ("days since 0000-01-01", "seconds since 9999", "1", 3, "timedelta64[ns]", *ODD_TEXTS)


def change_bytes(path: Path, random: Random) -> str:
    """Cut, flip, blank or add bytes."""
    if path.stat().st_size > 2**30:
        raise OSError("it is sparse already")
    content = bytearray(path.read_bytes())
    kind = random.choice(["cut", "flip", "flip", "flip", "blank", "more", "head"])
    at = random.randrange(len(content))
    if kind == "cut":
        del content[at:]
    elif kind == "flip":
        # Mostly where the structure is: the beginning, and the header of an object.
        near = random.choice([at, random.randrange(min(4096, len(content)))])
        for _ in range(random.choice([1, 1, 4, 30])):
            content[min(near + random.randrange(64), len(content) - 1)] = random.randrange(256)
    elif kind == "blank":
        content[at : at + random.randrange(1, 2000)] = bytes(random.choice([1, 500]))
    elif kind == "more":
        content += random.randbytes(random.randrange(1, 5000))
    else:
        content[: random.randrange(1, 64)] = random.randbytes(8)
    path.write_bytes(content)
    return kind


def _datasets(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(found)


def _chosen(file: h5py.File, random: Random) -> tuple[str, h5py.Dataset]:
    name = random.choice(["status", *_datasets(file)])
    item = file[name]
    assert isinstance(item, h5py.Dataset)
    return name, item


def _replaced(file: h5py.File, name: str, **how: object) -> h5py.Dataset:
    """A data set in the place of another, with the links between dimensions that it had."""
    kept = {key: file[name].attrs.get_id(key) for key in file[name].attrs}
    lists = {key: file[name].attrs[key] for key in kept if key in ("DIMENSION_LIST", "coordinates", "units")}
    del file[name]
    made = file.create_dataset(name, **how)
    for key, value in lists.items():
        try:
            made.attrs.create(key, value, dtype=h5py.vlen_dtype(h5py.ref_dtype) if key == "DIMENSION_LIST" else None)
        except (TypeError, ValueError, OSError):
            pass
    return made


def link_out(path: Path, random: Random) -> str:
    """A link in place of a data set or group: to a file outside, to nothing, to itself."""
    with h5py.File(path, "a") as file:
        name, _ = _chosen(file, random)
        outside = str(path.parent.parent / "outside" / "private.h5")
        kind = random.choice(["external", "external-more", "soft", "loop", "group", "hard-loop"])
        if kind != "external-more" and kind != "hard-loop":
            del file[name]
        if kind == "external":
            file[name] = h5py.ExternalLink(outside, "/private")
        elif kind == "external-more":
            file[random.choice(["more", "group/more"])] = h5py.ExternalLink(outside, "/private")
        elif kind == "soft":
            file[name] = h5py.SoftLink("/nowhere")
        elif kind == "loop":
            file[name] = h5py.SoftLink(f"/{name}")
        elif kind == "group":
            file.create_group(name)
        else:
            group = file.create_group("again")
            group["again"] = group
            file["root"] = file["/"]
    return f"{kind} {name}"


def store_outside(path: Path, random: Random) -> str:
    """External storage, or a virtual data set, that lies in a file outside."""
    with h5py.File(path, "a") as file:
        name, item = _chosen(file, random)
        shape, dtype = item.shape, item.dtype
        if random.random() < 0.5 or dtype.kind == "O" or not shape:
            dtype = dtype if dtype.kind != "O" else np.dtype("i8")
            where = path.parent.parent / "outside" / random.choice(["private.raw", "private.txt", "not-there"])
            size = max(1, int(np.prod(shape or (1,)))) * dtype.itemsize
            _replaced(file, name, shape=shape, dtype=dtype, external=[(str(where), 0, size)])
            return f"external storage {name}"
        layout = h5py.VirtualLayout(shape, "f8")
        layout[...] = h5py.VirtualSource(str(path.parent.parent / "outside" / "private.h5"), "private", shape)
        del file[name]
        file.create_virtual_dataset(name, layout)
        return f"virtual {name}"


def odd_type(path: Path, random: Random) -> str:
    """Another type: objects, references, compounds, texts where numbers belong."""
    with h5py.File(path, "a") as file:
        name, item = _chosen(file, random)
        shape = item.shape
        kind = random.choice(["reference", "region", "vlen", "text", "enum", "plain", "plain", "plain"])
        special = {"reference": h5py.ref_dtype, "region": h5py.regionref_dtype, "vlen": h5py.vlen_dtype(np.float64),
                   "text": h5py.string_dtype(), "enum": h5py.enum_dtype({"a": 0, "b": 1})}  # fmt: skip
        dtype = special[kind] if kind in special else np.dtype(random.choice(ODD_TYPES))
        made = _replaced(file, name, shape=shape, dtype=dtype)
        if kind == "text":
            made[...] = random.choice(ODD_TEXTS).replace("\x00", "") or "text"
        elif dtype.kind in "ifu":
            made[...] = random.choice([0, 1, 7, 100])
    return f"{kind} {dtype} {name}"


def odd_values(path: Path, random: Random) -> str:
    """Numbers that no run writes."""
    with h5py.File(path, "a") as file:
        name, item = _chosen(file, random)
        if item.dtype.kind == "O":
            item[...] = random.choice(ODD_TEXTS).replace("\x00", "")
            return f"texts {name}"
        value = random.choice([-1, 5, 127, 0, np.nan, np.inf, -np.inf, 1e300])
        if item.dtype.kind != "f" and not np.isfinite(value):
            value = -128
        with np.errstate(all="ignore"):
            item[...] = np.array(value).astype(item.dtype)
    return f"values {value} {name}"


def odd_shape(path: Path, random: Random) -> str:
    """Dimensions that do not fit, or that are absurd: a few bytes may declare 2**40 numbers."""
    with h5py.File(path, "a") as file:
        name, item = _chosen(file, random)
        dtype = item.dtype if item.dtype.kind != "O" else np.dtype("f4")
        kind = random.choice(["scalar", "none", "empty", "longer", "deeper", "huge", "huge", "huge-dims", "bomb"])
        if kind == "scalar":
            _replaced(file, name, data=np.zeros((), dtype))
        elif kind == "none":
            _replaced(file, name, dtype=dtype, shape=None)
        elif kind == "empty":
            _replaced(file, name, dtype=dtype, shape=(0, *item.shape[1:]))
        elif kind == "longer":
            _replaced(file, name, data=np.zeros([size + 1 for size in item.shape], dtype))
        elif kind == "deeper":
            _replaced(file, name, data=np.zeros((*item.shape, 2), dtype))
        elif kind == "bomb":  # zeros that are packed
            _replaced(file, name, data=np.zeros((2000, 2000), dtype), compression="gzip", chunks=(2000, 2000))
        else:
            shape = (HUGE,) if kind == "huge" else (HUGE, *[HUGE // 2**21] * 2)
            chunks = (1024, 1, 1)[: len(shape)]
            _replaced(file, name, shape=shape, dtype=dtype, chunks=chunks, fillvalue=random.choice([0, 1]))
    return f"{kind} {name}"


def odd_attribute(path: Path, random: Random) -> str:
    """An attribute that is absent, of another type, or says something else."""
    with h5py.File(path, "a") as file:
        whole = random.random() < 0.5
        name, item = ("/", file["/"]) if whole else _chosen(file, random)
        key = random.choice(OF_FILE if whole else ATTRIBUTES)
        value = random.choice(UNITS if key == "units" else ODD_VALUES)
        kind = random.choice(["absent", "value", "value", "value", "list", "empty", "reference", "big"])
        if key in item.attrs:
            del item.attrs[key]
        if kind == "value":
            item.attrs[key] = value.replace("\x00", "") if isinstance(value, str) else value
        elif kind == "list":
            item.attrs[key] = [1, 2, 3]
        elif kind == "empty":
            item.attrs[key] = h5py.Empty("f4")
        elif kind == "reference":
            item.attrs[key] = file["status"].ref if "status" in file else file.ref
        elif kind == "big":
            item.attrs[key] = "x" * 60_000
    return f"attribute {kind} {key} of {name}: {str(value)[:20]!r}"


def odd_structure(path: Path, random: Random) -> str:
    """More, fewer, renamed or nested objects; filters and fill values of others."""
    with h5py.File(path, "a") as file:
        name, item = _chosen(file, random)
        kind = random.choice(["many", "deep", "gone", "renamed", "filter", "named", "type", "moved", "twice"])
        if kind == "many":
            for number in range(random.choice([200, 3000])):
                file.create_group(f"g{number}")
        elif kind == "deep":
            file.create_group("/".join("g" * random.choice([5, 400])))
        elif kind == "gone":
            del file[name]
        elif kind == "renamed":
            file.move(name, random.choice(["__class__", "record", "sel", "a b", *ODD_TEXTS[:3]]).replace("/", ""))
        elif kind == "filter" and item.shape and item.dtype.kind != "O":
            _replaced(file, name, data=item[()], chunks=True, fletcher32=True, **random.choice(
                [{"compression": "lzf"}, {"compression": "gzip"}, {"shuffle": True}]))  # fmt: skip
        elif kind == "named":
            file.create_dataset(random.choice(["record", "matrix", "dims", "values"]), data=np.arange(3))
        elif kind == "type":
            file["a type"] = np.dtype("f8")
        elif kind == "moved":
            file.create_group("part")
            for one in list(file):
                if one != "part":
                    file.move(one, f"part/{one}")
        elif kind == "twice":
            file["again"] = item
    return f"{kind} {name}"


def odd_file(path: Path, random: Random) -> str:
    """Something else in its place."""
    return special(path, random, path.parent.parent / "outside" / "private.h5")


def special(path: Path, random: Random, outside: Path) -> str:
    """What is no file, or one that lies elsewhere, in the place of `path`."""
    kind = random.choice(
        ["fifo", "directory", "device", "null", "outside", "loop", "dangling", "empty", "sparse", "socket"]
    )
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
        (path / "kept.txt").write_text("kept")
    elif kind in ("device", "null", "outside", "loop", "dangling"):
        targets = {"device": "/dev/zero", "null": "/dev/null", "outside": outside, "loop": path, "dangling": "nothing"}
        path.symlink_to(targets[kind])
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as one:
            here = os.getcwd()
            os.chdir(path.parent)  # a socket's path may not be long
            try:
                one.bind(path.name)
            finally:
                os.chdir(here)
    else:
        path.touch()
        if kind == "sparse":
            os.truncate(path, 2**40)
    return kind


CHANGES: tuple[Callable[[Path, Random], str], ...] = (
    change_bytes, link_out, store_outside, odd_type, odd_values, odd_shape, odd_attribute, odd_attribute,
    odd_structure, odd_file,
)  # fmt: skip


def change_results(path: Path, random: Random) -> str:
    """Change a results file in one way, at random; returns a few words on what was done."""
    change = random.choice(CHANGES)
    try:
        return f"{change.__name__}: {change(path, random)}"
    except (KeyError, OSError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        return f"{change.__name__}, half done: {type(error).__name__}"
