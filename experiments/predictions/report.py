"""What `reproduce` leaves behind: verdicts.json, figures, the parameters as TOML, and one page to read it all on."""

import html
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.predictions import plain
from experiments.predictions.contract import AbstractPrediction
from experiments.predictions.references import REFERENCES
from experiments.predictions.reproduce import Measured, Outcome
from experiments.report.page import bare_table, details, document, paragraph, picture, table
from experiments.report.report import pretty_bibtex, verdict_json, verdict_table
from experiments.results.labels import version_of
from experiments.results.netcdf import write_json
from experiments.results.ownership import json_or_none
from experiments.results.text_tables import TextTable
from experiments.results.verdicts import WORDS, Decision, together
from experiments.spec.toml_text import inline

VERSIONED = ("plasticode", "jax", "jaxlib", "diffrax", "numpy")


def write(measured: Measured, directory: Path) -> None:
    """Write verdicts.json, predictions.toml, figures/NAME.png and report.html into an existing directory."""
    figures = directory / "figures"
    figures.mkdir(exist_ok=True)
    for name, outcome in measured.outcomes.items():
        if outcome.figure:
            (figures / f"{name}.png").write_bytes(outcome.figure)
    verdicts = [
        verdict_json(verdict) | {"prediction": name, "number": outcome.prediction.number, "seconds": outcome.seconds}
        for name, outcome in measured.outcomes.items()
        for verdict in outcome.verdicts
    ]
    write_json(verdicts, directory / "verdicts.json")
    names = [f"{name}.png" for name, outcome in measured.outcomes.items() if outcome.figure]
    write_json({"figures": names, "complete": measured.complete}, directory / "summary.json")
    parameters = (f"[{name}]\n{_toml(outcome)}" for name, outcome in measured.outcomes.items())
    (directory / "predictions.toml").write_text("\n".join(parameters), encoding="utf-8")
    (directory / "report.html").write_text(_page(measured, figures), encoding="utf-8")


def summary_table(measured: Measured) -> TextTable:
    """One row per prediction: whether all of its claims hold, how many do, how long it took."""
    rows = []
    for name, outcome in measured.outcomes.items():
        held = sum(verdict.passed for verdict in outcome.verdicts)
        seconds = f"{outcome.seconds:.1f} s"
        state = WORDS[outcome.outcome]
        count = f"{held} of {len(outcome.verdicts)}"
        rows.append([state, outcome.prediction.number, name, outcome.prediction.title, count, seconds])
    return TextTable("predictions", ["verdict", "no.", "prediction", "title", "claims that hold", "time"], rows)


def standing(predictions: Mapping[str, type[AbstractPrediction]], directory: Path) -> TextTable:
    """One row per prediction: what the last run that wrote to `directory` found of it, if it was measured there.

    A page of verdicts that cannot be read, or is none of ours, tells nothing.
    """
    found: dict[str, list[Decision]] = {}
    for verdict in _verdicts(directory / "verdicts.json"):
        found.setdefault(verdict["prediction"], []).append(verdict["outcome"])
    rows = []
    for name, cls in predictions.items():
        outcomes = found.get(name, [])
        state = WORDS[together(outcomes)] if outcomes else "not measured"
        held = f"{outcomes.count('passed')} of {len(outcomes)}" if outcomes else ""
        rows.append([state, cls.number, name, cls.title, held])
    note = f"States are those of {directory}." if found else f"There are no verdicts in {directory} yet."
    return TextTable("predictions", ["state", "no.", "prediction", "title", "claims that hold"], rows, note)


def _verdicts(path: Path) -> list[dict[str, Any]]:
    """The verdicts of a file that have the name of a prediction and an outcome."""
    content = json_or_none(path)
    items = content if isinstance(content, list) else []
    return [
        item
        for item in items
        if isinstance(item, dict) and isinstance(item.get("prediction"), str) and item.get("outcome") in (*WORDS,)
    ]


def sentence(measured: Measured) -> str:
    """How many predictions and claims hold, and how many are undecided."""
    outcomes = measured.outcomes.values()
    verdicts = [verdict for outcome in outcomes for verdict in outcome.verdicts]
    held, claims = sum(outcome.passed for outcome in outcomes), sum(verdict.passed for verdict in verdicts)
    said = f"{held} of {len(outcomes)} predictions hold, {claims} of {len(verdicts)} claims"
    undecided = sum(verdict.outcome == "undecided" for verdict in verdicts)
    return said + (f", {undecided} more {'are' if undecided > 1 else 'is'} undecided." if undecided else ".")


def _page(measured: Measured, figures: Path) -> str:
    sections = ["<h1>Predictions of the literature</h1>", f'<p class="lead">{html.escape(sentence(measured))}</p>']
    if not measured.complete:
        sections.append('<p class="warning">Interrupted: predictions are missing.</p>')
    sections.append(table(summary_table(measured)))
    sections += [_section(name, outcome, figures) for name, outcome in measured.outcomes.items()]
    sources = " ".join(outcome.prediction.source for outcome in measured.outcomes.values())
    references = [pretty_bibtex(entry) for key, entry in REFERENCES.items() if key in sources]
    sections.append(details("References (bibtex)", "\n\n".join(references)))
    memory = max((outcome.megabytes for outcome in measured.outcomes.values()), default=0)
    versions = ", ".join(f"{name} {version_of(name)}" for name in VERSIONED)
    numbers = f"float64 (trained accuracies: float32) on {platform.machine()}, one core each"
    sections.append(paragraph(f"{numbers}; at most {memory:.0f} MB per process; {versions}."))
    return document("Predictions of the literature", sections)


def _section(name: str, outcome: Outcome, figures: Path) -> str:
    """Claim, equation, figure, numbers and parameters of one prediction."""
    prediction, state = outcome.prediction, WORDS[outcome.outcome]
    facts = {
        "Claim": prediction.claim,
        "Equation": prediction.equation,
        "Measured": prediction.method,
        "Tolerance": prediction.tolerance,
        "Source": prediction.source,
    }
    items = "".join(f"<dt>{key}</dt><dd>{html.escape(text)}</dd>" for key, text in facts.items())
    parts = [
        f'<section id="{name}"><h2>{prediction.number} {html.escape(prediction.title)} '
        f'<span class="{state.lower()}">{state}</span></h2><dl>{items}</dl>'
    ]
    if outcome.figure:
        parts.append(picture(prediction.title, figures / f"{name}.png"))
    parts.append(bare_table(verdict_table(outcome.verdicts, sources=False)))
    parts += map(paragraph, outcome.notes)
    if outcome.failure:
        parts.append(details("What went wrong", outcome.failure))
    command = f"plasticode reproduce {name}"
    parts.append(details(f"Parameters ({outcome.seconds:.1f} s, {command})", _toml(outcome)))
    return "".join(parts) + "</section>"


def _toml(outcome: Outcome) -> str:
    fields: dict[str, Any] = json.loads(outcome.prediction.model_dump_json())
    return "".join(f"{key} = {inline(plain(value))}\n" for key, value in fields.items() if value is not None)
