"""The integrators by the names that specs have for them."""

import functools
from collections.abc import Callable

from dynamics.errors import unknown
from dynamics.integrators.adaptive import Adaptive
from dynamics.integrators.contract import AbstractIntegrator
from dynamics.integrators.fixed_step import FixedStep
from dynamics.integrators.solvers import SOLVERS
from dynamics.integrators.window import Window

INTEGRATORS: dict[str, Callable[..., AbstractIntegrator]] = {
    "window": Window,
    **{name: functools.partial(FixedStep, name) for name in SOLVERS},
}


def integrator_named(name: str, adaptive: bool = False) -> AbstractIntegrator:
    """The integrator called `name`, at its default settings; `adaptive`: with its steps chosen by an error estimate."""
    if name not in INTEGRATORS:
        raise unknown("integrator", name, INTEGRATORS)
    return Adaptive(name=name) if adaptive else INTEGRATORS[name]()


def fitting(fits: Callable[[AbstractIntegrator], bool]) -> list[str]:
    """The names of those that fit."""
    return [name for name, make in INTEGRATORS.items() if fits(make())]
