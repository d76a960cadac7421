"""Tasks: the data sets on which networks are trained and tested.

A task is a small description (a pydantic model, decoded strictly from the `[task]` table of a spec) and `load` turns it
into arrays. Everything random about a task comes from its own `seed`: the same description gives the same data.
"""

import functools
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

from dynamics.errors import PlasticodeError

BLOCK = 4_000_000  # numbers of an array that are looked at, or read and converted, at once
LARGEST_ARRAY = 50_000_000  # numbers in one array, 200 MB as float32; MNIST's has 47 million

Count = Annotated[int, Field(gt=0, le=10_000_000)]
Width = Annotated[int, Field(gt=0, le=100_000)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Variance = Annotated[float, Field(gt=0, le=1e12)]
Deviation = Annotated[float, Field(ge=0, le=1e6)]
Scale = Annotated[float, Field(gt=0, le=1e6)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Eigenvalue = Annotated[float, Field(ge=0, le=1e12)]


Kind = Literal["classification", "regression", "unsupervised"]


@dataclass(frozen=True)
class Data:
    """What a network is trained and tested on: float32 arrays, one sample per row (a float64 run has them in float64).

    Targets are one-hot rows (classification), real numbers (regression) or None (unsupervised). No training sample is
    a test sample. `classes` names the classes, where they are not just numbers from 0.

    Of sequences each row is a frame, and `frames` rows, one after the other, are a sequence; `told` is 1 in rows whose
    target the network is told, and 0 in others (None: it is told all). `interpolation` says how inputs go on from frame
    to frame (dynamics.interpolation). `durations` and `gaps` say for how many seconds each training sample is shown,
    and how long nothing is after it (None: for all as the stimulus says).
    """

    train_inputs: Float[np.ndarray, "train inputs"]
    train_targets: Float[np.ndarray, "train outputs"] | None
    test_inputs: Float[np.ndarray, "test inputs"]
    test_targets: Float[np.ndarray, "test outputs"] | None
    kind: Kind
    classes: tuple[str, ...] = ()
    frames: int = 1
    train_told: Float[np.ndarray, " train"] | None = None
    test_told: Float[np.ndarray, " test"] | None = None
    interpolation: str = "held"
    durations: Float[np.ndarray, " train"] | None = None
    gaps: Float[np.ndarray, " train"] | None = None

    @functools.cached_property
    def strongest(self) -> float:
        """The largest squared norm of a training input."""
        x, many = self.train_inputs, max(BLOCK // self.train_inputs.shape[1], 1)
        blocks = (x[start : start + many] for start in range(0, len(x), many))
        return float(max(np.max(np.sum(np.square(block, dtype=float), axis=1)) for block in blocks))


class AbstractTask(BaseModel):
    """A description of a data set: typed fields with defaults, and `load`.

    A final task adds `kind`, what its targets are. `name` is what chooses it in a spec: the tasks of the package give
    the word as its default, and a task of a user's own, which "module:Class" names, need not declare it. `from_files`:
    its data may change though its description does not, so that a run keeps their checksum. `in_frames`: its samples
    are sequences of frames. `timed`: its data say how long each sample is shown, or how long nothing is after it.
    """

    kind: ClassVar[Kind]
    from_files: ClassVar[bool] = False
    in_frames: ClassVar[bool] = False
    timed: ClassVar[bool] = False
    name: str = ""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @abstractmethod
    def load(self) -> Data:
        """The data; a task that cannot be loaded raises `PlasticodeError`."""


def generator(seed: int, stream: str) -> np.random.Generator:
    """A generator for one purpose, so that more training samples leave the teacher and the test set as they are."""
    return np.random.default_rng([seed, *stream.encode()])


def check_size(what: str, rows: int, columns: int) -> None:
    """Refuse an array of more than `LARGEST_ARRAY` numbers."""
    if rows * columns > LARGEST_ARRAY:
        raise PlasticodeError(f"task asks for {what} = {rows} x {columns} numbers: at most {LARGEST_ARRAY} are allowed")
