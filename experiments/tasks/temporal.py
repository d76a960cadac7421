"""Sequences that no single frame decides: what a network must remember to tell them apart."""

from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import Float, Integer
from pydantic import Field, model_validator

from dynamics.errors import refused
from experiments.tasks.classes import classification
from experiments.tasks.contract import AbstractTask, Count, Data, Deviation, Fraction, Kind, Seed, check_size, generator
from experiments.tasks.frames import Blank, framed

Few = Annotated[int, Field(ge=2, le=1000)]
Frames = Annotated[int, Field(ge=2, le=10_000)]


class AbstractSequences(AbstractTask):
    """What these tasks share: a number of sequences with noise, whose class is told in the last frame that counts."""

    kind: ClassVar[Kind] = "classification"
    in_frames: ClassVar[bool] = True
    blank: Blank = 2
    samples: Count = 1000
    noise: Deviation = 0.1
    test_fraction: Fraction = 0.2
    seed: Seed = 0

    def _noisy(self, x: Float[np.ndarray, "samples frames inputs"], labels: Integer[np.ndarray, " samples"]) -> Data:
        """The sequences with noise and blank frames, split at random."""
        x = x + self.noise * generator(self.seed, "noise").standard_normal(x.shape)
        data = classification(x.reshape(len(x), -1), labels, self.test_fraction, self.seed)
        return framed(data, x.shape[1], "end", self.blank)


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
    """Which frequency has a sine wave that is heard sample by sample?

    The one input is sin(2 pi (f k + phase)) in frame k of `frames`, with a random phase, for each of the `frequencies`
    f, in cycles per frame; `blank` frames follow. The target is told in the last frame of the wave, and Gaussian noise
    of standard deviation `noise` is added to all frames of it.

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
