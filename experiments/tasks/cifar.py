"""CIFAR-10 and CIFAR-100: small photographs, from their binary files."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float32, Integer, UInt8
from pydantic import Field

from dynamics.errors import PlasticodeError, printable, reason
from experiments.machine.reading import read_bytes
from experiments.tasks.classes import one_hot
from experiments.tasks.contract import AbstractTask, Count, Data, Kind
from experiments.tasks.idx import lying_in, pooled
from experiments.tasks.places import found

SIDE, CHANNELS = 32, 3
PIXELS = CHANNELS * SIDE * SIDE
LARGEST = 1_000_000_000  # bytes
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue: ITU-R BT.601


class AbstractCifar(AbstractTask):
    """What both share: the binary version has a byte or two of labels before the red, the green and the blue pixels of
    each image, row by row. The split into training and test is the one of the files."""

    kind: ClassVar[Kind] = "classification"
    from_files: ClassVar[bool] = True
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    colour: Annotated[bool, Field(strict=True)] = False
    pool: Literal[1, 2, 4, 8, 16, 32] = 1
    train_samples: Count | None = None
    test_samples: Count | None = None

    def _load(self, files: dict[str, list[str]], labels: int, column: int, names: str, classes: int) -> Data:
        """Of records with so many `labels`, of which the one at `column` counts; `names` is the file of their names."""
        folder = found("task.path", self.path)
        missing = [name for part in files.values() for name in part if not (folder / name).is_file()]
        if missing:
            raise PlasticodeError(
                f"task.path '{printable(self.path, 1000)}' lacks {', '.join(missing)}: it must be a folder with the "
                f"binary version of the set, unpacked; {lying_in(folder)}"
            )
        halves: list[Any] = []
        for part, limit in (("train", self.train_samples), ("test", self.test_samples)):
            rows = np.concatenate([_records(folder / name, labels, column, classes) for name in files[part]])
            if len(rows) < (limit or 1):
                raise PlasticodeError(f"task.{part}_samples is {limit}, but '{folder}' has only {len(rows)} images")
            rows = rows[:limit]
            halves += [self._images(rows[:, labels:]), one_hot(rows[:, column], classes)]
        train, y, test, test_y = halves
        return Data(train, y, test, test_y, "classification", _names(folder / names, classes))

    def _images(self, rows: UInt8[np.ndarray, "images 3072"]) -> Float32[np.ndarray, "images _n"]:
        planes = pooled(rows.reshape(-1, SIDE, SIDE), self.pool).reshape(len(rows), CHANNELS, -1)
        return planes.reshape(len(rows), -1) if self.colour else LUMA @ planes


class Cifar10(AbstractCifar):
    """Small photographs, real data: 60,000 images of 32x32 pixels in 10 classes, from local files.

    `path` is the folder of the binary version: data_batch_1.bin to data_batch_5.bin and test_batch.bin; nothing is
    downloaded. Images are grey, or with `colour` their red, green and blue planes. Blocks of `pool` x `pool` pixels are
    averaged. `train_samples` and `test_samples` keep that many samples from the start (absent: all).

    Inputs (samples, (32/pool)^2), or three times as many: intensities from 0 to 1, dimensionless. Targets (samples,
    10): one-hot; the results' attribute `classes` names them where batches.meta.txt lies there too. Source: A.
    Krizhevsky, Learning multiple layers of features from tiny images, University of Toronto (2009).
    """

    name: str = "cifar10"

    def load(self) -> Data:
        """The files' samples; a missing, damaged or too short file raises `PlasticodeError`."""
        files = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
        return self._load(files, 1, 0, "batches.meta.txt", 10)


class Cifar100(AbstractCifar):
    """Small photographs, real data: 60,000 images of 32x32 pixels in 100 classes, or 20 coarse ones, from local files.

    `path` is the folder of the binary version: train.bin and test.bin; nothing is downloaded. With `coarse` classes are
    the 20 superclasses. Images are grey, or with `colour` their red, green and blue planes. Blocks of `pool` x `pool`
    pixels are averaged. `train_samples` and `test_samples` keep that many samples from the start (absent: all).

    Inputs (samples, (32/pool)^2), or three times as many: intensities from 0 to 1, dimensionless. Targets (samples,
    100 or 20): one-hot; the results' attribute `classes` names them where fine_label_names.txt or
    coarse_label_names.txt lies there too. Source: A. Krizhevsky, Learning multiple layers of features from tiny images,
    University of Toronto (2009).
    """

    name: str = "cifar100"
    coarse: Annotated[bool, Field(strict=True)] = False

    def load(self) -> Data:
        """The files' samples; a missing, damaged or too short file raises `PlasticodeError`."""
        files = {"train": ["train.bin"], "test": ["test.bin"]}
        if self.coarse:
            return self._load(files, 2, 0, "coarse_label_names.txt", 20)
        return self._load(files, 2, 1, "fine_label_names.txt", 100)


def _records(file: Path, labels: int, column: int, classes: int) -> UInt8[np.ndarray, "images bytes"]:
    """The bytes of every image of a file, its labels first."""
    try:
        content = read_bytes(file, LARGEST)
    except OSError as error:
        raise PlasticodeError(f"'{file}' cannot be read: {reason(error)}") from None
    size = labels + PIXELS
    if not content or len(content) % size:
        raise PlasticodeError(f"'{file}' has {len(content)} bytes: the binary version has {size} for each image")
    rows = np.frombuffer(content, np.uint8).reshape(-1, size)
    found: Integer[np.ndarray, " images"] = rows[:, column]
    if found.max() >= classes:
        at = int((found >= classes).argmax())
        raise PlasticodeError(f"'{file}' has the label {found[at]} for image {at}: labels are 0 to {classes - 1}")
    return rows


def _names(file: Path, classes: int) -> tuple[str, ...]:
    """The names of the classes, if the file of them is there and has as many."""
    try:
        names = read_bytes(file, LARGEST).decode("utf-8", "replace").split()
    except OSError:
        return ()
    return tuple(map(printable, names)) if len(names) == classes else ()
