"""What is wrong with a file of a user's own, each in one sentence that says where."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from pydantic import ValidationError
from scipy import io

from dynamics.errors import PlasticodeError
from dynamics.plugins import look_in
from experiments.tasks import samples
from experiments.tasks.arrays import Arrays
from experiments.tasks.registry import make_task

X = np.arange(40.0).reshape(10, 4) ** 0.5
LABELS = np.arange(10) % 2
CSV = "age,colour,label\n1,red,a\n2,blue,b\n3,red,a\n4,red,b\n5,red,a\n6,red,b\n"
AGES = {"inputs": "age", "targets": "label"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """All happens in a folder of its own, and files are read by small blocks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(samples, "BLOCK", 9)  # numbers: two rows of four are read at a time
    look_in()


def changed(array: np.ndarray, index, value) -> np.ndarray:
    array = array.astype(np.result_type(array, value))
    array[index] = value
    return array


def told(table: dict) -> str:
    """The sentence with which a task is refused, or its data are."""
    with pytest.raises((PlasticodeError, ValidationError)) as caught:
        make_task("arrays", table).load()
    assert "\n" not in str(caught.value) or isinstance(caught.value, ValidationError)
    return str(caught.value).replace(f"{Path.cwd()}/", "")


NAN, INF = float("nan"), float("inf")
REAL = {"kind": "regression"}
ARRAYS = {  # inputs, targets, other keys: the sentence
    "NaN": (changed(X, (3, 2), NAN), LABELS, {}, "x of 'a.npz' has NaN in row 3, column 2 (counted from 0)"),
    "infinity": (changed(X, (3, 2), INF), LABELS, {}, "an infinite number in row 3, column 2"),
    "NaN in targets": (X, changed(X[:, :2], (9, 1), NAN), REAL, "y of 'a.npz' has NaN in row 9, column 1"),
    "NaN in labels": (X, changed(LABELS, 4, NAN), {}, "y of 'a.npz' has NaN in row 4"),
    "an image": (changed(X.reshape(10, 2, 2), (3, 1, 0), NAN), LABELS, {}, "NaN in row 3, column 2"),
    "too large": (X * 1e300, LABELS, {}, "a number beyond 3.4e38"),
    "scaled beyond": (X * 1e37, LABELS, {"scale": 100.0}, "task.scale = 100.0 is not allowed"),
    "texts": (X.astype(str), changed(LABELS, 0, 1), {}, ""),
    "words": (np.array([["a"] * 4] * 10), LABELS, {}, "has the text 'a' in row 0, column 0"),
    "complex": (X + 1j, LABELS, {}, "x of shape (10, 4) with values of the type complex128: it must have real numbers"),
    "no samples": (X[:0], LABELS[:0], {}, "x of shape (0, 4): the inputs must have samples along their first axis"),
    "a number": (np.array(1.0), LABELS, {}, "x of shape (): the inputs must have samples"),
    "counts": (
        X,
        LABELS[:9],
        {},
        "has 10 samples of inputs and 'a.npz' 9 of targets: every sample must have one of each",
    ),
    "turned": (X.T, LABELS, {}, "; their last axis has as many, (4, 10): transpose the inputs"),
    "constant": (X * 0 + 2, LABELS, {}, "has the same inputs in all 10 samples"),
    "one class": (X, LABELS * 0 + 7, {}, "y of 'a.npz' has one class, 7: there must be more"),
    "a lonely class": (X, changed(LABELS, 5, 3), {}, "leaves class '3', which has 1 samples, no test sample"),
    "real labels": (
        X,
        X[:, 0],
        {},
        "which is no label: labels are integers or texts, and",
    ),
    "no one-hot": (X, X[:, :3], {}, "has 3 targets per sample, not one-hot in row 0"),
    "frames of one-hot": (
        X.reshape(10, 4, 1),
        np.arange(40).reshape(10, 4) % 2,
        {"sequences": True},
        "has 4 targets per sample, not one-hot in row 0 (counted from 0): a classification has one label per sample or "
        "one-hot rows; task.told = 'frame' takes targets of every frame",
    ),
    "frames of numbers": (
        X.reshape(10, 4, 1),
        X.reshape(10, 4, 1),
        {"sequences": True, **REAL},
        "(samples,) or (samples, outputs) is needed; task.told = 'frame' takes targets of every frame",
    ),
    "empty label": (X, np.array(["a", "b", " "] * 3 + ["a"]), {}, "has no label in row 2 (counted from 0)"),
    "constant target": (X, changed(X, (slice(None), 1), 5.0), REAL, "has 5 in every sample as target 1"),
    "words as numbers": (X, LABELS.astype(str).astype("U9"), {**REAL, "scale": 1.0}, ""),
    "cubes": (
        X,
        X.reshape(10, 2, 2),
        REAL,
        "has targets of shape (10, 2, 2): (samples,) or (samples, outputs) is needed",
    ),
    "fraction": (X, X, {**REAL, "test_fraction": 0.01}, "task.test_fraction 0.01 of 10 samples leaves no test sample"),
    "a name": (
        X,
        LABELS,
        {"inputs": "X"},
        "task.inputs has 'X', which 'a.npz' has not: it must be among x (10, 4), y (10,)",
    ),
    "the nearest name": (X, LABELS, {"inputs": "X"}, "did you mean 'x'?"),
    "no name": (
        X,
        LABELS,
        {"inputs": None, "targets": None},
        "task.inputs is missing: it must name what 'a.npz' has, x",
    ),
    "twice": (X, LABELS, {"inputs": ["x", "y"]}, "task.inputs has 'y', which is among the targets too"),
}


