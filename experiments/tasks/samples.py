"""The inputs or the targets of samples, out of the arrays of a file: chosen by name, as numbers or as labels."""

import math
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Integer, Shaped

from dynamics.errors import PlasticodeError, printable, refused, shown
from experiments.machine.memory import aligned
from experiments.machine.names import hint
from experiments.tasks.contract import BLOCK
from experiments.tasks.entries import Source
from experiments.tasks.files import LARGEST_DATA, Contents

MISSING = ("", "na", "n/a", "nan", "null", "none")  # what tables have where there is no number


class Samples(NamedTuple):
    """Arrays of the file `place`, by `names`, one sample per row each; they are columns of a table or not.

    `key` is which of the task's keys has chosen them: "inputs" or "targets". Of sequences a sample has `frames`, and
    what a row is called says which. `aside` is what may help where these targets are none.
    """

    place: str
    key: str
    names: tuple[str, ...]
    arrays: tuple[Source, ...]
    is_table: bool
    frames: int = 1
    aside: str = ""

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return self.arrays[0].shape[0]

    @property
    def width(self) -> int:
        """How many numbers a sample has."""
        return sum(math.prod(array.shape[1:]) for array in self.arrays)

    def by_frames(self) -> "Samples":
        """Of sequences, (sequences, frames, ...)."""
        shape = self.arrays[0].shape
        for name, array in zip(self.names, self.arrays, strict=True):
            if self.is_table or len(array.shape) < 2 or array.shape[1] != shape[1]:
                told = "a table" if self.is_table else f"shape {array.shape}"
                raise PlasticodeError(
                    f"{self._of(name)} has {told}: frames of sequences need arrays (sequences, frames, ...), all of as "
                    "many frames"
                )
        return self._replace(frames=shape[1])

    def _place(self, row: int) -> str:
        """What a row is called."""
        return f"row {row}" if self.frames == 1 else f"sequence {row // self.frames}, frame {row % self.frames}"

    def blocks(self) -> Iterator[Float32[np.ndarray, "rows _n"]]:
        """All arrays side by side, so many rows at a time; the first thing that is no finite number is told."""
        many, row = max(BLOCK // self.width, 1), 0
        for block in zip(*(array.blocks(many) for array in self.arrays), strict=True):
            rows = len(block[0]) * self.frames
            numbers = [
                self._finite(name, array.reshape(rows, -1), row) for name, array in zip(self.names, block, strict=True)
            ]
            yield np.concatenate(numbers, axis=1)
            row += rows

    def _finite(self, name: str, block: Shaped[np.ndarray, "rows _n"], row: int) -> Float32[np.ndarray, "rows _n"]:
        self._check_finite(name, block, row)
        with np.errstate(over="ignore"):
            numbers = block.astype(np.float32)
        if not np.isfinite(numbers).all():
            raise PlasticodeError(f"{self._of(name)} has a number beyond 3.4e38, the largest of float32")
        return numbers

    def parted(
        self, *parts: Integer[np.ndarray, " _rows"], scale: float = 1, blank: int = 0
    ) -> list[Float32[np.ndarray, "_rows _n"]]:
        """The numbers of samples times `scale`, the frames of each in one row, and `blank` frames of zeros after them:
        an array for each of `parts`, which say whose. They are read in the order of the file, once, and no copy of them
        all is made besides.
        """
        arrays = [aligned(len(part), self.width + blank * self.width // self.frames) for part in parts]
        for array in arrays:
            array[:, self.width :] = 0
        part_of, place = np.zeros(self.samples, np.uint8), np.zeros(self.samples, np.int32)
        for number, part in enumerate(parts):
            part_of[part], place[part] = number, np.arange(len(part))
        start = 0
        for block in self.blocks():
            rows = block.reshape(-1, self.width)
            if scale != 1:
                with np.errstate(over="ignore"):
                    rows = rows * np.float32(scale)
                if not np.isfinite(rows).all():
                    raise refused("task.scale", scale, f"times the {self.key} of '{self.place}' it is beyond float32")
            at = slice(start, start + len(rows))
            for number, array in enumerate(arrays):
                mine = part_of[at] == number
                array[place[at][mine], : self.width] = rows[mine]
            start = at.stop
        return arrays

    def labels(self, at_least: int = 2) -> tuple[Integer[np.ndarray, " samples"], tuple[str, ...]]:
        """The class of every sample, as an index into the names of the classes, which are in order.

        Labels are integers (also as floats, which MATLAB writes) or texts, one per sample, or one-hot rows. There must
        be `at_least` so many classes.
        """
        if self.width > self.frames:
            return self._from_one_hot()
        labels, name = self.arrays[0].whole().ravel(), self.names[0]
        if labels.dtype.kind == "U":
            blank = np.flatnonzero(np.char.str_len(np.char.strip(labels)) == 0)
            if blank.size:
                raise PlasticodeError(f"{self._of(name)} has no label in {self._place(int(blank[0]))} (counted from 0)")
        else:
            self._check_finite(name, labels[:, None])
            broken = np.flatnonzero(labels != np.floor(labels)) if labels.dtype.kind == "f" else np.empty(0)
            if broken.size:
                what = f"{labels[broken[0]]} in {self._place(int(broken[0]))} (counted from 0)"
                raise PlasticodeError(
                    f"{self._of(name)} has {what}, which is no label: labels are integers or texts, and "
                    "task.kind = 'regression' takes real numbers"
                )
            labels = labels.astype(np.int64) if labels.dtype.kind in "bf" else labels
        known, codes = np.unique(labels, return_inverse=True)
        if len(known) < at_least:
            raise PlasticodeError(f"{self._of(name)} has one class, {shown(known[0].item())}: there must be more")
        if len(known) * len(labels) > LARGEST_DATA:
            raise PlasticodeError(
                f"{self._of(name)} has {len(known)} classes, which is too many for {len(labels)} samples: "
                "task.kind = 'regression' takes numbers"
            )
        return codes, tuple(str(label) for label in known.tolist())

    def among(self, classes: tuple[str, ...]) -> Integer[np.ndarray, " samples"]:
        """The class of every sample, as an index into those of the training."""
        codes, names = self.labels(at_least=1)
        known = {name: place for place, name in enumerate(classes)}
        for code, name in enumerate(names):
            if name not in known and (codes == code).any():
                row = int((codes == code).argmax())
                raise PlasticodeError(
                    f"'{self.place}' has the label {shown(name)} in {self._place(row)} (counted from 0), but no "
                    "training sample has it"
                )
        return np.array([known.get(name, 0) for name in names])[codes]

    def _from_one_hot(self) -> tuple[Integer[np.ndarray, " samples"], tuple[str, ...]]:
        found, width = [], self.width // self.frames
        for rows in self.blocks():
            good = np.isin(rows, (0, 1)).all(axis=1) & (rows.sum(axis=1) == 1)
            if not good.all():
                row = sum(map(len, found)) + int(good.argmin())
                raise PlasticodeError(
                    f"'{self.place}' has {width} targets per sample, not one-hot in {self._place(row)} "
                    f"(counted from 0): a classification has one label per sample or one-hot rows{self.aside}"
                )
            found.append(rows.argmax(axis=1))
        names = self.names if len(self.names) == width else map(str, range(width))
        return np.concatenate(found), tuple(names)

    def _check_finite(self, name: str, block: Shaped[np.ndarray, "samples _n"], first: int = 0) -> None:
        """Refuse texts, NaN and infinity, by row and column; the first row has the number `first`."""
        is_text = block.dtype.kind == "U"
        bad = np.full(block.shape, True) if is_text else ~np.isfinite(block)
        if is_text:  # a column with one number missing is a column of texts
            bad = np.array([[not _is_finite(text) for text in row] for row in block.tolist()]).reshape(block.shape)
        if not bad.any():
            return
        row, column = map(int, np.unravel_index(bad.argmax(), bad.shape))
        value = block[row, column]
        where = f"{self._place(first + row)}, column {shown(name) if self.is_table else column}"
        where += " (rows are counted from 0)" if self.is_table else " (counted from 0)"
        if is_text and value.strip().lower() not in MISSING:
            named = "" if self.key == "targets" else "; task.inputs names those that are"
            raise PlasticodeError(
                f"{self._of(name)} has the text {shown(str(value))} in {where}: {self.key} must be numbers{named}"
            )
        what = "NaN" if is_text or np.isnan(value) else "an infinite number"
        raise PlasticodeError(f"{self._of(name)} has {what} in {where}: all numbers must be finite")

    def _of(self, name: str) -> str:
        """Which array of which file."""
        return f"'{self.place}'" if self.is_table or not name else f"{printable(name)} of '{self.place}'"


def chosen(held: Contents, key: str, names: Collection[str], others: Collection[str] | None) -> tuple[str, ...]:
    """The arrays of a file that `task.key` names, or, where it does not, the one that is left beside `others`.

    Of a table all columns that are left are inputs; they are targets where the file has nothing else (`others` None).
    """
    if not names:
        left = [name for name in held.entries if name not in (others or ())]
        if len(left) == 1 or (left and held.is_table and (key == "inputs" or others is None)):
            return tuple(left)
        raise PlasticodeError(f"task.{key} is missing: it must name what '{held.path}' has, {held.told()}")
    for name in names:
        if name not in held.entries:
            known = [name for name in held.entries if name]
            what = f"it must be among {held.told()}{hint(name, known)}" if known else "its one array has no name"
            raise PlasticodeError(f"task.{key} has {shown(name)}, which '{held.path}' has not: {what}")
        if name in (others or ()):
            other = "targets" if key == "inputs" else "inputs"
            raise PlasticodeError(f"task.{key} has {shown(name)}, which is among the {other} too: it may be in one")
    return tuple(names)


def taken(held: Contents, key: str, names: tuple[str, ...]) -> Samples:
    """These arrays of a file; they have the same number of samples, one at least, and no more numbers than allowed.

    They are read as they are needed: the file has to stay open.
    """
    counts = {name: held.entries[name].shape for name in names}
    if sum(map(math.prod, counts.values())) > LARGEST_DATA:
        sizes = ", ".join(str(shape) for shape in list(counts.values())[:3])
        raise PlasticodeError(f"'{held.path}' has {sizes} of {key}: at most {LARGEST_DATA} numbers are allowed")
    arrays = tuple(held.source(name) for name in names)
    for name, array in zip(names, arrays, strict=True):
        what = f"'{held.path}' has {printable(name)}{' ' * bool(name)}of shape {array.shape}"
        if 0 in (len(array.shape), *array.shape):
            raise PlasticodeError(
                f"{what}: the {key} must have samples along their first axis, and no axis may be empty"
            )
        if array.shape[0] != arrays[0].shape[0]:
            raise PlasticodeError(
                f"{what}, and {printable(names[0])} has {arrays[0].shape[0]} samples: it must have as many"
            )
    return Samples(str(held.path), key, names, arrays, held.is_table)


def numbers(values: np.ndarray, name: str, what: str) -> np.ndarray:
    """Real numbers in float64, NaN where a cell of a table is empty, which makes its column one of texts."""
    if values.dtype.kind == "U":
        empty = np.isin(np.char.lower(np.char.strip(values)), MISSING)
        try:
            values = np.where(empty, "nan", values).astype(float)
        except ValueError:
            told = f"{what} has texts in '{printable(name)}'"
            raise PlasticodeError(f"{told}: it must have numbers, or empty cells") from None
    if values.dtype.kind not in "biuf":
        raise PlasticodeError(f"{what} has values of the type {values.dtype} in '{name}': it must have real numbers")
    return values.astype(np.float64)


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
