"""What is kept for a second time, within bounds: compiled programs, and what tracing tells of what is alike.

A program holds memory maps of the process, and Linux allows 65530 of them.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax

Made = TypeVar("Made")


def forget() -> None:
    """Let go all that is kept, by jax too: where code has changed since, the next use makes it anew."""
    jax.clear_caches()
    for kept in _EVERY:
        kept.clear()


class Kept:
    """What was made for at most `most` keys: beyond that what was used longest ago is let go."""

    def __init__(self, most: int):
        self.most = most
        self._made: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()  # programs are compiled in threads
        _EVERY.add(self)

    def get(self, key: Hashable) -> Any:
        """What there is for a key, which counts as a use; None where there is nothing."""
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
            return self._made.get(key)

    def keep(self, key: Hashable, made: Any) -> None:
        """Keep what was made."""
        with self._lock:
            self._made[key] = made
            self._made.move_to_end(key)
            while len(self._made) > self.most:
                self._made.popitem(last=False)

    def made(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What there is for a key, made now where there is nothing."""
        found = self.get(key)
        if found is None:
            found = make()
            self.keep(key, found)
        return found

    def clear(self) -> None:
        """Let all of it go."""
        with self._lock:
            self._made.clear()


_EVERY: weakref.WeakSet[Kept] = weakref.WeakSet()
