"""Integrators: diffrax solvers stepped through a system with inputs, delays and noise.

Time inside a solver runs in integer steps from the start of a presentation, so that no time is ever an accumulated
float and a float32 run has exact steps however long it is. Fixed steps run in one compiled loop around `solver.step`,
with the ring buffer of the delays in the carry. Adaptive steps go through `diffeqsolve` (no delays, no noise).
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from dynamics.delays import History
from dynamics.errors import PlasticodeError, unknown
from dynamics.noise import brownian_increments, required_key
from dynamics.rounding import add, nothing


class Milstein(diffrax.AbstractItoSolver):
    """Milstein's method in the Ito sense (strong order 1) for noise in which each Brownian motion drives one component.

        y1 = y0 + f dt + g dW + (1/2) g' g (dW^2 - dt)

    diffrax's own ItoMilstein wants an array for a diffusion; this one takes any term, by derivatives along directions.
    """

    term_structure: ClassVar = diffrax.MultiTerm
    interpolation_cls: ClassVar = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        return 1

    def strong_order(self, terms: Any) -> int:
        return 1

    def init(self, terms: Any, t0: Any, t1: Any, y0: PyTree, args: Any) -> None:
        return None

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: PyTree, args: Any, solver_state: None, made_jump: Any
    ) -> tuple[PyTree, None, dict[str, PyTree], None, diffrax.RESULTS]:
        drift, diffusion = terms.terms
        dt, dw = drift.contr(t0, t1), diffusion.contr(t0, t1)

        def along(increments: PyTree) -> tuple[PyTree, PyTree]:
            """g dW, and its derivative along itself."""
            kick = diffusion.vf_prod(t0, y0, args, increments)
            return kick, jax.jvp(lambda y: diffusion.vf_prod(t0, y, args, increments), (y0,), (kick,))[1]

        kick, squared = along(dw)
        _, mean = along(jax.tree.map(jnp.ones_like, dw))
        change = drift.vf_prod(t0, y0, args, dt)
        y1 = jax.tree.map(lambda y, f, g, s, m: y + f + g + (s - dt * m) / 2, y0, change, kick, squared, mean)
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: PyTree, args: Any) -> PyTree:
        return terms.vf(t0, y0, args)


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
WINDOW = "window"  # the integrator that is none of these solvers: `dynamics.window`

Look = Callable[..., Array]  # look(name, current value, lag in seconds, stepwise=False, side=None): the late value


class AbstractSystem(eqx.Module):
    """A differential equation y' = drift(y, inputs, delayed signals) + amplitude(y) dB, to be stepped by `dt` seconds.

    `drift` is per second and has the structure of y. `signals` are those that a delay looks back at ({}: no delays).
    `amplitude` is a pytree of noise amplitudes (None: none); `kick` turns amplitudes and Brownian increments into a
    change of y and is linear in both. Noise whose course is known exactly is no matter of a solver: `stir` gives it.
    """

    @property
    @abc.abstractmethod
    def dt(self) -> Float[Array, ""]:
        """The step in seconds."""

    @abc.abstractmethod
    def drift(self, y: PyTree, inputs: PyTree, look: Look) -> PyTree:
        """dy/dt without the noise."""

    @abc.abstractmethod
    def signals(self, y: PyTree, inputs: PyTree) -> dict[str, Float[Array, " _n"]]:
        """The signals that delays look back at."""

    @abc.abstractmethod
    def brownian_shape(self, y: PyTree) -> PyTree[Array] | None:
        """Arrays of the shapes of a step's Brownian increments (their values do not matter); None without noise."""

    @abc.abstractmethod
    def amplitude(self, y: PyTree) -> PyTree | None:
        """Amplitudes of the noise that a solver has to integrate, or None."""

    @abc.abstractmethod
    def kick(self, amplitude: PyTree, increments: PyTree, still: PyTree) -> PyTree:
        """The change of y made by the Brownian `increments`; `still` is no change at all, zeros with y's structure."""

    @abc.abstractmethod
    def stir(self, y: PyTree, increments: PyTree) -> PyTree | None:
        """The change of y over a step that noise makes beside the drift, exact in distribution; None without such.

        It has y's structure, with None where nothing changes.
        """


class Point(NamedTuple):
    """Where an integration is: y, what rounding has taken from it so far (None: not known), and the past."""

    y: PyTree
    low: PyTree | None
    history: History | None


