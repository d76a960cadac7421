"""Mistakes in a user's own tasks, probes and activations: a sentence each, with file and line of what raised."""

import pytest

from dynamics.errors import PlasticodeError
from dynamics.plugins import look_in
from experiments.points import jobs
from experiments.spec.loading import make_spec

pytestmark = pytest.mark.usefixtures("unchecked_types")
FAULTY = '''
from typing import ClassVar, Literal
import jax.numpy as jnp
import numpy as np
from pydantic import field_validator
from dynamics.activations import Activation
from experiments.spec.probes import Probe
from experiments.tasks.contract import AbstractTask, Data

number = 3
ONES = np.ones((4, 2), np.float32)
ONE_HOT = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]

def task(data, of="classification", **more):
    """A class of tasks that load what `data()` gives."""
    return type("Task", (AbstractTask,), {"kind": of, "load": lambda self: data(), "__module__": __name__,
        "__annotations__": {"kind": ClassVar[str]}, **more})

def divide():
    return 1 / 0  # task

def whole(**change):
    """Data that nobody has looked at: tests check the types of arguments, and commands do not."""
    data = object.__new__(Data)
    vars(data).update(train_inputs=ONES, train_targets=ONE_HOT, test_inputs=ONES, test_targets=ONE_HOT)
    vars(data).update({"kind": "classification"} | change)
    return data

class NoLoad(AbstractTask):
    kind: ClassVar[str] = "regression"

class Picky(AbstractTask):
    kind: ClassVar[str] = "regression"
    size: int = 1
    @field_validator("size")
    @classmethod
    def _size(cls, value):
        return undefined  # field
    def load(self):
        return None

class Worded(NoLoad):
    name: Literal["worded"] = "worded"
    def load(self):
        return None

Right = task(whole)
Divides = task(divide)
Exits = task(lambda: exit(3))
NoKind = task(whole, of="clustering")
NoData = task(lambda: ONES)
Regression = task(whole, of="regression")
Double = task(lambda: whole(train_inputs=ONES.astype(float)))
Flat = task(lambda: whole(test_inputs=ONES[:, 0]))
Empty = task(lambda: whole(test_inputs=ONES[:0], test_targets=ONES[:0]))
Listed = task(lambda: whole(train_targets=[[1.0, 0.0]] * 4))
Missing = task(lambda: whole(train_targets=None))
Infinite = task(lambda: whole(train_inputs=ONES * np.inf))
Short = task(lambda: whole(train_targets=ONE_HOT[:3]))
Soft = task(lambda: whole(train_targets=ONES / 2))
Wide = task(lambda: whole(test_inputs=np.ones((4, 3), np.float32)))
Taught = task(lambda: whole(kind="unsupervised"), of="unsupervised")

def nowhere(circuit, weights, slow, data):
    return weights["W9"]  # probe

def mixed(circuit, weights, slow, data):
    return {"W1": jnp.ones(3), "W2": 1.0}

def imaginary(circuit, weights, slow, data):
    return 1j

def text(circuit, weights, slow, data):
    return "loss"

def few():
    return 1.0

def loss(circuit, weights, slow, data):
    return 1.0

taught = Probe(lambda c, w, s, d: 1.0, "taught")
grid = Probe(lambda c, w, s, d: jnp.ones((2, 2)), "a row", arrays=("column",))
unnamed = Probe(lambda c, w, s, d: 1.0, None)
unmeasured = Probe(3, "three")

def undefined_value(a):
    return jnp.nothing(a)  # activation

raising = Activation(undefined_value)
summing = jnp.sum
counting = Activation(lambda a: (a > 0).astype(int))
narrow = Activation(lambda a: a[5] + a @ a[None] + 0 * a)
sloped = Activation(jnp.tanh, jnp.ones_like)
'''
LINES = {line.rpartition("# ")[2]: number for number, line in enumerate(FAULTY.splitlines(), 1) if "  # " in line}


@pytest.fixture(autouse=True, scope="module")
def beside(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "faulty.py").write_text(FAULTY)
    (folder / "broken.py").write_text("x = 1\n\ny = x / 0\n")
    (folder / "halved.py").write_text("def x(:\n")
    look_in(folder)
    yield
    look_in()


def told(key: str, name: str, task: str = "faulty:Right") -> str:
    """What a spec is told that names this."""
    table: dict = {"regime": "discrete", "task": task, "network": {"hidden": [2]}, "stimulus": {"presentations": 2}}
    if task == "gaussian-inputs":
        table["network"] |= {"outputs": 2}
    table["record"] = {"points": 1, "probes": ["loss" if task == "faulty:Right" else "weight_norm"]}
    if key == "task":
        table["task"] = name
    elif key == "probe":
        table["record"] |= {"probes": [name]}
    else:
        table["network"] |= {"activation": name}
    with pytest.raises(PlasticodeError) as caught:
        jobs.prepare(make_spec(table))
    sentence = str(caught.value)
    assert sentence.isprintable() and sentence.count(name) > 0
    return sentence


