"""Measures predictions, each in one of a few processes: one that fails, hangs or dies harms no other."""

import dataclasses
import io
import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import NamedTuple

from dynamics.errors import PlasticodeError
from experiments.predictions.contract import AbstractPrediction
from experiments.verdicts import Verdict

OnProgress = Callable[[float, float], None]
# Read by the workers' compiler when it starts: a worker has one core to itself.
ONE_CORE = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


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
        return all(verdict.passed for verdict in self.verdicts)


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
    predictions: Mapping[str, AbstractPrediction], workers: int, on_progress: OnProgress | None = None
) -> Measured:
    """Measure predictions on `workers` processes. An interrupt keeps what is finished."""
    outcomes: dict[str, Outcome] = {}
    inherited = {name: os.environ.get(name) for name in ONE_CORE}
    os.environ.update({name: value for name, value in ONE_CORE.items() if inherited[name] is None})
    complete, context = True, multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(predictions)), context, initializer=_start)
    futures = {pool.submit(measure, prediction): name for name, prediction in predictions.items()}
    try:
        left = set(futures)
        while left:
            done, left = wait(left, return_when=FIRST_COMPLETED)
            for future in done:
                name = futures[future]
                outcomes[name] = _outcome(future, predictions[name])
            if on_progress is not None:
                on_progress(len(outcomes), len(predictions))
    except KeyboardInterrupt:
        complete = False
    finally:
        for process in multiprocessing.active_children() if len(outcomes) < len(predictions) else ():
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        for name, value in inherited.items():
            if value is None:
                os.environ.pop(name)
    return Measured({name: outcomes[name] for name in predictions if name in outcomes}, complete)


def _start() -> None:
    """Sets up a worker process: the parent alone hears of interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from experiments import runner

    runner.configure("float64", devices=1)


def _outcome(future: "Future[Outcome]", prediction: AbstractPrediction) -> Outcome:
    try:
        return future.result()
    except PlasticodeError:
        raise
    except Exception as error:  # a worker died, most likely for want of memory
        return _broken(prediction, error, 0.0)


def _broken(prediction: AbstractPrediction, error: Exception, seconds: float) -> Outcome:
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    quantity = "whether it can be measured at all"
    verdict = Verdict("could not be measured", prediction.source, quantity, "a result", said, "none", False)
    return Outcome(prediction, [verdict], b"", [], seconds, failure="".join(traceback.format_exception(error)))


def _png(figure) -> bytes:
    from experiments.figures import style

    file = io.BytesIO()
    with style():
        figure.savefig(file, format="png")
    return file.getvalue()
