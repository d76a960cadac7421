"""Counts what this process compiles."""

import jax

_EVENTS: list[str] = []
jax.monitoring.register_event_duration_secs_listener(lambda event, duration_secs, **_: _EVENTS.append(event))


def compilations() -> int:
    """How many programs have been compiled so far, those included that a store of programs had."""
    return sum(name.endswith("backend_compile_duration") for name in _EVENTS)
