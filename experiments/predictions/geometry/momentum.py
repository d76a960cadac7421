"""A7.1: two-layer linear networks and a scale-invariant one under heavy-ball momentum and weight decay."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

from dynamics.circuit import Circuit, Weights
from dynamics.flow import FlowState, WeightFlow
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.drawing import drawn, look, ticked
from experiments.predictions.kit import all_close, drift_of, f64, records, weight_flow, weights_after, wired
from experiments.results.verdicts import Verdict, close, exceeds
from rules.contract import AbstractRule
from rules.feedback_alignment import FA
from rules.gradient import SGD
from rules.momentum import Momentum

RECORDS, STEPS = 20, 15  # of the course, and steps between two of them
HALVINGS, FINE, LIGHT = 2, 2000, 8.0  # of the inertia, where it is small: steps in all, and in the least inertia
UNIT = "experiments.predictions.geometry.decay:unit"

State = tuple[Weights, Weights]  # weights, and the slow averages of their laws


def balance(w: Weights) -> Array:
    """Q = W2^T W2 - W1 W1^T, the charge of rescaling."""
    return w["W2"].T @ w["W2"] - w["W1"] @ w["W1"].T


def square(w: Weights) -> Array:
    """|W1|^2, the charge of scale."""
    return jnp.sum(w["W1"] ** 2)


def spin(w: Weights, moving: Weights) -> Array:
    """J, the charge of the rotations W1 -> R W1, W2 -> W2 R^T; `moving` is W'."""
    half = w["W1"] @ moving["W1"].T - moving["W2"].T @ w["W2"]
    return half - half.T


