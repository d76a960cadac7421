"""Data sets by name and in further formats: scikit-learn's, CIFAR, Parquet and NWB; each from a real file."""

# pyright: reportOptionalSubscript=false, reportArgumentType=false, reportOptionalMemberAccess=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from dynamics.errors import PlasticodeError
from dynamics.plugins import look_in
from experiments.tasks.arrays import Arrays
from experiments.tasks.bundled import BreastCancer, Diabetes, Iris, Linnerud, Wine
from experiments.tasks.cifar import Cifar10, Cifar100
from experiments.tasks.registry import make_task

RNG = np.random.default_rng(4)
BUNDLED = {
    "iris": (Iris, datasets.load_iris), "wine": (Wine, datasets.load_wine),
    "diabetes": (Diabetes, datasets.load_diabetes),
    "breast-cancer": (BreastCancer, datasets.load_breast_cancer), "linnerud": (Linnerud, datasets.load_linnerud),
}  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """All happens in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    look_in()
    return tmp_path


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_sets_are_scikit_learns_in_units_of_their_spread(name):
    """Undone, the scaling gives back every sample, each once, with its own target."""
    task, load = BUNDLED[name]
    held, data = load(), make_task(name, {"seed": 3}).load()
    assert isinstance(make_task(name, {}), task)
    x = np.concatenate([data.train_inputs, data.test_inputs]).astype(float)
    np.testing.assert_allclose(data.train_inputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(data.train_inputs.std(0), 1, rtol=1e-4)
    own = (held.data - held.data.mean(0)) / held.data.std(0)
    mine = (x - x.mean(0)) / x.std(0)
    apart = np.abs(mine[:, None] - own[None]).max(-1)
    at = apart.argmin(1)
    assert apart.min(1).max() < 1e-4 and len(data.test_inputs) == pytest.approx(0.2 * len(own), abs=2)
    y = np.concatenate([data.train_targets, data.test_targets])
    if data.kind == "classification":
        assert (y.argmax(1) == held.target[at]).all() and data.classes == tuple(map(str, held.target_names))
    else:
        expected = held.target.reshape(len(own), -1)[at]
        for mine, own in zip(y.T, expected.T, strict=True):
            assert np.corrcoef(mine, own)[0, 1] > 1 - 1e-6


def cifar(folder, files, labels, count=4):
    """Files of random images; the last label counts. Returns pixels (files x images, 3, 32, 32) and labels."""
    pixels, marks = [], []
    for number, name in enumerate(files):
        images = RNG.integers(256, size=(count, 3072), dtype=np.uint8)
        classes = np.arange(count * len(labels), dtype=np.uint8).reshape(count, len(labels)) % np.array(labels) + number
        classes = (classes % np.array(labels)).astype(np.uint8)
        (folder / name).write_bytes(np.concatenate([classes, images], axis=1).tobytes())
        pixels.append(images.reshape(count, 3, 32, 32))
        marks.append(classes)
    return np.concatenate(pixels) / 255, np.concatenate(marks)


def test_cifar10_is_read_pooled_grey_and_in_colour(here):
    pixels, labels = cifar(here, [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"], (10,))
    (here / "batches.meta.txt").write_text("a b c d e f g h i j\n")
    data = Cifar10(path=".", colour=True).load()
    np.testing.assert_allclose(data.train_inputs, pixels[:20].reshape(20, -1), atol=1e-6)
    assert (data.train_targets.argmax(1) == labels[:20, 0]).all() and data.classes == tuple("abcdefghij")
    grey = Cifar10(path=".", pool=16, train_samples=7).load()
    blocks = pixels.reshape(24, 3, 2, 16, 2, 16).mean((3, 5))
    expected = np.einsum("c,ncxy->nxy", [0.299, 0.587, 0.114], blocks).reshape(24, 4)
    np.testing.assert_allclose(grey.train_inputs, expected[:7], atol=1e-6)
    np.testing.assert_allclose(grey.test_inputs, expected[20:], atol=1e-6)


def test_cifar100_has_fine_and_coarse_classes(here):
    _, labels = cifar(here, ["train.bin", "test.bin"], (20, 100))
    fine, coarse = Cifar100(path=".").load(), Cifar100(path=".", coarse=True).load()
    assert (fine.train_targets.argmax(1) == labels[:4, 1]).all() and fine.train_targets.shape[1] == 100
    assert (coarse.test_targets.argmax(1) == labels[4:, 0]).all() and coarse.train_targets.shape[1] == 20
    assert fine.classes == ()


def test_files_of_cifar_that_are_none_are_told(here):
    with pytest.raises(PlasticodeError, match=r"lacks train.bin, test.bin.*it is empty"):
        Cifar100(path=".").load()
    cifar(here, ["train.bin", "test.bin"], (20, 100))
    (here / "test.bin").write_bytes(b"\0" * 3000)
    with pytest.raises(PlasticodeError, match=r"test.bin' has 3000 bytes: the binary version has 3074 for each image"):
        Cifar100(path=".").load()
    (here / "test.bin").write_bytes(bytes([0, 111]) + b"\0" * 3072)
    with pytest.raises(PlasticodeError, match="has the label 111 for image 0: labels are 0 to 99"):
        Cifar100(path=".").load()
    with pytest.raises(PlasticodeError, match="task.train_samples is 9, but .* has only 4 images"):
        cifar(here, ["train.bin", "test.bin"], (20, 100))
        Cifar100(path=".", train_samples=9).load()


def test_a_parquet_table_is_read_as_its_csv_is(here):
    table = pd.DataFrame(RNG.standard_normal((30, 3)), columns=["a", "b", "c"])
    table["kind"] = np.array(["ox", "ant"])[np.arange(30) % 2]
    table.to_csv("t.csv", index=False)
    table.to_parquet("t.parquet")
    both = [Arrays(train=name, targets="kind").load() for name in ("t.csv", "t.parquet")]
    np.testing.assert_allclose(both[0].train_inputs, both[1].train_inputs, rtol=1e-6)
    assert (both[0].train_targets == both[1].train_targets).all() and both[1].classes == ("ant", "ox")
    table.loc[4, "b"] = np.nan
    table.to_parquet("t.parquet")
    with pytest.raises(PlasticodeError, match="NaN in row 4, column 'b'"):
        Arrays(train="t.parquet", targets="kind").load()
    whole = (here / "t.parquet").read_bytes()
    (here / "t.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PlasticodeError, match="t.parquet' cannot be read"):
        Arrays(train="t.parquet", targets="kind").load()


def test_time_series_of_nwb_are_in_their_units(here):
    counts = RNG.integers(-500, 500, size=(40, 2)).astype(np.int16)
    with h5py.File("s.nwb", "w") as file:
        file.attrs["nwb_version"] = "2.7.0"
        series = file.create_group("acquisition/lfp")
        series["data"] = counts
        series["data"].attrs.update(conversion=2e-3, offset=0.5, unit="volts")
        series["channel_conversion"] = np.array([1.0, 10.0])
        file["acquisition/pupil/data"] = counts[:, 0] / 7
        file["acquisition/pupil/data"].attrs.update(conversion=3.0, unit="mm")
        file["processing/plain/data"] = counts[:, 0] / 9
        # As pynwb writes a series with the data of another one, whose factors of channels it does not have.
        file["processing/linked/data"] = h5py.SoftLink("/acquisition/lfp/data")
    names = {"inputs": "acquisition/lfp/data", "targets": "acquisition/pupil/data", "kind": "regression"}
    data = Arrays(train="s.nwb", test_fraction=0.5, **names).load()
    volts = counts * np.array([2e-3, 2e-2]) + 0.5
    at = np.abs(data.train_inputs[:, None] - volts[None]).max(-1).argmin(1)
    np.testing.assert_allclose(data.train_inputs, volts[at], rtol=1e-5)
    np.testing.assert_allclose(data.train_targets[:, 0], 3 * counts[at, 0] / 7, rtol=1e-5)
    linked = Arrays(train="s.nwb", test_fraction=0.5, **names | {"inputs": "processing/linked/data"}).load()
    np.testing.assert_allclose(linked.train_inputs, counts[at] * 2e-3 + 0.5, rtol=1e-5)
    plain = Arrays(train="s.nwb", inputs="processing/plain/data", kind="unsupervised").load()
    assert np.isin(np.round(plain.train_inputs[:, 0] * 9).astype(int), counts[:, 0]).all()
