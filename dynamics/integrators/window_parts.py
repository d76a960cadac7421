"""What windows know of a presentation, hand to each other, and say of their error."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynamics.circuit import Weights
from dynamics.field import CoupledSystem, Inputs, State
from dynamics.integrators.collocation import Leak
from dynamics.integrators.owed import NOTHING, Owed
from dynamics.interpolation import Moving
from dynamics.norms import whole
from dynamics.rounding import Sums
from dynamics.stimulus import mixed


class Filters(NamedTuple):
    """The filters of a window of `length` seconds (integrators.collocation).

    propagation, trace  by level
    own                 by layer and name of variables with a timescale of their own
    traced              by term of a law, of traces with a timescale of their own
    chain               K of one stage of a gamma-distributed lag, by name of what is late
    current             by what is late: the weights with which the start and the nodes of this very window make up what
                        is delivered at the nodes
    """

    length: Float[Array, ""]
    propagation: dict[int, Leak]
    trace: dict[int, Leak]
    own: dict[str, dict[str, Leak]]
    traced: dict[str, Leak]
    chain: dict[str, Float[Array, "s s"]]
    current: dict[str, Float[Array, "s points"]]


SETTLED = 64  # presentations after which sums settle: until then they lose some 1e-6 of what was added


class Past(NamedTuple):
    """The waveforms of the last windows, oldest first, by layer and variable: the value at the start of each and at its
    nodes."""

    rows: dict[tuple[str, str], Float[Array, "windows points _n"]]


class Course(NamedTuple):
    """How far a run by windows has come: the state, its weights as sums that lose nothing to rounding, the past, and
    what the weights are owed."""

    state: State
    sums: Sums
    past: Past | None
    owed: Owed = NOTHING

    @property
    def weights(self) -> Weights:
        """The plastic maps, with what they are owed."""
        weights = self.state.weights
        return weights | {name: weights[name] + added for name, added in self.owed.changes().items()}

    def paid(self) -> "Course":
        """The same with nothing owed."""
        weights, sums = self.sums.plus(self.state.weights, self.owed.changes())
        state = dataclasses.replace(self.state, weights=weights)
        return Course(state, sums, self.past, self.owed.paid(weights))

    def paid_at(self, k: Int[Array, ""]) -> "Course":
        """The same after presentation k: once in so many with nothing owed."""
        if self.owed.waits == 1:
            return self
        return jax.lax.cond((k + 1) % self.owed.waits == 0, Course.paid, lambda course: course, self)

    def settled_at(self, k: Int[Array, ""]) -> "Course":
        """The same after presentation k, once in so many with sums that have settled."""
        settle = (k + 1) % SETTLED == 0
        sums = jax.lax.cond(settle, lambda: self.sums.settled(self.state.weights), lambda: self.sums)
        return self._replace(sums=sums)


class Doubt(NamedTuple):
    """What is known of the error of a presentation as soon as it is solved.

    moved  how far the weights have moved: the root of the sum of squares over all plastic matrices
    left   what further sweeps would still change, such a distance too
    weak   with synaptic noise: the relative error of the variance of a taught weight, from splitting noise and learning
    """

    moved: Float[Array, ""]
    left: Float[Array, ""]
    weak: Float[Array, ""]


def distance(left: Weights, right: Weights, none: Float[Array, ""]) -> Float[Array, ""]:
    """The root of the sum of squared differences over all matrices of `right`; `none`, a zero, where there are none."""
    return whole([none, *(left[name] - w for name, w in right.items())])


def moved(before: Course, after: Course, k: Int[Array, ""], none: Float[Array, ""]) -> Float[Array, ""]:
    """How far presentation k has moved the weights, as `distance` has it."""
    old, owed = before.state.weights, after.owed
    apart = [w - old[name] for name, w in after.state.weights.items() if name not in owed.post]
    return whole([none, *apart, *owed.moved(k)])


# Networks of layers of 12 neurons take 0.95 of the time if they gather, of 32 and 64 neurons 1.1 and 1.2 times it.
GATHERED = 16


class Earlier(NamedTuple):
    """Where nodes look back at: each at one of the earlier windows, and with which weights at its points, 0 where it
    does not look back that far."""

    window: Int[Array, "*windows s"]
    weights: Float[Array, "*windows s points"]

    def of(self, rows: Float[Array, "earlier points n"]) -> Float[Array, "s n"]:
        """What they see of a signal, in one window: of few neurons from the points that they look at, of more by a
        product with all points, most of them weighed by 0, which costs less than to gather what many neurons did."""
        if rows.shape[2] <= GATHERED:
            return jnp.einsum("sp,spn->sn", self.weights, rows[self.window])
        seen = jax.nn.one_hot(self.window, rows.shape[0], dtype=self.weights.dtype)
        weights = seen[:, :, None] * self.weights[:, None]
        return weights.reshape(weights.shape[0], -1) @ rows.reshape(-1, rows.shape[2])


class Layout(NamedTuple):
    """How the windows lie in a presentation: when they start, in seconds, and their filters, stacked.

    past    by late projection: which points of earlier windows make up what it delivers
    on      by signal that is shown: whether its presentations are on (see `Shown`)
    paths   by level, or variable with a time constant of its own: what makes Ornstein-Uhlenbeck paths of normal draws
    turned  fixed matrices, transposed; not stacked, as they are the same in all windows
    taken   how many windows there are, where points take different numbers: those that follow are empty; None: all
    """

    start: Float[Array, " windows"]
    filters: Filters
    past: dict[str, Earlier]
    on: dict[str, Float[Array, "windows presentations"]]
    paths: dict[str, Float[Array, "windows *n s s"]]
    turned: Weights
    taken: Int[Array, ""] | None = None


class Shown(NamedTuple):
    """What a signal shows in the presentations that arrive during one, newest first; `begun` is 0 before the first.
    `moving`: how they go on, where they are not held."""

    values: Float[Array, "presentations ..."]
    begun: Float[Array, " presentations"]
    moving: Moving | None = None

    def at(self, time: Float[Array, ""]) -> Float[Array, "presentations ..."]:
        """What each presentation shows at a time, in seconds."""
        return self.values if self.moving is None else self.moving.at(time)

    def course(self, on: Float[Array, " presentations"], times: Float[Array, " s"]) -> Float[Array, "s n"]:
        """The sum over presentations that are on, in part, at several times."""
        return jax.vmap(lambda time: mixed(on, self.at(time))[0])(times)


def silent_inputs(system: CoupledSystem) -> Inputs:
    """Nothing from outside."""
    nothing, circuit = jnp.zeros((1,), system.dt.dtype), system.circuit
    sizes = {layer.role: layer.size for layer in circuit.layers if layer.source is None}
    given = {layer.name: jnp.zeros(layer.size, system.dt.dtype) for layer in circuit.layers if layer.held}
    stimulus = jnp.zeros(sizes.get("input", 1), system.dt.dtype)
    return Inputs(stimulus, jnp.zeros(sizes.get("output", 1), system.dt.dtype), nothing[0], given, nothing[0])
