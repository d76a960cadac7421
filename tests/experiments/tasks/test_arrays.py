"""Data of a user's own: of every kind of file the same samples come back, and what is wrong with it is told."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false
# pyright: reportArgumentType=false, reportCallIssue=false

import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import io, sparse
from typer.testing import CliRunner

import plasticode
from dynamics.plugins import look_in
from experiments.commands.cli import app
from experiments.execution.runner import run
from experiments.spec.loading import load_spec, make_spec
from experiments.tasks import samples
from experiments.tasks.arrays import Arrays
from experiments.tasks.contract import Data
from experiments.tasks.registry import make_task

N, D = 30, 4
RNG = np.random.default_rng(7)
X = RNG.standard_normal((N, D))
LABELS = np.arange(N) % 3 * 5 - 2  # -2, 3, 8
WORDS = np.array(["ox", "ant", "élan"])[np.arange(N) % 3]
Y = RNG.standard_normal((N, 2))
ARRAYS = {"X": X, "labels": LABELS, "words": WORDS, "y": Y[:, 0], "Y": Y}
NAMES = [f"x{i}" for i in range(D)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """All happens in a folder of its own, and files are read by small blocks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(samples, "BLOCK", 9)  # numbers: two rows of four are read at a time
    look_in()
    return tmp_path


def npz(name: str, arrays: dict) -> None:
    np.savez(name, allow_pickle=True, **arrays)


def hdf5(name: str, arrays: dict) -> None:
    with h5py.File(name, "w") as file:
        for key, array in arrays.items():
            file[f"deep/{key}"] = array.astype(h5py.string_dtype()) if array.dtype.kind == "U" else array


def mat(name: str, arrays: dict) -> None:
    """Version 5, as MATLAB writes it: labels are doubles, texts a cell array; vectors are columns."""
    written = {key: a.astype(float) if a.dtype.kind == "i" else a for key, a in arrays.items()}
    written |= {key: a.astype(object) for key, a in arrays.items() if a.dtype.kind == "U"}
    io.savemat(name, written, oned_as="column")


def matlab73(name: str, arrays: dict) -> None:
    """Version 7.3: an HDF5 file behind 512 bytes, axes reversed, vectors are columns, cells point at characters."""
    with h5py.File(name, "w", userblock_size=512) as file:
        for key, array in arrays.items():
            array = array[:, None] if array.ndim == 1 else array
            if array.dtype.kind == "U":
                cells = np.empty(array.T.shape, h5py.ref_dtype)
                for i, text in enumerate(array.flat):
                    item = file.create_dataset(f"#refs#/{key}{i}", data=np.array([[ord(c)] for c in text], np.uint16))
                    item.attrs["MATLAB_class"] = np.bytes_("char")
                    cells.flat[i] = item.ref
                file.create_dataset(key, data=cells, dtype=h5py.ref_dtype).attrs["MATLAB_class"] = np.bytes_("cell")
            else:
                file[key] = array.astype(float).T
                file[key].attrs["MATLAB_class"] = np.bytes_("double")
    with open(name, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(512))


def csv(name: str, arrays: dict) -> None:
    columns = {f"x{i}": arrays["X"][:, i] for i in range(arrays["X"].shape[1])}
    columns |= {key: array for key, array in arrays.items() if array.ndim == 1}
    columns |= {f"Y{i}": arrays["Y"][:, i] for i in range(2)}
    pd.DataFrame(columns).to_csv(name, index=False, sep="\t" if name.endswith(".tsv") else ",")