class _Moment(eqx.Module):
    """What is fixed during one step: the inputs, the past, the integer step and its position in the presentation."""

    inputs: PyTree
    history: History | None
    step: Int[Array, ""]
    start: Float[Array, ""]


class _Base(eqx.Module):
    """What a solver's y is added to. It steps from zero, so that small changes are not rounded to large numbers.

    y       the state at the start of the step
    stirred how noise changes it in the course of the step: taken to be linear in time
    """

    y: PyTree
    stirred: PyTree | None = None

    def plus(self, change: PyTree, share: Array) -> PyTree:
        """The state when the solver's y is `change` and a `share` of the step is over."""
        y = jax.tree.map(jnp.add, self.y, change)
        return y if self.stirred is None else _stirred(y, self.stirred, share)


def _stirred(y: PyTree, change: PyTree, share: Array) -> PyTree:
    return jax.tree.map(lambda leaf, c: leaf if c is None else leaf + share * c, y, change)


class _Drift(diffrax.AbstractTerm):
    system: AbstractSystem
    base: _Base

    def vf(self, t: Any, y: PyTree, args: _Moment) -> PyTree:
        def look(name: str, current: Array, lag: Array, stepwise: bool = False, side: Array | None = None) -> Array:
            assert args.history is not None
            fraction = jnp.zeros_like(args.start) if stepwise else t - args.start
            return args.history.at(name, args.step, fraction, lag / self.system.dt, current, side)

        return self.system.drift(self.base.plus(y, t - args.start), args.inputs, look)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Array:
        return (t1 - t0) * self.system.dt

    def prod(self, vf: PyTree, control: Array) -> PyTree:
        return jax.tree.map(lambda v: control * v, vf)


class _Diffusion(diffrax.AbstractTerm):
    system: AbstractSystem
    base: _Base
    increments: PyTree

    def vf(self, t: Any, y: PyTree, args: _Moment) -> PyTree:
        return self.system.amplitude(self.base.plus(y, t - args.start)), jax.tree.map(jnp.zeros_like, y)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> PyTree:
        return self.increments

    def prod(self, vf: PyTree, control: PyTree) -> PyTree:
        amplitude, still = vf
        return self.system.kick(amplitude, control, still)


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


def _step_by(solver: diffrax.AbstractSolver, terms: diffrax.AbstractTerm, y: PyTree, moment: _Moment) -> PyTree:
    t0, t1 = moment.start, moment.start + 1
    # Inputs jump between steps, so a solver's memory of the last slope (FSAL) is never valid: start it afresh.
    return solver.step(terms, t0, t1, y, moment, solver.init(terms, t0, t1, y, moment), made_jump=True)[0]


@eqx.filter_custom_jvp
def _stepped(terms: diffrax.AbstractTerm, y: PyTree, moment: _Moment, *, name: str) -> PyTree:
    """One step. diffrax loops over the stages of a Runge-Kutta step in a way that is fast and knows only reverse mode;
    its way that knows both modes takes two to three times as long, and is taken where a derivative is asked for."""
    return _step_by(solver_named(name), terms, y, moment)


@_stepped.def_jvp
def _stepped_jvp(primals: tuple, tangents: tuple, *, name: str) -> tuple[PyTree, PyTree]:
    solver = solver_named(name)
    if isinstance(solver, diffrax.AbstractERK):
        solver = dataclasses.replace(solver, scan_kind="bounded")
    return eqx.filter_jvp(functools.partial(_step_by, solver), primals, tangents)


