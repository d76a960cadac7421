"""The contract of an integrator: how it leads a coupled run through a presentation, and what it says that it can do.

To add one: a subclass of `AbstractIntegrator` in a file of this folder, and a line in `integrators.registry`.
"""

import abc
from typing import ClassVar, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from dynamics.circuit import Weights
from dynamics.coupled_run import AbstractCoupled, CoupledProgress
from dynamics.errors import PlasticodeError
from dynamics.history import check_history
from dynamics.inside import Seen, Sight
from dynamics.regime import Quality


class Settings(NamedTuple):
    """What a spec says of its integrator ([integrator]; `dt` in seconds), and the dtype of the run."""

    tolerance: float
    dt: float
    rtol: float
    atol: float
    max_steps: int
    dtype: str


class Demands(NamedTuple):
    """What the points of a spec that share a program ask of their integrator: one number per point, in seconds; of time
    constants per layer the smallest.

    square    the largest |x|^2 of all samples: one rare large one is enough to ruin the weights
    layers    how many layers filter the stimulus, one after another, on its way to the output
    spacing   how far apart nodes may be along noise; None without noise
    shared    whether steps share noise with a twin of half as many (integrators.doubling)
    slowest   the longest finite time constant of weights and slow variables
    """

    duration: Float[np.ndarray, " points"]
    gap: Float[np.ndarray, " points"]
    propagation: Float[np.ndarray, " points"]
    plasticity: Float[np.ndarray, " points"]
    decay: Float[np.ndarray, " points"]
    square: float
    layers: int
    spacing: float | None
    shared: bool = False
    slowest: float = 0.0

    @property
    def period(self) -> Float[np.ndarray, " points"]:
        return self.duration + self.gap


class Finer(NamedTuple):
    """An integrator to try next, with the steps per presentation and the length of the ring buffer that it needs."""

    integrator: "AbstractIntegrator"
    steps: int
    history: int


class AbstractIntegrator(eqx.Module):
    """How a coupled run gets from one presentation to the next. Numbers are array leaves, the rest is static.

    What it can do, which nothing else has to know of it (the runs, specs and their checks ask):

    delays      whether it looks back at the past      noise   whether it takes any
    kinks       whether it is as good where an activation has a kink
    explicit    whether it takes explicit steps of at most integrator.dt, which are unstable where they are too long
    flows       whether it integrates a weight flow too, as `FixedStep` does
    dense       whether its time goes into products of matrices, on which a compiler's last passes are wasted
    """

    delays: ClassVar[bool] = False
    noise: ClassVar[bool] = False
    kinks: ClassVar[bool] = True
    explicit: ClassVar[bool] = False
    flows: ClassVar[bool] = False
    dense: ClassVar[bool] = False

    @property
    def calculi(self) -> tuple[str, ...]:
        """The senses in which it integrates noise that is multiplied by what it drives."""
        return ()

    @property
    def for_noise(self) -> bool:
        """Whether it is for noise in the sense of `calculi` alone, and does not run without any."""
        return False

    @property
    def sampling(self) -> bool:
        """Whether it integrates the sampling noise of a weight flow, which does not commute."""
        return False

    @property
    def adaptive(self) -> bool:
        """Whether it estimates the error of a step, so that steps can be chosen by it."""
        return False

    def fitted(self, run: AbstractCoupled) -> "AbstractIntegrator":
        """The integrator with what it leaves open, as the numbers of the run suggest."""
        return self

    def check(self, run: AbstractCoupled) -> None:
        """Refuses a run that it cannot integrate, as far as that is known while tracing."""
        if (run.delayed and not self.delays) or (run.noise.present and not self.noise):
            lacks = [f"no {what}" for what, can in (("delays", self.delays), ("noise", self.noise)) if not can]
            raise PlasticodeError(
                f"the integrator {type(self).__name__} knows {' and '.join(lacks)}: the run must have none, or another "
                "integrator such as FixedStep"
            )
        if run.noise.multiplied and run.noise.calculus not in self.calculi:
            raise PlasticodeError(
                f"noise.calculus = '{run.noise.calculus}' is not allowed with the integrator {type(self).__name__}: it "
                f"must be {' or '.join(self.calculi) or 'another integrator'}"
            )
        check_history(run)

    @abc.abstractmethod
    def init(self, run: AbstractCoupled, fixed: Weights, weights: Weights) -> CoupledProgress:
        """The start, from given matrices; `fixed` are those that never change."""

    def ready(self, run: AbstractCoupled, progress: CoupledProgress) -> PyTree:
        """What is the same for all presentations that follow: made once, and given to `show`."""
        return None

    def opened(self, run: AbstractCoupled, ready: PyTree, progress: CoupledProgress) -> CoupledProgress:
        """`progress` as a loop over presentations hands it on; `ready` as for `show`."""
        return progress

    def closed(self, progress: CoupledProgress) -> CoupledProgress:
        """What such a loop has come to as all others take it."""
        return progress

    @abc.abstractmethod
    def show(
        self, run: AbstractCoupled, ready: PyTree, progress: CoupledProgress, k: Int[Array, ""]
    ) -> CoupledProgress:
        """The progress after presentation k; its noise depends on the key of the run and on k alone."""

    @abc.abstractmethod
    def quality(self, run: AbstractCoupled, progress: CoupledProgress) -> Quality:
        """The estimated relative error of the weights' change, and whether it is within the tolerance."""

    def unjudged(self) -> "AbstractIntegrator":
        """Itself without what judges it, at less work: for many runs of which one is judged at the end."""
        return self

    def watch(
        self,
        run: AbstractCoupled,
        ready: PyTree,
        progress: CoupledProgress,
        k: Int[Array, ""],
        shares: Float[np.ndarray | Array, " times"],
        sight: Sight,
    ) -> tuple[CoupledProgress, Seen]:
        """As `show`, with what is seen inside (see `Coupled.watch`)."""
        raise PlasticodeError(
            f"the integrator {type(self).__name__} shows nothing inside presentations: use another one"
        )

    @abc.abstractmethod
    def planned(self, settings: Settings, demands: Demands) -> tuple["AbstractIntegrator", int]:
        """The integrator for the points of a spec, and the steps per presentation."""

    def finer(self, steps: int, history: int, dtype: np.dtype) -> Finer | None:
        """What to try next for a run of `dtype` that has not converged; None where there is nothing finer."""
        return None

    def label(self, steps: int) -> str:
        """What tells it from finer ones."""
        return str(steps)