def rows_of(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """All inputs and targets, in the order in which they were made."""
    inputs = np.concatenate([data.train_inputs, data.test_inputs])
    targets = np.concatenate([data.train_targets, data.test_targets])
    order = [int(np.abs(inputs - x).sum(axis=1).argmin()) for x in X]
    return inputs[order], targets[order]


WRITERS = {"a.npz": npz, "a.h5": hdf5, "a.mat": mat, "b.mat": matlab73, "a.csv": csv, "a.tsv": csv}
CLASSES = {"labels": ("-2", "3", "8"), "words": ("ant", "ox", "élan")}


@pytest.mark.parametrize("key", CLASSES)
@pytest.mark.parametrize("file", WRITERS)
def test_labels_of_any_kind_come_back_one_hot_from_every_kind_of_file(file, key):
    WRITERS[file](file, ARRAYS)
    where = "deep/" if file == "a.h5" else ""
    inputs = NAMES if WRITERS[file] is csv else f"{where}X"
    data = make_task("arrays", {"train": file, "inputs": inputs, "targets": f"{where}{key}"}).load()
    x, y = rows_of(data)
    np.testing.assert_allclose(x, X, rtol=1e-6)
    assert data.classes == CLASSES[key] and data.kind == "classification"
    assert [data.classes[i] for i in y.argmax(axis=1)] == [str(label) for label in ARRAYS[key]]
    assert np.array_equal(y.sum(axis=1), np.ones(N))
    assert np.array_equal(data.test_targets.sum(axis=0), [2, 2, 2])  # a fifth of every class


@pytest.mark.parametrize("key", ["y", "Y"])
@pytest.mark.parametrize("file", WRITERS)
def test_numbers_come_back_from_every_kind_of_file(file, key):
    WRITERS[file](file, ARRAYS)
    where = "deep/" if file == "a.h5" else ""
    is_table = WRITERS[file] is csv
    targets = ["Y0", "Y1"] if is_table and key == "Y" else f"{where}{key}"
    table = {"train": file, "inputs": NAMES if is_table else f"{where}X", "targets": targets}
    x, y = rows_of(make_task("arrays", {**table, "kind": "regression"}).load())
    np.testing.assert_allclose(x, X, rtol=1e-6)
    np.testing.assert_allclose(y, ARRAYS[key].reshape(N, -1), rtol=1e-6)


def test_a_pair_of_files_has_inputs_and_targets_and_names_are_not_needed():
    np.save("X.npy", X)
    np.save("w.npy", WORDS)
    data = Arrays(train=["X.npy", "w.npy"]).load()
    assert_pairs(data)
    pd.DataFrame({"word": WORDS}).to_csv("w.csv", index=False)
    np.savez("X.npz", X=X)
    assert_same(Arrays(train=["X.npz", "w.csv"]).load(), data)


def assert_pairs(data: Data) -> None:
    x, y = rows_of(data)
    np.testing.assert_allclose(x, X, rtol=1e-6)
    assert [data.classes[i] for i in y.argmax(axis=1)] == list(WORDS)


def assert_same(one: Data, other: Data) -> None:
    for name in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_of_a_table_all_columns_that_are_not_targets_are_inputs():
    table = pd.DataFrame(X, columns=NAMES)
    table.insert(2, "word", WORDS)
    table.to_csv("t.csv", index=False)
    assert_pairs(Arrays(train="t.csv", targets="word").load())
    table.to_csv("t.tsv", index=False, sep=";")
    assert_pairs(Arrays(train="t.tsv", targets="word").load())


def test_names_may_be_left_out_where_one_array_is_left():
    np.savez("a.npz", X=X, words=WORDS)
    assert_pairs(Arrays(train="a.npz", targets="words").load())
    assert_pairs(Arrays(train="a.npz", inputs="X").load())


def test_several_names_are_put_side_by_side_and_axes_of_a_sample_are_one():
    np.savez("a.npz", one=X[:, 0], rest=X[:, 1:].reshape(N, 1, 3), words=WORDS)
    assert_pairs(Arrays(train="a.npz", inputs=["one", "rest"], targets="words").load())


@pytest.mark.parametrize("kind", ["classification", "regression", "unsupervised"])
def test_training_and_test_files_are_taken_as_they_stand(kind):
    targets = {"classification": LABELS, "regression": Y, "unsupervised": None}[kind]
    arrays = {"X": X} if targets is None else {"X": X, "y": targets}
    np.savez("a.npz", **{key: array[:20] for key, array in arrays.items()})
    np.savez("b.npz", **{key: array[20:] for key, array in arrays.items()})
    names = {"inputs": "X"} | ({} if targets is None else {"targets": "y"})
    task = make_task("arrays", {"train": "a.npz", "test": "b.npz", "kind": kind, "scale": 2.0, **names})
    data = task.load()
    np.testing.assert_allclose(data.test_inputs, 2 * X[20:], rtol=1e-6)
    np.testing.assert_allclose(data.train_inputs, 2 * X[:20], rtol=1e-6)
    assert data.kind == kind
    if kind == "regression":
        np.testing.assert_allclose(data.train_targets, Y[:20], rtol=1e-6)
        np.testing.assert_allclose(data.test_targets, Y[20:], rtol=1e-6)
    if kind == "classification":
        assert np.array_equal(data.train_targets.argmax(axis=1), np.arange(20) % 3)
        assert np.array_equal(data.test_targets.argmax(axis=1), np.arange(20, 30) % 3)


@pytest.mark.parametrize("kind", ["regression", "unsupervised"])
def test_a_split_without_classes_keeps_its_fraction_by_the_seed(kind):
    np.savez("a.npz", X=X, y=Y)
    task = Arrays(train="a.npz", inputs="X", targets=None if kind == "unsupervised" else "y", kind=kind)
    data, again, other = (one.load() for one in (task, task, task.model_copy(update={"seed": 1})))
    assert (len(data.train_inputs), len(data.test_inputs)) == (24, 6)
    assert np.array_equal(data.test_inputs, again.test_inputs)
    assert not np.array_equal(data.test_inputs, other.test_inputs)
    assert len({row.tobytes() for row in [*data.train_inputs, *data.test_inputs]}) == N
    kept(data)


def kept(data):
    """Both parts of a split are in the order of the file: `stimulus.order = "sequential"` shows them so."""
    for part in (data.train_inputs, data.test_inputs):
        rows = [int(np.abs(X - x).sum(axis=1).argmin()) for x in part]
        assert rows == sorted(rows)


def test_one_hot_rows_are_labels_and_columns_name_the_classes():
    codes = np.arange(N) % 3
    np.savez("a.npz", X=X, y=np.eye(3)[codes])
    assert_same(Arrays(train="a.npz", inputs="X", targets="y").load(), labelled(codes))
    table = pd.DataFrame(X, columns=NAMES).assign(**{name: (codes == i).astype(int) for i, name in enumerate("cab")})
    table.to_csv("t.csv", index=False)
    data = Arrays(train="t.csv", targets=["c", "a", "b"]).load()
    assert data.classes == ("c", "a", "b")
    kept(data)
    np.testing.assert_allclose(data.train_inputs, labelled(codes).train_inputs)
    assert np.array_equal(data.train_targets, labelled(codes).train_targets)


def test_a_class_without_a_sample_is_an_output_still():
    np.savez("a.npz", X=X, y=np.eye(4)[np.arange(N) % 3])
    assert Arrays(train="a.npz", inputs="X", targets="y").load().train_targets.shape == (24, 4)


def test_columns_of_a_test_file_are_taken_by_name_and_what_looks_like_a_gap_may_be_a_label():
    table = pd.DataFrame(X, columns=NAMES).assign(country=np.array(["NA", "None", "nan"])[np.arange(N) % 3])
    table[:20].to_csv("a.csv", index=False)
    table[["x3", "country", "x0", "x2", "x1"]].assign(more=1)[20:].to_csv("b.csv", index=False)
    data = Arrays(train="a.csv", test="b.csv", targets="country").load()
    np.testing.assert_allclose(data.test_inputs, X[20:], rtol=1e-6)
    assert data.classes == ("NA", "None", "nan")


def labelled(codes: np.ndarray) -> Data:
    np.savez("l.npz", X=X, y=codes)
    return Arrays(train="l.npz", inputs="X", targets="y").load()


def test_matlabs_rows_are_vectors_and_its_characters_and_sparse_matrices_are_read():
    names = np.array(["ant ", "ox  ", "cow "])[np.arange(N) % 3]
    io.savemat("a.mat", {"X": sparse.csc_matrix(X), "y": Y[:, 0], "names": names}, oned_as="row")
    _, y = rows_of(Arrays(train="a.mat", inputs="X", targets="y", kind="regression").load())
    np.testing.assert_allclose(y[:, 0], Y[:, 0], rtol=1e-6)
    assert Arrays(train="a.mat", inputs="X", targets="names").load().classes == ("ant", "cow", "ox")
    matlab73("b.mat", {"X": X, "y": Y[:, :1].T})
    _, y = rows_of(Arrays(train="b.mat", inputs="X", targets="y", kind="regression").load())
    np.testing.assert_allclose(y[:, 0], Y[:, 0], rtol=1e-6)


def test_files_are_told_apart_by_how_they_begin():
    npz("really.npz", {"X": X, "words": WORDS})
    for name in ("data", "data.csv", "data.mat"):
        shutil.copy("really.npz", name)
        assert_pairs(Arrays(train=name, inputs="X", targets="words").load())


SPEC = """
task = { name = "arrays", train = "data/a.npz", inputs = "X", targets = "words" }
regime = "discrete"
network = { hidden = [3] }
stimulus = { presentations = 4 }
record = { points = 1 }
"""


def test_a_spec_finds_files_beside_it_first_and_its_results_name_the_classes(here, monkeypatch):
    (here / "specs" / "data").mkdir(parents=True)
    (here / "else" / "data").mkdir(parents=True)
    npz("specs/data/a.npz", {"X": X, "words": WORDS})
    (here / "specs" / "mine.toml").write_text(SPEC, encoding="utf-8")
    monkeypatch.chdir(here / "else")
    spec = load_spec(here / "specs" / "mine.toml")
    assert make_spec(spec.table()) == spec
    told = CliRunner().invoke(app, ["run", str(here / "specs" / "mine.toml"), "--out", "results"])
    assert told.exit_code == 0, told.output
    for data in (run(spec).datasets[""], plasticode.open("results")):
        assert json.loads(data.attrs["classes"]) == ["ant", "ox", "élan"]
    npz("../specs/data/a.npz", {"X": X, "words": WORDS[::-1]})
    told = CliRunner().invoke(app, ["run", str(here / "specs" / "mine.toml"), "--out", "results"])
    assert told.exit_code == 2 and "results of other data: the files of the task 'arrays' have changed" in told.output
    npz("data/a.npz", {"X": X[:, :2], "words": WORDS})  # in the working folder: the one beside the spec comes first
    assert spec.task.load().train_inputs.shape[1] == D
    look_in()
    assert spec.task.load().train_inputs.shape[1] == 2
