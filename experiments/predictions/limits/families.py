"""The table of rule families whose plasticity windows are measured: to add one is one line."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from dynamics.theory import overlap_law
from experiments.predictions.continuous.closed_forms import traced_overlap
from rules.contract import AbstractRule
from rules.curl import Curl
from rules.eprop import EProp
from rules.equilibrium_propagation import EquilibriumPropagation
from rules.exponentiated import Exponentiated
from rules.feedback_alignment import DFA, FA
from rules.gradient import SGD
from rules.hebbian import BCM, AntiHebbian, Hebbian, Oja
from rules.heterosynaptic import Heterosynaptic
from rules.kolen_pollack import KP

Curve = Callable[[np.ndarray], np.ndarray]


def box(delays: np.ndarray) -> np.ndarray:
    """Learning against that without a delay, for an input and an error that are held for T: delays in T."""
    return overlap_law(delays, 1.0)


def flat(delays: np.ndarray) -> np.ndarray:
    """What does not see the error does not see its delay."""
    return np.ones_like(delays)


def traced(trace: float) -> Curve:
    """As `box`, behind an eligibility trace of that many T."""
    return lambda delays: traced_overlap(delays, trace, 1e-9) / traced_overlap(0.0, trace, 1e-9)


def twice_traced(trace: float) -> Curve:
    """As `box`, behind two traces in a row of that many T each.

    What has come through them by time t of an input that is on for good is r(t) = t - 2 c + (2 c + t) exp(-t / c), c
    being the trace; of a box against one d later it is r(d + 1) - 2 r(d) + r(d - 1).
    """

    def passed(t: np.ndarray) -> np.ndarray:
        t = np.maximum(t, 0)
        return t - 2 * trace + (2 * trace + t) * np.exp(-t / trace)

    def strength(d: np.ndarray) -> np.ndarray:
        return passed(d + 1) - 2 * passed(d) + passed(d - 1)

    return lambda delays: strength(np.asarray(delays)) / strength(np.zeros(1))


class Family(NamedTuple):
    """A family of rules.

    rule   one of it
    curve  what theory says of its learning against the delay of what teaches it: S(d) / S(0), d in T
    late   what is late: the "error" of the output layer, or the field of the rule that is this delay, in seconds
    trace  timescale of the eligibility traces of the run, in T; None: there are none
    twice  timescale of the two traces in a row that the rule itself has, in T; None: it has none
    steps  of a presentation, by `solver`: more and better ones where signals go round loops
    """

    rule: AbstractRule
    curve: Curve
    late: str = "error"
    trace: float | None = None
    twice: float | None = None
    steps: int = 50
    solver: str = "euler"

    @property
    def taught(self) -> bool:
        """Whether it sees the delay at all."""
        return self.curve is not flat


# Plain numbers, of which rules make arrays: by then it is known of which dtype.
HIDDEN: Any = (0.0, 0.25)
SECOND: Any = 1.0

FAMILIES: dict[str, Family] = {
    "sgd": Family(SGD(), box),
    "fa": Family(FA(), box),
    "dfa": Family(DFA(), box),
    "kp": Family(KP(), box),
    "heterosynaptic": Family(Heterosynaptic(), box),
    "curl": Family(Curl(flips=HIDDEN), box),  # flipped hidden units, as flipped inputs are unlearned
    "exponentiated-gradient": Family(Exponentiated(FA()), box),
    "e-prop": Family(EProp(), twice_traced(0.02), twice=0.02, steps=100, solver="heun"),
    "equilibrium-propagation": Family(EquilibriumPropagation(symmetric=True), box, steps=100, solver="heun"),
    "sgd with traces": Family(SGD(), traced(0.5), trace=0.5),
    "hebbian": Family(Hebbian(), flat),
    "anti-hebbian": Family(AntiHebbian(), flat),
    "oja": Family(Oja(), flat),
    "bcm": Family(BCM(threshold_timescale=SECOND), flat),
}
