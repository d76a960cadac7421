"""Ctrl-C and the system's request to end: heard wherever they fall."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

SIGNALLED: set[int] = set()  # no threading.Event: its lock would be waited for by the handler of who holds it
SIGNALS = (signal.SIGINT, signal.SIGTERM)
_UNRAISABLE: list[object] = []  # that of the system, while `interruptible` has another in its place


def quiet() -> None:
    """Outside of `interruptible` Ctrl-C ends the process as the system does, without a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Both raise `KeyboardInterrupt` in the body, and are noted: where one falls into a callback of jax's or a
    finaliser, Python drops the exception, and what is at work there may make another error of it. A second one, of
    either kind, ends the process at once, unless the first was `heard`: tidying up must not meet an exception."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.nullcontext() if _UNRAISABLE else _handled():
        try:
            yield
        except Exception:
            raise_if_interrupted()
            raise


@contextlib.contextmanager
def _handled() -> Iterator[None]:
    SIGNALLED.clear()
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    _UNRAISABLE.append(sys.unraisablehook)
    try:
        _arm()
        yield
    finally:
        SIGNALLED.clear()  # whoever runs next in this process was not interrupted
        sys.unraisablehook = _UNRAISABLE.pop()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _arm() -> None:
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(number: int, *_: object) -> None:
    SIGNALLED.add(number)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    sys.unraisablehook = lambda told: None  # the finalisers of what was interrupted half made
    raise KeyboardInterrupt


def heard() -> None:
    """An interrupt was obeyed: the next one raises again."""
    SIGNALLED.clear()
    if _UNRAISABLE and threading.current_thread() is threading.main_thread():
        _arm()


def raise_if_interrupted() -> None:
    """Raise what Python may have dropped."""
    if SIGNALLED:
        SIGNALLED.clear()
        raise KeyboardInterrupt
