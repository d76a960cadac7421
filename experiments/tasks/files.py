"""Arrays in files of a user's own: NumPy, HDF5, MATLAB, pickles and tables, told apart by how they begin."""

import contextlib
import functools
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from dynamics.errors import PlasticodeError, printable, reason
from experiments.machine.reading import check_regular, read_bytes
from experiments.tasks.entries import Entry, Source, Unfit, in_memory, is_plain, steps
from experiments.tasks.idx import STRANGERS
from experiments.tasks.pickles import arrays_in
from experiments.tasks.tabular import parquet_columns, text_columns

LARGEST_DATA = 250_000_000  # numbers of one array, 1 GB as float32
LARGEST_PICKLE = 1_000_000_000  # bytes
MOST_ENTRIES = 100_000
ZIP, NPY, HDF5, PARQUET = b"PK\x03\x04", b"\x93NUMPY", b"\x89HDF\r\n\x1a\n", b"PAR1"
TABLES = (".csv", ".tsv", ".txt")
PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
READ = ".npz, .npy, HDF5, NWB, MATLAB's .mat, .csv, .parquet, .pkl"
MATLAB_PLAIN = ("double", "single", "logical", "char", "cell", "sparse")
GAPS, UNITS = ("_FillValue", "missing_value"), ("scale_factor", "add_offset")  # attributes of netCDF
UNWRITTEN = np.float64(9.969209968386869e36)  # what netCDF has there, unless it says otherwise


class Contents(NamedTuple):
    """What a file has, by name; a file with one nameless array has it under "". Entries of a table are its columns."""

    path: Path
    entries: dict[str, Entry]
    is_table: bool = False

    def told(self) -> str:
        """Its arrays, in a few words."""
        names = list(self.entries.items())
        shapes = [f"{printable(name)}" if self.is_table else f"{printable(name)} {e.shape}" for name, e in names[:12]]
        return ", ".join(shapes) + (f" and {len(names) - 12} more" if len(names) > 12 else "")

    def read(self, name: str) -> np.ndarray:
        """An array of numbers (dtype of kind b, i, u or f) or of texts (kind U); anything else is refused."""
        shape = self.entries[name].shape
        what = f"'{self.path}' has {f'{printable(name)} ' if name else ''}of shape {shape}"
        with _blamed(self.path):
            values = self.entries[name].read()
        if values.dtype.kind == "O" and all(isinstance(one, str) for one in values.flat):
            values = values.astype(str)
        if values.dtype.kind == "S":
            values = np.char.decode(values, "utf-8", "replace")
        if values.dtype.kind not in "biufU":
            kind = (
                "Python objects" if values.dtype.kind == "O" else f"values of the type {printable(str(values.dtype))}"
            )
            raise PlasticodeError(f"{what} with {kind}: it must have real numbers or texts, such as y.astype(str)")
        return values

    def source(self, name: str) -> Source:
        """The array by blocks of rows, as `read` would give it, for as long as the file is open."""
        entry = self.entries[name]
        if entry.blocks is not None:
            return Source(entry.shape, functools.partial(self._blocks, entry.blocks))
        return in_memory(self.read(name))

    def _blocks(self, blocks: Callable[[int], Iterator[np.ndarray]], count: int) -> Iterator[np.ndarray]:
        with _blamed(self.path):
            yield from blocks(count)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Contents]:
    """What a file has; it is read while this lasts.

    Raises:
        PlasticodeError: it is no file of a kind that is read here, or it is damaged.
    """
    with contextlib.ExitStack() as stack:
        with _blamed(path):
            check_regular(path)
            contents = _contents(path, stack)
        if not contents.entries or len(contents.entries) > MOST_ENTRIES:
            what = "no array" if not contents.entries else f"more than {MOST_ENTRIES} arrays"
            raise PlasticodeError(f"'{path}' has {what}")
        yield contents


@contextlib.contextmanager
def _blamed(path: Path) -> Iterator[None]:
    """Whatever a reader raises about a damaged file, and that is anything, is told in a sentence."""
    try:
        yield
    except PlasticodeError:
        raise
    except Exception as error:
        known = isinstance(error, Unfit) or (isinstance(error, OSError) and error.errno is not None)
        fault, text = ("", reason(error)) if known else (", it may be damaged or cut short", str(error).strip())
        raise PlasticodeError(f"'{path}' cannot be read{fault}: {printable(text, 160)}") from None


