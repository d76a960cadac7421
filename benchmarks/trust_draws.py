"""What `benchmarks.trust` draws: circuits of every rule, also with cycles, data, and the numbers of their points.

A *structure* is all that is static about a group of draws, with its data; its draws differ in what is traced. Both
follow from the seed and their number alone.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Gaussian, Given, Law, Layer, Outer, Projection
from dynamics.network import Network
from rules.contract import AbstractRule, number
from rules.gradient import SGD

DRAWS = 20  # of a structure
CYCLES = ("lateral", "learning-lateral", "oscillator", "feedback")
# Those whose circuits the reference knows: no draws of its own, waves, traces of products or second copies.
DRAWN = ("anti-hebbian", "bcm", "curl", "dfa", "fa", "hebbian", "heterosynaptic", "kp", "oja", "sgd")
VARIANTS: dict[str, dict[str, Any]] = {
    **{name: {"name": name} for name in DRAWN},
    "curl": {"name": "curl", "flips": 0.5},
    "curl-clamp": {"name": "curl", "flips": 0.5, "clamp": True},
    "curl-fa": {"name": "curl", "flips": 0.5, "credit": "fa"},
    "hebbian-delta": {"name": "hebbian", "readout": "delta"},
    "heterosynaptic": {"name": "heterosynaptic", "feedback_units": 5},
    "heterosynaptic-identity": {"name": "heterosynaptic", "wiring": "identity"},
    "template": {"name": "rules.template:Template"},
}
GROWING = ("hebbian", "anti-hebbian", "bcm")  # no error and no row decay holds these back
MOST_STEPS = 12_000  # presentations per (tau_prop / T): what a reference can afford


class Cyclic(AbstractRule):
    """The circuit of rule `inner` with fixed forward projections that close cycles.

    lateral           every hidden layer (without one: the output) onto itself: N(0, strength^2 / n)
    learning-lateral  the same, with the law that the layer's own matrix has
    oscillator        two linear layers between input and first layer: both excite themselves with `strength`, one
                      excites and one inhibits the other with `swing`; undamped where strength is 1
    feedback          the layer above onto the activities of each hidden layer: N(0, strength^2 / n)
    """

    reference: ClassVar[str] = "@misc{cyclic, title={Circuits with cycles}}"
    inner: AbstractRule = SGD()
    strength: Float[Array, ""] = number(0.5)
    swing: Float[Array, ""] = number(1.0)
    kind: str = eqx.field(static=True, default="lateral")

    def wire(self, network: Network) -> Circuit:
        circuit, depth = self.inner.wire(network), network.depth
        if self.kind == "oscillator":
            return self._oscillating(circuit, network.sizes[1])
        random = Gaussian(self.strength)
        if self.kind == "feedback":
            pairs = [(f"F{i}", f"z{i + 1}", f"z{i}", i, ()) for i in range(1, depth)]
        else:
            laws = {i: circuit.projection(f"W{i}").law for i in range(1, depth + 1)}
            laws = laws if self.kind == "learning-lateral" else dict.fromkeys(laws, ())
            pairs = [(f"R{i}", f"z{i}", f"z{i}", i, _unsigned(laws[i])) for i in range(1, max(depth, 2))]
        return Circuit(
            circuit.layers,
            circuit.projections
            + tuple(Projection(n, s, "activity", t, "forward", random, law, level=i) for n, s, t, i, law in pairs),
        )

    def _oscillating(self, circuit: Circuit, size: int) -> Circuit:
        n = min(size, 4)
        eye, one = jnp.eye(n, dtype=self.strength.dtype), jnp.ones((), self.strength.dtype)
        wires = [
            ("Qin", "z0", "q", Gaussian(one)),
            ("Qq", "q", "q", Given(self.strength * eye)),
            ("Qi", "i", "q", Given(-self.swing * eye)),
            ("Iq", "q", "i", Given(self.swing * eye)),
            ("Ii", "i", "i", Given(self.strength * eye)),
            ("Qout", "q", "z1", Gaussian(0.5 * one)),
        ]
        return Circuit(
            (*circuit.layers, Layer("q", n, level=1), Layer("i", n, level=1)),
            circuit.projections
            + tuple(Projection(name, s, "activity", t, "forward", init, level=1) for name, s, t, init in wires),
        )


def _unsigned(law: Law) -> Law:
    return tuple(dataclasses.replace(term, pre=None) if isinstance(term, Outer) else term for term in law)


@dataclass(frozen=True)
class Structure:
    """What a group of draws shares: a spec without its sweep, the data, the range of tau_prop / T."""

    number: int
    variant: str
    cycle: str
    sizes: tuple[int, ...]
    spec: dict[str, Any]
    lags: tuple[str, ...]
    gaps: bool
    traces: bool
    layered: bool
    rare: float  # size of the largest sample relative to the others; 1 for none
    norm: float
    propagation: tuple[float, float]
    inputs: np.ndarray = field(repr=False)
    targets: np.ndarray = field(repr=False)

    @property
    def duration(self) -> float:
        """T in seconds."""
        return self.spec["stimulus"]["duration"]

    @property
    def features(self) -> list[str]:
        """Words by which results are counted."""
        spec = self.spec
        words = [f"rule {self.variant}", f"depth {len(self.sizes) - 1}", spec["network"]["activation"], spec["dtype"]]
        words += [spec["integrator"]["name"], spec["network"]["loss"]]
        words += [f"cycle {self.cycle}"] if self.cycle else ["no cycle"]
        words += [f"lag {name}" for name in self.lags] or ["no lag"]
        words += ["rare large samples"] if self.rare > 1 else []
        flags = {"gaps": self.gaps, "traces": self.traces, "time constants per layer": self.layered}
        return words + [name for name, holds in flags.items() if holds]


def structure(seed: int, number: int, tolerance: float = 1e-3) -> Structure:
    """Structure `number` of the drawing `seed`."""
    rng = np.random.default_rng([seed, number])
    variant = sorted(VARIANTS)[number % len(VARIANTS)]
    cycle = str(rng.choice(CYCLES)) if rng.random() < 0.3 else ""
    depth = int(rng.integers(2 if cycle == "feedback" else 1, 6))
    sizes = rng.integers(1, 13, depth + 1)
    if rng.random() < 0.3:
        sizes[rng.integers(0, depth + 1)] = rng.integers(13, 65)
    sizes = tuple(int(n) for n in sizes)
    window = rng.random() < 0.75
    kinked = rng.random() < (0.15 if window else 0.4)
    activation = "relu" if kinked else str(rng.choice(["linear", "tanh", "softplus"]))
    softmax = sizes[-1] > 1 and rng.random() < 0.35
    lengths = ((4, 13), (13, 41), (41, 121))[rng.choice(3, p=[0.6, 0.28, 0.12])]
    presentations = int(_log_uniform(rng, *lengths))
    propagation = _range(rng, presentations * {"": 1, "oscillator": 40}.get(cycle, 6))
    integrator: dict[str, Any] = {"name": "window", "tolerance": tolerance}
    if not window:
        steps = max(int(rng.choice([20, 50, 100, 200, 500])), math.ceil(1 / propagation[0]))
        integrator |= {"name": str(rng.choice(["euler", "heun", "tsit5"])), "dt": f"{1 / steps!r} T"}
    rule = dict(VARIANTS[variant])
    duration = _log_uniform(rng, 0.01, 1.0)
    if variant == "bcm":
        rule["threshold_timescale"] = duration * _log_uniform(rng, max(0.1, propagation[0]), 100)
    if cycle:
        rule = {"name": "benchmarks.trust_draws:Cyclic", "kind": cycle, "inner": rule}
    lags = [(), ("error",), ("hop",), ("input",), ("error", "input"), ("error", "hop", "input")]
    norm = float(rng.uniform(0.5, 2.5))
    inputs, targets, rare = _data(rng, sizes, norm, softmax)
    inputs, targets = inputs.astype(np.float32), targets.astype(np.float32)  # as tasks have them
    spec = {
        "dtype": str(rng.choice(["float32", "float64"])),
        "rule": rule,
        "network": {
            "hidden": list(sizes[1:-1]),
            "activation": activation,
            "loss": "softmax" if softmax else "squared",
            "bias": bool(rng.random() < 0.5),
            "skips": [[0, depth]] if depth > 1 and rng.random() < 0.3 else [],
        },
        "stimulus": {"duration": duration, "presentations": presentations},
        "integrator": integrator,
        "record": {"points": 1},
    }
    late = lags[rng.choice(6, p=[0.5, 0.14, 0.12, 0.08, 0.08, 0.08])]
    gaps, traces, layered = (bool(x) for x in rng.random(3) < (0.35, 0.2, 0.1))
    return Structure(
        number, variant, cycle, sizes, spec, late, gaps, traces, layered, rare, norm, propagation, inputs, targets
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _range(rng: np.random.Generator, cost: int) -> tuple[float, float]:
    """About a decade of tau_prop / T from 1e-3 to 5, so that the draws of a structure take about as many steps."""
    decades = ((0.001, 0.006), (0.006, 0.04), (0.04, 0.3), (0.3, 5.0))
    affordable = [decade for decade in decades if cost / decade[0] < MOST_STEPS] or [decades[-1]]
    return affordable[rng.integers(len(affordable))]


def _data(
    rng: np.random.Generator, sizes: tuple[int, ...], norm: float, softmax: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """Inputs of length about `norm`, in a third of cases with a heavy tail; targets of length about 1 or classes."""
    samples = int(rng.integers(20, 201))
    inputs = norm * rng.standard_normal((samples, sizes[0])) / sizes[0] ** 0.5
    rare = 1.0
    if rng.random() < 0.35:
        rare = _log_uniform(rng, 3, 30)
        inputs[rng.random(samples) < 1 / rng.uniform(20, 200)] *= rare
        inputs[rng.integers(samples)] *= rare
        rare = float(np.sqrt((inputs**2).sum(1).max()) / norm)
    if softmax:
        return inputs, np.eye(sizes[-1])[rng.integers(0, sizes[-1], samples)], rare
    return inputs, rng.standard_normal((samples, sizes[-1])) / sizes[-1] ** 0.5, rare


def numbers(drawn: Structure, seed: int) -> dict[str, np.ndarray]:
    """The traced numbers of all draws of a structure, by path, times in seconds; "seed" has the seeds."""
    rows = [_point(np.random.default_rng([seed, drawn.number, 1 + i]), drawn) for i in range(DRAWS)]
    return {path: np.array([row[path] for row in rows]) for path in rows[0]}


def _point(rng: np.random.Generator, drawn: Structure) -> dict[str, Any]:
    """One draw. Most have time constants with which learning is stable; one in eight may have any."""
    spec, depth = drawn.spec, len(drawn.sizes) - 1
    gap = float(rng.choice([0.0, 1.0, rng.uniform(0.1, 1.0)])) if drawn.gaps else 0.0
    tau = _log_uniform(rng, *drawn.propagation)
    round_lags = [0.0, 0.5, 1.0, 1.0 + gap, 0.1]
    longest = {"error": 1.2, "hop": 0.3, "input": 1.5}
    lags = {}
    for name in drawn.lags:
        lags[name] = float(rng.choice(round_lags) if rng.random() < 0.5 else rng.uniform(0.03, longest[name]))
    loop = 2 * depth * min(tau, 1.0) + lags.get("error", 0) + 2 * depth * lags.get("hop", 0)
    strongest = (drawn.norm * drawn.rare) ** 2
    slowest = strongest * max(loop, 1 / 40)
    if drawn.variant in GROWING:
        cubic = 4 if drawn.variant == "bcm" else 1
        slowest = max(slowest, cubic * spec["stimulus"]["presentations"] * drawn.norm**2, cubic * strongest)
    low = 1.0 if rng.random() < 1 / 8 else min(max(1.0, slowest), 5e4)
    plasticity = _log_uniform(rng, low, 1e5)
    decay = _log_uniform(rng, 0.03, 1e5) if rng.random() < 0.3 else math.inf
    if spec["integrator"]["name"] != "window":  # explicit steps are refused where they are longer than these
        decay = max(decay, 0.1)
    scale = drawn.duration
    row: dict[str, Any] = {
        "seed": int(rng.integers(2**31 - 1)),
        "network.gain": float(rng.uniform(0.5, 1.5)),
        "timescales.propagation": scale * tau,
        "timescales.plasticity": scale * plasticity,
        "timescales.decay": scale * decay,
        "stimulus.gap": scale * gap,
    }
    if drawn.layered:
        row["timescales.propagation"] = [scale * tau * x for x in rng.uniform(0.5, 2.0, depth)]
    if drawn.traces:
        row["timescales.trace"] = scale * _log_uniform(rng, max(0.05, tau), max(3, tau))
    if drawn.cycle:
        row |= _loop(rng, drawn.cycle)
    return row | {f"delays.{name}": scale * lag for name, lag in lags.items()}


def _loop(rng: np.random.Generator, cycle: str) -> dict[str, float]:
    """How strong a cycle is. An oscillator is nearly undamped in half of all draws."""
    if cycle == "oscillator":
        damped = rng.random() < 0.5
        return {
            "rule.strength": float(rng.uniform(0, 0.95) if damped else rng.uniform(0.99, 1.0)),
            "rule.swing": _log_uniform(rng, 0.2, 5),
        }
    return {"rule.strength": float(rng.uniform(-0.9, 0.9)), "rule.swing": 1.0}
