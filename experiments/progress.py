"""Progress on stderr: a live line on a terminal, now and then a plain line elsewhere, nothing for what is quick."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

PATIENCE = 2.0  # seconds before anything is shown
EVERY_SECONDS, EVERY_FRACTION = 5.0, 0.1  # between two plain lines

OnProgress = Callable[[float, float], None]


@contextlib.contextmanager
def shown(what: str, console: Console | None = None) -> Iterator[OnProgress]:
    """Show how far `what` is while the body runs; the body calls `on_progress(done, total)`."""
    console = Console(stderr=True) if console is None else console
    if not console.is_terminal:
        yield _PlainLines(what, console)
        return
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("time left")
    bar: Any = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
    task = bar.add_task(what, total=None)
    starter = threading.Timer(PATIENCE, bar.start)
    starter.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        starter.cancel()
        starter.join()  # a bar that starts after it was stopped would never end
        bar.stop()


class _PlainLines:
    """A line after every tenth of the work, but none within 5 seconds of the last."""

    def __init__(self, what: str, console: Console):
        self.what, self.console = what, console
        self.start = time.monotonic()
        self.last_time, self.last_fraction = self.start + PATIENCE - EVERY_SECONDS, 0.0

    def __call__(self, done: float, total: float) -> None:
        now, fraction = time.monotonic(), done / total if total else 1.0
        if now - self.last_time < EVERY_SECONDS or fraction - self.last_fraction < EVERY_FRACTION or fraction >= 1:
            return
        self.last_time, self.last_fraction = now, fraction
        left = (now - self.start) * (1 - fraction) / fraction
        text = f"{self.what}: {fraction:.0%} done, about {left:.0f} s left"
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
