"""Labelled images in IDX files: MNIST and all that has its format."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float32, Integer, UInt8
from pydantic import Field

from dynamics.errors import PlasticodeError, printable, refused
from experiments.machine.names import hint
from experiments.tasks.classes import one_hot
from experiments.tasks.contract import AbstractTask, Count, Data, Kind
from experiments.tasks.entries import in_memory
from experiments.tasks.files import LARGEST_DATA
from experiments.tasks.idx import BYTES, INTEGERS, lying_in, pooled, read_idx
from experiments.tasks.places import found
from experiments.tasks.samples import Samples

NAME = re.compile(
    r"(?:(?P<set>.+)-)?(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx(?P<axes>[123])-(?P<kind>ubyte|int)(\.gz)?"
)
PARTS = {"train": "train", "t10k": "test", "test": "test"}
TRANSPOSED = "emnist"  # what the names of sets begin with whose images have rows and columns swapped


class _File(NamedTuple):
    path: Path
    axes: int
    kind: int


class Idx(AbstractTask):
    """Labelled images, real data: from local files in MNIST's format (IDX), of any size and with any classes.

    MNIST, Fashion-MNIST and Kuzushiji-MNIST, EMNIST (whose images are turned upright) and QMNIST (whose labels have
    eight columns, the class first). `path` is a folder with four files SET-train-images-idx3-ubyte,
    SET-train-labels-idx1-ubyte (or idx2-int), and SET-test-... or SET-t10k-..., plain or gzipped, with or without
    "SET-". Where there are several, `set` chooses one, such as "emnist-letters". Nothing is downloaded. Blocks of
    `pool` x `pool` pixels are averaged. `train_samples` and `test_samples` keep that many samples from the start of
    each file (absent: all). The split into training and test is the one of the files.

    Inputs (samples, pixels): intensities from 0 to 1, dimensionless. Targets (samples, classes): one-hot; the classes
    are the labels of the training file, which the results' attribute `classes` has.

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Proc. IEEE 86, 2278 (1998); G. Cohen, S. Afshar, J. Tapson
    and A. van Schaik, IJCNN 2921 (2017); C. Yadav and L. Bottou, NeurIPS 32 (2019).
    """

    kind: ClassVar[Kind] = "classification"
    from_files: ClassVar[bool] = True
    name: str = "idx"
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    set: str | None = None
    pool: Count = 1
    train_samples: Count | None = None
    test_samples: Count | None = None

    def load(self) -> Data:
        """The files' samples; a missing, damaged or too short file raises `PlasticodeError`."""
        name, files = self._chosen()
        (train, train_labels), (test, test_labels) = (
            self._read(files, part, name.startswith(TRANSPOSED)) for part in ("train", "test")
        )
        if train.shape[1] != test.shape[1]:
            raise PlasticodeError(
                f"task.path '{printable(self.path, 1000)}' has training images of {train.shape[1]} numbers and test "
                f"images of {test.shape[1]}: both must have the same"
            )
        codes, classes = train_labels.labels()
        y, test_y = (one_hot(these, len(classes)) for these in (codes, test_labels.among(classes)))
        return Data(train, y[: len(train)], test, test_y[: len(test)], "classification", classes)

    def _chosen(self) -> tuple[str, dict[tuple[str, str], _File]]:
        """The name of the set, and its four files by part and by what they have."""
        folder, sets = found("task.path", self.path), {}
        try:
            # In reverse, so that a plain file comes after its .gz.
            paths = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
        except OSError as error:
            raise refused("task.path", self.path, f"it cannot be read ({type(error).__name__})") from None
        for path in paths:
            match = NAME.fullmatch(path.name)
            if match and path.is_file():
                one = _File(path, int(match["axes"]), INTEGERS if match["kind"] == "int" else BYTES)
                sets.setdefault(match["set"] or "", {})[PARTS[match["part"]], match["what"]] = one
        whole = {name: files for name, files in sets.items() if len(files) == 4}
        place = f"task.path '{printable(self.path, 1000)}'"
        if not whole:
            raise PlasticodeError(
                f"{place} has no four files such as train-images-idx3-ubyte, train-labels-idx1-ubyte and the same of "
                f"t10k or test, plain or gzipped; {lying_in(folder)}"
            )
        if self.set is None and len(whole) > 1:
            raise PlasticodeError(f"task.set is missing: {place} has {', '.join(map(repr, sorted(whole)))}")
        name = next(iter(whole)) if self.set is None else self.set
        if name not in whole:
            known = f"{place} has {', '.join(map(repr, sorted(whole)))}"
            raise refused("task.set", self.set, f"{known}{hint(name, whole)}")
        return name, whole[name]

    def _read(
        self, files: dict[tuple[str, str], _File], part: str, transposed: bool
    ) -> tuple[Float32[np.ndarray, "samples inputs"], Samples]:
        """The images that are kept of a part, in rows, and the labels of all."""
        limit, key = getattr(self, f"{part}_samples"), f"task.{part}_samples"
        image_file, label_file = files[part, "images"], files[part, "labels"]
        images: UInt8[np.ndarray, ...] = read_idx(*image_file)
        labels: Integer[np.ndarray, ...] = read_idx(*label_file)
        for array, (path, _, _), axes in ((images, image_file, (3,)), (labels, label_file, (1, 2))):
            if array.ndim not in axes or 0 in array.shape:
                raise PlasticodeError(
                    f"'{path}' has shape {array.shape}: there must be one image, or label, per sample"
                )
        labels = labels if labels.ndim == 1 else labels[:, 0]
        if len(images) != len(labels):
            counts = f"{len(labels)} labels for the {len(images)} images beside it"
            raise PlasticodeError(f"'{label_file.path}' has {counts}")
        if len(images) < (limit or 1):
            raise PlasticodeError(f"{key} is {limit}, but '{image_file.path}' has only {len(images)} images")
        rows, columns = images.shape[1:]
        if rows % self.pool or columns % self.pool:
            raise refused("task.pool", self.pool, f"it must divide {rows} and {columns}, the size of the images")
        images = images[:limit]
        if images.size // self.pool**2 > LARGEST_DATA:
            raise PlasticodeError(
                f"'{image_file.path}' has {len(images)} images of {rows}x{columns} pixels: at most {LARGEST_DATA} "
                f"numbers are allowed; {key} keeps fewer, task.pool averages"
            )
        images = images.transpose(0, 2, 1) if transposed else images
        return pooled(images, self.pool), Samples(str(label_file.path), "targets", ("",), (in_memory(labels),), False)
