"""Sequences as tasks: what the built-in ones show, those of files, and runs on both."""

# Where a test looks into what may be None, None is the failure that it tells.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportArgumentType=false

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.errors import PlasticodeError
from dynamics.plugins import look_in
from experiments.execution.runner import run
from experiments.points.jobs import prepare
from experiments.spec.compare import comparison
from experiments.spec.loading import load_spec, make_spec
from experiments.tasks.arrays import Arrays
from experiments.tasks.contract import Data
from experiments.tasks.registry import load, make_task
from experiments.tasks.temporal import DelayedMatch, Frequency, MovingBar
from plasticode import SGD, Clock, Coupled, Discrete, Network, Stream, Timescales, Window, responses
from tests.unjudged import unjudged

pytestmark = pytest.mark.usefixtures("unchecked_types")
N, FRAMES, D = 20, 4, 3
RNG = np.random.default_rng(3)
X = RNG.standard_normal((N, FRAMES, D)).astype(np.float32)
LABELS = np.arange(N) % 2
SINGLES = {"X": X, "labels": LABELS, "each": RNG.integers(3, size=(N, FRAMES)), "y": RNG.standard_normal((N, 2))}
SINGLES |= {
    "Y": RNG.standard_normal((N, FRAMES, 2)),
    "line": X[..., 0],
    "few": X[:, :2],
    "bad": np.where(X > 2, np.nan, X),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """All happens in a folder of its own, where there is a file with sequences."""
    monkeypatch.chdir(tmp_path)
    look_in()
    np.savez("seq.npz", **SINGLES)
    return tmp_path


def apart(data: Data, half: str = "train") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, targets and marks of one half, by sequence and frame."""
    x, y, told = (getattr(data, f"{half}_{name}") for name in ("inputs", "targets", "told"))
    told = np.ones(len(x)) if told is None else told
    x, y, told = (a.reshape(-1, data.frames, *a.shape[1:]) for a in (x, y, told))
    return x, y, told


def test_a_delayed_match_is_decided_by_both_stimuli():
    task = DelayedMatch(stimuli=3, pause=2, blank=1, noise=0, samples=300)
    data = task.load()
    x, y, told = apart(data)
    assert data.frames == 5 and x.shape[2] == 3 and len(x) == 240
    assert not x[:, 1:3].any() and not x[:, 4].any() and (told == [0, 0, 0, 1, 0]).all()
    same = (x[:, 0] == x[:, 3]).all(axis=1)
    assert (same == (y[:, 3].argmax(1) == 1)).all() and same.mean() == 0.5
    assert len(np.unique(x[:, [0, 3]].argmax(2), axis=0)) == 9  # all pairs, so that no stimulus alone decides


def test_a_bar_moves_to_the_side_of_its_class():
    x, y, told = apart(MovingBar(noise=0, pixels=7, width=2, step=2, moves=3, blank=2).load())
    moving, right = x[:, :4], y[:, 3].argmax(1) == 1
    for way, these in ((2, moving[right]), (-2, moving[~right])):
        assert (np.roll(these[:, :-1], way, axis=2) == these[:, 1:]).all()
    assert (x[:, :4].sum(axis=2) == 2).all() and not x[:, 4:].any() and (told == [0, 0, 0, 1, 0, 0]).all()


def test_a_wave_has_the_frequency_of_its_class():
    x, y, _ = apart(Frequency(noise=0, frequencies=[0.125, 0.25], frames=16, blank=0).load())
    power = np.abs(np.fft.rfft(x[..., 0], axis=1)) ** 2
    assert (power.argmax(axis=1) == np.array([2, 4])[y[:, -1].argmax(1)]).all()
    np.testing.assert_allclose(power.max(axis=1), 64, rtol=1e-5)


@pytest.mark.parametrize("name", ["delayed-match", "moving-bar", "frequency"])
def test_noise_is_in_all_frames_but_the_blank_ones(name):
    quiet, noisy = (apart(make_task(name, {"noise": noise}).load())[0] for noise in (0, 0.3))
    difference = (noisy - quiet)[:, :-2]
    assert abs(difference.std() - 0.3) < 0.01 and not noisy[:, -2:].any()


def test_sequences_of_a_file_are_rows_of_frames():
    data = Arrays(train="seq.npz", inputs="X", targets="labels", sequences=True, told="end", blank=2).load()
    x, y, told = apart(data)
    assert data.frames == FRAMES + 2 and len(x) == 16 and (told == [0, 0, 0, 1, 0, 0]).all()
    whole = {row.tobytes(): label for row, label in zip(X, LABELS, strict=True)}
    assert all(whole[one[:FRAMES].tobytes()] == answer[3].argmax() for one, answer in zip(x, y, strict=True))
    assert not x[:, FRAMES:].any() and not y[:, FRAMES:].any() and data.classes == ("0", "1")


@pytest.mark.parametrize(
    ("given", "outputs"),
    [
        ({"targets": "each", "told": "frame"}, 3),
        ({"targets": "Y", "told": "frame", "kind": "regression"}, 2),
        ({"targets": "y", "kind": "regression"}, 2),
        ({"targets": "labels"}, 2),
    ],
)
def test_targets_belong_to_frames_or_to_the_sequence(given, outputs):
    data = Arrays(train="seq.npz", inputs="X", sequences=True, test_fraction=0.5, **given).load()
    assert data.train_told is None and data.frames == FRAMES
    for half in ("train", "test"):
        x, y, _ = apart(data, half)
        assert y.shape == (10, FRAMES, outputs)
        for one, answers in zip(x, y, strict=True):
            at = next(i for i in range(N) if (X[i] == one).all())
            source = SINGLES[given["targets"]][at]
            expected = np.eye(outputs)[source] if outputs == 3 or given["targets"] == "labels" else source
            np.testing.assert_allclose(answers, np.broadcast_to(expected, answers.shape), rtol=1e-6)


def test_one_number_per_frame_is_one_input():
    data = Arrays(train="seq.npz", inputs="line", targets="labels", sequences=True).load()
    assert apart(data)[0].shape == (16, FRAMES, 1)
    both = Arrays(train="seq.npz", inputs=["X", "line"], targets="labels", sequences=True).load()
    x = apart(both)[0]
    assert x.shape == (16, FRAMES, 4) and (x[..., 0] == x[..., 3]).all()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"inputs": "bad"}, "NaN in sequence"),
        ({"inputs": ["X", "few"]}, "has shape (20, 2, 3): frames of sequences need arrays (sequences, frames, ...)"),
        ({"inputs": "X", "test": "other.npz"}, "seq.npz' has 4 frames per sequence and "),
        ({"inputs": "X", "targets": "each", "told": "frame", "train": "short.npz"}, "4 frames of inputs and"),
        (
            {"inputs": "X", "sequences": False, "told": "end"},
            "task.told = 'end' is not allowed: it needs task.sequences",
        ),
        ({"inputs": "X", "sequences": False, "blank": 1}, "task.blank = 1 is not allowed: it needs task.sequences"),
        ({"inputs": "X", "sequences": False, "interpolation": "linear"}, "'linear' is not allowed: it needs task.seq"),
        ({"inputs": "X", "interpolation": "smooth"}, "'held', 'linear' or 'cubic'"),
        ({"inputs": "X", "sequences": False, "targets": "each"}, "; task.sequences = true and task.told = 'frame'"),
        ({"inputs": "X", "targets": None, "kind": "unsupervised", "told": "end"}, "has nothing to tell"),
    ],
)
def test_what_is_no_sequence_is_refused(given, told):
    np.savez("other.npz", X=X[:, :2], labels=LABELS)
    np.savez("short.npz", X=X, each=SINGLES["each"][:, :3])
    fields = {"train": "seq.npz", "targets": "labels", "sequences": True} | given
    with pytest.raises((PlasticodeError, ValueError)) as refused:
        make_task("arrays", fields).load()
    assert told in str(refused.value)


def test_a_table_has_no_frames():
    with open("t.csv", "w") as file:
        file.write("a,b,label\n" + "\n".join(f"{i},{i % 3},{i % 2}" for i in range(9)) + "\n")
    with pytest.raises(PlasticodeError, match="has a table: frames of sequences need arrays"):
        Arrays(train="t.csv", targets="label", sequences=True).load()


SMALL = {
    "task": {"name": "moving-bar", "samples": 60, "pixels": 5, "interpolation": "cubic"},
    "rule": "sgd",
    "network": {"hidden": [4], "skips": [[0, 2]], "loss": "softmax"},
    "delays": {"hop": "10 ms"},
    "stimulus": {"duration": "10 ms", "presentations": 60, "order": "shuffled"},
    "timescales": {"propagation": "4 ms", "plasticity": "0.2 s"},
    "record": {"points": 2},
}


HELD = {key: value for key, value in SMALL["task"].items() if key != "interpolation"}
SETTLING = {k: v for k, v in SMALL.items() if k not in ("delays", "timescales")} | {"regime": "discrete", "task": HELD}


@unjudged()
def test_a_run_answers_sequences_in_time_alike_by_windows_and_by_steps():
    """The loss of the test sequences, whose answers depend on the frames before: by two integrators, and not what
    single frames that settle would give."""
    ends = []
    for integrator in ({"name": "window", "tolerance": 1e-5}, {"name": "heun", "dt": "0.05 ms"}):
        data = run(make_spec(SMALL | {"integrator": integrator})).datasets[""]
        assert (data["status"] == 0).all()
        ends.append(data["loss"].values)
    np.testing.assert_allclose(*ends, rtol=1e-4)
    settled = run(make_spec(SETTLING))
    assert abs(settled.datasets[""]["loss"].values.flat[0] - ends[0].flat[0]) > 1e-3


@unjudged()
def test_slow_neurons_let_a_local_rule_learn_a_delayed_match():
    sets = ["stimulus.presentations=6000", "record.points=1", "record.probes=['accuracy']", "sweep.seeds=3"]
    fast, slow = run(load_spec("slow-memory", sets)).datasets[""]["accuracy"].values[..., -1].mean(axis=1)
    assert slow > 0.6 and abs(fast - 0.5) < 0.07  # of 600 answers: the standard error of chance is 0.02


def test_orders_are_swept_and_change_the_run():
    spec = make_spec(SETTLING | {"sweep": {"stimulus.order": ["random", "shuffled", "sequential"]}})
    ends = run(spec).datasets[""]["loss"].values[..., -1].ravel()
    assert len(set(ends.tolist())) == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stimulus": {"gap": "5 ms"}}, "stimulus.gap is not allowed with the sequences of task 'moving-bar'"),
        ({"sweep": {"stimulus.gap": ["0 s", "1 ms"]}}, "stimulus.gap is not allowed with the sequences"),
        ({"record": {"probes": ["alignment"]}}, "record.probes has 'alignment', which lets single samples settle"),
        ({"regime": "flow", "stimulus": {"order": "shuffled"}}, "stimulus.order = 'shuffled' is not allowed"),
        ({"stimulus": {"order": "shufled"}}, "stimulus.order"),
    ],
)
def test_what_does_not_fit_sequences_is_refused(change, told):
    with pytest.raises(PlasticodeError) as refused:
        make_spec({"task": "moving-bar"} | change)
    assert told in str(refused.value)


def test_what_only_a_loaded_task_shows_is_refused():
    few = SMALL | {"stimulus": {"duration": "10 ms", "presentations": 5}}
    with pytest.raises(PlasticodeError, match="stimulus.presentations = 5 is not allowed: a sequence of task"):
        prepare(make_spec(few))
    for regime in ("discrete", "flow"):
        with pytest.raises(PlasticodeError, match="gives inputs that move while a frame is shown"):
            prepare(make_spec(SETTLING | {"regime": regime, "task": SMALL["task"], "stimulus": {}}))
    with pytest.raises(PlasticodeError, match="the rule 'node-perturbation' compares the target itself"):
        prepare(make_spec({"task": "moving-bar", "rule": "node-perturbation"}))


def test_a_comparison_on_sequences_leaves_out_what_settles():
    assert comparison(["fa"], "moving-bar").probes == ("accuracy", "loss")
    sets = ['task.train="seq.npz"', 'task.kind="regression"', "task.sequences=true"]
    assert comparison(["fa"], "arrays", sets=sets).probes == ("loss",)
    assert comparison(["fa"], "circles").probes == ("accuracy", "loss", "alignment")


OWN = """
import dataclasses

import numpy as np
from experiments.tasks.contract import AbstractTask, Data

class Good(AbstractTask):
    kind = "classification"
    in_frames = True
    def load(self):
        x, y = np.random.default_rng(0).random((12, 2)).astype("f"), np.tile(np.eye(2, dtype="f"), (6, 1))
        told = np.tile(np.array([0, 0, 1], "f"), 4)
        return Data(x, y * told[:, None], x + 1, y * told[:, None], "classification", (), 3, told, told)

class Odd(Good):
    def load(self):
        return dataclasses.replace(super().load(), frames=5)

class Never(Good):
    def load(self):
        return dataclasses.replace(super().load(), test_told=np.zeros(12, "f"))

class Single(Good):
    in_frames = False

class Half(Good):
    def load(self):
        return dataclasses.replace(super().load(), frames=3.0)

class Bent(Good):
    def load(self):
        return dataclasses.replace(super().load(), interpolation="bent")

class Listed(Good):
    def load(self):
        return dataclasses.replace(super().load(), train_told=[1] * 12)
"""


def test_a_task_of_ones_own_gives_sequences(here):
    (here / "mine.py").write_text(OWN)
    look_in(here)
    assert load(make_task("mine:Good", {})).frames == 3
    for name, told in (
        ("Odd", "gives 12 train_inputs: it must be a multiple of 5 frames"),
        ("Never", "gives test_told: it must be float32, 1 or 0 for every row, and 1 for some"),
        ("Half", "gives frames = 3.0: it must be a positive integer"),
        ("Bent", "gives interpolation = 'bent': it must be held, linear, cubic"),
        ("Listed", "gives train_told: it must be float32"),
        ("Single", "gives sequences of 3 frames: its in_frames is False"),
    ):
        with pytest.raises(PlasticodeError) as refused:
            load(make_task(f"mine:{name}", {}))
        assert told in str(refused.value)


def test_python_tells_what_is_no_stream_and_no_run():
    x, y, key = jnp.ones((6, 2)), jnp.ones((6, 1)), jax.random.key(0)
    for given, told in (({"frames": 3.0}, "frames = 3.0 is not allowed"), ({"order": ["random"]}, "order")):
        wrong: Any = given
        with pytest.raises(PlasticodeError, match=told):
            Stream(x, y, key, **wrong)
    circuit = SGD().wire(Network((2, 1)))
    times, clock = Timescales(0.01, 1.0), Clock(0.1, 0.0, 1)  # pyright: ignore[reportArgumentType]
    updates: Any = Discrete(circuit, times, Stream(x, y, key), clock)
    weights = circuit.initial_weights(key)
    with pytest.raises(PlasticodeError, match="not of Discrete"):
        responses(updates, weights, x.reshape(2, 3, 2))
    coupled = Coupled(circuit, times, Stream(x, y, key), clock, integrator=Window())
    with pytest.raises(PlasticodeError, match=r"it must be \(sequences, frames, inputs\)"):
        responses(coupled, weights, x)
