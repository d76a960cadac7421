"""Which study a spec names, and what it makes of results."""

import importlib
from collections.abc import Mapping

from dynamics.errors import PlasticodeError, unknown
from experiments.predictions.study import NEEDED_PARTS, STUDIES
from experiments.report.figures import attempt, generic_figures
from experiments.report.inside import inside_figures
from experiments.results.labels import Results
from experiments.results.verdicts import StudyReport
from experiments.spec.grid import Sweep
from experiments.spec.spec import Spec


def study_of(spec: Spec, sweeps: Mapping[str, Sweep], results: Results) -> StudyReport:
    """The report of the spec's study; without a study, where points are missing, or where the study breaks off, the
    figures that any result has."""
    check_study(spec)
    failed: dict[str, str] = {}
    notes = []
    if spec.study and results.complete:
        with attempt(f"study '{spec.study}'", failed):
            return importlib.import_module(STUDIES[spec.study]).study(spec, sweeps, results)
    elif spec.study:
        notes = [f"The study '{spec.study}' needs all points and was left out."]
    figures = inside_figures(sweeps, results, failed) | generic_figures(results, failed)
    return StudyReport(figures=figures, notes=notes, failed=failed)


def check_study(spec: Spec) -> None:
    """Raise `PlasticodeError` where the spec names a study that does not exist."""
    if spec.study and spec.study not in STUDIES:
        raise unknown("study", spec.study, STUDIES)
    missing = [part for part in NEEDED_PARTS.get(spec.study, ()) if part not in spec.parts()]
    if missing:
        raise PlasticodeError(
            f"study = '{spec.study}' needs the part '{missing[0]}', which the spec has not: see "
            f"`plasticode show {spec.study}`"
        )
