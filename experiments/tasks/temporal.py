"""Sequences that no single frame decides: what a network must remember to tell them apart."""

from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field, model_validator

from dynamics.errors import PlasticodeError, printable, refused
from experiments.tasks.classes import classification, one_hot
from experiments.tasks.contract import AbstractTask, Count, Data, Deviation, Fraction, Kind, Seed, check_size, generator
from experiments.tasks.files import Contents, opened
from experiments.tasks.frames import Blank, Course, framed
from experiments.tasks.places import found
from experiments.tasks.samples import Samples, taken

Few = Annotated[int, Field(ge=2, le=1000)]
Frames = Annotated[int, Field(ge=2, le=10_000)]


class AbstractSequences(AbstractTask):
    """What these tasks share: a number of sequences with noise, whose class is told in the last frame that counts.

    With `interpolation` inputs move from the numbers of each frame to those of the next one while a frame is shown.
    """

    kind: ClassVar[Kind] = "classification"
    in_frames: ClassVar[bool] = True
    blank: Blank = 2
    interpolation: Course = "held"
    samples: Count = 1000
    noise: Deviation = 0.1
    test_fraction: Fraction = 0.2
    seed: Seed = 0

    def _noisy(self, x: Float[np.ndarray, "samples frames inputs"], labels: Integer[np.ndarray, " samples"]) -> Data:
        """The sequences with noise and blank frames, split at random."""
        x = x + self.noise * generator(self.seed, "noise").standard_normal(x.shape)
        data = classification(x.reshape(len(x), -1), labels, self.test_fraction, self.seed)
        return framed(data, x.shape[1], "end", self.blank, self.interpolation)


class DelayedMatch(AbstractSequences):
    """Delayed match to sample: was the second stimulus the first one?

    A sequence is a stimulus, `pause` blank frames, another stimulus, and `blank` more frames. Stimuli are one of
    `stimuli` inputs that is 1 for a frame. In half of the sequences both are the same (class 1), in the others they
    differ (class 0). The target is told with the second stimulus. Gaussian noise of standard deviation `noise` is added
    to all inputs of all frames but the last `blank`.

    Inputs (samples x frames, stimuli), targets (samples x frames, 2): one-hot, dimensionless. A frame lasts
    `stimulus.duration`. Source: synthetic; the task of J. M. Fuster and G. E. Alexander, Science 173, 652 (1971).
    """

    name: str = "delayed-match"
    stimuli: Few = 2
    pause: Blank = 2

    def load(self) -> Data:
        """The sequences, drawn and split at random by `seed`."""
        frames, draws = self.pause + 2, generator(self.seed, "stimuli")
        check_size("samples x frames", self.samples * (frames + self.blank), self.stimuli)
        labels = np.arange(self.samples) % 2
        first = draws.integers(self.stimuli, size=self.samples)
        other = (first + draws.integers(1, self.stimuli, size=self.samples)) % self.stimuli
        x = np.zeros((self.samples, frames, self.stimuli))
        x[np.arange(self.samples), 0, first] = 1
        x[np.arange(self.samples), -1, np.where(labels == 1, first, other)] = 1
        return self._noisy(x, labels)


class MovingBar(AbstractSequences):
    """A bar that moves around a ring of neurons: to the left (class 0) or to the right (class 1)?

    Of `pixels` inputs `width` neighbours are 1; they begin anywhere and move by `step` pixels a frame, for `moves` + 1
    frames, to which `blank` ones are added. The target is told in the last frame of the movement. Gaussian noise of
    standard deviation `noise` is added to all inputs of all frames but the last `blank`.

    Inputs (samples x frames, pixels), targets (samples x frames, 2): one-hot, dimensionless. A frame lasts
    `stimulus.duration`. Source: synthetic.
    """

    name: str = "moving-bar"
    pixels: Few = 12
    width: Annotated[int, Field(ge=1, le=999)] = 2
    step: Annotated[int, Field(ge=1, le=999)] = 1
    moves: Annotated[int, Field(ge=1, le=9999)] = 3

    @model_validator(mode="after")
    def _distinct(self) -> "MovingBar":
        if self.width >= self.pixels:
            raise refused("task.width", self.width, f"it must be below task.pixels = {self.pixels}")
        if 2 * self.step % self.pixels == 0:
            raise refused("task.step", self.step, f"left and right are the same on a ring of {self.pixels} pixels")
        return self

    def load(self) -> Data:
        """The sequences, drawn and split at random by `seed`."""
        check_size("samples x frames", self.samples * (self.moves + 1 + self.blank), self.pixels)
        labels = np.arange(self.samples) % 2
        begun = generator(self.seed, "places").integers(self.pixels, size=(self.samples, 1))
        ways = np.where(labels == 1, self.step, -self.step)[:, None]
        left = begun + ways * np.arange(self.moves + 1)
        apart = (np.arange(self.pixels) - left[..., None]) % self.pixels
        return self._noisy((apart < self.width).astype(float), labels)


