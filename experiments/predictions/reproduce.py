"""Measures predictions, each in one of a few processes: one that fails or dies harms no other."""

import dataclasses
import io
import multiprocessing
import resource
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

from matplotlib.figure import Figure

from dynamics.errors import PlasticodeError
from experiments.machine.interrupts import heard, interruptible, raise_if_interrupted
from experiments.machine.processes import deaf, end_with_parent, one_core_each
from experiments.machine.progress import Meter, OnProgress
from experiments.predictions.contract import AbstractPrediction
from experiments.results.verdicts import Decision, Verdict, together


class Outcome(NamedTuple):
    """What became of a prediction: its verdicts, its figure as PNG, notes; how long it took, and the process's memory.

    `failure` is the traceback of a prediction that broke off; its one verdict says so.
    """

    prediction: AbstractPrediction
    verdicts: list[Verdict]
    figure: bytes
    notes: list[str]
    seconds: float
    megabytes: float = 0.0
    failure: str = ""

    @property
    def passed(self) -> bool:
        """Whether all of its claims hold."""
        return self.outcome == "passed"

    @property
    def outcome(self) -> Decision:
        """Failed where a claim has, else undecided where one is."""
        return together(verdict.outcome for verdict in self.verdicts)


class Measured(NamedTuple):
    """The outcomes by name, in the order of the request; `complete` is false after an interrupt."""

    outcomes: dict[str, Outcome]
    complete: bool


def measure(prediction: AbstractPrediction) -> Outcome:
    """Measure one prediction here and now. A user's mistake raises `PlasticodeError`; any other failure is an outcome.

    Its verdicts get the prediction's source, since they all share it.
    """
    import jax

    started = time.perf_counter()
    try:
        verdicts, figure, notes = prediction.measure()
        verdicts = [dataclasses.replace(v, source=v.source or prediction.source) for v in verdicts]
        picture = _png(figure)
    except (PlasticodeError, KeyboardInterrupt):
        raise
    except Exception as error:
        return _broken(prediction, error, time.perf_counter() - started)
    finally:
        jax.clear_caches()  # programs hold memory maps, of which a process has a limited number
    seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Outcome(prediction, verdicts, picture, list(notes), seconds, peak / 1024)


def measure_all(
    predictions: Mapping[str, AbstractPrediction],
    workers: int,
    on_progress: OnProgress | None = None,
    hasty: bool = False,
) -> Measured:
    """Measure predictions on `workers` processes. An interrupt keeps what is finished.

    `hasty` compiles quickly to slower programs, which pays where predictions are small.

    A process that dies takes down all that share its pool: what was left is then measured in a pool of its own each.
    """
    outcomes: dict[str, Outcome] = {}

    def finished(name: str, outcome: Outcome) -> None:
        outcomes[name] = outcome
        meter.settle(1.0)

    meter, complete = Meter(on_progress, float(len(predictions))), True
    try:
        with one_core_each(hasty), interruptible():
            for name in _run(predictions, workers, finished):
                for dead in _run({name: predictions[name]}, 1, finished):
                    finished(dead, _broken(predictions[dead], RuntimeError("its process died, perhaps of memory"), 0.0))
    except KeyboardInterrupt:
        heard()
        complete = False
    return Measured({name: outcomes[name] for name in predictions if name in outcomes}, complete)


def _run(
    predictions: Mapping[str, AbstractPrediction], workers: int, finished: Callable[[str, Outcome], None]
) -> list[str]:
    """Measure predictions in one pool; returns the names of those that went down with a process."""
    pool = ProcessPoolExecutor(min(workers, len(predictions)), multiprocessing.get_context("spawn"), initializer=_start)
    lost: list[str] = []
    try:
        with deaf():
            left = {pool.submit(measure, prediction): name for name, prediction in predictions.items()}
        while left:
            done = wait(left, timeout=0.5, return_when=FIRST_COMPLETED).done
            raise_if_interrupted()
            for future in done:
                name = left.pop(future)
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    lost.append(name)
                except PlasticodeError as error:  # parameters that only turn out not to fit while it is measured
                    finished(name, _broken(predictions[name], error, 0.0))
                else:
                    finished(name, outcome)
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return lost


def _start() -> None:
    """Sets up a worker process."""
    end_with_parent()
    from experiments.execution import runner

    runner.configure("float64", devices=1)


def _broken(prediction: AbstractPrediction, error: Exception, seconds: float) -> Outcome:
    kind = "" if isinstance(error, PlasticodeError) else f"{type(error).__name__}: "
    said = f"{kind}{error}".splitlines()[0]
    quantity = "whether it can be measured at all"
    verdict = Verdict("could not be measured", prediction.source, quantity, "a result", said, "none", "failed")
    return Outcome(prediction, [verdict], b"", [], seconds, failure="".join(traceback.format_exception(error)))


def _png(figure: Figure) -> bytes:
    from experiments.report.figures import style

    file = io.BytesIO()
    with style():
        figure.savefig(file, format="png")
    return file.getvalue()
