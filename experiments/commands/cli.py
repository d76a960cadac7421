"""The command line. Commands import what they need themselves, so that `plasticode --help` answers at once."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.commands import fit
from experiments.commands.console import (
    DONE,
    FAILED,
    INTERRUPTED,
    Force,
    NoCache,
    Out,
    Quick,
    Scheduler,
    Seed,
    Sets,
    SpecName,
    Workers,
    check_addresses,
    say,
    sentences,
    tell_interrupted,
)
from experiments.machine.compilation import kept_programs
from experiments.machine.interrupts import interruptible, quiet

if TYPE_CHECKING:
    from experiments.execution.keeping import How
    from experiments.points.jobs import Job
    from experiments.session import Ended
    from experiments.spec.spec import Spec

app = typer.Typer(
    help="Simulate learning rules in continuous time: plasticity, delays and noise as differential equations.",
    epilog="Compiled programs are kept in the user's cache folder (~/.cache/plasticode, at most 512 MB); not with "
    "--no-cache. Exit codes: 0 done, 1 a prediction or figure failed or no point is ok, 2 a wrong request, "
    "130 interrupt.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The command line. What was interrupted does not wait for programs that are still being compiled."""
    quiet()
    try:
        app()
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


@app.command()
def run(
    spec: SpecName,
    sets: Sets = None,
    out: Out = None,
    quick: Quick = False,
    seed: Seed = None,
    force: Force = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="One of N runs that share the work.")] = None,
    no_cache: NoCache = False,
) -> None:
    """Run an experiment: results, figures and a report, with a verdict where the spec names a study.

    The same command again goes on where it was stopped.
    """
    with sentences(), kept_programs(not no_cache):
        check_addresses()
        from experiments.execution.keeping import how_to_run
        from experiments.spec.loading import load_spec

        loaded = load_spec(spec, sets or (), quick, seed)
        if quick and loaded == load_spec(spec, sets or (), False, seed):
            say(f"{loaded.name} has no smaller version, a table [quick]: all of it is run", err=True)
        _execute(loaded, out, quick, how_to_run(workers, scheduler, shard, force))


@app.command()
def status(directory: Annotated[Path, typer.Argument(metavar="DIR", help="The --out directory of a run.")]) -> None:
    """Tell how far a run is: what is finished, who is at it, how to go on."""
    with sentences():
        from experiments.machine.lock import BEAT, living

        # One heartbeat, and some time for it to come; meanwhile the rest is imported.
        place = directory.parent if directory.name == "results.nc" else directory
        alive = living((place / "chunks").glob("lock*"), 1.2 * BEAT)
        from experiments.storage.status import status_of

        for line in status_of(place, alive):
            say(line)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The --out directory of a run, or its results.nc.")],
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="A file to write, .csv or .parquet.")],
    part: Annotated[str | None, typer.Option(help="One part of the spec.", show_default="all of them")] = None,
) -> None:
    """Write results as a table: one row per point and record."""
    with sentences():
        from experiments.results.export import export_table

        rows = export_table(source, table, part)
        say(f"Written to {table}: {rows} rows.")


@app.command()
def compare(
    rules: Annotated[str, typer.Option(metavar="RULE,RULE,...", help="The rules to compare.")] = "sgd,fa,dfa,kp",
    task: Annotated[str, typer.Option(metavar="NAME", help="The task that all of them learn.")] = "digits",
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Replicates per rule.", show_default="5")] = None,
    sets: Sets = None,
    out: Out = None,
    quick: Quick = False,
    force: Force = False,
    workers: Workers = None,
    no_cache: NoCache = False,
) -> None:
    """Compare learning rules on one task: a table with 95 % intervals, learning curves, gradient alignment."""
    with sentences(), kept_programs(not no_cache):
        check_addresses()
        from experiments.execution.keeping import how_to_run
        from experiments.spec.compare import comparison

        names = [name.strip() for name in rules.split(",") if name.strip()]
        _execute(comparison(names, task, seeds, sets or (), quick), out, quick, how_to_run(workers, None, None, force))


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
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one per core")] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="Only tell what there is, and what the last run found.")
    ] = False,
    no_cache: NoCache = False,
) -> None:
    """Measure predictions of the literature: each with a verdict, a figure, and a page about all of them."""
    with sentences(), kept_programs(not no_cache):
        target = out or Path("results") / f"reproduce{'-quick' if quick else ''}"
        if listed:
            _list_predictions(names, target)
            return
        check_addresses()
        from experiments import predictions
        from experiments.commands.terminal import print_predictions
        from experiments.execution.keeping import how_to_run
        from experiments.machine.processes import cores
        from experiments.machine.progress import shown_progress
        from experiments.predictions import report, reproduce
        from experiments.results.netcdf import output_directory
        from experiments.results.ownership import REPRODUCED
        from experiments.spec.toml_text import parse_setting

        processes = how_to_run(workers, None, None, False).workers or cores()
        chosen = predictions.configured(names or (), dict(map(parse_setting, sets or ())), quick, seed)
        with output_directory(target, REPRODUCED) as directory:
            with shown_progress("reproduce") as on_progress:
                measured = reproduce.measure_all(chosen, processes, on_progress, hasty=quick)
            if not measured.outcomes:
                raise KeyboardInterrupt  # nothing to keep
            report.write(measured, directory)
        print_predictions(measured)
        say(f"Written to {target}: report.html, verdicts.json, predictions.toml, figures.")
        if not measured.complete:
            tell_interrupted("finished predictions are kept, and all are measured again")
        failed = any(outcome.outcome == "failed" for outcome in measured.outcomes.values())
        raise typer.Exit(FAILED if failed else DONE)


