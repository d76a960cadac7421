"""What a run leaves behind: results, summary, figures and one page to read them on. Studies return a `StudyReport`."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments.machine.interrupts import raise_if_interrupted
from experiments.report.explore import explorer
from experiments.report.figures import attempt, save
from experiments.report.inside import INSIDE
from experiments.report.page import details, document, escaped, folded, paragraph, picture, table
from experiments.results.labels import Results
from experiments.results.netcdf import summary, write_json
from experiments.results.ownership import json_or_none
from experiments.results.text_tables import TextTable, final_tables
from experiments.results.verdicts import WORDS, StudyReport, Verdict
from experiments.spec.grid import Sweep
from experiments.spec.spec import Spec, dump_toml
from rules.registry import rule_class

WRITTEN = ("spec.toml", "summary.json", "report.html", "figures")  # beside the results


def write(
    spec: Spec,
    sweeps: Mapping[str, Sweep],
    results: Results,
    study: StudyReport,
    directory: Path,
    failures: Mapping[str, str] = MappingProxyType({}),
) -> StudyReport:
    """Write spec.toml, figures/*.png, summary.json and report.html into an existing directory.

    `failures` are the errors of chunks whose points are missing. Of results that `netcdf.opened` reads, no more than a
    probe at a time is in memory. A figure, study or page that cannot be made is in `failed` of the report, and costs
    nothing else.
    """
    (directory / "spec.toml").write_text(dump_toml(spec), encoding="utf-8")
    failed = dict(study.failed)
    files = save(study.figures, directory / "figures", failed)
    raise_if_interrupted()
    with attempt("report.html", failed):
        explored = ""
        with attempt("the explorer of report.html", failed):
            explored = explorer(results)
        content = page(spec, sweeps, results, study, files, failures, explored)
        (directory / "report.html").write_text(content, encoding="utf-8")
    content = {"name": spec.name, "spec_hash": spec.hash(), **summary(results)}
    content["verdicts"] = [verdict_json(verdict) for verdict in study.verdicts]
    content["notes"] = study.notes
    content["failures"] = dict(failures)
    content["figures"] = [file.name for file in files.values()]
    content["not_written"] = failed
    write_json(content, directory / "summary.json")
    raise_if_interrupted()
    return dataclasses.replace(study, failed=failed)


def is_whole(directory: Path) -> bool:
    """Whether all that `write` writes is there, and nothing has failed."""
    content = json_or_none(directory / "summary.json")
    written = isinstance(content, dict) and not content.get("not_written")
    return written and all((directory / name).exists() for name in WRITTEN)


def verdict_table(verdicts: Sequence[Verdict], sources: bool = True) -> TextTable:
    """Each claim with what was expected and what was measured, notes below; and, with `sources`, who says so."""
    rows = [
        [WORDS[verdict.outcome], verdict.name]
        + [
            value if isinstance(value, str) else f"{value:.4g}"
            for value in (verdict.expected, verdict.measured, verdict.tolerance)
        ]
        + [verdict.quantity, *([verdict.source] if sources else [])]
        for verdict in verdicts
    ]
    header = ["verdict", "claim", "expected", "measured", "tolerance", "quantity", *(["source"] if sources else [])]
    notes = [f"{verdict.name}: {verdict.note}" for verdict in verdicts if verdict.note]
    return TextTable("Verdicts", header, rows, "\n".join(notes))


def bibtex(sweeps: Iterable[Sweep]) -> list[str]:
    """The references of the rules of all points, those wrapped by another rule included, one field per line."""
    names = {name for sweep in sweeps for group in sweep.groups for name in group.static.rule.names}
    references = dict.fromkeys(rule_class(name).reference for name in sorted(names))
    return [pretty_bibtex(reference) for reference in references]


def pretty_bibtex(reference: str) -> str:
    """A bibtex entry with each field on its own line."""
    return re.sub(r"\}\}$", "}\n}", re.sub(r",\s+(\w+=\{)", r",\n  \1", reference))


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict for JSON: its `outcome`, and `passed` for who only asks whether it holds."""
    return dataclasses.asdict(verdict) | {"passed": verdict.passed}


def page(
    spec: Spec,
    sweeps: Mapping[str, Sweep],
    results: Results,
    report: StudyReport,
    files: Mapping[str, Path],
    failures: Mapping[str, str],
    explored: str,
) -> str:
    """The report as one page of HTML that needs no other file: figures, `explored` (HTML) first, verdicts, tables."""
    sections = [f"<h1>{escaped(spec.name)}</h1>", f'<p class="lead">{escaped(spec.description)}</p>']
    if failures:
        told = "; ".join(f"chunk {chunk}: {error}" for chunk, error in failures.items())
        sections.append(f'<p class="warning">Points are missing, for chunks failed. {escaped(told)}</p>')
    elif not results.complete:
        sections.append('<p class="warning">Interrupted: points are missing.</p>')
    sections.append(explored)
    if seen := {stem: file for stem, file in files.items() if stem.endswith(INSIDE)}:  # which `explored` has not
        sections.append("<h2>Inside presentations</h2>" + "".join(picture(stem, file) for stem, file in seen.items()))
    if others := {stem: file for stem, file in files.items() if stem not in seen}:
        sections.append(_pictures(others, fold=not spec.study))
    if report.verdicts:
        sections.append(table(verdict_table(report.verdicts)))
    if report.notes:
        sections.append("<h2>Notes</h2>" + "".join(map(paragraph, report.notes)))
    sections.append("<h2>Tables</h2>" + "".join(map(folded, final_tables(results))))
    sections.append(f"<h2>How it was made</h2>{_provenance(spec, results)}")
    sections.append(details("Spec", dump_toml(spec)))
    sections.append(details("References of the rules (bibtex)", "\n\n".join(bibtex(sweeps.values()))))
    return document(spec.name, sections)


def _pictures(files: Mapping[str, Path], fold: bool) -> str:
    """The figures as they are in files; `fold` lets the script close them, where it draws the same to be explored."""
    pictures = "".join(picture(stem, file) for stem, file in files.items())
    if fold:
        return f'<details open class="static"><summary>Static figures</summary>{pictures}</details>'
    return f"<h2>Figures</h2>{pictures}"


def _provenance(spec: Spec, results: Results) -> str:
    first = next(iter(results.datasets.values())).attrs
    versions = ", ".join(f"{name} {version}" for name, version in json.loads(first.get("versions", "{}")).items())
    seconds = [float(data.attrs["seconds"]) for data in results.datasets.values() if "seconds" in data.attrs]
    facts = (
        f"{f'{sum(seconds):.1f} s on ' if seconds else 'On '}{first.get('device', 'an unknown device')}.",
        f"Numbers: {first.get('dtype', '?')}, matrix products at {first.get('matmul_precision', '?')} precision.",
        f"Versions: {versions}.",
        f"Spec hash: {spec.hash()}.",
    )
    return "".join(map(paragraph, facts))
