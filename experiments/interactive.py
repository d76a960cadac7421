"""Experiments from Python: in a notebook, in a script, many in one process. Nothing is written to disk."""

import functools
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from experiments.execution import runner
from experiments.execution.runner import configure
from experiments.inference.comparison import which_rule
from experiments.inference.density import log_density
from experiments.inference.design import design
from experiments.inference.expected import prepared
from experiments.inference.fitting import fit
from experiments.machine.progress import OnProgress, shown_progress
from experiments.points.jobs import sweeps
from experiments.points.notes import notes_of
from experiments.predictions.study.choice import check_study, study_of
from experiments.report.page import bare_table, escaped, paragraph
from experiments.report.report import verdict_table
from experiments.results.labels import Results
from experiments.results.netcdf import open_results as open
from experiments.results.netcdf import status_counts, together
from experiments.results.verdicts import StudyReport, Verdict
from experiments.spec.grid import Sweep
from experiments.spec.loading import Source, load_spec, make_spec, spec_of
from experiments.spec.probes import Probe
from experiments.spec.spec import Spec
from experiments.tasks.contract import AbstractTask, Data

__all__ = [
    "AbstractTask",
    "Data",
    "Probe",
    "Run",
    "configure",
    "design",
    "fit",
    "load_spec",
    "log_density",
    "make_spec",
    "open",
    "run",
    "sweep",
    "which_rule",
]


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """What `plasticode.run` and `plasticode.sweep` return. A notebook shows how its points have ended, and its data.

    spec      what was run, with all defaults
    datasets  one labelled data set per part of the spec ("" when it has none); `data` is all of them in one
    complete  false after an interrupt: points that were not finished are "missing"
    notes     what a user should know of a spec that does not run quite as it is written
    """

    spec: Spec
    datasets: dict[str, xr.Dataset]
    complete: bool
    notes: tuple[str, ...]
    _grids: dict[str, Sweep] = field(repr=False)

    @property
    def data(self) -> xr.Dataset | xr.DataTree:
        """The results, as `plasticode.open` gives those of a directory: of a spec with parts, a tree of one each."""
        return together(self.datasets)

    @property
    def verdicts(self) -> list[Verdict]:
        """Of the spec's study, each with what was expected and what was measured; none of a spec without a study."""
        return self._report.verdicts if self.spec.study else []

    @property
    def figures(self) -> dict[str, Figure]:
        """Those of a report, by name: drawn when they are first asked for."""
        return self._report.figures

    @functools.cached_property
    def _report(self) -> StudyReport:
        return study_of(self.spec, self._grids, Results(self.datasets, self.complete))

    def __repr__(self) -> str:
        return "\n".join(
            [self._ended(), *self.notes, *(f"{verdict.outcome}: {verdict.name}" for verdict in self.verdicts)]
        )

    def _repr_html_(self) -> str:
        told = f"<p><b>{escaped(self.spec.name)}</b>: {escaped(self._ended().partition(': ')[2])}</p>"
        claims = bare_table(verdict_table(self.verdicts, sources=False)) if self.verdicts else ""
        return told + "".join(map(paragraph, self.notes)) + claims + self.data._repr_html_()

    def _ended(self) -> str:
        counts = [status_counts(data) for data in self.datasets.values()]
        total = {status: sum(count[status] for count in counts) for status in counts[0]}
        ended = ", ".join(f"{count} {status}" for status, count in total.items() if count)
        return f"{self.spec.name}: of {sum(total.values())} points {ended}"


def run(
    source: Source,
    overrides: Mapping[str, Any] | None = None,
    /,
    *,
    quick: bool = False,
    on_progress: bool | OnProgress = True,
    **tables: Any,
) -> Run:
    """Runs an experiment, in memory: `source` is a spec, a dict like its TOML, a file, or the name of a built-in one.

    `overrides` maps paths of the spec to values, as `--set` does on the command line; keywords do the same for names
    without dots, and for tables. They may be numbers of NumPy and arrays, and are checked as all of the spec is:

        plasticode.run("my-sweep.toml", {"delays.error": "0.5 T"}, seed=3, network={"hidden": [32, 32]})

    `quick` takes the spec's small version. Progress is shown where a run takes more than two seconds, in a notebook
    too; not with `on_progress = False`, or a function that is called with it. An interrupt keeps finished points. A
    second run whose spec differs in numbers alone compiles nothing. What is wrong raises `PlasticodeError`.
    """
    spec = spec_of(source, dict(overrides or {}, **tables), quick)
    check_study(spec)
    shown = shown_progress(spec.name) if on_progress is True else nullcontext(on_progress or None)
    with runner.configured(spec.dtype):
        jobs = prepared(spec)
        with shown as tell:
            results = runner.run(spec, tell, jobs)
    return Run(spec, results.datasets, results.complete, tuple(notes_of(jobs)), sweeps(jobs))


def sweep(
    source: Source,
    axes: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    /,
    *,
    quick: bool = False,
    on_progress: bool | OnProgress = True,
    **tables: Any,
) -> Run:
    """Runs an experiment along `axes`, from the path of each to its values: a grid of all, in one batch.

        plasticode.sweep("my-spec.toml", {"delays.error": ["0 T", "0.5 T"], "noise.activity": [0, 0.3], "seeds": 5})

    An axis may be all that [sweep] takes: a list, an array, {"linspace": [a, b, n]}, a number of seeds, or "zip" for
    axes that go together. It replaces the spec's own of that path, and is added to its other ones. The rest is as for
    `run`.
    """
    changed = dict(overrides or {}, **tables) | {f"sweep.{path}": values for path, values in axes.items()}
    return run(source, changed, quick=quick, on_progress=on_progress)
