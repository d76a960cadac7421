"""Ctrl-C and the system's request to end: heard wherever they fall."""

import contextlib
import signal
import threading
from collections.abc import Iterator

INTERRUPTED = threading.Event()
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Both raise `KeyboardInterrupt` in the body, and are noted: where one falls into a callback of jax's, Python drops
    the exception. A second one of the same kind does what the system does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _: object) -> None:
        INTERRUPTED.set()
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        raise KeyboardInterrupt

    INTERRUPTED.clear()
    previous = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def raise_if_interrupted() -> None:
    """Raise what Python may have dropped."""
    if INTERRUPTED.is_set():
        INTERRUPTED.clear()
        raise KeyboardInterrupt
