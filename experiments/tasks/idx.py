"""Reading IDX files, the format in which MNIST is distributed."""

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from dynamics.errors import PlasticodeError, printable, reason
from experiments.machine.memory import aligned
from experiments.machine.reading import check_regular, read_bytes

LARGEST = 1_000_000_000  # bytes; the largest file of MNIST has 47 million, that of EMNIST 547 million
MOST_TOLD = 8  # names of files
BYTES, INTEGERS = 8, 12  # what the third byte of a file says of its entries
ENTRIES = {BYTES: ("unsigned bytes", np.dtype("u1")), INTEGERS: ("integers", np.dtype(">i4"))}
GZIP = b"\x1f\x8b"
# What lies where a file should, by its first bytes, and what to do.
STRANGERS = (
    (b"<", "a web page, which servers send in place of a file that they do not give: download it again"),
    (b"PK\x03\x04", "a zip archive: unpack it"),
    (b"BZh", "packed with bzip2: unpack it"),
    (b"\xfd7zXZ", "packed with xz: unpack it"),
    (b"version https://git-lfs", "the pointer of a file that Git LFS has not fetched: fetch it with `git lfs pull`"),
)


def find_idx(directory: Path, name: str) -> Path | None:
    """The file `name` in `directory`, or else `name` with a dot before idx, as some write it, or either with .gz.

    None where there is none of them.
    """
    candidates = (f"{spelt}{suffix}" for suffix in ("", ".gz") for spelt in (name, name.replace("-idx", ".idx")))
    return next((path for path in map(directory.joinpath, candidates) if path.is_file()), None)


def lying_in(directory: Path) -> str:
    """What lies in a directory, in a few words."""
    if not directory.is_dir():
        return "it is a file" if directory.exists() else "it does not exist"
    found = sorted(path.name + "/" * path.is_dir() for path in directory.iterdir())
    more = f" and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
    return f"there is {', '.join(map(printable, found[:MOST_TOLD]))}{more}" if found else "it is empty"


def read_idx(path: Path, dimensions: int, kind: int = BYTES) -> Integer[np.ndarray, "..."]:
    """The array in the IDX file `path`, plain or gzipped, whatever its suffix.

    An IDX file is big-endian: the magic bytes 0, 0, `kind` (8: unsigned bytes, 12: integers of 4 bytes), `dimensions`;
    one 4-byte size per dimension; then the entries in C order. A plain file is mapped, so that only what is looked at
    takes memory. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".

    Raises:
        PlasticodeError: the file cannot be read, is of another type or rank, or does not have the length it announces.
    """
    content = _content(path)
    magic, header = bytes([0, 0, kind, dimensions]), 4 + 4 * dimensions
    if bytes(content[:4]) != magic:
        raise PlasticodeError(f"'{path}' is not the IDX file expected: it {_stranger(bytes(content[:64]), magic)}")
    if len(content) < header:
        raise PlasticodeError(f"'{path}' is truncated: it has {len(content)} of the {header} bytes of its IDX header")
    shape = [int(size) for size in np.frombuffer(content, ">u4", count=dimensions, offset=4)]
    present, announced = len(content) - header, math.prod(shape) * ENTRIES[kind][1].itemsize
    if present != announced:
        fault = "is truncated" if present < announced else "is too long"
        raise PlasticodeError(f"'{path}' {fault}: its header announces {announced} bytes of data and it has {present}")
    return np.frombuffer(content, ENTRIES[kind][1], offset=header).reshape(shape)


def pooled(images: UInt8[np.ndarray, "images rows columns"], pool: int) -> Float32[np.ndarray, "images pixels"]:
    """Intensities from 0 to 1, a row per image; blocks of `pool` x `pool` pixels are averaged."""
    count, rows, columns = images.shape
    blocks = images.reshape(count, rows // pool, pool, columns // pool, pool)
    means = aligned(count, (rows // pool) * (columns // pool))
    blocks.mean(axis=(2, 4), dtype=np.float32, out=means.reshape(count, rows // pool, columns // pool))
    means /= 255
    return means


def _content(path: Path) -> bytes | UInt8[np.ndarray, " bytes"]:
    """The whole content of `path`, through a map, or unpacked where it is gzipped; both to the same limit."""
    try:
        size = check_regular(path).st_size
        if not size:
            return b""
        content = np.memmap(path, np.uint8, "r")
        if size <= LARGEST and bytes(content[:2]) == GZIP:
            with gzip.open(io.BytesIO(read_bytes(path, LARGEST))) as file:
                content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise PlasticodeError(f"'{path}' is too large: at most {LARGEST} bytes are allowed, unpacked too")
        return content
    except EOFError:
        raise PlasticodeError(f"'{path}' is truncated: its gzip stream ends too early") from None
    except (OSError, zlib.error) as error:
        raise PlasticodeError(f"'{path}' cannot be read: {reason(error)}") from None


def _stranger(content: bytes, magic: bytes) -> str:
    """What a file is instead of one that begins with `magic`."""
    if not content:
        return "is empty: download it again"
    for beginning, what in STRANGERS:
        if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(beginning):
            return f"is {what}"
    required = f"0x{magic.hex()} ({ENTRIES[magic[2]][0]}, {magic[3]} dimensions) is required"
    swapped = ": images and labels may be swapped" if content[:3] == magic[:3] and content[3] in (1, 3) else ""
    return f"starts with the bytes 0x{content[:4].hex()}, where {required}{swapped}"
