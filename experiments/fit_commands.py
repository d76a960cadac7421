"""The commands `plasticode fit` and `plasticode design`. They import what they need themselves, as all commands do."""

from pathlib import Path
from typing import Annotated

import typer

from experiments.console import DONE, FAILED, NoCache, Quick, Seed, Sets, SpecName, check_addresses, say, sentences
from experiments.machine.compilation import kept_programs


def fit(
    spec: SpecName,
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The recording.", show_default="fit.data of the spec")
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Simulate a recording with the numbers of the spec, and fit that.")
    ] = False,
    sets: Sets = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go.", show_default="results/NAME-fit")
    ] = None,
    quick: Quick = False,
    seed: Seed = None,
    no_cache: NoCache = False,
) -> None:
    """Fit the free numbers of a spec's table 'fit' to a recording: estimates, intervals, a verdict on each."""
    with sentences(), kept_programs(not no_cache):
        check_addresses()
        from experiments.execution import runner
        from experiments.inference import sessions
        from experiments.machine.progress import shown_progress
        from experiments.terminal import print_table

        loaded = sessions.loaded(spec, sets or (), quick, seed)
        target = out or Path("results") / f"{loaded.name}-fit"
        runner.configure("float64")
        with shown_progress(f"{loaded.name}: starts") as on_progress:
            found = sessions.fit_into(loaded, data, synthetic, target, on_progress)
        print_table(found.table)
        for sentence in found.sentences:
            say(sentence)
        say(f"Written to {target}: summary.json, fit.nc, spec.toml, figures.")
        raise typer.Exit(DONE if found.ok else FAILED)


def design(
    spec: SpecName,
    sets: Sets = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results go.", show_default="results/NAME-design")
    ] = None,
    quick: Quick = False,
    no_cache: NoCache = False,
) -> None:
    """Tell, without data, how certain a fit would be: expected errors of the free numbers over the spec's sweep."""
    with sentences(), kept_programs(not no_cache):
        check_addresses()
        from experiments.execution import runner
        from experiments.inference import sessions
        from experiments.machine.progress import shown_progress
        from experiments.terminal import print_table

        loaded = sessions.loaded(spec, sets or (), quick, None)
        target = out or Path("results") / f"{loaded.name}-design"
        runner.configure("float64")
        with shown_progress(f"{loaded.name}: protocols") as on_progress:
            found = sessions.design_into(loaded, target, on_progress)
        print_table(found.table)
        for sentence in found.sentences:
            say(sentence)
        say(f"Written to {target}: summary.json, design.nc, spec.toml, figures.")