@pytest.mark.parametrize(("x", "y", "keys", "sentence"), ARRAYS.values(), ids=list(ARRAYS))
def test_arrays_that_nothing_can_learn_are_told(x, y, keys, sentence):
    np.savez("a.npz", x=x, y=y)
    table = {"train": "a.npz", "inputs": "x", "targets": "y"} | keys
    if not sentence:  # numbers that are written as texts are numbers
        assert make_task("arrays", table).load().train_inputs.shape == (8, 4)
    else:
        assert sentence in told(table)


TABLES = {  # the text of a table, keys: the sentence
    "a text": (
        CSV,
        {"targets": "label"},
        "'t.csv' has the text 'red' in row 0, column 'colour' (rows are counted from 0)",
    ),
    "what to do": (CSV, {"targets": "label"}, "inputs must be numbers; task.inputs names those that are"),
    "a gap": (CSV.replace("3,", ","), AGES, "'t.csv' has NaN in row 2, column 'age'"),
    "NA": (CSV.replace("3,", "NA,"), AGES, "'t.csv' has NaN in row 2, column 'age'"),
    "cut short": (CSV[:-4], AGES, "has no label in row 5"),
    "a long row": (CSV.replace("3,red,a", "3,red,a,b"), AGES, "'t.csv' cannot be read, it may be damaged"),
    "no header": (
        CSV.partition("\n")[2],
        AGES,
        "task.inputs has 'age', which 't.csv' has not: it must be among 1, red",
    ),
    "numbers first": ("1,2\n3,4\n", {"targets": "label"}, "begins with 1,2: its first line must name the columns"),
    "one name twice": (
        CSV.replace("colour", "age"),
        AGES,
        "has two columns called 'age': each must have a name of its own",
    ),
    "no name": (CSV.replace("colour", ""), AGES, "has a column without a name"),
    "no rows": ("age,label\n", AGES, "has age of shape (0,): the inputs must have samples"),
    "empty": ("", AGES, "'t.csv' is empty"),
    "a web page": ("<html>", AGES, "is a web page"),
    "latin": ("âge,label\n1,a\n".encode("latin-1"), AGES, "'t.csv' cannot be read"),
    "no targets": (CSV, {}, "task.targets is missing: it must name what 't.csv' has, age, colour, label"),
    "a typo": (CSV, {"targets": "labels"}, "did you mean 'label'?"),
}


