"""All tasks, by the names that choose them in a spec, and those of a user's own."""

import inspect
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from pydantic import ValidationError

from dynamics.errors import PlasticodeError, printable
from dynamics.plugins import blamed, imported, is_own, modules_of
from experiments.machine.names import unknown_name
from experiments.tasks.arrays import Arrays
from experiments.tasks.bundled import BreastCancer, Diabetes, Iris, Linnerud, Wine
from experiments.tasks.cifar import Cifar10, Cifar100
from experiments.tasks.circles import Circles
from experiments.tasks.contract import AbstractTask, Data, Kind
from experiments.tasks.frames import Course
from experiments.tasks.gaussian import GaussianInputs, GaussianRegression, TeacherStudent
from experiments.tasks.images import Idx
from experiments.tasks.real import Digits, Mnist
from experiments.tasks.recorded import Recorded
from experiments.tasks.temporal import DelayedMatch, Frequency, Mnist1d, MovingBar

TASKS: dict[str, type[AbstractTask]] = {
    task.model_fields["name"].default: task
    for task in (
        Digits,
        Circles,
        TeacherStudent,
        GaussianRegression,
        GaussianInputs,
        Mnist,
        Idx,
        Cifar10,
        Cifar100,
        Iris,
        Wine,
        BreastCancer,
        Diabetes,
        Linnerud,
        DelayedMatch,
        MovingBar,
        Frequency,
        Mnist1d,
        Arrays,
        Recorded,
    )
}


def of_kind(kind: Kind) -> list[str]:
    """The names of all tasks whose targets are, or can be, of this kind."""
    return [name for name, task in TASKS.items() if "kind" in task.model_fields or task.kind == kind]


def task_class(name: str) -> type[AbstractTask]:
    """The task called `name`, or the class that "module:Class" names."""
    if not is_own(name):
        if name not in TASKS:
            raise unknown_name("task", name, TASKS, "Class")
        return TASKS[name]
    found = imported("task", name, "a class")
    if not (isinstance(found, type) and issubclass(found, AbstractTask) and found is not AbstractTask):
        base = "plasticode.AbstractTask"
        raise PlasticodeError(f"task '{name}' is not a task: the class must derive from {base}")
    kind = getattr(found, "kind", None)
    if kind not in get_args(Kind):
        allowed = ", ".join(get_args(Kind))
        raise PlasticodeError(f"task '{name}' has kind = {printable(repr(kind))}: it must be one of {allowed}")
    if inspect.isabstract(found):
        raise PlasticodeError(f"task '{name}' cannot be used in a spec: it must have a method 'load'")
    if found.model_fields["name"].annotation is not str:
        raise PlasticodeError(f"task '{name}' cannot be used in a spec: its field 'name' must be left out, or a str")
    return found


def make_task(name: str, fields: Mapping[str, Any]) -> AbstractTask:
    """The task `name` with these fields; what is wrong with their values is told by pydantic."""
    cls = task_class(name)
    try:
        return cls.model_validate({**fields, "name": name})
    except (PlasticodeError, ValidationError):
        raise
    except Exception:
        with blamed(f"task '{name}' cannot be made", modules_of([name])):
            raise


def load(task: AbstractTask) -> Data:
    """The data of a task; those of a user's own are what `Data` says, or are refused in a sentence."""
    with blamed(f"task '{task.name}' cannot be loaded", modules_of([task.name])):
        data = task.load()
    if not is_own(task.name):
        return data
    if not isinstance(data, Data):
        raise _refused(task, f"gives {type(data).__name__}", "load() must return plasticode.Data")
    if data.kind != task.kind:
        raise _refused(task, f"gives data of the kind {printable(repr(data.kind))}", f"its kind is '{task.kind}'")
    for half in ("train", "test"):
        inputs, targets = getattr(data, f"{half}_inputs"), getattr(data, f"{half}_targets")
        _check_array(task, f"{half}_inputs", inputs)
        if task.kind == "unsupervised":
            if targets is not None:
                raise _refused(task, f"gives {half}_targets", "an unsupervised task must have None")
            continue
        _check_array(task, f"{half}_targets", targets)
        if len(inputs) != len(targets):
            counts = f"{len(inputs)} {half}_inputs and {len(targets)} {half}_targets"
            raise _refused(task, f"gives {counts}", "there must be a target for every input")
    _check_widths(task, data)
    _check_frames(task, data)
    _check_spans(task, data)
    _check_labels(task, data)
    return data