class FixedStep(eqx.Module):
    """Steps of equal size with the diffrax solver `name`; delays and noise are allowed.

    Noise of activities and errors has an exact update, and the solver sees its course during a step as a straight line:
    a variable that it drives has a variance of the solver's order in dt, at most the second (pathwise: the first).

    tolerance    what the regimes hold their estimates of the error against (dynamics.doubling)
    compensated  sums lose nothing to rounding (dynamics.rounding): weights that hardly change in a step learn in
                 float32 what they learn in float64. An Euler step of large matrices takes twice as long; without it a
                 change of 1e-4 of the weights in a time constant of n steps is wrong by about 5e-9 n
    """

    name: str = eqx.field(static=True, default="euler")
    tolerance: float = eqx.field(static=True, default=1e-3)
    compensated: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        solver_named(self.name)

    def begin(self, y: PyTree, history: History | None = None) -> Point:
        """The start of an integration."""
        return Point(y, nothing(y) if self.compensated else None, history)

    def run(
        self,
        system: AbstractSystem,
        at: Point,
        inputs_at: Callable[[Float[Array, ""]], PyTree],
        first: Int[Array, ""],
        count: int | Int[Array, ""],
        key: PRNGKeyArray | None,
        joined: int = 1,
    ) -> Point:
        """`count` steps from absolute integer step `first`; `inputs_at(j)`: inputs during step j, 0 <= j < count.

        The noise of a step depends on `key` and the absolute step alone, so a resumed run equals a straight one. It is
        that of `joined` shorter steps taken together.
        """

        def step(j: Int[Array, ""], at: Point) -> Point:
            start, absolute = jnp.asarray(j, system.dt.dtype), first + jnp.asarray(j, jnp.int32)
            inputs, past = inputs_at(start), at.history
            if past is not None:
                past = past.push(absolute, system.signals(at.y, inputs))
            like, increments = system.brownian_shape(at.y), None
            if like is not None:
                numbers = [absolute * joined + i for i in range(joined)]
                keys = [jax.random.fold_in(required_key(key), number) for number in numbers]
                draws = [brownian_increments(k, like, system.dt / joined) for k in keys]
                increments = jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *draws)
            change = self._step(system, at.y, _Moment(inputs, past, absolute, start), increments)
            if at.low is None:
                return Point(jax.tree.map(jnp.add, at.y, change), None, past)
            return Point(*add(at.y, at.low, change), past)

        return jax.lax.fori_loop(0, count, step, at)

    def _step(self, system: AbstractSystem, y: PyTree, moment: _Moment, increments: PyTree | None) -> PyTree:
        """The change of y over one step."""
        name, still = self.name, jax.tree.map(jnp.zeros_like, y)
        base = _Base(y, None if increments is None else system.stir(y, increments))
        terms: diffrax.AbstractTerm = _Drift(system, base)
        if system.amplitude(y) is not None:
            terms = diffrax.MultiTerm(terms, _Diffusion(system, base, increments))
        elif self.name == "milstein":
            if increments is None:
                raise PlasticodeError("integrator 'milstein' is for noise, but there is none: use euler or heun")
            name = "euler"  # which it is where no solver sees the noise
        change = _stepped(terms, still, moment, name=name)
        return change if base.stirred is None else _stirred(change, base.stirred, jnp.ones_like(moment.start))


class Adaptive(eqx.Module):
    """Steps chosen by an error estimate (rtol, atol) with the embedded diffrax solver `name`. No delays, no noise.

    A presentation, or a gap, takes at most `max_steps`. Runs are judged by one with 10 times the rtol and atol, against
    the `tolerance` of the weights' change.
    """

    rtol: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=1e-6)
    atol: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=1e-8)
    name: str = eqx.field(static=True, default="tsit5")
    max_steps: int = eqx.field(static=True, default=4096)
    tolerance: float = eqx.field(static=True, default=1e-3)

    def __check_init__(self):
        fit = sorted(name for name, solver in SOLVERS.items() if solver.adaptive)
        if self.name not in fit:
            raise PlasticodeError(
                f"integrator '{self.name}' has no error estimate: with adaptive steps it must be one of "
                f"{', '.join(fit)}"
            )

    def run(
        self, system: AbstractSystem, y: PyTree, inputs: PyTree, steps: Float[Array, ""], base: PyTree | None = None
    ) -> tuple[PyTree, Bool[Array, ""]]:
        """Integrates over `steps` steps of `system.dt` with constant `inputs`: the end, and whether it was reached.

        Where it was not, the end is NaN. The state is `base` + y: a slow variable whose y starts from zero is not
        rounded to its own size, and its errors are measured by its change.
        """
        base = jax.tree.map(jnp.zeros_like, y) if base is None else base
        zero = jnp.zeros_like(system.dt)
        moment = _Moment(inputs, None, jnp.int32(0), zero)
        solution = diffrax.diffeqsolve(
            _Drift(system, _Base(base)),
            solver_named(self.name),
            t0=zero,
            t1=steps.astype(zero.dtype),
            dt0=jnp.minimum(jnp.ones_like(zero), jnp.maximum(steps.astype(zero.dtype), jnp.finfo(zero.dtype).eps)),
            y0=y,
            args=moment,
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol),
            adjoint=diffrax.ForwardMode(),
            max_steps=self.max_steps,
            throw=False,
        )
        failed = solution.result != diffrax.RESULTS.successful
        assert solution.ys is not None
        return jax.tree.map(lambda leaf: jnp.where(failed, jnp.nan, leaf[-1]), solution.ys), ~failed