def test_what_is_right_is_not_refused():
    jobs.prepare(make_spec({"task": "faulty:Right", "regime": "discrete", "network": {"hidden": [2]}}))


@pytest.mark.parametrize("key", ["task", "probe", "activation"])
def test_what_cannot_be_found_or_is_something_else(key):
    assert f"{key} 'nowhere:x' cannot be imported: it must name a module and a" in told(key, "nowhere:x")
    assert "ZeroDivisionError" in told(key, "broken:x") and "see broken.py, line 3" in told(key, "broken:x")
    assert "SyntaxError" in told(key, "halved:x") and "halved.py, line 1" in told(key, "halved:x")
    assert told(key, "faulty:absent").endswith("does not exist: module 'faulty' has no 'absent'")
    assert f"'faulty:number' is not a{'n' * (key == 'activation')} {key}: " in told(key, "faulty:number")
    assert f"is not a{'n' * (key == 'activation')} {key}: " in told(key, "faulty:AbstractTask")


TASKS = {
    "NoKind": "has kind = 'clustering': it must be one of classification, regression, unsupervised",
    "NoLoad": "it must have a method 'load'",
    "Worded": "its field 'name' must be left out, or a str",
    "Divides": "cannot be loaded (ZeroDivisionError: division by zero): see faulty.py, line {task}, in divide",
    "Exits": "cannot be loaded (SystemExit: 3): see faulty.py",
    "NoData": "gives ndarray: load() must return plasticode.Data",
    "Regression": "gives data of the kind 'classification': its kind is 'regression'",
    "Double": "gives train_inputs of dtype float64 and shape (4, 2): it must be a float32 array",
    "Flat": "gives test_inputs of dtype float32 and shape (4,)",
    "Empty": "gives test_inputs of dtype float32 and shape (0, 2)",
    "Listed": "gives train_targets of list",
    "Missing": "gives train_targets of NoneType",
    "Infinite": "gives train_inputs that are NaN or infinite",
    "Short": "gives 4 train_inputs and 3 train_targets",
    "Soft": "gives train_targets that are not one-hot",
    "Wide": "gives train_inputs of 2 columns and test_inputs of 3",
}


@pytest.mark.parametrize("name", TASKS)
def test_a_wrong_task_is_refused(name):
    assert TASKS[name].format(**LINES) in told("task", f"faulty:{name}")


def test_an_unsupervised_task_has_no_targets():
    table = {"task": "faulty:Taught", "network": {"hidden": [], "outputs": 2}, "rule": "oja"}
    with pytest.raises(PlasticodeError, match="gives train_targets: an unsupervised task must have None"):
        jobs.prepare(make_spec(table))


def test_fields_of_a_task_are_checked_as_those_of_the_package():
    place = f"see faulty.py, line {LINES['field']}, in _size"
    for table, sentence in {
        ("size", 2): f"task 'faulty:Picky' cannot be made (NameError: name 'undefined' is not defined): {place}",
        ("size", "x"): "task.size = 'x' is not allowed: it must be a valid integer",
        ("seize", 2): "spec key 'task.seize' is not known: it must be one of name, size; did you mean 'size'?",
    }.items():
        with pytest.raises(PlasticodeError) as caught:
            make_spec({"task": {"name": "faulty:Picky", table[0]: table[1]}})
        assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "cannot be measured (KeyError: 'W9'): see faulty.py, line {probe}, in nowhere"),
        ("few", "cannot be measured (TypeError: few() takes 0 positional arguments but 4 were given)"),
        ("text", "cannot be measured (TypeError: "),
        ("mixed", "gives float64 of shape [3] for 'W1': it must give one real number or array, or a table of these by"),
        ("grid", "gives float64 of shape [2, 2]: it must give one real number or array over ['column'], or"),
        ("imaginary", "gives complex128 of shape []: it must give one real number"),
        ("loss", "results would call 'loss' as they do 'loss': it must have another name"),
        ("unnamed", "has long_name = None: it must be a text"),
        ("unmeasured", "is not a probe"),
    ],
)
def test_a_wrong_probe_is_refused(name, sentence):
    assert sentence.format(**LINES) in told("probe", f"faulty:{name}")


def test_a_probe_that_needs_targets_is_refused_without():
    assert "which needs targets, but" in told("probe", "faulty:taught", task="gaussian-inputs")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("raising", "activation 'faulty:raising' cannot be computed (AttributeError: "),
        ("raising", "see faulty.py, line {activation}, in undefined_value"),
        ("summing", "makes float32 of shape [] of float32 of shape [3]: it must keep shape and dtype"),
        ("counting", "activation 'faulty:counting' makes int64 of shape [3]"),
        ("narrow", "activation 'faulty:narrow' cannot be computed"),
        ("sloped", "it must be true or false; slopes follow by differentiation"),
    ],
)
def test_a_wrong_activation_is_refused(name, sentence):
    assert sentence.format(**LINES) in told("activation", f"faulty:{name}")