def _contents(path: Path, stack: contextlib.ExitStack) -> Contents:
    with open(path, "rb") as file:
        content = file.read(1024)
    if not content:
        raise PlasticodeError(f"'{path}' is empty")
    if content.startswith(NPY):
        return Contents(path, {"": _mapped(path)})
    if content.startswith(ZIP):
        return Contents(path, _zipped(stack.enter_context(zipfile.ZipFile(path))))
    if HDF5 in (content[:8], content[512:520]):
        file = stack.enter_context(h5py.File(path, "r"))
        return Contents(path, _hdf5(file, content.startswith(b"MATLAB")))
    if content.startswith(PARQUET):
        return Contents(path, parquet_columns(path), is_table=True)
    if content.startswith(PICKLES):
        arrays = arrays_in(read_bytes(path, LARGEST_PICKLE))
        return Contents(path, {name: Entry(one.shape, lambda one=one: one) for name, one in arrays.items()})
    if content.startswith(b"MATLAB") or path.suffix == ".mat":
        return Contents(path, _matlab(path))
    for beginning, what in STRANGERS:
        if content.lstrip().startswith(beginning):
            raise PlasticodeError(f"'{path}' is {what}")
    if path.suffix.lower() not in TABLES:
        raise PlasticodeError(f"'{path}' is no file of a kind that is known: it must be {READ}")
    return Contents(path, text_columns(path), is_table=True)


# ---------------------------------------------------------------------------------------------------------------- NumPy


def _mapped(path: Path) -> Entry:
    """The array of an .npy."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)

    def blocks(count: int) -> Iterator[np.ndarray]:
        for at in steps(array.shape[0], count):  # each through a map of its own: what is read counts as memory
            yield np.load(path, mmap_mode="r", allow_pickle=False)[at]

    return Entry(array.shape, lambda: np.asarray(array), blocks if is_plain(array.shape, array.dtype) else None)


def _zipped(file: zipfile.ZipFile) -> dict[str, Entry]:
    """The arrays of an .npz."""
    found = {}
    for name in file.namelist():
        if name.endswith(".npy"):
            with file.open(name) as stream:
                shape, by_columns, dtype = _header(stream)
            blocks = functools.partial(_unzipped_blocks, file, name) if is_plain(shape, dtype) else None
            read = functools.partial(_unzipped, file, name, dtype)
            found[name.removesuffix(".npy")] = Entry(shape, read, None if by_columns else blocks)
    return found


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns lie together, and dtype of the array that begins here."""
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return header(stream)


def _unzipped(file: zipfile.ZipFile, name: str, dtype: np.dtype) -> np.ndarray:
    if dtype.hasobject:
        raise Unfit(f"{name} has Python objects: it must have real numbers or texts, such as y.astype(str)")
    with file.open(name) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _unzipped_blocks(file: zipfile.ZipFile, name: str, count: int) -> Iterator[np.ndarray]:
    with file.open(name) as stream:
        shape, _, dtype = _header(stream)
        for at in steps(shape[0], count):
            one = at.stop - at.start, *shape[1:]
            yield np.frombuffer(stream.read(math.prod(one) * dtype.itemsize), dtype).reshape(one)
        stream.read(1)  # the end, where the checksum is


# ------------------------------------------------------------------------------------------------------ HDF5 and MATLAB


def _hdf5(file: h5py.File, matlab: bool) -> dict[str, Entry]:
    """The arrays of an HDF5 file, by their paths; those of MATLAB 7.3 have their axes in reverse."""
    found: dict[str, Entry] = {}

    def visit(name: str, link: Any) -> None:
        if name.startswith("#") or isinstance(link, h5py.ExternalLink):  # into a file that nobody has named
            return
        item = file.get(name)
        if isinstance(item, h5py.Dataset) and item.shape is not None:
            shape = item.shape[::-1] if matlab else item.shape
            blocks = functools.partial(_dataset_blocks, item, nwb, matlab) if _has_rows(item, matlab) else None
            found[name] = Entry(shape, lambda: _from_matlab(file, item) if matlab else _dataset(item, nwb), blocks)

    nwb = "nwb_version" in file.attrs
    file.visititems_links(visit)
    return found


def _has_rows(item: Any, matlab: bool) -> bool:
    """Whether a dataset is an array of numbers; of MATLAB's not a row, which is a vector there."""
    plain = is_plain(item.shape, item.dtype)
    if not (plain and matlab):
        return plain
    kind = _said(item.attrs.get("MATLAB_class", b""))
    is_row = item.ndim == 2 and item.shape[1] == 1
    return kind in ("double", "single") and not is_row and not item.attrs.get("MATLAB_empty", 0)


