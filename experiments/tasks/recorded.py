"""A recorded experiment: what was shown, presentation by presentation."""

from typing import Annotated, Any, ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from dynamics.errors import PlasticodeError, printable
from experiments.tasks.contract import AbstractTask, Data, Kind
from experiments.tasks.files import Contents, opened
from experiments.tasks.places import found
from experiments.tasks.samples import Samples, numbers, taken

TINY = float(np.finfo(np.float32).tiny)
Name = Annotated[str, Field(min_length=1)]


class Recorded(AbstractTask):
    """What an experiment has shown, in its order: each row of `inputs` is a presentation, and with it a row of
    `targets`, all NaN where the network was told none. Test samples are the same: a recording has no others.

    `file` is .npz, netCDF and other HDF5, NWB, MATLAB's .mat, .csv or .parquet; of a table "inputs" is a column of that
    name, or inputs_0, inputs_1, ... With kind = "unsupervised" there are no targets. In a fit rows are shown one after
    the other; in runs that is stimulus.order = "sequential". `durations` and `gaps` name those of its variables, if
    any, that say for how many seconds each row was shown, and for how many nothing was after it.

    Inputs (presentations, inputs), in whatever unit they have. Targets (presentations, outputs).
    """

    from_files: ClassVar[bool] = True
    name: str = "recorded"
    kind: Kind = "regression"  # pyright: ignore[reportIncompatibleVariableOverride] - the spec says it
    file: Name
    inputs: Name = "inputs"
    targets: Name = "targets"
    durations: Name | None = None
    gaps: Name | None = None

    @property
    def timed(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - the spec says it
        return self.durations is not None or self.gaps is not None

    def load(self) -> Data:
        """The rows of the file; a damaged file, or one without them, raises `PlasticodeError`."""
        with opened(found("task.file", self.file)) as contents:
            x = np.concatenate([*_rows(contents, self.inputs).blocks()])
            spans: dict[str, Any] = {
                key: None if name is None else _seconds(contents, name, len(x), least)
                for key, name, least in (("durations", self.durations, TINY), ("gaps", self.gaps, 0.0))
            }
            if self.kind == "unsupervised":
                return Data(x, None, x, None, "unsupervised", **spans)
            y = _numbers(contents, self.targets)
        what = f"'{printable(self.file)}' has {self.targets}"
        if len(x) != len(y):
            raise PlasticodeError(f"{what} of {len(y)} presentations, and {self.inputs} of {len(x)}: both need as many")
        unknown = np.isnan(y)
        told = ~unknown.all(axis=1)
        if unknown[told].any() or not told.any() or np.isinf(y).any():
            raise PlasticodeError(f"{what} that are not finite: a row must have all of them, or NaN for each")
        known = np.nan_to_num(y).astype(np.float32)
        if told.all():
            return Data(x, known, x, known, self.kind, **spans)
        marks = np.asarray(told, np.float32)
        return Data(x, known, x, known, self.kind, train_told=marks, test_told=marks, **spans)


def _seconds(contents: Contents, name: str, presentations: int, least: float) -> Float[np.ndarray, " presentations"]:
    """A variable in seconds, one number for each presentation."""
    values = _numbers(contents, name).ravel()
    if len(values) != presentations or not (np.isfinite(values) & (values >= least)).all():
        kind = "positive" if least else "not negative"
        raise PlasticodeError(
            f"'{printable(str(contents.path))}' has {printable(name)} that cannot be: it must be {presentations} "
            f"numbers of seconds, finite and {kind}"
        )
    return values


def _numbers(contents: Contents, name: str) -> Float[np.ndarray, "presentations _n"]:
    """All of a variable, or of the columns of a table side by side, in float64; NaN where cells are empty."""
    of, file = _rows(contents, name), f"'{printable(str(contents.path))}'"
    each = [numbers(one.whole(), column, file) for column, one in zip(of.names, of.arrays, strict=True)]
    return np.concatenate([one.reshape(len(one), -1) for one in each], axis=1)


def _rows(contents: Contents, name: str) -> Samples:
    """A variable, or the columns of a table that are called by it and a number."""
    columns = {key: key.rpartition("_") for key in contents.entries}
    numbered = sorted((int(end), key) for key, (head, _, end) in columns.items() if head == name and end.isdigit())
    names = (name,) if name in contents.entries else tuple(key for _, key in numbered)
    if not names:
        raise PlasticodeError(f"'{contents.path}' has no '{printable(name)}': it has {contents.told()}")
    return taken(contents, "inputs", names)
