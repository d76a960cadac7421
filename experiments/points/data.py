"""The data of a task as runs use them: in the dtype of the run, and in memory, or a file, that all who run share."""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.machine.memory import shareable
from experiments.spec.probes import PROBE_SAMPLES
from experiments.tasks.contract import AbstractTask, Data
from experiments.tasks.registry import load

ARRAYS = (
    "train_inputs", "train_targets", "test_inputs", "test_targets", "train_told", "test_told", "durations", "gaps",
)  # fmt: skip
FACTS = "facts.json"


def loaded(task: AbstractTask, dtype: str, shared: Path | None = None) -> Data:
    """The data of a task; out of the folder `shared` of this machine's processes, where the first of them puts them."""
    if shared is not None:
        with contextlib.suppress(OSError), _alone(shared / f"{_name(task)}.lock"):  # no room there
            return _mapped(shared / _name(task), task) or share(task, _own(task, dtype), shared)
    return _own(task, dtype)


def _own(task: AbstractTask, dtype: str) -> Data:
    data = load(task)
    return dataclasses.replace(data, **{name: shareable(array, dtype) for name, array in arrays_of(data).items()})


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process of this machine is in here with the same lock, which the system lets go of with the process."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def arrays_of(data: Data) -> dict[str, np.ndarray]:
    """The arrays of these data by name, as far as there are any."""
    return {name: getattr(data, name) for name in ARRAYS if getattr(data, name) is not None}


def taught(data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which targets are told, also of data where all are, and the first rows with one, which probes look at."""
    told = data.get("train_told", np.ones(len(data["train_inputs"]), data["train_inputs"].dtype))
    return {"train_told": told, "taught": np.flatnonzero(told)[:PROBE_SAMPLES].astype(np.int32)}


def share(task: AbstractTask, data: Data, folder: Path) -> Data:
    """The data through maps of files in `folder`, written unless they are there, so that memory holds them once for all
    processes; as they are where there is no room for files."""
    place = folder / _name(task)
    try:
        if not (place / FACTS).is_file():
            place.mkdir(exist_ok=True)
            for name, array in arrays_of(data).items():
                np.save(place / f"{name}.npy", array)
            names = "classes", "frames", "interpolation", "strongest"
            facts = {name: getattr(data, name) for name in names}
            (place / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    except OSError:
        shutil.rmtree(place, ignore_errors=True)
    return _mapped(place, task) or data


def _mapped(place: Path, task: AbstractTask) -> Data | None:
    if not (place / FACTS).is_file():
        return None
    facts = json.loads((place / FACTS).read_text(encoding="utf-8"))
    files = ((name, place / f"{name}.npy") for name in ARRAYS)
    maps: dict[str, Any] = {
        name: np.asarray(np.load(path, mmap_mode="r")) if path.is_file() else None for name, path in files
    }
    strongest, classes = facts.pop("strongest"), tuple(facts.pop("classes"))
    data = Data(**maps, kind=task.kind, classes=classes, **facts)
    data.__dict__["strongest"] = strongest  # as if it had been asked for: that would read all of them
    return data


def _name(task: AbstractTask) -> str:
    return hashlib.sha256(task.model_dump_json().encode()).hexdigest()[:32]
