"""Integrators: diffrax solvers stepped through a system with inputs, delays and noise.

Time inside a solver runs in integer steps from the start of a presentation, so that no time is ever an accumulated
float and a float32 run has exact steps however long it is. Fixed steps run in one compiled loop around `solver.step`,
with the ring buffer of the delays in the carry. Adaptive steps go through `diffeqsolve` (no delays, no noise).
"""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from dynamics.delays import History
from dynamics.errors import PlasticodeError, unknown
from dynamics.noise import brownian_increments, given


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


SOLVERS: dict[str, Callable[[], diffrax.AbstractSolver]] = {
    "dopri5": diffrax.Dopri5,
    "euler": diffrax.Euler,
    "heun": diffrax.Heun,
    "milstein": Milstein,
    "tsit5": diffrax.Tsit5,
}
ITO_SOLVERS = ("euler", "milstein")  # the others converge to the Stratonovich solution

Look = Callable[..., Array]  # look(name, current value, lag in seconds, stepwise=False, side=None): the late value


class AbstractSystem(eqx.Module):
    """A differential equation y' = drift(y, inputs, delayed signals) + amplitude(y) dB, to be stepped by `dt` seconds.

    `drift` is per second and has the structure of y. `signals` are those that a delay looks back at ({}: no delays).
    `amplitude` is a pytree of noise amplitudes (None: no noise); `kick` turns amplitudes and Brownian increments into a
    change of y and is linear in both.
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
    def amplitude(self, y: PyTree) -> PyTree | None:
        """Noise amplitudes, or None."""

    @abc.abstractmethod
    def brownian_shape(self, y: PyTree) -> PyTree[Array]:
        """Arrays of the shapes of the Brownian increments that `kick` takes (their values do not matter)."""

    @abc.abstractmethod
    def kick(self, amplitude: PyTree, increments: PyTree, still: PyTree) -> PyTree:
        """The change of y made by the Brownian `increments`; `still` is no change at all, zeros with y's structure."""


class _Moment(eqx.Module):
    """What is fixed during one step: the inputs, the past, the integer step and its position in the presentation."""

    inputs: PyTree
    history: History | None
    step: Int[Array, ""]
    start: Float[Array, ""]
    key: PRNGKeyArray | None


class _Drift(diffrax.AbstractTerm):
    system: AbstractSystem

    def vf(self, t: Any, y: PyTree, args: _Moment) -> PyTree:
        def look(name: str, current: Array, lag: Array, stepwise: bool = False, side: Array | None = None) -> Array:
            assert args.history is not None
            fraction = jnp.zeros_like(args.start) if stepwise else t - args.start
            return args.history.at(name, args.step, fraction, lag / self.system.dt, current, side)

        return self.system.drift(y, args.inputs, look)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Array:
        return (t1 - t0) * self.system.dt

    def prod(self, vf: PyTree, control: Array) -> PyTree:
        return jax.tree.map(lambda v: control * v, vf)


class _Diffusion(diffrax.AbstractTerm):
    system: AbstractSystem
    increments: PyTree

    def vf(self, t: Any, y: PyTree, args: _Moment) -> PyTree:
        return self.system.amplitude(y), jax.tree.map(jnp.zeros_like, y)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> PyTree:
        return self.increments

    def prod(self, vf: PyTree, control: PyTree) -> PyTree:
        amplitude, still = vf
        return self.system.kick(amplitude, control, still)


def solver_named(name: str) -> diffrax.AbstractSolver:
    """The diffrax solver called `name`."""
    if name not in SOLVERS:
        raise unknown("integrator", name, SOLVERS)
    return SOLVERS[name]()


def check_calculus(name: str, calculus: str, multiplicative: bool) -> None:
    """Refuses a solver that would integrate multiplicative noise in the other calculus than the one asked for."""
    solver_calculus = "ito" if name in ITO_SOLVERS else "stratonovich"
    if multiplicative and solver_calculus != calculus:
        fit = [n for n in SOLVERS if (n in ITO_SOLVERS) == (calculus == "ito")]
        raise PlasticodeError(
            f"integrator '{name}' integrates multiplicative noise in the {solver_calculus} sense, but noise.calculus "
            f"is '{calculus}': the integrator must be one of {', '.join(sorted(fit))}"
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
    """Steps of equal size with the diffrax solver `name`; delays and noise are allowed."""

    name: str = eqx.field(static=True, default="euler")

    def __check_init__(self):
        solver_named(self.name)

    def run(
        self,
        system: AbstractSystem,
        y: PyTree,
        history: History | None,
        inputs_at: Callable[[Float[Array, ""]], PyTree],
        first: Int[Array, ""],
        count: int | Int[Array, ""],
        key: PRNGKeyArray | None,
    ) -> tuple[PyTree, History | None]:
        """`count` steps from absolute integer step `first`; `inputs_at(j)`: inputs during step j, 0 <= j < count.

        The noise of a step depends on `key` and the absolute step alone, so a resumed run equals a straight one.
        """

        def step(j: Int[Array, ""], carry: tuple) -> tuple:
            y, history = carry
            start, absolute = jnp.asarray(j, system.dt.dtype), first + jnp.asarray(j, jnp.int32)
            inputs = inputs_at(start)
            if history is not None:
                history = history.push(absolute, system.signals(y, inputs))
            return self._step(system, y, _Moment(inputs, history, absolute, start, key)), history

        return jax.lax.fori_loop(0, count, step, (y, history))

    def _step(self, system: AbstractSystem, y: PyTree, moment: _Moment) -> PyTree:
        terms: diffrax.AbstractTerm = _Drift(system)
        if system.amplitude(y) is not None:
            step_key = jax.random.fold_in(given(moment.key), moment.step)
            increments = brownian_increments(step_key, system.brownian_shape(y), system.dt)
            terms = diffrax.MultiTerm(terms, _Diffusion(system, increments))
        elif self.name == "milstein":
            raise PlasticodeError("integrator 'milstein' is for noise, but there is none: use euler or heun")
        return _stepped(terms, y, moment, name=self.name)


class Adaptive(eqx.Module):
    """Steps chosen by an error estimate (rtol, atol) with the embedded diffrax solver `name`. No delays, no noise."""

    rtol: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=1e-6)
    atol: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=1e-8)
    name: str = eqx.field(static=True, default="tsit5")
    max_steps: int = eqx.field(static=True, default=4096)

    def __check_init__(self):
        if self.name not in ("dopri5", "heun", "tsit5"):
            raise PlasticodeError(
                f"integrator '{self.name}' has no error estimate: with adaptive steps it must be one of dopri5, heun, "
                "tsit5"
            )

    def run(
        self, system: AbstractSystem, y: PyTree, inputs: PyTree, steps: Float[Array, ""]
    ) -> tuple[PyTree, Bool[Array, ""]]:
        """Integrates over `steps` steps of `system.dt` with constant `inputs`: the end, and whether it was reached.

        Where it was not, the end is NaN.
        """
        zero = jnp.zeros_like(system.dt)
        moment = _Moment(inputs, None, jnp.int32(0), zero, None)
        solution = diffrax.diffeqsolve(
            _Drift(system),
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
