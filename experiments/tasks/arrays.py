"""Data of a user's own, from files."""

import contextlib
from collections.abc import Sequence
from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import Bool, Float32, Integer
from pydantic import BeforeValidator, Field, model_validator

from dynamics.errors import PlasticodeError, refused, shown
from experiments.tasks.classes import Parts, one_hot, random_split, stratified_split
from experiments.tasks.contract import BLOCK, AbstractTask, Data, Fraction, Kind, Scale, Seed
from experiments.tasks.files import opened
from experiments.tasks.frames import Blank, Course, Told, framed
from experiments.tasks.places import found
from experiments.tasks.samples import Samples, chosen, taken

TEST_FRACTION, MOST_TESTED = 0.2, 10_000  # samples, where neither a file nor a fraction is given


def _texts(value: object) -> object:
    """A text, or a list of them."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(one, str) and one for one in value):
        return list(value)
    raise ValueError("it must be a text, or a list of texts")


def _files(value: object) -> object:
    files = _texts(value)
    if isinstance(files, list) and len(files) > 2:
        raise ValueError("it must be a file, or a list of two: of inputs and of targets")
    return files


Texts = str | list[str]
Names = Annotated[Texts, BeforeValidator(_texts)]
Files = Annotated[Texts, BeforeValidator(_files)]


def _listed(value: Texts | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


class Arrays(AbstractTask):
    """Data of your own, from files: .npz, .npy, HDF5, NWB, MATLAB's .mat (7.3 too), .csv with names in its first line,
    or .parquet (pip install 'plasticode[parquet]').

    `train` is a file, or a list of two: of inputs and of targets. `test` is likewise; without it `test_fraction` of the
    samples, of every class, is kept for the test at random (absent: 0.2, and 10 000 samples at most). Files are looked
    for beside the spec, then in the working folder. `inputs` and `targets` name arrays in them (paths in HDF5) or
    columns; several are put side by side. A name may be left out where one array is left; of a table, all columns that
    are not targets are inputs.

    The first axis of an array counts samples, the others become one. Time series of NWB files, such as
    "acquisition/lfp/data", are in their unit: conversion and offset are applied. `kind` says what targets are.
    "classification": labels, any integers or texts, one per sample, or one-hot rows; in results the attribute `classes`
    names the classes, in the order of the outputs. "regression": real numbers, (samples,) or (samples, outputs).
    "unsupervised": there are none. NaN is refused, with its row and column.

    With `sequences` the second axis of inputs counts frames, each of which is a presentation of `stimulus.duration`.
    `told` says when the network is told a target: in every "frame" that of the frame (then the second axis of targets
    counts frames too), throughout the "sequence" that of the sequence, or that at its "end", in the last frame.
    Then come `blank` frames without input and target. `interpolation` lets inputs move while a frame is shown, from the
    numbers of each frame to those of the next one: "linear", or "cubic", a smooth curve.

    Inputs (samples, inputs): the numbers of the file times `scale`, in whatever unit they have. `seed` splits the
    samples; those of each part are in the order of the file.
    """

    from_files: ClassVar[bool] = True
    name: str = "arrays"
    kind: Kind = "classification"  # pyright: ignore[reportIncompatibleVariableOverride] - the spec says it
    train: Files
    test: Files | None = None
    test_fraction: Fraction | None = None
    inputs: Names | None = None
    targets: Names | None = None
    sequences: Annotated[bool, Field(strict=True)] = False
    told: Told = "sequence"
    blank: Blank = 0
    interpolation: Course = "held"
    scale: Scale = 1.0
    seed: Seed = 0

    @property
    def in_frames(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - the spec says it
        return self.sequences

    @model_validator(mode="after")
    def _consistent(self) -> "Arrays":
        if self.test is not None and self.test_fraction is not None:
            raise refused("task.test_fraction", self.test_fraction, "task.test gives the test samples")
        if _listed(self.test) == _listed(self.train):
            raise refused("task.test", self.test, "these are the training samples")
        for key in () if self.sequences else ("told", "blank", "interpolation"):
            if (value := getattr(self, key)) != type(self).model_fields[key].default:
                raise refused(f"task.{key}", value, "it needs task.sequences = true")
        if self.told != type(self).model_fields["told"].default and self.kind == "unsupervised":
            raise refused("task.told", self.told, "task.kind = 'unsupervised' has nothing to tell")
        if self.kind == "unsupervised":
            for key, value, most in (("targets", self.targets, 0), ("train", self.train, 1), ("test", self.test, 1)):
                if len(_listed(value)) > most:
                    raise refused(f"task.{key}", value, "task.kind = 'unsupervised' has inputs only")
        return self

    def load(self) -> Data:
        """The files' samples; a damaged file, or one that nothing can be learned from, raises `PlasticodeError`."""
        with contextlib.ExitStack() as files:
            names = _listed(self.inputs), _listed(self.targets)
            inputs, targets = self._read(files, "train", _listed(self.train), *names)
            if self.test is None:
                data = self._split(inputs, targets)
            else:
                # Columns are taken by name: in another table they may be in another order, or more.
                pairs = zip((inputs, targets), names, strict=True)
                own = [one.names if one and one.is_table else given for one, given in pairs]
                data = self._paired(inputs, targets, *self._read(files, "test", _listed(self.test), *own))
        if not self.sequences:
            return data
        return framed(data, inputs.frames, self.told, self.blank, self.interpolation, blank_is_there=True)

    def _paired(
        self, inputs: Samples, targets: Samples | None, test_inputs: Samples, test_targets: Samples | None
    ) -> Data:
        """Samples of a training file and of a test file, as they are."""
        _check_width("frames per sequence", inputs, inputs.frames, test_inputs, test_inputs.frames)
        _check_width("inputs per sample", inputs, inputs.width, test_inputs, test_inputs.width)
        train, test = np.arange(inputs.samples), np.arange(test_inputs.samples)
        answers, classes = (None, None), ()
        if targets is not None and test_targets is not None:
            if self.kind == "regression":
                _check_width("targets per sample", targets, targets.width, test_targets, test_targets.width)
                answers = (*_varied(targets, train), *test_targets.parted(test))
            else:
                codes, classes = targets.labels()
                each = (codes, targets, train), (test_targets.among(classes), test_targets, test)
                answers = [_labelled(these, len(classes), of, rows) for these, of, rows in each]
        (x,), (test_x,) = self._inputs(inputs, train), test_inputs.parted(test, scale=self.scale, blank=self.blank)
        return Data(x, answers[0], test_x, answers[1], self.kind, classes)

    def _split(self, inputs: Samples, targets: Samples | None) -> Data:
        """Training and test samples of one file."""
        most, classes, answers = min(TEST_FRACTION, MOST_TESTED / inputs.samples), (), (None, None)
        fraction = self.test_fraction or most
        if self.kind == "classification" and targets is not None:
            codes, classes = targets.labels()
            if targets.frames == 1:
                least = int(self.test_fraction is None and most < TEST_FRACTION)
                train, test = _sorted(stratified_split(codes, fraction, self.seed, classes, least))
            else:  # a sequence has labels of many classes
                train, test = _sorted(random_split(inputs.samples, fraction, self.seed))
            answers = [_labelled(codes, len(classes), targets, rows) for rows in (train, test)]
            del codes
        else:
            train, test = _sorted(random_split(inputs.samples, fraction, self.seed))
            answers = (None, None) if targets is None else _varied(targets, train, test)
        x, test_x = self._inputs(inputs, train, test)
        return Data(x, answers[0], test_x, answers[1], self.kind, classes)

    def _inputs(self, inputs: Samples, *parts: Integer[np.ndarray, " _n"]) -> list[Float32[np.ndarray, "_n inputs"]]:
        """The inputs of each part of the samples; they may not be all the same."""
        found = inputs.parted(*parts, scale=self.scale, blank=self.blank)
        if inputs.samples < 2 or _constant(found).all():
            raise PlasticodeError(
                f"'{inputs.place}' has the same inputs in all {inputs.samples} samples: nothing can be learned"
            )
        return found

    def _read(
        self,
        stack: contextlib.ExitStack,
        key: str,
        files: tuple[str, ...],
        inputs: tuple[str, ...],
        targets: tuple[str, ...],
    ) -> tuple[Samples, Samples | None]:
        """Inputs and targets out of a file, or out of one each, which stay open as long as the `stack`."""
        first, *others = (stack.enter_context(opened(found(f"task.{key}", file))) for file in files)
        last = others[0] if others else first
        names = chosen(first, "inputs", inputs, targets if last is first else None)
        rows = taken(first, "inputs", names)
        if self.kind == "unsupervised":
            return (rows.by_frames() if self.sequences else rows), None
        answers = taken(last, "targets", chosen(last, "targets", targets, names if last is first else None))
        _check_pairs(rows, answers)
        shapes = rows.arrays[0].shape, answers.arrays[0].shape
        if not self.sequences:
            if len(shapes[0]) > 2 and shapes[0][:2] == shapes[1]:
                answers = answers._replace(aside="; task.sequences = true and task.told = 'frame' take frames")
            return rows, answers
        rows = rows.by_frames()
        if self.told == "frame":
            answers = answers.by_frames()
        elif shapes[1][1:2] == (rows.frames,):
            answers = answers._replace(aside="; task.told = 'frame' takes targets of every frame")
        if answers.frames not in (1, rows.frames):
            raise PlasticodeError(
                f"'{rows.place}' has {rows.frames} frames of inputs and '{answers.place}' {answers.frames} of targets: "
                "with task.told = 'frame' there must be as many"
            )
        return rows, answers


