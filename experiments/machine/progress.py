"""Progress on stderr: a live line on a terminal, now and then a plain line elsewhere, nothing for what is quick."""

import contextlib
import functools
import html
import importlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from dynamics.errors import visible
from experiments.machine.interrupts import raise_if_interrupted

PATIENCE = 2.0  # seconds before anything is shown
EVERY_SECONDS, EVERY_FRACTION, EVERY_MINUTE = 5.0, 0.1, 60.0  # between two plain lines
SOON = 1.0  # seconds that are left, of which nothing is told
EVERY_UPDATE = 0.2  # seconds between two states of a bar in a notebook
POINTS = "points"  # of a sweep
Amount = Annotated[float, Field(strict=True, ge=0, lt=1e18)]
Whole = Annotated[int, Field(strict=True, ge=0, lt=10**18)]
Words = Annotated[str, Field(strict=True, max_length=40, pattern=r"^[a-zA-Z]+( [a-zA-Z]+)*$")]


class Progress(NamedTuple):
    """Work that is done, of all; points that are finished, of all, where there are points; chunks that failed.

    `rate` is in points per second and `left` in seconds, both from what this process has done. `what` the points are:
    those of a sweep, or of the present search of a fit, which have no rate, as they end together.
    """

    done: Amount
    total: Amount
    points: Whole = 0
    of: Whole = 0
    failures: Whole = 0
    rate: Amount = 0.0
    left: Amount | None = None
    what: Words = POINTS

    @property
    def fraction(self) -> float:
        """What part of the work is done."""
        return min(self.done / self.total, 1.0) if self.total else 1.0

    @property
    def facts(self) -> list[str]:
        """All but the fraction, as short texts."""
        facts = [f"{self.points} of {self.of} {self.what} finished"] if self.of else []
        facts += [f"{self.rate:.3g} {self.what}/s"] if self.rate else []
        facts += [f"{self.failures} chunk{'s' * (self.failures > 1)} failed"] if self.failures else []
        if self.left is None or self.left < SOON:
            return facts
        return [*facts, f"about {span(self.left)} left"]


def progress_told(content: object) -> Progress | None:
    """The progress that another process has told, which may be of another release; None where it makes no sense."""
    try:
        return _schema().validate_python(content) if isinstance(content, dict) else None
    except ValidationError:
        return None


@functools.cache
def _schema() -> Any:
    """Made when it is needed: it takes longer than what it looks at."""
    return TypeAdapter(Progress)


OnProgress = Callable[[Progress], None]


def span(seconds: float) -> str:
    """A time to read: seconds up to five minutes, then minutes, then hours, then days."""
    for unit, size, most in (("s", 1, 300), ("min", 60, 180 * 60), ("h", 3600, 72 * 3600)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


class Meter:
    """Adds up finished work, and tells whoever asked; where an interrupt was dropped, it is raised again here.

    `total`, `of` and what is `finished` already, (work, points), are given at the start.
    """

    def __init__(
        self, report: OnProgress | None, total: float, of: int = 0, finished: tuple[float, int] = (0.0, 0)
    ) -> None:
        self.report, self.total, self.of, self.what = report, total, of, POINTS
        self.done, self.points = finished
        self.partial, self.ended, self.failures = 0.0, 0, 0
        self.base, self.start = self.done, time.monotonic()

    def enter(self, what: str, of: int, finished: int) -> None:
        """Points are those of another search of a fit from now on, so many of them `finished` already."""
        self.what, self.of, self.points = what, of, finished

    def begin(self) -> None:
        """Time counts from here, if nothing was settled yet: before that programs were compiled."""
        if self.done == self.base:
            self.base, self.start = self.done + self.partial, time.monotonic()

    def advance(self, work: float, points: int = 0) -> None:
        """Some of the work, and of the points, that is settled later."""
        self.partial, self.ended = self.partial + work, self.ended + points
        self._tell()

    def restart(self) -> None:
        """What was advanced is to be done again."""
        self.partial, self.ended = 0.0, 0

    def settle(self, work: float, points: int = 0, failed: bool = False) -> None:
        """A piece of work is over, whatever of it was told before."""
        self.restart()
        self.done, self.points = self.done + work, self.points + points * (not failed)
        self.failures += failed
        self._tell()

    @property
    def now(self) -> Progress:
        """How far the work is."""
        done, seconds = self.done + self.partial, time.monotonic() - self.start
        pace = (done - self.base) / seconds if seconds > 0 else 0.0
        left = (self.total - done) / pace if pace > 0 else None
        rate = pace * self.of / self.total if pace > 0 and self.what == POINTS else 0.0
        return Progress(done, self.total, self.points + self.ended, self.of, self.failures, rate, left, self.what)

    def _tell(self) -> None:
        raise_if_interrupted()
        if self.report is not None:
            self.report(self.now)


@contextlib.contextmanager
def shown_progress(what: str, console: Console | None = None) -> Iterator[OnProgress]:
    """Show how far `what` is while the body runs; the body calls `on_progress(progress)`."""
    console, what = Console(stderr=True) if console is None else console, visible(what)
    if console.is_jupyter:
        cell = _Cell(what)
        try:
            yield cell
        finally:
            cell.end()
        return
    if not console.is_terminal:
        yield _PlainLines(what, console)
        return
    name, facts = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[facts]}", markup=False)
    columns = name, BarColumn(16), TaskProgressColumn(), facts
    bar: Any = Bar(*columns, console=console, transient=True)
    task = bar.add_task(what, total=None, facts="")
    starter = threading.Timer(PATIENCE, bar.start)
    starter.start()
    try:
        yield lambda now: bar.update(task, completed=now.done, total=now.total, facts=", ".join(now.facts))
    finally:
        starter.cancel()
        starter.join()  # a bar that starts after it was stopped would never end
        bar.stop()


class _Cell:
    """A bar below the cell of a notebook."""

    def __init__(self, what: str):
        self.what, self.handle = what, None
        self.last_time = time.monotonic() + PATIENCE - EVERY_UPDATE

    def __call__(self, now: Progress) -> None:
        silence = time.monotonic() - self.last_time
        if silence < EVERY_UPDATE and (now.fraction < 1 or self.handle is None):
            return
        self.last_time = time.monotonic()
        facts = ", ".join([f"{now.fraction:.0%}", *now.facts])
        shown: Any = importlib.import_module("IPython.display")  # is there, where there are notebooks
        bar = shown.HTML(f'<progress max="1" value="{now.fraction:.3f}"></progress> {html.escape(self.what)}: {facts}')
        if self.handle is None:
            self.handle = shown.display(bar, display_id=True)
        else:
            self.handle.update(bar)

    def end(self) -> None:
        """Takes the bar away, as that of a terminal is."""
        if self.handle is not None:
            self.handle.update(importlib.import_module("IPython.display").HTML(""))


class _PlainLines:
    """A line after every tenth of the work, but none within 5 seconds of the last; in slow work one a minute."""

    def __init__(self, what: str, console: Console):
        self.what, self.console = what, console
        self.last_time, self.last_fraction = time.monotonic() + PATIENCE - EVERY_SECONDS, 0.0

    def __call__(self, now: Progress) -> None:
        silence = time.monotonic() - self.last_time
        if silence < EVERY_SECONDS or now.fraction >= 1 or now.fraction == self.last_fraction:
            return
        if silence < EVERY_MINUTE and now.fraction - self.last_fraction < EVERY_FRACTION:
            return
        self.last_time, self.last_fraction = time.monotonic(), now.fraction
        text = f"{self.what}: {', '.join([f'{now.fraction:.0%} done', *now.facts])}"
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
