"""What the command line prints: tables, pairs, and what a run or predictions have come to."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dynamics.errors import visible
from experiments.results.text_tables import TextTable

if TYPE_CHECKING:
    from experiments.predictions.reproduce import Measured
    from experiments.session import Ended
    from experiments.spec.spec import Spec

NARROWEST = 110  # characters of a table that goes to a file
CURES = {"not-converged": ": a larger integrator.tolerance accepts their error, a smaller integrator.dt may reduce it"}
WIDEST_UNBROKEN = 25  # characters of a column that is kept on one line
COLOURS = {"pass": "green", "FAIL": "bold red", "undecided": "bold blue"}


def print_table(table: TextTable) -> None:
    """A table with its title, header and note; the first columns, where it is wider than the terminal."""
    console, drawn = _console(), Table(box=None, header_style="bold", pad_edge=False)
    columns = list(zip(table.header, *table.rows, strict=True))
    if _fitting(columns, console.width) < len(columns):
        columns = [(name.replace(" ", "\n"), *cells) for name, *cells in columns]
    shown = _fitting(columns, console.width)
    for name, *cells in columns[:shown]:
        drawn.add_column(Text(visible(name)), overflow="fold", no_wrap=_longest(cells) <= WIDEST_UNBROKEN)
    for row in table.rows:
        drawn.add_row(*(Text(visible(cell), COLOURS.get(cell, "")) for cell in row[:shown]))
    console.print(Text(visible(table.title[:1].upper() + table.title[1:]), "italic"), soft_wrap=True)
    console.print(drawn)
    if shown < len(columns):
        left = ", ".join(table.header[shown:])
        console.print(Text(visible(f"Too wide for {console.width} characters: {left}.")), soft_wrap=True)
    if table.note:
        console.print(Text(visible(table.note)), soft_wrap=True)
    console.print()


def _fitting(columns: list[tuple[str, ...]], width: int) -> int:
    """How many of the first columns fit: if all were shown, cells would be cut, and names of rows first."""
    needed = -2
    for number, (name, *cells) in enumerate(columns):
        needed += max(_longest(cells) if _longest(cells) <= WIDEST_UNBROKEN else 1, _longest(name.split("\n"))) + 2
        if needed > width and number:
            return number
    return len(columns)


def _longest(texts: Sequence[str]) -> int:
    return max(map(len, texts), default=0)


def print_pairs(title: str, rows: dict[str, str]) -> None:
    """Names, each with a sentence."""
    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, text in rows.items():
        drawn.add_row(Text(visible(f"  {name}")), Text(visible(text)))
    console = _console()
    console.print(Text(title, "italic"))
    console.print(drawn)
    console.print()


def print_outcome(ended: "Ended") -> None:
    """What a run has come to."""
    from experiments.report.report import verdict_table

    if ended.study is None:
        return
    if ended.complete:
        for table in ended.tables:
            print_table(table)
    for part, counts in ended.counts.items():
        for status, count in counts.items():
            if status != "ok" and count:
                told = f"{f'{visible(part)}: ' if part else ''}{count} of {sum(counts.values())} points {status}"
                typer.echo(f"{told}{CURES.get(status, '')}.")
    if ended.study.verdicts:
        print_table(verdict_table(ended.study.verdicts, sources=False))
    for note in ended.study.notes:
        typer.echo(visible(note))


def print_predictions(measured: "Measured") -> None:
    """What has come of predictions."""
    from experiments.predictions.report import sentence, summary_table
    from experiments.report.report import verdict_table

    for name, outcome in measured.outcomes.items():
        if not outcome.passed or len(measured.outcomes) == 1:
            print_table(dataclasses.replace(verdict_table(outcome.verdicts, sources=False), title=name))
            for note in outcome.notes:
                typer.echo(visible(note))
            if outcome.failure:
                typer.echo(f"{name} broke off: the traceback is in report.html.")
    print_table(summary_table(measured))
    typer.echo(sentence(measured))


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, NARROWEST))


def none_ok(spec: "Spec", counts: dict[str, dict[str, int]]) -> str:
    """Why there is no point that a reader could rely on, in a sentence."""
    statuses = {status for numbers in counts.values() for status, count in numbers.items() if count}
    if statuses == {"diverged"}:
        return "no point came to its end: all of them diverged"
    who = "all of them are not-converged" if statuses == {"not-converged"} else "all are not-converged or diverged"
    integrator = next(iter(spec.parts().values())).integrator
    why = f"the error_estimate is above integrator.tolerance = {integrator.tolerance:g}"
    if integrator.adaptive:
        why = f"adaptive steps gave up at integrator.max_steps = {integrator.max_steps} in a presentation, or {why}"
    return f"no point is ok: {who} ({why})"
