"""MNIST's files: what is written comes back, however it is packed and named, and what is no such file is told."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false

import gzip

import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from experiments.tasks.real import Mnist
from tests.mnist_files import IMAGES, LABELS, arrays_of, idx_bytes, write_mnist


@pytest.fixture
def mnist(tmp_path):
    """A tiny MNIST of random bytes: its directory and its arrays by file name."""
    return tmp_path, write_mnist(tmp_path)


def test_idx_files_come_back_as_they_were_written(mnist):
    path, arrays = mnist
    data = Mnist(path=str(path)).load()
    read = ((data.train_inputs, data.train_targets), (data.test_inputs, data.test_targets))
    for images, labels, (inputs, targets) in zip(IMAGES, LABELS, read, strict=True):
        assert targets is not None
        np.testing.assert_allclose(inputs, arrays[images].reshape(-1, 784) / 255, rtol=1e-6)
        assert np.array_equal(targets, arrays[labels][:, None] == np.arange(10))


def test_gzipped_files_are_the_same_data(mnist):
    path, arrays = mnist
    plain = arrays_of(Mnist(path=str(path)).load())
    for name in arrays:
        (path / f"{name}.gz").write_bytes(gzip.compress((path / name).read_bytes()))
        (path / name).unlink()
    packed = arrays_of(Mnist(path=str(path)).load())
    assert all(np.array_equal(plain[name], packed[name]) for name in plain)


@pytest.mark.parametrize("pool", [2, 7, 28])
def test_pooling_averages_blocks(mnist, pool):
    path, arrays = mnist
    images = Mnist(path=str(path), pool=pool).load().train_inputs.reshape(7, 28 // pool, 28 // pool)
    for row in range(28 // pool):
        for column in range(28 // pool):
            block = arrays[IMAGES[0]][:, row * pool : (row + 1) * pool, column * pool : (column + 1) * pool]
            np.testing.assert_allclose(images[:, row, column], block.mean(axis=(1, 2)) / 255, rtol=1e-5)


def test_limits_keep_the_first_samples(mnist):
    path = str(mnist[0])
    whole, part = Mnist(path=path).load(), Mnist(path=path, train_samples=4, test_samples=1).load()
    assert np.array_equal(part.train_inputs, whole.train_inputs[:4])
    assert part.train_targets is not None and whole.train_targets is not None
    assert np.array_equal(part.train_targets, whole.train_targets[:4])
    assert np.array_equal(part.test_inputs, whole.test_inputs[:1])


def test_a_limit_beyond_the_file_is_refused(mnist):
    with pytest.raises(PlasticodeError, match=r"task\.test_samples is 4, but .*t10k-images.* has only 3 images"):
        Mnist(path=str(mnist[0]), test_samples=4).load()


def test_missing_files_are_named_with_their_key_and_path(tmp_path):
    absent = str(tmp_path / "nowhere")
    with pytest.raises(PlasticodeError) as caught:
        Mnist(path=absent).load()
    sentence = str(caught.value)
    assert all(part in sentence for part in ("task.path", absent, *IMAGES, *LABELS)) and "\n" not in sentence


def test_only_the_files_that_are_missing_are_called_missing(mnist):
    path, _ = mnist
    (path / LABELS[1]).unlink()
    with pytest.raises(PlasticodeError, match=f"lacks {LABELS[1]}:"):
        Mnist(path=str(path)).load()


def test_what_lies_there_is_told(mnist):
    path, _ = mnist
    (path / LABELS[0]).rename(path / "labels.txt")
    (path / IMAGES[0]).unlink()
    (path / IMAGES[0]).mkdir()  # as some programs unpack
    with pytest.raises(PlasticodeError, match=f"lacks {IMAGES[0]}, {LABELS[0]}:.*labels.txt.*{IMAGES[0]}/"):
        Mnist(path=str(path)).load()
    for where, said in ((path / LABELS[1], "it is a file"), (path / "nowhere", "it does not exist")):
        with pytest.raises(PlasticodeError, match=said):
            Mnist(path=str(where)).load()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dot", [False, True])
def test_files_are_read_by_their_content_whatever_their_suffix(mnist, packed, suffix, dot):
    """A gzip without .gz, a plain file with it, and the spelling with a dot."""
    path, arrays = mnist
    expected = arrays_of(Mnist(path=str(path)).load())
    for name in arrays:
        content = (path / name).read_bytes()
        (path / name).unlink()
        spelt = name.replace("-idx", ".idx") if dot else name
        (path / f"{spelt}{suffix}").write_bytes(gzip.compress(content) if packed else content)
    found = arrays_of(Mnist(path=str(path)).load())
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


DAMAGE = {
    "truncated header": (lambda content: content[:6], "is truncated: it has 6 of the 16 bytes"),
    "truncated data": (lambda content: content[:-1], "header announces 5488 bytes of data and it has 5487"),
    "too long": (lambda content: content + b"0", "is too long"),
    "empty": (lambda content: b"", "is not the IDX file expected: it is empty: download it again"),
    "web page": (lambda content: b"\n<!DOCTYPE html><html>Not found</html>", "it is a web page, which servers send"),
    "zip": (lambda content: b"PK\x03\x04" + content, "it is a zip archive: unpack it"),
    "pointer": (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "labels": (lambda content: idx_bytes(np.zeros(7, np.uint8)), "images and labels may be swapped"),
    "wrong magic": (lambda content: b"\x00\x00\x0d\x03" + content[4:], "0x00000d03, where 0x00000803"),
    "other image size": (lambda content: idx_bytes(np.zeros((7, 14, 56), np.uint8)), "images of 14x56 pixels"),
    "other count": (lambda content: idx_bytes(np.zeros((6, 28, 28), np.uint8)), "has 7 labels for the 6 images"),
}


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE.values(), ids=list(DAMAGE))
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_file_is_named(mnist, damage, sentence, packed):
    path, _ = mnist
    file = path / IMAGES[0]
    content = damage(file.read_bytes())
    file.unlink()
    (path / f"{file.name}.gz" if packed else file).write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(PlasticodeError, match=r"train-(images|labels)-idx") as caught:
        Mnist(path=str(path)).load()
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (gzip.compress(bytes(1000))[:-10], "is truncated: its gzip stream ends too early"),
        (b"not gzip at all", "is not the IDX file expected: it starts with the bytes 0x6e6f7420"),
        (gzip.compress(bytes(1000))[:10] + b"\xff" * 20, "cannot be read"),
    ],
    ids=["cut short", "not gzip", "not deflated"],
)
def test_a_damaged_gzip_stream_is_named(mnist, content, sentence):
    path, _ = mnist
    (path / IMAGES[1]).unlink()
    (path / f"{IMAGES[1]}.gz").write_bytes(content)
    with pytest.raises(PlasticodeError, match=rf"{IMAGES[1]}\.gz' {sentence}"):
        Mnist(path=str(path)).load()


def test_a_label_above_nine_is_refused(mnist):
    path, _ = mnist
    (path / LABELS[0]).write_bytes(idx_bytes(np.full(7, 12, np.uint8)))
    with pytest.raises(PlasticodeError, match=f"{LABELS[0]}' has the label 12"):
        Mnist(path=str(path)).load()
