"""Handwritten digits: real data."""

import functools
import gzip
import importlib.util
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Float32, Float64
from pydantic import Field

from dynamics.errors import PlasticodeError, printable, refused
from experiments.tasks.classes import classification, one_hot
from experiments.tasks.contract import AbstractTask, Count, Data, Fraction, Kind, Scale, Seed
from experiments.tasks.idx import find_idx, lying_in, pooled, read_idx
from experiments.tasks.places import place_of


class Digits(AbstractTask):
    """Handwritten digits, real data: 1797 images of 8x8 pixels in 10 classes, bundled with scikit-learn.

    Inputs (samples, 64): pixel intensities from 0 to 1 in steps of 1/16, dimensionless, times `scale`.
    Targets (samples, 10): one-hot. Of every class the same fraction, `test_fraction`, is kept for the test.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository
    (1998), its test set.
    """

    kind: ClassVar[Kind] = "classification"
    name: str = "digits"
    test_fraction: Fraction = 0.2
    scale: Scale = 1.0
    seed: Seed = 0

    def load(self) -> Data:
        """The images, split at random by `seed`."""
        rows = _digits()
        inputs, labels = rows[:, :-1] / 16 * self.scale, rows[:, -1].astype(int)
        return classification(inputs, labels, self.test_fraction, self.seed)


@functools.cache
def _digits() -> Float64[np.ndarray, "samples columns"]:
    """All images, a row of pixels and a label each: from scikit-learn's file, as importing it takes a second and 70 MB;
    by scikit-learn where it has that elsewhere. Read once."""
    package = importlib.util.find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            with gzip.open(path, "rt") as file:
                return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack([np.asarray(pixels), np.asarray(labels)])


class Mnist(AbstractTask):
    """Handwritten digits, real data: images of 28x28 pixels in 10 classes, from local files in the MNIST format.

    `path` is a directory with MNIST's four IDX files, plain or gzipped, by their usual names (a dot
    before idx will do); nothing is downloaded. Blocks of `pool` x
    `pool` pixels are averaged. `train_samples` and `test_samples` keep that many samples from the start of each file
    (absent: all). The split into training and test is the one of the files.

    Inputs (samples, (28/pool)^2): pixel intensities from 0 to 1, dimensionless. Targets (samples, 10): one-hot.

    Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Proc. IEEE 86, 2278 (1998).
    """

    kind: ClassVar[Kind] = "classification"
    from_files: ClassVar[bool] = True
    name: str = "mnist"
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    pool: Literal[1, 2, 4, 7, 14, 28] = 1
    train_samples: Count | None = None
    test_samples: Count | None = None

    def load(self) -> Data:
        """The files' samples; a missing, damaged or too short file raises `PlasticodeError`."""
        train_images, train_labels, test_images, test_labels = self._files()
        train = self._read(train_images, train_labels, "train_samples", self.train_samples)
        test = self._read(test_images, test_labels, "test_samples", self.test_samples)
        return Data(*train, *test, "classification")

    def _files(self) -> list[Path]:
        """The four files, in the order training images, training labels, test images, test labels."""
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        names = [f"{part}-{kind}" for part in ("train", "t10k") for kind in kinds]
        directory = place_of("task.path", self.path)
        try:
            files = [find_idx(directory, name) for name in names]
        except OSError as error:
            raise refused("task.path", self.path, f"it cannot be read ({type(error).__name__})") from None
        missing = [name for name, file in zip(names, files, strict=True) if file is None]
        if missing:
            raise PlasticodeError(
                f"task.path '{printable(self.path, 1000)}' lacks {', '.join(missing)}: it must be a directory "
                f"with MNIST's four files {', '.join(names)}, plain or gzipped; {lying_in(directory)}"
            )
        return [file for file in files if file is not None]

    def _read(
        self, image_file: Path, label_file: Path, key: str, limit: int | None
    ) -> tuple[Float32[np.ndarray, "samples inputs"], Float32[np.ndarray, "samples 10"]]:
        """Pooled images in rows and one-hot labels: the first `limit` of a pair of files."""
        images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
        if images.shape[1:] != (28, 28):
            size = f"{images.shape[1]}x{images.shape[2]}"
            raise PlasticodeError(f"'{image_file}' has images of {size} pixels: MNIST's are 28x28")
        if len(images) != len(labels):
            raise PlasticodeError(f"'{label_file}' has {len(labels)} labels for the {len(images)} images beside it")
        if labels.size and labels.max() > 9:
            raise PlasticodeError(f"'{label_file}' has the label {labels.max()}: MNIST's are 0 to 9")
        if len(images) < (limit or 1):
            raise PlasticodeError(f"task.{key} is {limit or 'all'}, but '{image_file}' has only {len(images)} images")
        return pooled(images[:limit], self.pool), one_hot(labels[:limit], 10)
