"""C3.2: residuals of identities of first and second order, at random points, for the drift that the engine computes."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes

from dynamics.circuit import Circuit, Weights
from dynamics.instruments import predict
from experiments.predictions.contract import AbstractPrediction, Finding, Seeds, Size
from experiments.predictions.drawing import plotted
from experiments.predictions.kit import all_close, drift_of, f64, weight_flow, wired
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import exceeds
from rules.feedback_alignment import FA
from rules.gradient import SGD

UNIT = "experiments.predictions.geometry.decay:unit"
Field = Callable[[Weights], Weights]
ROUND_OFF = 1e-10


class Numbers(NamedTuple):
    """Data and weights of a network, and what turns its hidden units: a rate each, and an antisymmetric matrix."""

    x: Float[Array, "n i"]
    y: Float[Array, "n o"]
    weights: Weights
    rates: Float[Array, " hidden"]
    turn: Float[Array, "hidden hidden"]


class Equivariance(AbstractPrediction):
    number = "C3.2"
    title = "Symmetries of the loss show in the drift and its Jacobian at every point"
    source = """ziyin2025parameter, parameter symmetries; the identities follow by differentiation of L(e^(tA) theta) =
        L(theta), f(c theta) = c^k f(theta) and L(P theta) = L(theta)"""
    equation = """F . A theta = 0; J A theta + A^T F = 0; theta . grad f = k f; (Hess f) theta = (k - 1) grad f; F(P
        theta) = P F; J A theta = 0 where F = 0"""
    claim = """The gradient's drift F is orthogonal to the directions of rescaled relu units, rotated linear units and
        scaled weights of unit output, and its Jacobian J carries them into F. A bias-free relu network of two
        layers is homogeneous of degree 2. Identical units get identical drifts. Feedback alignment, whose drift is no
        gradient, moves along directions that leave the loss alone."""
    method = """The engine's drift as a vector field, its Jacobian along a direction by forward differentiation, and
        the settled output; random networks, data and directions."""
    tolerance = """1e-10 of the largest term: round-off. Feedback alignment: log10 of its part along the directions of
        single units above -2, at 99.9 %."""
    quick = {"seeds": 4}

    inputs: Size = 5
    hidden: Size = 6
    outputs: Size = 3
    samples: Size = 12
    seeds: Seeds = 12

    def measure(self) -> Finding:
        sizes = (self.inputs, self.hidden, self.outputs)
        relu, linear = (wired(SGD(), sizes, activation=name) for name in ("relu", "linear"))
        unit = wired(SGD(), (self.inputs, self.outputs), output_activation=UNIT)
        alone = wired(FA(), sizes, activation="relu")
        numbers = self._numbers()
        found = {
            "rescaling, relu": np.asarray(_run(_rescaled, relu, numbers)),
            "rotation, linear": np.asarray(_run(_rotated, linear, numbers)),
            "rotation, at a solution": np.asarray(_run(_at_rest, linear, numbers)),
            "scale, unit output": np.asarray(_run(_scaled, unit, numbers)),
            "homogeneity, relu": np.asarray(_run(_homogeneous, relu, numbers)),
            "permuted units, relu": np.asarray(_run(_permuted, relu, numbers)),
        }
        quantity = "largest residual over the largest term"
        verdicts = [all_close(name, quantity, 0.0, residuals, ROUND_OFF) for name, residuals in found.items()]
        other = np.asarray(_run(_unit_charges, alone, numbers))[:, 0]
        said = "log10 of the root of sum_i (F . A_i theta)^2 over |F| |theta|"
        verdicts.append(exceeds("rescaling, feedback alignment", said, -2.0, np.log10(other)))
        return Finding(verdicts, self._drawn(found, other))

    def _numbers(self) -> Numbers:
        rng = np.random.default_rng(self.seed)
        draw = lambda *shape: f64(rng.standard_normal((self.seeds, *shape)))  # noqa: E731
        turn = draw(self.hidden, self.hidden)
        weights = {
            "W1": draw(self.hidden, self.inputs),
            "W2": draw(self.outputs, self.hidden),
            "V2": draw(self.hidden, self.outputs),
        }
        x, y = draw(self.samples, self.inputs), draw(self.samples, self.outputs)
        return Numbers(x, y, weights, draw(self.hidden), turn - jnp.swapaxes(turn, 1, 2))

    @plotted(5.0, 2.6)
    def _drawn(self, panel: Axes, found: dict[str, np.ndarray], other: np.ndarray) -> None:
        rows = found | {"rescaling, feedback alignment": other[:, None]}
        for i, (name, values) in enumerate(rows.items()):
            flat = np.maximum(values.ravel(), 1e-18)
            color = OKABE_ITO[1] if name.endswith("alignment") else OKABE_ITO[0]
            panel.plot(flat, np.full(flat.size, len(rows) - 1 - i), "o", color=color, markersize=3)
        panel.axvline(ROUND_OFF, color="0.3", linestyle="--", label="round-off below")
        panel.set(xscale="log", xlabel="relative residual of the identity")
        panel.set_yticks(range(len(rows)), list(rows)[::-1])
        panel.legend()


@eqx.filter_jit
def _run(what: Callable, circuit: Circuit, numbers: Numbers) -> Float[Array, "seeds _residuals"]:
    """Relative residuals of every network."""

    def one(n: Numbers) -> Array:
        own = {p.name: n.weights[p.name] for p in (*circuit.plastic, *circuit.fixed) if p.name in n.weights}
        if "W2" not in own:  # one layer
            own = {"W1": n.weights["W2"] @ n.weights["W1"]}
        return jnp.stack(what(circuit, n._replace(weights=own)))

    return jax.vmap(one)(numbers)


def _field(circuit: Circuit, n: Numbers) -> Field:
    """The drift of the plastic maps, for tau_plast = 1 s."""
    flow = weight_flow(circuit, n.x, n.y, 1.0)
    return lambda w: drift_of(flow, {**n.weights, **w})


def _plastic(n: Numbers) -> Weights:
    return {name: w for name, w in n.weights.items() if name[0] == "W"}


def _dot(one: Weights, other: Weights) -> Array:
    return jnp.stack([jnp.sum(one[name] * other[name]) for name in sorted(one)]).sum()


def _size(one: Weights) -> Array:
    return jnp.sqrt(_dot(one, one))


def _over(sum_: Weights, *terms: Weights) -> Array:
    """The size of a sum over that of its largest term."""
    return _size(sum_) / jnp.stack([_size(term) for term in terms]).max()


def _along(field: Field, at: Weights, direction: Weights) -> tuple[Weights, Weights]:
    """F and J d."""
    return jax.jvp(field, (at,), (direction,))


def _cosine(one: Weights, other: Weights) -> Array:
    return jnp.abs(_dot(one, other)) / (_size(one) * _size(other))


def _rescaled(circuit: Circuit, n: Numbers) -> list[Array]:
    """W1 -> D W1, W2 -> W2 D^-1: A theta = (a W1, -W2 a), A its own transpose."""
    w = _plastic(n)

    def act(v: Weights) -> Weights:
        return {"W1": n.rates[:, None] * v["W1"], "W2": -v["W2"] * n.rates[None]}

    force, moved = _along(_field(circuit, n), w, act(w))
    return [_cosine(force, act(w)), _over(jax.tree.map(jnp.add, moved, act(force)), moved, act(force))]


def _unit_charges(circuit: Circuit, n: Numbers) -> list[Array]:
    """F . A_i theta of every hidden unit, A_i theta = (W1_i, -W2_i): root of the sum of squares over |F| |theta|."""
    w = _plastic(n)
    force = _field(circuit, n)(w)
    each = jnp.sum(force["W1"] * w["W1"], axis=1) - jnp.sum(force["W2"] * w["W2"], axis=0)
    return [jnp.linalg.norm(each) / (_size(force) * _size(w))]


def _turned(n: Numbers, v: Weights) -> Weights:
    """A theta = (T W1, -W2 T) of the rotations W1 -> R W1, W2 -> W2 R^T; A^T = -A."""
    return {"W1": n.turn @ v["W1"], "W2": -v["W2"] @ n.turn}


def _rotated(circuit: Circuit, n: Numbers) -> list[Array]:
    w = _plastic(n)
    force, moved = _along(_field(circuit, n), w, _turned(n, w))
    turned = _turned(n, force)
    return [_cosine(force, _turned(n, w)), _over(jax.tree.map(jnp.subtract, moved, turned), moved, turned)]


def _at_rest(circuit: Circuit, n: Numbers) -> list[Array]:
    """Where the network is its own teacher there is no force, and the kernel of the Jacobian has A theta."""
    w = _plastic(n)
    n = n._replace(y=n.x @ (w["W2"] @ w["W1"]).T)
    direction = _turned(n, w)
    force, moved = _along(_field(circuit, n), w, direction)
    _, usual = _along(_field(circuit, n), w, w)
    return [_size(force) / _size(usual), _size(moved) / _size(direction) / (_size(usual) / _size(w))]


def _scaled(circuit: Circuit, n: Numbers) -> list[Array]:
    """L(c W) = L(W): F . W = 0, J W = -F."""
    w = _plastic(n)
    force, moved = _along(_field(circuit, n), w, w)
    return [_cosine(force, w), _over(jax.tree.map(jnp.add, moved, force), moved, force)]


def _homogeneous(circuit: Circuit, n: Numbers) -> list[Array]:
    """theta . grad f = 2 f and (Hess f) theta = grad f of every output, by derivatives along theta and another way."""
    w, other = _plastic(n), jax.tree.map(lambda v: jnp.flip(v) + 0.3, _plastic(n))

    def output(w: Weights) -> Array:
        return predict(circuit, w, n.x)

    def slope(w: Weights) -> Array:
        return jax.jvp(output, (w,), (other,))[1]

    f, once = jax.jvp(output, (w,), (w,))
    gradient, twice = jax.jvp(slope, (w,), (w,))
    size = lambda a: jnp.abs(a).max()  # noqa: E731
    return [size(once - 2 * f) / size(f), size(twice - gradient) / size(gradient)]


def _permuted(circuit: Circuit, n: Numbers) -> list[Array]:
    """F(P theta) = P F(theta), and the drifts of two units that are the same."""
    w, field = _plastic(n), _field(circuit, n)

    def act(v: Weights) -> Weights:
        return {"W1": jnp.roll(v["W1"], 1, 0), "W2": jnp.roll(v["W2"], 1, 1)}

    force = act(field(w))
    twin = {"W1": w["W1"].at[1].set(w["W1"][0]), "W2": w["W2"].at[:, 1].set(w["W2"][:, 0])}
    same = field(twin)
    apart = jnp.stack(
        [jnp.abs(same["W1"][1] - same["W1"][0]).max(), jnp.abs(same["W2"][:, 1] - same["W2"][:, 0]).max()]
    )
    return [_over(jax.tree.map(jnp.subtract, field(act(w)), force), force), apart.max() / _size(same)]