class Frequency(AbstractSequences):
    """Which frequency has a sine wave?

    The one input is sin(2 pi (f k + phase)) in frame k of `frames`, with a random phase, for each of the `frequencies`
    f, in cycles per frame; `blank` frames follow. By `interpolation` = "cubic" a smooth wave goes through these
    numbers: that sine to 0.005 of its height at f = 0.1, and to 0.12 at f = 0.25. The target is told in the last frame
    of the wave, and Gaussian noise of standard deviation `noise` is added to all frames of it.

    Inputs (samples x frames, 1), targets (samples x frames, frequencies): one-hot, dimensionless. A frame lasts
    `stimulus.duration`. Source: synthetic.
    """

    name: str = "frequency"
    frequencies: Annotated[list[Annotated[float, Field(gt=0, le=0.5)]], Field(min_length=2, max_length=100)] = [
        0.1,
        0.25,
    ]
    frames: Frames = 12

    @model_validator(mode="after")
    def _distinct(self) -> "Frequency":
        if len(set(self.frequencies)) < len(self.frequencies):
            raise refused("task.frequencies", self.frequencies, "each frequency may be given once")
        return self

    def load(self) -> Data:
        """The sequences, drawn and split at random by `seed`."""
        check_size("samples x frames", self.samples * (self.frames + self.blank), 1)
        labels = np.arange(self.samples) % len(self.frequencies)
        phase = generator(self.seed, "phases").uniform(size=(self.samples, 1))
        cycles = np.array(self.frequencies)[labels][:, None] * np.arange(self.frames) + phase
        return self._noisy(np.sin(2 * np.pi * cycles)[..., None], labels)


class Mnist1d(AbstractTask):
    """MNIST-1D: ten shapes of digits as curves of 40 samples, each shifted, scaled and noisy, from a local file.

    `path` is the file of its authors, mnist1d_data.pkl, of which nothing is executed, or any other file that `arrays`
    reads with x, y, x_test and y_test in it. Each sample of a curve is a frame, and `blank` frames follow. The target
    is told in the last frame of the curve. `interpolation` lets the input move while a frame is shown, from the number
    of each frame to that of the next one.

    Inputs (samples x frames, 1), targets (samples x frames, 10): one-hot, dimensionless. A frame lasts
    `stimulus.duration`. Source: S. Greydanus and D. Kobak, Scaling down deep learning with MNIST-1D, ICML 2024 (arXiv
    2011.14439).
    """

    kind: ClassVar[Kind] = "classification"
    from_files: ClassVar[bool] = True
    in_frames: ClassVar[bool] = True
    name: str = "mnist1d"
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    blank: Blank = 2
    interpolation: Course = "held"

    def load(self) -> Data:
        """The curves of the file; a missing or damaged file, or another one, raises `PlasticodeError`."""
        with opened(found("task.path", self.path)) as held:
            x, test_x = (_curves(held, "inputs", name) for name in ("x", "x_test"))
            labels, test_labels = (_curves(held, "targets", name) for name in ("y", "y_test"))
            codes, classes = labels.labels()
            pairs = (x, codes), (test_x, test_labels.among(classes))
            if x.width != test_x.width or any(of.samples != len(given) for of, given in pairs):
                shapes = ", ".join(f"{one.names[0]} {one.arrays[0].shape}" for one in (x, labels, test_x, test_labels))
                raise PlasticodeError(f"'{held.path}' has {shapes}: curves must have one length, and a label each")
            (train, y), (test, test_y) = (
                (of.parted(np.arange(of.samples))[0], one_hot(given, len(classes))) for of, given in pairs
            )
        data = Data(train, y, test, test_y, "classification", classes)
        return framed(data, x.width, "end", self.blank, self.interpolation)


def _curves(held: Contents, key: str, name: str) -> Samples:
    if name not in held.entries:
        raise PlasticodeError(f"'{held.path}' lacks '{printable(name)}': MNIST-1D's file has x, y, x_test and y_test")
    return taken(held, key, (name,))