class NoetherMomentum(AbstractPrediction):
    number = "A7.1"
    title = "With momentum, charges obey the equation of a driven oscillator"
    source = "tanaka2021noether, Noether's learning dynamics; its matrix form, the spin and the drift derived"
    equation = """(m/2) Q'' + (mu/2) Q' + k Q = m Q[W', W'], m = inertia tau_plast, mu = tau_plast + inertia k, k =
        tau_plast / tau_dec; J(t) = J(0) exp(-mu t / m)"""
    claim = """Kinetic energy breaks the symmetry that conserves a charge: Q moves like a damped mass that it drives.
        The charge of a rotation, which weights cannot show without motion, decays with friction alone, whatever the
        task; from rest it stays zero under the gradient, and not under feedback alignment. Light weights drift by
        twice the inertia times the kinetic imbalance that they have passed."""
    method = """The residual of the equation of Q at random weights and momenta, its derivatives from the engine's
        drift by automatic differentiation, for a two-layer network and one of unit output. Spin and drift along the
        weight flow, by steps of the fifth order, and of the second where no digits are asked for."""
    tolerance = """1e-11 of the largest term for the equation, in which nothing is integrated; 1e-8 for the spin; 0.1
        for the order of what is left of the drift, between the two smallest inertias."""
    quick = {"seeds": 6, "inputs": 4, "hidden": 5}

    inputs: Size = 6
    hidden: Size = 8
    outputs: Size = 3
    samples: Size = 30
    inertia: Positive = 0.4  # in tau_plast
    decay: Positive = 0.5  # k
    plasticity: Positive = 1.6  # tau_plast, in s
    time: Positive = 1.5  # in tau_plast
    seeds: Seeds = 12

    def measure(self) -> Finding:
        x, y, weights, pushed = self._drawn_numbers()
        residuals = [np.asarray(_residuals(self._flow(SGD(), x[0], y[0]), *one, x, y)) for one in ((weights, pushed),)]
        unit = {"W1": weights["W1"]}, {"W1": pushed["W1"]}
        narrow = y[:, :, :1] * jnp.ones(self.hidden, jnp.float64)[None, None]
        residuals.append(np.asarray(_residuals(self._flow(SGD(), x[0], narrow[0], UNIT), *unit, x, narrow)))
        said = ("two layers", "scale-invariant")
        quantity = "|residual of the equation of Q| over its largest term"
        verdicts = [
            all_close(f"driven charge, {name}", quantity, 0.0, each, 1e-11)
            for name, each in zip(said, residuals, strict=True)
        ]
        course = {name: self._spin(rule, push) for name, rule, push in self._runs(weights, pushed, x, y)}
        law = np.exp(-self._friction() * np.arange(RECORDS + 1) / RECORDS * self.time * self.plasticity)
        off = course["SGD, pushed"] / course["SGD, pushed"][:, :1] - law[None]
        verdicts.append(all_close("spin", "largest |J(t)/J(0) - exp(-mu t/m)|", 0.0, off, 1e-8))
        verdicts.append(all_close("no spin from rest", "largest |J|, SGD", 0.0, course["SGD, from rest"], 1e-8))
        last = np.log10(course["FA, from rest"][:, -1])
        verdicts.append(exceeds("spin from rest", "log10 of |J| at the end, FA", -3.0, last))
        light, left = self._light(*self._drift(x, y, weights))
        return Finding([*verdicts, light], self._drawn(course, law, left))

    def _light(self, drift: np.ndarray, kinetic: np.ndarray) -> tuple[Verdict, np.ndarray]:
        """The claim on light weights, and how far off they are, (seeds, halvings)."""
        apart, size = drift - kinetic[:, None], np.linalg.norm(kinetic, axis=(-2, -1))
        left = np.linalg.norm(apart, axis=(-2, -1)) / size[:, None]
        order = np.log2(left[:, -2] / left[:, -1])
        quantity = "order of |(Q(t) - Q(0)) / (2 inertia) - integral of Q[W', W']| in the inertia"
        return close("drift of light weights", quantity, 1.0, float(np.median(order)), 0.1), left

    def _friction(self) -> float:
        """mu / m, in 1/s."""
        return (1 / self.inertia + self.decay) / self.plasticity

    def _runs(self, weights: Weights, pushed: Weights, x: Array, y: Array) -> list[tuple]:
        rest = jax.tree.map(jnp.zeros_like, pushed)
        back = {"V2": jnp.roll(weights["W2"], 1, 0).swapaxes(1, 2)}
        at = (weights, x, y)
        return [
            ("SGD, pushed", SGD(), (at, pushed)),
            ("SGD, from rest", SGD(), (at, rest)),
            ("FA, from rest", FA(), ((weights | back, x, y), rest)),
        ]

    def _drawn_numbers(self) -> tuple[Array, Array, Weights, Weights]:
        rng = np.random.default_rng(self.seed)
        draw = lambda *shape: f64(rng.standard_normal((self.seeds, *shape)))  # noqa: E731
        shapes = {"W1": (self.hidden, self.inputs), "W2": (self.outputs, self.hidden)}
        weights = {name: draw(*shape) / shape[1] ** 0.5 for name, shape in shapes.items()}
        pushed = {name: draw(*shape) / shape[1] ** 0.5 for name, shape in shapes.items()}
        return draw(self.samples, self.inputs), draw(self.samples, self.outputs), weights, pushed

    def _flow(self, credit: AbstractRule, x: Array, y: Array, unit: str = "", inertia: object = None) -> WeightFlow:
        """The flow of a linear network, or of one layer of `unit` output."""
        tau = self.plasticity
        heavy = Momentum(credit, inertia=f64(self.inertia * tau if inertia is None else inertia))
        sizes = (self.inputs, y.shape[1]) if unit else (self.inputs, self.hidden, y.shape[1])
        more = {"output_activation": unit} if unit else {}
        circuit: Circuit = wired(heavy, sizes, activation="linear", **more)
        if inertia is not None:
            return weight_flow(circuit, x, y, self.time * tau / FINE, None, tau, "heun")
        by = "dopri5" if isinstance(credit, SGD) else "heun"
        return weight_flow(circuit, x, y, self.time * tau / (RECORDS * STEPS), tau / self.decay, tau, by)

    def _spin(self, credit: AbstractRule, how: tuple) -> np.ndarray:
        """|J| at every record, (seeds, records)."""
        (weights, x, y), pushed = how
        return np.asarray(_spins(self._flow(credit, x[0], y[0]), weights, pushed, x, y))

    def _drift(self, x: Array, y: Array, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
        """(Q(t) - Q(0)) / (2 inertia) from rest without decay, for halved inertias (seeds, halvings, ...), and the
        integral of Q[W', W'] along the flow without inertia that it tends to (seeds, ...)."""
        step = self.time * self.plasticity / FINE
        found = []
        for tau in LIGHT * step * 2.0 ** np.arange(HALVINGS)[::-1]:
            flow = self._flow(SGD(), x[0], y[0], inertia=tau)
            found.append(np.asarray(_moved(flow, weights, x, y)) / (2 * tau))
        circuit = wired(SGD(), (self.inputs, self.hidden, self.outputs), activation="linear")
        plain = weight_flow(circuit, x[0], y[0], step, None, self.plasticity, "heun")
        return np.stack(found, 1), np.asarray(_imbalance(plain, weights, x, y))

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, course: dict[str, np.ndarray], law: np.ndarray, left: np.ndarray) -> None:
        panels = figure.subplots(1, 2)
        times = np.arange(RECORDS + 1) / RECORDS * self.time
        size = course["SGD, pushed"][0, 0]
        panels[0].plot(times, law, color="0.3", label="theory, exp(-$\\mu$ t / m)")
        for i, name in enumerate(("SGD, pushed", "FA, from rest")):
            panels[0].plot(times, course[name][0] / size, linestyle="", label=name, **look(i))
        panels[0].set(xlabel="time (tau_plast)", ylabel="spin |J|, over that of the pushed one")
        panels[0].legend()
        inertias = LIGHT * 2.0 ** np.arange(HALVINGS)[::-1] / FINE * self.time
        for row in left:
            panels[1].plot(inertias, row, color="#0072B2", marker="o", linestyle="", markersize=3)
        middle = np.median(left[:, -1])
        panels[1].plot(inertias, middle * inertias / inertias[-1], color="0.3", label="theory: order 1")
        panels[1].set(yscale="log", xlabel="inertia (tau_plast)", ylabel="|drift - first order| / |first order|")
        ticked(panels[1], inertias, ".2g")
        panels[1].legend()


