"""Tables of a user's own, of text and in Parquet, column by column."""

import contextlib
import csv
import os
import warnings
from pathlib import Path

import numpy as np

from dynamics.errors import PlasticodeError, printable
from experiments.tasks.entries import Entry, Unfit

LARGEST_TABLE = 1_000_000_000  # bytes of a table of text
DELIMITERS = ",;\t"
NUMBERED = "numbers of rows, which row.names = FALSE in R and index=False in pandas leave out"


def text_columns(path: Path) -> dict[str, Entry]:
    """The columns of a table of text, by the names in its first line; cells that are no number stay as they are."""
    import pandas as pd  # here, because this import alone takes half a second

    if os.path.getsize(path) > LARGEST_TABLE:
        raise PlasticodeError(f"'{path}' is larger than {LARGEST_TABLE} bytes: save it as .npz or .npy")
    with open(path, encoding="utf-8-sig", newline="") as file:
        line = file.readline(2**20)
    delimiter = max(DELIMITERS, key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    if all(map(_is_number, names)):
        raise PlasticodeError(f"'{path}' begins with {printable(line.strip())}: its first line must name the columns")
    for name in names:
        if not name or names.count(name) > 1:
            what = f"two columns called '{printable(name)}'" if name else "a column without a name"
            what += f" ({NUMBERED})" if not name and not names[0] else ""
            raise PlasticodeError(f"'{path}' has {what}: each must have a name of its own")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows that are too long would be cut
        table = pd.read_csv(
            path, sep=delimiter, header=0, names=names, index_col=False, encoding="utf-8-sig", low_memory=False,
            keep_default_na=False, skipinitialspace=True,
        )  # fmt: skip
    return {name: Entry((len(table),), lambda name=name: _column(table[name].to_numpy())) for name in names}


def parquet_columns(path: Path) -> dict[str, Entry]:
    """The columns of a table in Parquet, each of which is read by itself."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise PlasticodeError(f"'{path}' is a Parquet file, which needs pip install 'plasticode[parquet]'") from None
    file = parquet.ParquetFile(path)
    rows, names = file.metadata.num_rows, file.schema_arrow.names
    if len(set(names)) < len(names):
        raise PlasticodeError(f"'{path}' has two columns of one name: each must have a name of its own")

    def read(name: str) -> np.ndarray:
        column = file.read(columns=[name]).column(name)
        if pyarrow.types.is_nested(column.type):
            raise Unfit(f"column {name} has lists or tables in its cells: each must have one number or text")
        return _column(column.to_pandas().to_numpy())

    return {name: Entry((rows,), lambda name=name: read(name)) for name in names}


def _column(values: np.ndarray) -> np.ndarray:
    """A column as numbers, or else as texts, "" where a row is too short to have it."""
    if values.dtype.kind in "biuf":
        return values
    return np.array([value if isinstance(value, str) else "" if value != value else str(value) for value in values])


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return False
