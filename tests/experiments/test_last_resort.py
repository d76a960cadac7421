"""What may go wrong once all points have run: no figure, no text and no signal costs the results."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from experiments import session
from experiments.machine import interrupts
from experiments.machine.interrupts import SIGNALS, heard, interruptible
from experiments.report import figures, report
from experiments.report.figures import generic_figures, save
from experiments.results import netcdf
from experiments.results.labels import Results
from experiments.storage import merge
from tests.experiments.commands.test_cli import WRITTEN, names, plasticode, summary
from tests.experiments.results.test_ownership import OUT, here, put, run  # noqa: F401

pytestmark = pytest.mark.usefixtures("unchecked_types")
STRANGE = ["$x^{", "$", "$a$ and $\\nosuch{$", "_hidden", "a_{b", "two\nlines", "\\$5", "{}", "%d"]


def fails(*_, **__):
    raise RuntimeError("a $broken$\n  font")


# --------------------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize("numbers", [0, 1, 2])
def test_texts_are_drawn_as_they_are(numbers, tmp_path):
    """As values of an axis, its name, and the name of a matrix: against time, a number, and on maps."""
    axes = {"rule.$x_{": STRANGE} | {f"$p_{number}$": [1.0, 2.0, 4.0] for number in range(numbers)}
    shape = [len(values) for values in axes.values()]
    dims = [*axes, "record", "matrix"]
    values = np.arange(np.prod([*shape, 4.0])).reshape(*shape, 2, 2)
    data = xr.Dataset(
        {"status": (list(axes), np.zeros(shape, np.int8)), "alignment": (dims, values, {"long_name": "$a_{$"})},
        {**axes, "presentation": ("record", [0, 5]), "matrix": ["$W_{$", "_W"]},
    )
    found = generic_figures(Results({"": data}, True))
    (file,) = save(found, tmp_path).values()
    assert file.read_bytes().startswith(b"\x89PNG")
    (figure,) = found.values()
    titles = {panel.title.get_text() for panel in figure.axes}
    if numbers < 2:
        assert [text.get_text() for text in figure.legends[0].get_texts()] == STRANGE
        assert figure.legends[0].get_title().get_text() == "rule.$x_{" and titles == {"$W_{$", "_W"}
    else:
        assert "$W_{$, $x^{" in titles
    assert not any(text.get_parse_math() for panel in figure.axes for text in (panel.title, panel.xaxis.label))


# ------------------------------------------------------------------------------------------------------- figures, pages


PROBES = ["--set", 'record.probes=["loss", "weight_norm"]']


@pytest.mark.parametrize("where", ["drawn", "saved"])
def test_a_figure_that_fails_costs_no_other(where, monkeypatch):
    real, savefig = figures._figure, figures.Figure.savefig
    with monkeypatch.context() as patch:
        if where == "drawn":
            patch.setattr(figures, "_figure", lambda data, probe: fails() if probe == "loss" else real(data, probe))
        else:
            patch.setattr(
                figures.Figure, "savefig", lambda self, f: fails() if f.name == "loss.png" else savefig(self, f)
            )
        for _ in range(2):  # the same command tries again
            told = run(*PROBES, code=1)
            assert told.stderr.splitlines()[-1] == (
                "figures/loss.png could not be made (RuntimeError: a $broken$ font); all numbers are in out/results.nc"
            )
            assert names(OUT) == WRITTEN and names(OUT / "figures") == ["weight_norm.png"]
    assert summary(OUT)["not_written"] == {"figures/loss.png": "RuntimeError: a $broken$ font"}
    before = (OUT / "results.nc").stat().st_mtime_ns
    run(*PROBES)
    assert names(OUT / "figures") == ["loss.png", "weight_norm.png"] and summary(OUT)["not_written"] == {}
    assert (OUT / "results.nc").stat().st_mtime_ns == before


def test_a_page_that_fails_costs_no_figure(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(report, "page", fails)
        patch.setattr(session, "final_tables", fails)
        told = run(code=1)
    assert "report.html could not be made" in told.stderr and "the table could not be made" in told.stderr
    assert "report.html" not in told.stdout and names(OUT) == [name for name in WRITTEN if name != "report.html"]
    run()
    assert names(OUT) == WRITTEN


# -------------------------------------------------------------------------------------------------------------- signals


MOMENTS = {
    "merging": (merge, "_fill"),
    "summarising": (report, "summary"),
    "drawing": (figures, "_figure"),
    "writing the page": (report, "page"),
    "publishing": (netcdf, "_publish"),
}


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_the_end_of_a_run_ends_it_at_once(moment, dropped, monkeypatch):
    """Also where Python drops the exception, or something makes another error of it. (The program of kills sends the
    other signals at all of these moments.)"""
    where, name = MOMENTS[moment]
    real = getattr(where, name)

    def signalled(*arguments, **named):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            if not dropped:
                raise
            if moment in ("drawing", "publishing"):
                raise ValueError("made of it") from None
        return real(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, signalled)
        told = run(code=130)
    assert "interrupted: finished points are kept in out; to go on: " in told.stderr and "Traceback" not in told.stderr
    assert len(list(OUT.glob("chunks/*.nc"))) == 2 and names(OUT) == ["chunks"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    run()
    assert names(OUT) == WRITTEN and json.loads((OUT / "summary.json").read_text())["complete"]


def test_a_second_signal_while_an_interrupted_run_is_reported(monkeypatch):
    """The first one fell into the computation, and what was finished is merged."""
    real = session.keep

    def signalled(*arguments):
        real(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(session, "keep", signalled)
        patch.setattr(session, "merge", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert "interrupted: finished points are kept in out" in run(code=130).stderr
    assert names(OUT) == ["chunks"]


def test_a_signal_while_a_table_is_written_leaves_the_one_that_was_there(monkeypatch):
    run()
    Path("table.csv").write_text("before")
    monkeypatch.setattr("experiments.results.export._write_csv", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert "interrupted" in plasticode("export", "out", "table.csv", code=130).stderr
    assert Path("table.csv").read_text() == "before" and names(".") == ["out", "quick.toml", "table.csv"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "where, kept",
    [
        ("experiments.spec.loading.load_spec", False),
        ("experiments.execution.runner.prepare", False),
        ("experiments.commands.terminal.print_outcome", True),
    ],
)
def test_a_signal_before_and_after_the_points_run(where, kept, number, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(where, lambda *_: os.kill(os.getpid(), number))
        told = run(code=130).stderr
    expected = "finished points are kept in out" if kept else "nothing was changed"
    assert expected in told and told.count("to go on") == 1
    assert names(".") == (["out", "quick.toml"] if kept else ["quick.toml"])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_what_is_half_made_when_a_signal_falls_says_nothing(capsys, monkeypatch):
    class Half:
        def __init__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            self.closed = False

        def __del__(self):
            self.closed  # noqa: B018 - which it does not have

    monkeypatch.setattr("sys.unraisablehook", lambda told: print(told.exc_value))
    with interruptible():
        with contextlib.suppress(KeyboardInterrupt):
            Half()
        gc.collect()
    assert not "".join(capsys.readouterr())


def test_a_second_signal_ends_the_process_as_the_system_does():
    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_DFL}
            heard()
            assert signal.SIG_DFL not in {signal.getsignal(number) for number in SIGNALS}
            with interruptible():  # within another
                os.kill(os.getpid(), signal.SIGTERM)


def test_no_signal_at_the_very_end_waits_for_ever(monkeypatch):
    """At every step of the way out, one of which might hold a lock that the handler wants."""
    met, hook = [], sys.unraisablehook
    was = signal.signal(signal.SIGTERM, lambda *_: met.append(1))

    def late(*_):
        raise TimeoutError("the handler waits")

    before = signal.signal(signal.SIGALRM, late)
    try:
        for event in range(1, 40):
            events = iter(range(10**6))
            signal.alarm(10)
            with contextlib.suppress(KeyboardInterrupt), interruptible():
                sys.setprofile(lambda *_: next(events) == event and os.kill(os.getpid(), signal.SIGTERM))  # noqa: B023
            sys.setprofile(None)
            signal.signal(signal.SIGTERM, lambda *_: met.append(1))
        assert met  # it went on beyond the last step
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        signal.signal(signal.SIGTERM, was)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupts.SIGNALLED.clear()  # what a way out that was cut short has left
        interrupts._UNRAISABLE.clear()
        sys.unraisablehook = hook


def test_what_a_killed_export_left_goes_with_the_next_one_to_the_same_file():
    """Of a process that has ended, here; nothing else that is named alike."""
    run()
    host, living = os.uname().nodename, os.getppid()
    with subprocess.Popen(["true"]) as ended:
        pass
    stays = [f".table.csv.{host}-{living}.partial", f".table.csv.{ended.pid}.partial"]
    stays += [f".other.csv.{host}-{ended.pid}.partial", f".table.csv.elsewhere-{ended.pid}.partial"]
    put(*stays, f".table.csv.{host}-{ended.pid}.partial", "kept")
    link = Path(f".table.csv.{host}-0{ended.pid}.partial")
    link.symlink_to("kept")
    plasticode("export", "out", "table.csv")
    assert names(".") == sorted([*stays, link.name, "kept", "out", "quick.toml", "table.csv"])
