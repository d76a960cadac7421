"""The commands `plasticode fit` and `plasticode design`. They import what they need themselves, as all commands do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.commands.console import (
    FAILED,
    Force,
    NoCache,
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
from experiments.machine.interrupts import interruptible


def fit(
    spec: SpecName,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The recording.", show_default="fit.data of the spec")
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Simulate a recording with the numbers of the spec, and fit that.")
    ] = False,
    rules: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Compare rules: which explains it?", show_default="fit.rules of the spec"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look whether the recording has the layout that the spec asks for.")
    ] = False,
    sets: Sets = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go.", show_default="results/NAME-fit")
    ] = None,
    quick: Quick = False,
    seed: Seed = None,
    force: Force = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    no_cache: NoCache = False,
) -> None:
    """Fit the free numbers of a spec's table 'fit' to a recording: estimates, intervals, a verdict on each.

    The same command again goes on where it was stopped.
    """

    named = [] if rules is None else [f"fit.rules={json.dumps([name.strip() for name in rules.split(',')])}"]

    def into(sessions: Any, loaded: Any, target: Path, on_progress: Any) -> Any:
        if check:
            return sessions.check_into(loaded, data, synthetic)
        how = _how(workers, scheduler, force)
        return sessions.fit_into(loaded, data, synthetic, target, how, on_progress, _notice)

    _carried_out("fit", (spec, [*(sets or ()), *named], quick, seed), out, no_cache, into, writes=not check)


def design(
    spec: SpecName,
    sets: Sets = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go.", show_default="results/NAME-design")
    ] = None,
    quick: Quick = False,
    force: Force = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    no_cache: NoCache = False,
) -> None:
    """Tell, without data, how certain a fit would be: expected errors of the free numbers over the spec's sweep.

    The same command again goes on where it was stopped.
    """

    def into(sessions: Any, loaded: Any, target: Path, on_progress: Any) -> Any:
        return sessions.design_into(loaded, target, _how(workers, scheduler, force), on_progress, _notice)

    _carried_out("design", (spec, sets or (), quick, None), out, no_cache, into)


def _how(workers: int | None, scheduler: str | None, force: bool) -> Any:
    from experiments.execution.keeping import how_to_run

    return how_to_run(workers, scheduler, None, force)


def _notice(text: str) -> None:
    say(text, err=True)


def _carried_out(
    name: str, asked: tuple, out: Path | None, no_cache: bool, into: Callable[..., Any], writes: bool = True
) -> None:
    """Do what a command is there for, `into(sessions, spec, directory, on_progress)`, with the spec that was `asked`
    for, and tell what came of it."""
    with sentences(), kept_programs(not no_cache):
        check_addresses()
        from experiments.commands.terminal import print_table
        from experiments.execution import runner
        from experiments.inference import sessions
        from experiments.machine.progress import shown_progress

        loaded = sessions.loaded(*asked)
        target = out or Path("results") / f"{loaded.name}-{name}"
        runner.configure("float64")
        try:
            with interruptible(), shown_progress(loaded.name) as on_progress:
                found = into(sessions, loaded, target, on_progress)
        except KeyboardInterrupt:
            kept = (target / "chunks").exists()
            tell_interrupted(f"what is done is kept in {target}" if kept else "nothing was changed")
        for table in found.tables:
            print_table(table)
        for sentence in found.sentences:
            say(sentence)
        if writes:
            say(f"Written to {target}: summary.json, {name}.nc, spec.toml, report.html, figures.")
        if not found.ok:
            raise typer.Exit(FAILED)
