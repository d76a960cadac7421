"""MNIST-1D from the file of its authors, a pickle, of which nothing may be executed."""

import pickle

import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from dynamics.plugins import look_in
from experiments.tasks.registry import load, make_task

RNG = np.random.default_rng(5)
CURVES = {"x": RNG.standard_normal((30, 40)), "x_test": RNG.standard_normal((10, 40))}
CURVES |= {"y": np.arange(30) % 10, "y_test": np.arange(10), "t": np.linspace(-5, 5, 40)}
PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """All happens in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    look_in()
    return tmp_path


def told(**keys) -> str:
    with pytest.raises(PlasticodeError) as refused:
        load(make_task("mnist1d", {"path": "m.pkl"} | keys))
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_curves_come_back_frame_by_frame(here, protocol):
    held = CURVES | {"templates": {"x": np.ones((10, 12)), "note": "as drawn"}, "scale": np.float64(0.4)}
    held["x"] = np.asfortranarray(held["x"]).astype(">f4")
    (here / "m.pkl").write_bytes(pickle.dumps(held, protocol=protocol))
    data = load(make_task("mnist1d", {"path": "m.pkl", "blank": 3, "interpolation": "linear"}))
    assert (data.frames, data.interpolation, data.classes) == (43, "linear", tuple("0123456789"))
    for half, x, y in (("train", "x", "y"), ("test", "x_test", "y_test")):
        inputs, targets, marks = (getattr(data, f"{half}_{name}") for name in ("inputs", "targets", "told"))
        curves = inputs.reshape(-1, 43)
        np.testing.assert_array_equal(curves[:, :40], CURVES[x].astype(np.float32))
        assert not curves[:, 40:].any() and (np.flatnonzero(marks) == np.arange(len(curves)) * 43 + 39).all()
        assert (targets[marks > 0].argmax(axis=1) == CURVES[y]).all()


def test_any_other_file_with_these_arrays_is_as_good(here):
    np.savez("m.npz", allow_pickle=True, **CURVES)
    (here / "m.pkl").write_bytes(pickle.dumps(CURVES))
    one, other = (load(make_task("mnist1d", {"path": f"m.{kind}"})) for kind in ("npz", "pkl"))
    np.testing.assert_array_equal(one.train_inputs, other.train_inputs)


class Calls:
    """What would be called where it is unpickled."""

    def __init__(self, called, *arguments):
        self.called = called, arguments

    def __reduce__(self):
        return self.called


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_of_a_pickle_is_executed(here, protocol):
    for bad in (
        Calls(open, "made", "w"),
        {**CURVES, "z": Calls(eval, "open('made', 'w')")},
        {"x": Calls(getattr, [], "append")},
    ):
        (here / "m.pkl").write_bytes(pickle.dumps(bad, protocol=protocol))
        assert "it has a Python object, " in told() and not (here / "made").exists()
    forged = b"\x80\x02cnumpy\nndarray\n(}X\x01\x00\x00\x00aK\x01stb."  # sets an attribute of what stands for it
    (here / "m.pkl").write_bytes(forged)
    told()
    (here / "m.pkl").write_bytes(pickle.dumps(CURVES))
    assert load(make_task("mnist1d", {"path": "m.pkl"})).frames == 42


@pytest.mark.parametrize(
    ("held", "sentence"),
    [
        ([1, 2], "it must be a dict of arrays"),
        ({"x": CURVES["x"]}, "lacks 'x_test': MNIST-1D's file has x, y, x_test and y_test"),
        ({**CURVES, "x": np.array([{}] * 3)}, "it has an array of something that is no number"),
        (
            {**CURVES, "y": np.arange(29) % 10},
            "y (29,), x_test (10, 40), y_test (10,): curves must have one length, and a",
        ),
        ({**CURVES, "x_test": CURVES["x_test"][:, :9]}, "x_test (10, 9)"),
        ({**CURVES, "y_test": np.arange(10) + 1}, "has the label '10' in row 9"),
        ({**CURVES, "x": np.where(CURVES["x"] > 2, np.nan, CURVES["x"])}, "x of '"),
        ({"n": 1}, "has no array"),
    ],
)
def test_pickles_of_something_else_are_told(here, held, sentence):
    (here / "m.pkl").write_bytes(pickle.dumps(held))
    assert sentence in told()


def test_pickles_cut_short_are_told(here):
    whole = pickle.dumps(CURVES)
    for end in (5, 200, len(whole) - 1):
        (here / "m.pkl").write_bytes(whole[:end])
        assert "cannot be read, it may be damaged or cut short" in told()