def _list_predictions(names: list[str] | None, directory: Path) -> None:
    from experiments import predictions
    from experiments.commands.terminal import print_table
    from experiments.predictions import report

    chosen = {name: predictions.prediction_class(name) for name in names or predictions.PREDICTIONS}
    print_table(report.standing(chosen, directory))


app.command()(fit.fit)
app.command()(fit.design)


@app.command("list")
def list_all() -> None:
    """List the built-in specs, studies, predictions, rules, probes and tasks."""
    with sentences():
        from experiments.commands.catalogue import contents
        from experiments.commands.terminal import print_pairs

        for title, rows in contents().items():
            print_pairs(title, rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A spec, a rule, a prediction, a task, or a probe.")], sets: Sets = None
) -> None:
    """Print a spec with all its defaults as TOML, a rule with equation and circuit, a prediction, a task, a probe."""
    with sentences():
        from experiments.commands.catalogue import described

        say(described(name, sets or ()))


@app.command()
def check(spec: SpecName, sets: Sets = None, quick: Quick = False, no_cache: NoCache = False) -> None:
    """Check a spec without running it: how much memory, disk and time it takes, measured on a little of it."""
    with sentences(), kept_programs(not no_cache):
        check_addresses()
        from experiments.commands.terminal import print_table
        from experiments.execution.estimate import estimate
        from experiments.machine.progress import shown_progress
        from experiments.spec.loading import load_spec

        loaded = load_spec(spec, sets or (), quick)
        jobs = _prepared(loaded)
        with shown_progress(f"{loaded.name}: calibration") as on_progress:
            print_table(estimate(loaded, jobs, on_progress).table)


def _execute(spec: "Spec", out: Path | None, quick: bool, how: "How") -> None:
    """Run a spec, write what it leaves behind, and tell how it ended, also where it was interrupted."""
    target = out or Path("results") / f"{spec.name}{'-quick' if quick else ''}"
    try:
        with interruptible():
            from experiments import session

            jobs, notify = _prepared(spec), lambda text: say(text, err=True)
            _conclude(spec, target, session.run(spec, jobs, target, how, notify))
    except KeyboardInterrupt:  # before the first point, or while merging, reporting or printing
        kept = any((target / name).exists() for name in ("chunks", "results.nc"))
        tell_interrupted(f"finished points are kept in {target}" if kept else "nothing was changed")


def _prepared(spec: "Spec") -> "dict[str, list[Job]]":
    """The jobs of a spec, and to the user what there is to know of them."""
    from experiments.execution import runner
    from experiments.points.notes import notes_of
    from experiments.predictions.study.choice import check_study

    check_study(spec)
    runner.configure(spec.dtype)
    prepare = runner.prepare
    if spec.heeds_fit:  # an import of half a second
        from experiments.inference.expected import prepared as prepare
    jobs = prepare(spec)
    for note in notes_of(jobs):
        say(note, err=True)
    return jobs


def _conclude(spec: "Spec", target: Path, ended: "Ended") -> None:
    """Print the essentials, and end with the exit code that they deserve."""
    from experiments.commands.terminal import none_ok, print_outcome

    print_outcome(ended)
    kept = f"{ended.points} of {ended.of} points are finished"
    if ended.study is not None and not ended.as_it_was:
        files = [name for name in ("report.html", "results.nc", "summary.json") if name not in ended.study.failed]
        say(f"Written to {target}: {', '.join(files)}, figures, spec.toml.")
    for name, why in ended.study.failed.items() if ended.study else ():
        say(f"{name} could not be made ({why}); all numbers are in {target / 'results.nc'}", err=True)
    if ended.interrupted:
        begun = f"{kept}, and how far others have come is kept in {target}" if ended.begun else "nothing was finished"
        tell_interrupted(f"{kept} and kept in {target}" if ended.points else begun)
    if ended.failures:
        first, why = next(iter(ended.failures.items()))
        plural = "s" * (len(ended.failures) > 1)
        failed = f"{len(ended.failures)} chunk{plural} failed every time, the first with {why}"
        say(f"{failed} ({target}/chunks/{first}.failed.json); the same command tries again", err=True)
        raise typer.Exit(FAILED)
    if ended.study is None:
        say(f"This shard is done; {kept}, and the last shard to finish writes the results to {target}.")
        return
    if not any(counts["ok"] for counts in ended.counts.values()):
        say(none_ok(spec, ended.counts), err=True)
        raise typer.Exit(FAILED)
    failed = [verdict.name for verdict in ended.study.verdicts if verdict.outcome == "failed"]
    undecided = [verdict.name for verdict in ended.study.verdicts if verdict.outcome == "undecided"]
    if undecided:
        claims = f"{len(undecided)} of {len(ended.study.verdicts)} claims"
        say(f"{claims} need more seeds to be decided: {', '.join(undecided)}.", err=True)
    if failed:
        say(f"{len(failed)} of {len(ended.study.verdicts)} claims failed: {', '.join(failed)}.", err=True)
    raise typer.Exit(FAILED if failed or ended.study.failed else DONE)
