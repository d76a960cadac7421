"""Reading IDX files, the format in which MNIST is distributed."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dynamics.errors import PlasticodeError


def find_idx(directory: Path, name: str) -> Path | None:
    """The file `name` or `name.gz` in `directory`, the plain one first; None where there is neither."""
    candidates = (directory / name, directory / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def read_idx(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """The array of unsigned bytes in the IDX file `path`, plain or gzipped (by its suffix .gz).

    An IDX file is big-endian: the magic bytes 0, 0, 8 (unsigned byte), `dimensions`; one 4-byte size per dimension;
    then the entries in C order. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".

    Raises:
        PlasticodeError: the file cannot be read, is of another type or rank, or does not have the length it announces.
    """
    content = _bytes(path)
    magic, header = bytes([0, 0, 8, dimensions]), 4 + 4 * dimensions
    if content[:4] != magic:
        raise PlasticodeError(
            f"'{path}' is not the IDX file expected: it starts with the bytes 0x{content[:4].hex()}, "
            f"where 0x{magic.hex()} (unsigned bytes, {dimensions} dimensions) is required"
        )
    if len(content) < header:
        raise PlasticodeError(f"'{path}' is truncated: it has {len(content)} of the {header} bytes of its IDX header")
    shape = [int(size) for size in np.frombuffer(content, ">u4", count=dimensions, offset=4)]
    present, announced = len(content) - header, math.prod(shape)
    if present != announced:
        fault = "is truncated" if present < announced else "is too long"
        raise PlasticodeError(f"'{path}' {fault}: its header announces {announced} bytes of data and it has {present}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _bytes(path: Path) -> bytes:
    """The whole content of `path`, unpacked where its suffix is .gz."""
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as stream:
            return stream.read()
    except EOFError:
        raise PlasticodeError(f"'{path}' is truncated: its gzip stream ends too early") from None
    except (OSError, zlib.error) as error:
        raise PlasticodeError(f"'{path}' cannot be read: {error}") from None