def _dataset_blocks(item: Any, nwb: bool, matlab: bool, count: int) -> Iterator[np.ndarray]:
    rows, chunk = (item.shape[-1], -1) if matlab else (item.shape[0], 0)
    many = count * max(-(-(item.chunks[chunk] if item.chunks else 1) // count), 1)  # a chunk is unpacked as a whole
    for large in steps(rows, many):
        values = item[..., large].T if matlab else _dataset(item, nwb, large)
        yield from (values[at] for at in steps(len(values), count))


def _dataset(item: Any, nwb: bool, at: Any = ()) -> np.ndarray:
    if h5py.check_string_dtype(item.dtype):
        return item.asstr()[at]
    values = _decoded(item[at], item.attrs)
    if not (nwb and item.name.endswith("/data") and "conversion" in item.attrs):
        return values
    # A time series is in its unit after data * conversion + offset, and each channel may have a factor of its own.
    factors = item.parent.get("channel_conversion")
    scale = np.asarray(item.attrs["conversion"] if factors is None else item.attrs["conversion"] * factors[()])
    return values * scale + item.attrs.get("offset", 0.0)


def _decoded(values: np.ndarray, attributes: Any) -> np.ndarray:
    """What numbers of netCDF stand for, by its conventions: NaN where nothing was written, else what is packed."""
    if values.dtype.kind not in "biuf":
        return values
    said = {name: np.ravel(attributes[name]) for name in (*GAPS, *UNITS) if name in attributes}
    said = {name: numbers for name, numbers in said.items() if numbers.dtype.kind in "biuf" and numbers.size == 1}
    missing = np.isin(values, [*(said[name][0] for name in GAPS if name in said)])
    missing |= values == UNWRITTEN
    if any(name in said for name in UNITS):
        scale, offset = (float(said.get(name, [plain])[0]) for name, plain in zip(UNITS, (1, 0), strict=True))
        return np.where(missing, np.nan, values * scale + offset)
    return np.where(missing, np.nan, values) if missing.any() else values


def _from_matlab(file: h5py.File, item: h5py.Dataset) -> np.ndarray:
    """An array of MATLAB 7.3 with its axes in MATLAB's order; texts are numbers there, and cells point at them."""
    kind = _said(item.attrs.get("MATLAB_class", b""))
    if item.attrs.get("MATLAB_empty", 0):
        return np.empty((0, 0))
    if kind == "cell":
        cells: list[Any] = [file[pointer] for pointer in item[()].T.flat]
        if any(_said(cell.attrs.get("MATLAB_class", b"")) != "char" for cell in cells):
            raise Unfit("a cell array must have texts only")
        return np.array(["" if cell.attrs.get("MATLAB_empty", 0) else _characters(cell[()].T)[0] for cell in cells])
    if kind == "char":
        return np.array(_characters(item[()].T))
    _check_plain(kind)
    return _vector(item[()].T)


def _check_plain(kind: str) -> None:
    """Refuse structs, tables, objects and whatever else MATLAB has besides arrays of numbers and texts."""
    if kind not in MATLAB_PLAIN and not kind.startswith(("int", "uint")):
        raise Unfit(f"a MATLAB {kind or 'object'} must be saved as numbers, or as a cell array of texts")


def _said(attribute: Any) -> str:
    return attribute.decode("ascii", "replace") if isinstance(attribute, bytes) else str(attribute)


def _characters(codes: np.ndarray) -> list[str]:
    """The rows of a matrix of characters as texts, without the blanks that fill them."""
    return ["".join(map(chr, row)).rstrip() for row in np.atleast_2d(codes)]


def _vector(values: np.ndarray) -> np.ndarray:
    """MATLAB knows no vectors: a single row is one."""
    return values.ravel() if values.ndim == 2 and values.shape[0] == 1 else values


def _matlab(path: Path) -> dict[str, Entry]:
    """The arrays of a .mat file of version 4 to 7.2."""
    from scipy import io

    def read(name: str, kind: str) -> np.ndarray:
        _check_plain(kind)
        values: Any = io.loadmat(path, variable_names=[name])[name]
        if kind == "sparse":
            values = values.toarray()
        if kind == "cell":
            texts = [str(cell.item()) if cell.size else "" for cell in values.flat if cell.dtype.kind == "U"]
            if len(texts) < values.size:
                raise Unfit("a cell array must have texts only")
            return np.array(texts)
        return np.char.rstrip(values.ravel()) if kind == "char" else _vector(values)

    return {name: Entry(shape, lambda n=name, k=kind: read(n, k)) for name, shape, kind in io.whosmat(path)}