def _with_data(flow: WeightFlow, x: Array, y: Array) -> WeightFlow:
    return eqx.tree_at(lambda f: (f.inputs, f.targets), flow, (x, y))


def _begun(flow: WeightFlow, weights: Weights, pushed: Weights) -> FlowState:
    """The start with slow averages that are not zero."""
    return flow.init(weights)._replace(traces=pushed)


@eqx.filter_jit
def _residuals(flow: WeightFlow, weights: Weights, pushed: Weights, x: Array, y: Array) -> Float[Array, " seeds"]:
    """What is left of the equation of the charge, over its largest term; Q is quadratic, so Q[W', W'] is Q of W'."""

    def one(weights: Weights, pushed: Weights, x: Array, y: Array) -> Array:
        own = _with_data(flow, x, y)
        system, charge = own.system({}), balance if "W2" in weights else square
        trace, tau, decay = own.circuit.terms[0].trace, own.timescales.plasticity, own.timescales.decay
        assert trace is not None and trace.timescale is not None and decay is not None
        inertia, k = trace.timescale, tau / decay
        m, mu = inertia * tau, tau + inertia * k

        def field(y: State) -> State:
            moved, _, traces = system.drift((y[0], {}, y[1]), None, None)
            return moved, traces

        def slope(y: State) -> Array:
            return jax.jvp(lambda y: charge(y[0]), (y,), (field(y),))[1]

        at = (weights, pushed)
        second, first = jax.jvp(slope, (at,), (field(at),))[1], slope(at)
        terms = [m / 2 * second, mu / 2 * first, k * charge(weights), -m * charge(field(at)[0])]
        return jnp.abs(sum(terms[1:], terms[0])).max() / jnp.stack([jnp.abs(t).max() for t in terms]).max()

    return jax.vmap(one)(weights, pushed, x, y)


@eqx.filter_jit
def _spins(flow: WeightFlow, weights: Weights, pushed: Weights, x: Array, y: Array) -> Float[Array, "seeds records"]:
    """|J| at the start and after every `STEPS` steps."""

    def one(weights: Weights, pushed: Weights, x: Array, y: Array) -> Array:
        own = _with_data(flow, x, y)
        begun = _begun(own, weights, pushed)

        def size(state: FlowState) -> Array:
            moving = own.system(state.fixed).drift((state.weights, state.slow, state.traces), None, None)[0]
            return jnp.linalg.norm(spin(state.weights, moving))

        return records(own, begun, RECORDS, STEPS, size, start=True)

    return jax.vmap(one)(weights, pushed, x, y)


@eqx.filter_jit
def _moved(flow: WeightFlow, weights: Weights, x: Array, y: Array) -> Float[Array, "seeds hidden hidden"]:
    """Q(end) - Q(start) of a start at rest."""

    def one(weights: Weights, x: Array, y: Array) -> Array:
        own = _with_data(flow, x, y)
        end = weights_after(own, weights, jnp.int32(FINE))
        return balance(end) - balance(weights)

    return jax.vmap(one)(weights, x, y)


@eqx.filter_jit
def _imbalance(flow: WeightFlow, weights: Weights, x: Array, y: Array) -> Float[Array, "seeds hidden hidden"]:
    """The integral of Q[W', W'] dt by the trapezoidal rule."""

    def one(weights: Weights, x: Array, y: Array) -> Array:
        own = _with_data(flow, x, y)

        def now(state: FlowState) -> Array:
            return balance(drift_of(own, state.weights))

        def more(i: Int[Array, ""], carry: tuple[FlowState, Array]) -> tuple[FlowState, Array]:
            state = own.advance(carry[0], jnp.int32(0), 1)
            return state, carry[1] + own.clock.dt * (now(carry[0]) + now(state)) / 2

        start = own.init(weights)
        return jax.lax.fori_loop(0, FINE, more, (start, jnp.zeros_like(now(start))))[1]

    return jax.vmap(one)(weights, x, y)
