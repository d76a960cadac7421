"""Phases: stages of a run, each with its own values of traced numbers and of the task, and the state carried over."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dynamics.errors import PlasticodeError, printable, refused
from experiments.spec.axes import AT_THE_START
from experiments.spec.paths import assign, check_path, covers, phase_path, quantity_at
from experiments.spec.spec import Phase, Spec
from experiments.spec.tables import TRACED

_LAGS = [path for path in TRACED if path.startswith("delays.")]


def check_free(phases: Sequence[Phase], swept: Sequence[str]) -> None:
    """Refuse phases that set what a sweep decides on."""
    for number, phase in enumerate(phases):
        for path, value in phase.set.items():
            for axis in swept:
                of, inner = phase_path(axis)
                if of in ("", phase.named(number)) and (covers(inner, path) or covers(path, inner)):
                    raise refused(f"phases.{phase.named(number)}.set.{path}", value, f"sweep.{axis} decides on it")


def late_phases(phases: Sequence[Phase]) -> list[str]:
    """The lags that any of the phases sets to more than 0."""
    return [path for phase in phases for path, value in phase.set.items() if path in _LAGS and _more(path, value)]


def lags_of(spec: Spec, beside: Sequence[str]) -> list[str]:
    """The lags that a spec has, or that are `beside` it: a phase of it may set them to 0."""
    return [path for path in _LAGS if path in beside or spec.at(path).value != 0]


def _more(path: str, value: Any) -> bool:
    try:
        return TRACED[path].read(value).value != 0
    except ValueError:  # which is told where the phase is made
        return False


def phase_specs(spec: Spec, make: Callable[[Mapping[str, Any]], Spec]) -> tuple[Spec, ...]:
    """The spec of each phase, as of a run of its own; `make` makes one of a table.

    What a phase cannot set raises `PlasticodeError`.
    """
    found = []
    values = spec.values()
    # What is seen inside is numbered over the whole run, not in a phase.
    record = {key: value for key, value in values["record"].items() if not key.startswith("inside")}
    for number, phase in enumerate(spec.phases):
        table = values | {"phases": (), "record": record}
        try:
            for path, value in phase.set.items():
                check_path(path, table, "set.")
                _check_settable(path, value, table)
                assign(table, path, value)
            assign(table, "stimulus.presentations", phase.presentations)
            own = make(table)
            # A solver is chosen by what is swept, too.
            if own.model_copy(update={"sweep": spec.sweep}).solver != spec.solver:
                needed = f"it needs integrator '{own.solver}', and the run has '{spec.solver}'"
                raise PlasticodeError(f"{needed}: integrator.name must be given")
        except PlasticodeError as error:
            raise PlasticodeError(f"in phase '{printable(phase.named(number))}': {error}") from None
        found.append(own)
    return tuple(found)


def _check_settable(path: str, value: Any, table: Mapping[str, Any]) -> None:
    if path in AT_THE_START:
        raise refused(f"set.{path}", value, "weights are drawn before the first phase")
    if path.partition(".")[0] != "task" and quantity_at(path, table) is None:
        told = "a phase sets the task, and numbers that are swept without a new program"
        raise refused(f"set.{path}", value, told)
