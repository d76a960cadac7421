"""Data of a user's own, from files."""

import contextlib
from typing import Annotated, ClassVar

import numpy as np
from jaxtyping import Float32
from pydantic import BeforeValidator, Field, model_validator

from dynamics.errors import PlasticodeError, refused, shown
from experiments.tasks.classes import classification, one_hot
from experiments.tasks.contract import AbstractTask, Data, Fraction, Kind, Scale, Seed, generator
from experiments.tasks.files import opened
from experiments.tasks.frames import Blank, Told, framed
from experiments.tasks.places import found
from experiments.tasks.samples import Samples, chosen, taken

TEST_FRACTION = 0.2  # where neither a file nor a fraction is given


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

    `train` is a file, or a list of two: of inputs and of targets. `test` is likewise; without it `test_fraction` (0.2)
    of the samples, of every class, is kept for the test at random. Files are looked for beside the spec, then in the
    working folder. `inputs` and `targets` name arrays in them (paths in HDF5) or columns; several are put side by side.
    A name may be left out where one array is left; of a table, all columns that are not targets are inputs.

    The first axis of an array counts samples, the others become one. Time series of NWB files, such as
    "acquisition/lfp/data", are in their unit: conversion and offset are applied. `kind` says what targets are.
    "classification": labels, any integers or texts, one per sample, or one-hot rows; in results the attribute `classes`
    names the classes, in the order of the outputs. "regression": real numbers, (samples,) or (samples, outputs).
    "unsupervised": there are none. NaN is refused, with its row and column.

    With `sequences` the second axis of inputs counts frames, each of which is a presentation of `stimulus.duration`.
    `told` says when the network is told a target: in every "frame" that of the frame (then the second axis of targets
    counts frames too), throughout the "sequence" that of the sequence, or that at its "end", in the last frame.
    Then come `blank` frames without input and target.

    Inputs (samples, inputs): the numbers of the file times `scale`, in whatever unit they have. `seed` splits the
    samples and shuffles those of the training.
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
        for key in () if self.sequences else ("told", "blank"):
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
        names = _listed(self.inputs), _listed(self.targets)
        inputs, targets = self._read("train", _listed(self.train), *names)
        data = self._samples(inputs, targets, names)
        return framed(data, inputs.frames, self.told, self.blank) if self.sequences else data

    def _samples(
        self, inputs: Samples, targets: Samples | None, names: tuple[tuple[str, ...], tuple[str, ...]]
    ) -> Data:
        """One row for each sample, the frames of a sequence side by side."""
        x = self._scaled(inputs)
        if len(x) < 2 or (x == x[0]).all():
            raise PlasticodeError(
                f"'{inputs.place}' has the same inputs in all {len(x)} samples: nothing can be learned"
            )
        if self.test is None:
            return self._split(x, targets)
        order = generator(self.seed, "split").permutation(len(x))
        # Columns are taken by name: in another table they may be in another order, or more.
        own = [
            one.names if one and one.is_table else given for one, given in zip((inputs, targets), names, strict=True)
        ]
        test_inputs, test_targets = self._read("test", _listed(self.test), *own)
        if inputs.frames != test_inputs.frames:
            raise PlasticodeError(
                f"'{inputs.place}' has {inputs.frames} frames per sequence and '{test_inputs.place}' "
                f"{test_inputs.frames}: both must have the same"
            )
        test_x = self._scaled(test_inputs)
        _check_width("inputs", inputs, x, test_inputs, test_x)
        if targets is None or test_targets is None:
            return Data(x[order], None, test_x, None, "unsupervised")
        if self.kind == "regression":
            y, test_y, classes = _varied(targets), test_targets.numbers(), ()
        else:
            codes, classes = targets.labels()
            y, test_y = (one_hot(these, len(classes)) for these in (codes, test_targets.among(classes)))
        y, test_y = _side_by_side(y, targets), _side_by_side(test_y, test_targets)
        _check_width("targets", targets, y, test_targets, test_y)
        return Data(x[order], y[order], test_x, test_y, self.kind, classes)

    def _split(self, x: Float32[np.ndarray, "samples inputs"], targets: Samples | None) -> Data:
        """Training and test samples of one file."""
        fraction = self.test_fraction or TEST_FRACTION
        classes: tuple[str, ...] = ()
        if self.kind == "classification" and targets is not None:
            codes, classes = targets.labels()
            if targets.frames == 1:
                return classification(x, codes, fraction, self.seed, classes)
            y = _side_by_side(one_hot(codes, len(classes)), targets)  # a sequence has labels of many classes
        else:
            y = None if targets is None else _side_by_side(_varied(targets), targets)
        kept = round(fraction * len(x))
        if not 0 < kept < len(x):
            part = "test" if kept == 0 else "training"
            raise PlasticodeError(f"task.test_fraction {fraction} of {len(x)} samples leaves no {part} sample")
        order = generator(self.seed, "split").permutation(len(x))
        test, train = order[:kept], order[kept:]
        answers = (None, None) if y is None else (y[train], y[test])
        return Data(x[train], answers[0], x[test], answers[1], self.kind, classes)

    def _read(
        self, key: str, files: tuple[str, ...], inputs: tuple[str, ...], targets: tuple[str, ...]
    ) -> tuple[Samples, Samples | None]:
        """Inputs and targets out of a file, or out of one each."""
        with opened(found(f"task.{key}", files[0])) as first, contextlib.ExitStack() as stack:
            last = first if len(files) == 1 else stack.enter_context(opened(found(f"task.{key}", files[1])))
            names = chosen(first, "inputs", inputs, targets if last is first else None)
            rows = taken(first, "inputs", names)
            if self.kind == "unsupervised":
                return (rows.by_frames() if self.sequences else rows), None
            answers = taken(last, "targets", chosen(last, "targets", targets, names if last is first else None))
        _check_pairs(rows, answers)
        if not self.sequences:
            return rows, answers
        rows, answers = rows.by_frames(), answers.by_frames() if self.told == "frame" else answers
        if answers.frames not in (1, rows.frames):
            raise PlasticodeError(
                f"'{rows.place}' has {rows.frames} frames of inputs and '{answers.place}' {answers.frames} of targets: "
                "with task.told = 'frame' there must be as many"
            )
        return rows, answers

    def _scaled(self, inputs: Samples) -> Float32[np.ndarray, "samples inputs"]:
        numbers = inputs.numbers()
        with np.errstate(over="ignore"):
            scaled = numbers * np.float32(self.scale) if self.scale != 1 else numbers
        if not np.isfinite(scaled).all():
            raise refused("task.scale", self.scale, f"times the inputs of '{inputs.place}' it is beyond float32")
        return _side_by_side(scaled, inputs)


