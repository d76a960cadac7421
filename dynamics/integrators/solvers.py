"""The solvers that take one step, by the names that specs and integrators have for them."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import diffrax

from dynamics.errors import PlasticodeError, unknown
from dynamics.integrators.milstein import Milstein


class Solver(NamedTuple):
    """A solver, the solution to which it converges along multiplicative noise, and whether it estimates its error, as
    adaptive steps need."""

    make: Callable[[], diffrax.AbstractSolver]
    calculus: Literal["ito", "stratonovich"]
    adaptive: bool


SOLVERS: dict[str, Solver] = {
    "euler": Solver(diffrax.Euler, "ito", adaptive=False),
    "milstein": Solver(Milstein, "ito", adaptive=False),
    "heun": Solver(diffrax.Heun, "stratonovich", adaptive=True),
    "tsit5": Solver(diffrax.Tsit5, "stratonovich", adaptive=True),
    "dopri5": Solver(diffrax.Dopri5, "stratonovich", adaptive=True),
}
WINDOW = "window"  # the integrator that is none of these solvers: `integrators.window`


def solver_named(name: str) -> diffrax.AbstractSolver:
    """The diffrax solver called `name`."""
    if name not in SOLVERS:
        raise unknown("integrator", name, SOLVERS)
    return SOLVERS[name].make()


def check_calculus(name: str, calculus: str, multiplicative: bool) -> None:
    """Refuses a solver that would integrate multiplicative noise in the other calculus than the one asked for."""
    if multiplicative and SOLVERS[name].calculus != calculus:
        fit = [other for other, solver in SOLVERS.items() if solver.calculus == calculus]
        raise PlasticodeError(
            f"integrator '{name}' integrates multiplicative noise in the {SOLVERS[name].calculus} sense, but "
            f"noise.calculus is '{calculus}': the integrator must be one of {', '.join(sorted(fit))}"
        )