@pytest.mark.parametrize(("text", "keys", "sentence"), TABLES.values(), ids=list(TABLES))
def test_tables_that_are_none_are_told(text, keys, sentence):
    Path("t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert sentence in told({"train": "t.csv"} | keys)


def test_files_cut_short_are_told():
    np.savez("a.npz", x=X, y=LABELS)
    np.save("a.npy", X)
    np.save("y.npy", LABELS)
    io.savemat("a.mat", {"x": np.random.default_rng(0).random((50, 9)), "y": LABELS})
    with h5py.File("a.h5", "w") as file:
        file["x"], file["y"] = X, LABELS
    for name in ("a.npz", "a.npy", "a.mat", "a.h5"):
        content = Path(name).read_bytes()
        Path(name).write_bytes(content[: len(content) // 2])
        files = ["a.npy", "y.npy"] if name == "a.npy" else [name]
        names = {} if name == "a.npy" else {"inputs": "x", "targets": "y"}
        assert f"'{name}' cannot be read, it may be damaged or cut short: " in told({"train": files} | names)
        Path(name).write_bytes(b"")
        assert told({"train": files} | names) == f"'{name}' is empty"


def test_arrays_that_are_too_large_are_told_before_they_are_read():
    np.lib.format.open_memmap("x.npy", "w+", float, (300_000, 1000))  # no byte of which is on the disk
    np.save("y.npy", LABELS)
    assert "250000000 numbers" in told({"train": ["x.npy", "y.npy"]})
    assert "(300000, 1000) of inputs: at most" in told({"train": ["x.npy", "y.npy"]})
    with h5py.File("x.h5", "w") as file:
        file.create_dataset("x", (10**9, 1000), float, chunks=(1, 1000))
        file["y"] = LABELS
    assert "250000000 numbers" in told({"train": "x.h5", "inputs": "x", "targets": "y"})


def test_what_no_array_is_is_told():
    np.savez("o.npz", allow_pickle=True, x=X, y=np.array([{}] * 10))
    names = {"inputs": "x", "targets": "y"}
    assert "'o.npz' cannot be read: y.npy has Python objects: it must have real numbers or texts" in told(
        {"train": "o.npz", **names}
    )
    io.savemat("s.mat", {"x": X, "y": {"a": 1}})
    assert "a MATLAB struct must be saved as numbers" in told({"train": "s.mat", **names})
    Path("a.doc").write_bytes(b"what")
    assert "'a.doc' is no file of a kind that is known: it must be .npz, .npy, HDF5" in told(
        {"train": "a.doc", **names}
    )
    Path("folder").mkdir()
    assert "'folder' cannot be read: it is a directory" in told({"train": "folder", **names})
    np.save("x.npy", X)
    assert "task.inputs has 'x', which 'x.npy' has not: its one array has no name" in told({"train": "x.npy", **names})


KEYS = {
    "no file": (
        {"train": "b.npz"},
        "task.train 'b.npz' does not exist beside the spec or in the working folder; did you ",
    ),
    "the nearest file": ({"train": "b.npz"}, "did you mean 'a.npz'?"),
    "nobody's home": ({"train": "~nobody-at-all/x.npz"}, "task.train = '~nobody-at-all/x.npz' is not allowed"),
    "nothing": ({}, "Field required"),
    "three": ({"train": ["a", "b", "c"]}, "it must be a file, or a list of two: of inputs and of targets"),
    "a number": ({"train": 3}, "it must be a text, or a list of texts"),
    "both": ({"train": "a.npz", "test": "b.npz", "test_fraction": 0.3}, "task.test gives the test samples"),
    "itself": ({"train": "a.npz", "test": "a.npz"}, "these are the training samples"),
    "no targets": ({"train": "a.npz", "kind": "unsupervised", "targets": "y"}, "task.targets = 'y' is not allowed"),
    "a pair": ({"train": ["a.npz", "b.npz"], "kind": "unsupervised"}, "has inputs only"),
    "a kind": ({"train": "a.npz", "kind": "sorting"}, "'classification', 'regression' or 'unsupervised'"),
}


@pytest.mark.parametrize(("table", "sentence"), KEYS.values(), ids=list(KEYS))
def test_keys_that_contradict_each_other_are_told(table, sentence):
    np.savez("a.npz", x=X, y=LABELS)
    assert sentence in told(table)


def test_test_files_that_do_not_fit_are_told():
    np.savez("a.npz", x=X, y=LABELS)
    table = {"train": "a.npz", "test": "b.npz", "inputs": "x", "targets": "y"}
    np.savez("b.npz", x=X[:, :3], y=LABELS)
    assert "has 4 inputs per sample and" in told(table)
    np.savez("b.npz", x=X, y=LABELS * 3)
    assert "has the label '3' in row 1 (counted from 0), but no training sample" in told(table)
    np.savez("b.npz", x=X[:3], y=LABELS[:3] * 0)  # one class is enough for a test
    assert Arrays.model_validate(table).load().test_targets is not None
    np.savez("b.npz", x=X, y=X[:, :2])
    np.savez("a.npz", x=X, y=X[:, :3])
    assert "has 3 targets per sample and" in told({**table, "kind": "regression"})