def _side_by_side(rows: Float32[np.ndarray, "rows _n"], of: Samples) -> Float32[np.ndarray, "samples _m"]:
    """The frames of each sequence in one row."""
    return rows.reshape(len(rows) // of.frames, -1)


def _check_pairs(inputs: Samples, targets: Samples) -> None:
    """Refuse other than one target for each of the inputs."""
    samples, there = len(inputs.arrays[0]), len(targets.arrays[0])
    if samples == there:
        return
    shape = inputs.arrays[0].shape
    turned = f"; their last axis has as many, {shape}: transpose the inputs" if shape[-1] == there else ""
    raise PlasticodeError(
        f"'{inputs.place}' has {samples} samples of inputs and '{targets.place}' {there} of targets: every sample must "
        f"have one of each{turned}"
    )


def _check_width(
    what: str,
    train: Samples,
    x: Float32[np.ndarray, "train _n"],
    test: Samples,
    test_x: Float32[np.ndarray, "test _m"],
) -> None:
    if x.shape[1] != test_x.shape[1]:
        raise PlasticodeError(
            f"'{train.place}' has {x.shape[1]} {what} per sample and '{test.place}' {test_x.shape[1]}: both must have "
            "the same"
        )


def _varied(targets: Samples) -> Float32[np.ndarray, "samples outputs"]:
    """The targets of a regression, none of which may be the same in every sample."""
    if any(array.ndim > 2 for array in targets.arrays):
        shapes = ", ".join(str(array.shape) for array in targets.arrays)
        raise PlasticodeError(
            f"'{targets.place}' has targets of shape {shapes}: (samples,) or (samples, outputs) is needed"
        )
    y = targets.numbers()
    constant = np.flatnonzero((y == y[0]).all(axis=0))
    if constant.size:
        name = shown(targets.names[constant[0]] if targets.is_table else int(constant[0]))
        raise PlasticodeError(
            f"'{targets.place}' has {y[0, constant[0]]:g} in every sample as target {name}: nothing can be learned"
        )
    return y
