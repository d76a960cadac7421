"""The solvers that take one step, by the names that specs and integrators have for them."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import diffrax

from dynamics.errors import PlasticodeError, unknown
from dynamics.integrators.milstein import Milstein


class Solver(NamedTuple):
    """What is known of a solver.

    calculus   the solution to which it converges along multiplicative noise       strong   with which strong order
    adaptive   whether it estimates its error, as adaptive steps need
    sampling   whether it integrates noise that does not commute, as sampling noise
    together   whether two Brownian motions may drive one number
    noiseless  of a solver for noise alone: the one that it is where it sees none
    """

    make: Callable[[], diffrax.AbstractSolver]
    calculus: Literal["ito", "stratonovich"]
    strong: float = 1.0
    adaptive: bool = False
    sampling: bool = False
    together: bool = True
    noiseless: str | None = None


SOLVERS: dict[str, Solver] = {
    "euler": Solver(diffrax.Euler, "ito", strong=0.5, sampling=True),
    "milstein": Solver(Milstein, "ito", together=False, noiseless="euler"),
    "heun": Solver(diffrax.Heun, "stratonovich", adaptive=True),
    "tsit5": Solver(diffrax.Tsit5, "stratonovich", adaptive=True),
    "dopri5": Solver(diffrax.Dopri5, "stratonovich", adaptive=True),
}


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


def check_noise(name: str, present: bool) -> None:
    """Refuses a solver for noise where there is none."""
    if SOLVERS[name].noiseless is not None and not present:
        raise PlasticodeError(f"integrator '{name}' is for noise, but there is none: use euler or heun")
