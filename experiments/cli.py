"""The command line. Commands import what they need themselves, so that `plasticode --help` answers at once."""

import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from experiments.report import StudyReport
    from experiments.reproduce import Measured
    from experiments.runner import Results
    from experiments.spec import Spec
    from experiments.tables import TextTable

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
NARROWEST = 110  # characters of a table that goes to a file
WIDEST_UNBROKEN = 25  # characters of a column that is kept on one line

app = typer.Typer(
    help="Simulate learning rules in continuous time: plasticity, delays and noise as differential equations.",
    epilog="Exit codes: 0 done, 1 a prediction failed or all points diverged, 2 the request was wrong, 130 interrupt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

SpecName = Annotated[str, typer.Argument(metavar="SPEC", help="A TOML file, or the name of a built-in spec.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help='Change the spec, e.g. stimulus.duration="80 ms". Repeatable.'),
]
Quick = Annotated[bool, typer.Option("--quick", help="The spec's small version, for a first look.")]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Where results go.", show_default="results/NAME, or results/NAME-quick"),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="The first seed.", show_default="that of the spec")]


def main() -> None:
    """The entry point `plasticode`."""
    sys.path.append(os.getcwd())  # where a user's own rules are, as in rule = "my_rules:MyRule"
    app()


@app.command()
def run(spec: SpecName, sets: Sets = None, out: Out = None, quick: Quick = False, seed: Seed = None) -> None:
    """Run an experiment: results, figures and a report, with a verdict where the spec names a study."""
    with _sentences():
        from experiments.spec import load_spec

        _execute(load_spec(spec, sets or (), quick, seed), out, quick)


@app.command()
def compare(
    rules: Annotated[str, typer.Option(metavar="RULE,RULE,...", help="The rules to compare.")] = "sgd,fa,dfa,kp",
    task: Annotated[str, typer.Option(metavar="NAME", help="The task that all of them learn.")] = "digits",
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Replicates per rule.", show_default="5")] = None,
    sets: Sets = None,
    out: Out = None,
    quick: Quick = False,
) -> None:
    """Compare learning rules on one task: a table with 95 % intervals, learning curves, gradient alignment."""
    with _sentences():
        from experiments.compare import comparison

        names = [name.strip() for name in rules.split(",") if name.strip()]
        _execute(comparison(names, task, seeds, sets or (), quick), out, quick)


@app.command()
def reproduce(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Predictions; all of them where none is named.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME.PARAMETER=VALUE", help="Change a prediction's parameter. Repeatable."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where results go.", show_default="results/reproduce, or reproduce-quick"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller and fewer, by the same closed forms.")] = False,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The first seed of all of them.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="one per core")] = None,
) -> None:
    """Measure predictions of the literature: each with a verdict, a figure, and a page about all of them."""
    with _sentences():
        from experiments import predictions, reproduce
        from experiments.predictions import report
        from experiments.progress import shown
        from experiments.store import output_directory
        from experiments.toml_files import parse_setting

        chosen = predictions.configured(names or (), dict(map(parse_setting, sets or ())), quick, seed)
        target = out or Path("results") / f"reproduce{'-quick' if quick else ''}"
        with output_directory(target) as directory:
            with shown("reproduce") as on_progress:
                measured = reproduce.measure_all(chosen, workers or os.cpu_count() or 1, on_progress)
            if not measured.outcomes:
                raise KeyboardInterrupt  # nothing to keep
            report.write(measured, directory)
        _print_predictions(measured, target)


@app.command("list")
def list_all() -> None:
    """List the built-in specs, studies, rules and tasks."""
    with _sentences():
        from experiments.catalogue import contents

        for title, rows in contents().items():
            _print_pairs(title, rows)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A spec, a rule, or a prediction.")]) -> None:
    """Print a spec with all its defaults as TOML, a rule with equation and circuit, or a prediction with its claim."""
    with _sentences():
        from experiments.catalogue import described

        typer.echo(described(name))


@app.command()
def check(spec: SpecName, sets: Sets = None, quick: Quick = False) -> None:
    """Check a spec without running it: what it would run, and about how much work that is."""
    with _sentences():
        from experiments import runner
        from experiments.catalogue import workload
        from experiments.report import check_study
        from experiments.spec import load_spec

        loaded = load_spec(spec, sets or (), quick)
        check_study(loaded)
        runner.configure(loaded.dtype)
        _print_table(workload(loaded, runner.check(loaded)))


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """A user's mistake ends in one sentence and exit code 2, an interrupt in how to start again."""
    try:
        yield
    except ValueError as error:
        from dynamics.errors import PlasticodeError

        if not isinstance(error, PlasticodeError):
            raise
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(REFUSED) from None
    except KeyboardInterrupt:
        typer.echo(f"\ninterrupted: nothing was kept; to run it again: {_command()}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _command() -> str:
    return shlex.join(["plasticode", *sys.argv[1:]])


def _execute(spec: "Spec", out: Path | None, quick: bool) -> None:
    """Run a spec, write what it leaves behind, print the essentials, and end with the exit code that it deserves."""
    from experiments import report, runner
    from experiments.progress import shown
    from experiments.store import output_directory

    target = out or Path("results") / f"{spec.name}{'-quick' if quick else ''}"
    report.check_study(spec)
    runner.configure(spec.dtype)
    jobs = runner.check(spec)
    with output_directory(target) as directory:
        with shown(spec.name) as on_progress:
            results = runner.run(spec, on_progress, jobs)
        done, points = _finished(results)
        if not done:
            raise KeyboardInterrupt  # before the first point was done: nothing to keep
        study = report.write(spec, results, directory)
    _print_outcome(results, study)
    typer.echo(f"Written to {target}: report.html, results.nc, summary.json, figures, spec.toml.")
    if not results.complete:
        typer.echo(
            f"interrupted: {done} of {points} points are finished and kept; to run all again: {_command()}", err=True
        )
        raise typer.Exit(INTERRUPTED)
    if not any(bool((data["status"] == 0).any()) for data in results.datasets.values()):
        typer.echo("no point came to its end: all of them diverged", err=True)
        raise typer.Exit(FAILED)
    failed = [verdict.name for verdict in study.verdicts if not verdict.passed]
    if failed:
        typer.echo(f"{len(failed)} of {len(study.verdicts)} claims failed: {', '.join(failed)}.", err=True)
    raise typer.Exit(FAILED if failed else DONE)


def _print_predictions(measured: "Measured", target: Path) -> None:
    """What came of predictions, and the exit code that it deserves."""
    from experiments.predictions.report import sentence, summary_table
    from experiments.report import verdict_table

    for name, outcome in measured.outcomes.items():
        failed = [verdict for verdict in outcome.verdicts if not verdict.passed]
        if failed or len(measured.outcomes) == 1:
            _print_table(dataclasses.replace(verdict_table(outcome.verdicts, sources=False), title=name))
            for note in outcome.notes:
                typer.echo(note)
            if outcome.failure:
                typer.echo(f"{name} broke off: the traceback is in report.html.")
    _print_table(summary_table(measured))
    typer.echo(sentence(measured))
    typer.echo(f"Written to {target}: report.html, verdicts.json, predictions.toml, figures.")
    if not measured.complete:
        typer.echo(f"interrupted: finished predictions are kept; to run all again: {_command()}", err=True)
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(DONE if all(outcome.passed for outcome in measured.outcomes.values()) else FAILED)


def _finished(results: "Results") -> tuple[int, int]:
    """The number of points that were run, to whatever end, and of all."""
    from experiments.store import status_counts

    counts = [status_counts(data) for data in results.datasets.values()]
    return sum(sum(count.values()) - count["missing"] for count in counts), sum(sum(count.values()) for count in counts)


def _print_outcome(results: "Results", study: "StudyReport") -> None:
    from experiments.report import verdict_table
    from experiments.store import status_counts
    from experiments.tables import final_tables

    if not study.verdicts and results.complete:  # a study says itself what matters; the tables are in its report
        for table in final_tables(results):
            _print_table(table)
    for part, data in results.datasets.items():
        for status, count in status_counts(data).items():
            if status != "ok" and count:
                typer.echo(f"{f'{part}: ' if part else ''}{count} of {data['status'].size} points {status}.")
    if study.verdicts:
        _print_table(verdict_table(study.verdicts, sources=False))
    for note in study.notes:
        typer.echo(note)


def _console() -> Any:
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=max(console.width, NARROWEST))


def _print_table(table: "TextTable") -> None:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for name, *cells in zip(table.header, *table.rows, strict=True):
        drawn.add_column(Text(name), overflow="fold", no_wrap=max(map(len, cells), default=0) <= WIDEST_UNBROKEN)
    colours = {"pass": "green", "FAIL": "bold red"}
    for row in table.rows:
        drawn.add_row(*(Text(cell, colours.get(cell, "")) for cell in row))
    console = _console()
    console.print(Text(table.title[:1].upper() + table.title[1:], "italic"), soft_wrap=True)
    console.print(drawn)
    if table.note:
        console.print(Text(table.note), soft_wrap=True)
    console.print()


def _print_pairs(title: str, rows: dict[str, str]) -> None:
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, text in rows.items():
        drawn.add_row(Text(f"  {name}"), Text(text))
    console = _console()
    console.print(Text(title, "italic"))
    console.print(drawn)
    console.print()
