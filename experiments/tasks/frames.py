"""Sequences: samples that are frames in time, as rows that follow each other."""

import dataclasses
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float32
from pydantic import Field

from experiments.machine.memory import aligned
from experiments.tasks.contract import Data

Told = Literal["frame", "sequence", "end"]
Course = Literal["held", "linear", "cubic"]  # dynamics.interpolation
Blank = Annotated[int, Field(strict=True, ge=0, le=10_000)]


def framed(
    data: Data, frames: int, told: Told, blank: int, interpolation: Course, blank_is_there: bool = False
) -> Data:
    """`data` whose samples are sequences, (samples, frames x inputs), as rows that are frames.

    Targets are told in every frame ("frame": each has its own, "sequence": all have that of the sequence) or in the
    last alone ("end"). At the end of each sequence come `blank` frames without input and target, which the
    inputs have already where `blank_is_there`.
    """
    parts = {}
    for half in ("train", "test"):
        inputs, targets = getattr(data, f"{half}_inputs"), getattr(data, f"{half}_targets")
        there = blank if blank_is_there else 0
        x = inputs.reshape(len(inputs), frames + there, -1)
        parts[f"{half}_inputs"] = _rows(x, blank - there)
        if targets is not None:
            y = (
                targets.reshape(len(targets), frames, -1)
                if told == "frame"
                else targets[:, None].repeat(frames, axis=1)
            )
            parts[f"{half}_targets"] = _rows(y, blank)
        if blank or told == "end":
            marks = np.zeros((len(x), frames + blank), np.float32)
            marks[:, frames - 1 if told == "end" else slice(0, frames)] = 1
            parts[f"{half}_told"] = marks.ravel()
    return dataclasses.replace(data, frames=frames + blank, interpolation=interpolation, **parts)


def _rows(sequences: Float32[np.ndarray, "samples frames _n"], blank: int) -> Float32[np.ndarray, "rows _n"]:
    samples, frames, width = sequences.shape
    if not blank:
        return sequences.reshape(-1, width)
    rows = aligned(samples * (frames + blank), width)
    padded = rows.reshape(samples, frames + blank, width)
    padded[:, :frames], padded[:, frames:] = sequences, 0
    return rows
