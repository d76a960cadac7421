"""Ctrl-C and the system's request to end: heard wherever they fall."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

INTERRUPTED = threading.Event()
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SPENT: list[int] = []  # those that were received, and not yet obeyed


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Both raise `KeyboardInterrupt` in the body, and are noted: where one falls into a callback of jax's or a
    finaliser, Python drops the exception, and what is at work there may make another error of it. A second one of the
    same kind does what the system does, unless the first was `heard`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    INTERRUPTED.clear()
    _SPENT.clear()
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    unraisable = sys.unraisablehook
    sys.unraisablehook = lambda told: None if told.exc_type is KeyboardInterrupt else unraisable(told)
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        yield
    except Exception:
        raise_if_interrupted()
        raise
    finally:
        INTERRUPTED.clear()  # whoever runs next in this process was not interrupted
        _SPENT.clear()
        sys.unraisablehook = unraisable
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: object) -> None:
    INTERRUPTED.set()
    _SPENT.append(number)
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    raise KeyboardInterrupt


def heard() -> None:
    """An interrupt was obeyed: the next one raises again."""
    INTERRUPTED.clear()
    while _SPENT:
        signal.signal(_SPENT.pop(), _interrupt)


def raise_if_interrupted() -> None:
    """Raise what Python may have dropped."""
    if INTERRUPTED.is_set():
        INTERRUPTED.clear()
        raise KeyboardInterrupt