def _check_array(task: AbstractTask, name: str, array: Any) -> None:
    what = f"dtype {array.dtype} and shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
    if not (isinstance(array, np.ndarray) and array.dtype == np.float32 and array.ndim == 2 and array.size > 0):
        raise _refused(task, f"gives {name} of {what}", "it must be a float32 array with one sample per row")
    if not np.isfinite(array).all():
        raise _refused(task, f"gives {name} that are NaN or infinite", "all numbers must be finite")


def _check_widths(task: AbstractTask, data: Data) -> None:
    pairs = {"inputs": (data.train_inputs, data.test_inputs), "targets": (data.train_targets, data.test_targets)}
    for name, (train, test) in pairs.items():
        if train is not None and test is not None and train.shape[1] != test.shape[1]:
            widths = f"train_{name} of {train.shape[1]} columns and test_{name} of {test.shape[1]}"
            raise _refused(task, f"gives {widths}", "both must have the same")


def _check_frames(task: AbstractTask, data: Data) -> None:
    if type(data.frames) is not int or data.frames < 1:
        raise _refused(task, f"gives frames = {printable(repr(data.frames))}", "it must be a positive integer")
    if (data.frames > 1) != task.in_frames:
        is_so = "single samples" if data.frames == 1 else f"sequences of {data.frames} frames"
        raise _refused(task, f"gives {is_so}", f"its in_frames is {task.in_frames}")
    if data.interpolation not in get_args(Course) or (data.interpolation != "held" and data.frames == 1):
        allowed = f"it must be {', '.join(get_args(Course))}, and single samples are held"
        raise _refused(task, f"gives interpolation = {printable(repr(data.interpolation))}", allowed)
    for half in ("train", "test"):
        rows, told = len(getattr(data, f"{half}_inputs")), getattr(data, f"{half}_told")
        if rows % data.frames:
            raise _refused(task, f"gives {rows} {half}_inputs", f"it must be a multiple of {data.frames} frames")
        if told is None:
            continue
        fits = isinstance(told, np.ndarray) and told.dtype == np.float32 and told.shape == (rows,)
        if not (fits and np.isin(told, (0, 1)).all() and told.any()):
            raise _refused(task, f"gives {half}_told", "it must be float32, 1 or 0 for every row, and 1 for some")


def _check_spans(task: AbstractTask, data: Data) -> None:
    spans = {"durations": data.durations, "gaps": data.gaps}
    for name, span in spans.items():
        if span is None:
            continue
        if not task.timed:
            raise _refused(task, f"gives {name}", "its timed is False")
        fits = isinstance(span, np.ndarray) and span.dtype.kind == "f" and span.shape == (len(data.train_inputs),)
        if not (fits and np.isfinite(span).all() and (span >= 0).all() and (name == "gaps" or (span > 0).all())):
            told = "it must be seconds for every training sample, durations above 0 and gaps of 0 or more"
            raise _refused(task, f"gives {name} that cannot be", told)
    if task.timed and data.durations is None and data.gaps is None:
        raise _refused(task, "gives neither durations nor gaps", "its timed is True")


def _check_labels(task: AbstractTask, data: Data) -> None:
    for half in ("train", "test") if task.kind == "classification" else ():
        targets, told = getattr(data, f"{half}_targets"), getattr(data, f"{half}_told")
        known = targets if told is None else targets[told > 0]
        if not (np.isin(known, (0, 1)).all() and (known.sum(axis=1) == 1).all()):
            raise _refused(task, f"gives {half}_targets that are not one-hot", "those of a classification must be")


def _refused(task: AbstractTask, what: str, allowed: str) -> PlasticodeError:
    return PlasticodeError(f"task '{task.name}' {what}: {allowed}")