def _sorted(parts: Parts) -> Parts:
    """Parts in the order of the file, without a copy of their numbers."""
    for part in parts:
        part.sort()
    return parts


def _labelled(
    codes: Integer[np.ndarray, " labels"], classes: int, of: Samples, rows: Integer[np.ndarray, " n"]
) -> Float32[np.ndarray, "n outputs"]:
    """One-hot targets of these samples, those of the frames of a sequence side by side."""
    return one_hot(codes.reshape(-1, of.frames)[rows].ravel(), classes).reshape(len(rows), -1)


def _constant(arrays: Sequence[Float32[np.ndarray, "_n columns"]]) -> Bool[np.ndarray, " columns"]:
    """Which columns are the same in all rows of all arrays."""
    first = arrays[0][0]
    same, many = np.full(len(first), True), max(BLOCK // len(first), 1)
    for array in arrays:
        for start in range(0, len(array), many) if same.any() else ():
            same &= (array[start : start + many] == first).all(axis=0)
    return same


def _check_pairs(inputs: Samples, targets: Samples) -> None:
    """Refuse other than one target for each of the inputs."""
    samples, there = inputs.samples, targets.samples
    if samples == there:
        return
    shape = inputs.arrays[0].shape
    turned = f"; their last axis has as many, {shape}: transpose the inputs" if shape[-1] == there else ""
    raise PlasticodeError(
        f"'{inputs.place}' has {samples} samples of inputs and '{targets.place}' {there} of targets: every sample must "
        f"have one of each{turned}"
    )


def _check_width(what: str, train: Samples, there: int, test: Samples, here: int) -> None:
    if there != here:
        raise PlasticodeError(f"'{train.place}' has {there} {what} and '{test.place}' {here}: both must have the same")


def _varied(targets: Samples, *parts: Integer[np.ndarray, " _n"]) -> list[Float32[np.ndarray, "_n outputs"]]:
    """The targets of a regression for each part, none of which may be the same in every sample."""
    if any(len(array.shape) > 2 + (targets.frames > 1) for array in targets.arrays):
        shapes = ", ".join(str(array.shape) for array in targets.arrays)
        raise PlasticodeError(
            f"'{targets.place}' has targets of shape {shapes}: (samples,) or (samples, outputs) is needed"
            f"{targets.aside}"
        )
    found = targets.parted(*parts)
    outputs = targets.width // targets.frames
    rows = [y.reshape(-1, outputs) for y in found]
    constant = np.flatnonzero(_constant(rows))
    if constant.size:
        name, value = (
            shown(targets.names[constant[0]] if targets.is_table else int(constant[0])),
            rows[0][0, constant[0]],
        )
        raise PlasticodeError(
            f"'{targets.place}' has {value:g} in every sample as target {name}: nothing can be learned"
        )
    return found
