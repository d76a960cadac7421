"""The family of MNIST: each member as its files are, with its own names, orientation, labels and sizes."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import gzip
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from dynamics.errors import PlasticodeError
from experiments.tasks.images import Idx
from experiments.tasks.real import Mnist
from experiments.tasks.registry import make_task
from tests.mnist_files import arrays_of, idx_bytes

RNG = np.random.default_rng(3)


def integers(array: np.ndarray) -> bytes:
    """An IDX file of integers of four bytes."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 12, array.ndim]) + sizes + array.astype(">i4").tobytes()


def write(folder: Path, name: str, classes: np.ndarray, size=(28, 28), columns: int = 0, test: str = "test") -> dict:
    """A set of random images with the labels `classes` again and again; its arrays."""
    arrays = {}
    for part, samples in (("train", 2 * len(classes)), (test, len(classes))):
        images = RNG.integers(0, 256, (samples, *size), np.uint8)
        labels = np.tile(classes, samples // len(classes))
        table = np.concatenate([labels[:, None], RNG.integers(0, 99, (samples, columns - 1))], 1) if columns else labels
        kind, content = ("idx2-int", integers(table)) if columns else ("idx1-ubyte", idx_bytes(labels.astype(np.uint8)))
        (folder / f"{name}{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{name}{part}-labels-{kind}.gz").write_bytes(gzip.compress(content))
        arrays |= {f"{part[:5]}_images": images, f"{part[:5]}_labels": labels}
    return arrays


FAMILY = {  # the name before train: the classes, the size of images, the columns of labels, what a test is called
    "": (np.arange(10), (28, 28), 0, "t10k"),
    "emnist-letters-": (np.arange(1, 27), (28, 28), 0, "test"),
    "emnist-byclass-": (np.arange(62), (28, 28), 0, "test"),
    "qmnist-": (np.arange(10), (28, 28), 8, "test"),
    "small-": (np.array([0, 3, 200]), (6, 9), 0, "test"),
}


@pytest.mark.parametrize("name", FAMILY)
def test_every_member_comes_back_as_its_files_are(tmp_path, name):
    classes, size, columns, test = FAMILY[name]
    arrays = write(tmp_path, name, *FAMILY[name])
    data = make_task("idx", {"path": str(tmp_path)}).load()
    assert data.classes == tuple(map(str, classes)) and data.kind == "classification"
    for part, inputs, targets in (
        ("train", data.train_inputs, data.train_targets),
        (test, data.test_inputs, data.test_targets),
    ):
        images = arrays[f"{part}_images"]
        upright = np.array([image.T for image in images]) if name.startswith("emnist") else images
        np.testing.assert_allclose(inputs, upright.reshape(len(images), -1) / 255, rtol=1e-6)
        assert np.array_equal(classes[targets.argmax(axis=1)], arrays[f"{part}_labels"])
        assert np.array_equal(targets.sum(axis=1), np.ones(len(images)))


def test_mnist_is_one_of_them(tmp_path):
    write(tmp_path, "", np.arange(10), test="t10k")
    table = {"path": str(tmp_path), "pool": 7, "train_samples": 4}
    mnist, idx = arrays_of(Mnist(**table).load()), Idx(**table).load()
    assert all(np.array_equal(mnist[key], getattr(idx, key)) for key in ("train_inputs", "test_inputs"))
    labels = np.array(list(map(int, idx.classes)))[idx.train_targets.argmax(axis=1)]
    assert np.array_equal(labels, mnist["train_targets"].argmax(axis=1))


def test_blocks_of_any_size_are_averaged_after_turning(tmp_path):
    arrays = write(tmp_path, "emnist-x-", np.arange(3), (4, 6))
    inputs = Idx(path=str(tmp_path), pool=2).load().train_inputs.reshape(6, 3, 2)
    for row in range(3):
        for column in range(2):
            block = arrays["train_images"][:, 2 * column : 2 * column + 2, 2 * row : 2 * row + 2]
            np.testing.assert_allclose(inputs[:, row, column], block.mean(axis=(1, 2)) / 255, rtol=1e-5)


def test_of_several_sets_one_is_chosen(tmp_path):
    for name, classes in (("emnist-letters-", [1, 2]), ("emnist-digits-", [0, 1])):
        write(tmp_path, name, np.array(classes), (2, 2))
    assert Idx(path=str(tmp_path), set="emnist-letters").load().classes == ("1", "2")
    assert told(tmp_path).endswith("has 'emnist-digits', 'emnist-letters'")
    assert "did you mean 'emnist-letters'?" in told(tmp_path, set="emnist-leters")


def test_a_class_that_the_first_samples_lack_is_one_still(tmp_path):
    write(tmp_path, "", np.arange(5), (2, 2))
    data = Idx(path=str(tmp_path), train_samples=2, test_samples=3).load()
    assert data.train_targets.shape == (2, 5) and data.test_targets.shape == (3, 5)


def told(folder: Path, **keys) -> str:
    with pytest.raises((PlasticodeError, ValidationError)) as caught:
        make_task("idx", {"path": str(folder), **keys}).load()
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


IMAGES, LABELS = "{}-images-idx3-ubyte.gz", "{}-labels-idx1-ubyte.gz"
DAMAGE = {  # a file of a part, its content, other keys: the sentence
    "no images": (IMAGES, "train", None, {}, "has no four files such as train-images-idx3-ubyte"),
    "labels": (LABELS, "train", np.zeros(3), {}, "has 3 labels for the 4 images beside"),
    "another size": (IMAGES, "test", np.zeros((2, 3, 2)), {}, "images of 4 numbers and test images of 6"),
    "no pixels": (IMAGES, "test", np.zeros((2, 0, 2)), {}, "has shape (2, 0, 2): there must be one image, or label"),
    "one class": (LABELS, "train", np.full(4, 7), {}, "has one class, 7: there must be more"),
    "a new class": (LABELS, "test", np.array([0, 9]), {}, "has the label '9' in row 1"),
    "pool": ("{}", "x", np.zeros(1), {"pool": 3}, "task.pool = 3 is not allowed: it must divide 2 and 2, the size"),
    "samples": ("{}", "x", np.zeros(1), {"test_samples": 3}, "task.test_samples is 3, but 'test-images-idx3-ubyte.gz'"),
}


@pytest.mark.parametrize(("file", "part", "array", "keys", "sentence"), DAMAGE.values(), ids=list(DAMAGE))
def test_what_is_wrong_is_told(tmp_path, file, part, array, keys, sentence):
    write(tmp_path, "", np.arange(2), (2, 2))
    path = tmp_path / file.format(part)
    path.unlink() if array is None else path.write_bytes(idx_bytes(array.astype(np.uint8)))
    assert sentence in told(tmp_path, **keys)


def test_integers_are_read_as_such_and_cut_short_they_are_told(tmp_path):
    write(tmp_path, "qmnist-", np.array([3, 70000]), (2, 2), columns=8)
    assert Idx(path=str(tmp_path)).load().classes == ("3", "70000")
    file = tmp_path / "qmnist-train-labels-idx2-int.gz"
    file.write_bytes(gzip.decompress(file.read_bytes())[:-2])
    assert "is truncated: its header announces 128 bytes of data and it has 126" in told(tmp_path)
    file.write_bytes(idx_bytes(np.zeros((4, 8), np.uint8)))
    assert "where 0x00000c02 (integers, 2 dimensions) is required" in told(tmp_path)
