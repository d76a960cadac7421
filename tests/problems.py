"""What the tests of rules share: every rule, small problems to put it on, and short ways to run a regime.

A new rule needs one line in `ALL_RULES`; the tests of the matrix (tests/rules/test_matrix.py) then run on it, coupled
runs if it has a piece that no rule before it has.
`ENGINE_RULES` are those that between them use every part of the engine: its own tests run on them.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dynamics.circuit import Circuit, Weights
from dynamics.coupled import Coupled
from dynamics.discrete import Discrete
from dynamics.flow import WeightFlow
from dynamics.network import Network
from dynamics.regime import AbstractRegime
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from rules import (
    BCM,
    DFA,
    FA,
    KP,
    SGD,
    SKA,
    STDP,
    AntiHebbian,
    BehaviouralTimescale,
    ContrastiveHebbian,
    Curl,
    EProp,
    EquilibriumPropagation,
    Exponentiated,
    Hebbian,
    Heterosynaptic,
    Momentum,
    NodePerturbation,
    Oja,
    OscillatingEP,
    PredictiveCoding,
    Replicas,
    ThreeFactor,
    WeightMirror,
    WeightPerturbation,
)
from rules.template import Template
from tests.unjudged import PlainFlow, PlainSteps

HALF: Any = 0.5  # a rule makes arrays of its numbers
FAST: Any = 0.05
FEEBLE: Any = 0.1  # feedback with which every small network settles quickly
QUICK: Any = 4e-4  # of what settles
NO_LOOK: Any = None  # for who has nothing that is late

ENGINE_RULES: dict[str, Any] = {
    "sgd": SGD(),
    "fa": FA(),
    "dfa": DFA(),
    "kp": KP(),
    "hebbian": Hebbian(),
    "hebbian-delta": Hebbian(readout="delta"),
    "anti-hebbian": AntiHebbian(),
    "oja": Oja(),
    "bcm": BCM(threshold_timescale=FAST),
    "heterosynaptic": Heterosynaptic(feedback_units=5),
    "heterosynaptic-identity": Heterosynaptic(wiring="identity"),
    "curl": Curl(flips=HALF),
    "curl-clamp": Curl(flips=HALF, clamp=True),
    "curl-fa": Curl(FA(), flips=HALF),
    "template": Template(),
}

ALL_RULES: dict[str, Any] = {
    **ENGINE_RULES,
    "node-perturbation": NodePerturbation(),
    "node-perturbation-one-sided": NodePerturbation(symmetric=False),
    "weight-perturbation": WeightPerturbation(),
    "weight-mirror": WeightMirror(),
    "exponentiated-gradient": Exponentiated(dale=True, excitatory=HALF),
    "exponentiated-fa": Exponentiated(FA()),
    "momentum": Momentum(inertia=HALF),
    "replicas-fa": Replicas(FA(), copies=2),
    "equilibrium-propagation": EquilibriumPropagation(feedback=FEEBLE),
    "equilibrium-propagation-symmetric": EquilibriumPropagation(feedback=FEEBLE, symmetric=True),
    "oscillating-ep": OscillatingEP(),
    "contrastive-hebbian": ContrastiveHebbian(),
    "predictive-coding": PredictiveCoding(),
    "ska": SKA(),
    "behavioural-timescale": BehaviouralTimescale(eligibility=QUICK, instruction=QUICK),
    "e-prop": EProp(trace=QUICK),
    "stdp": STDP(depression=HALF, potentiation_time=QUICK, depression_time=QUICK),
    "three-factor": ThreeFactor(noise=HALF, eligibility=QUICK),
}


def f64(value: object) -> Array:
    """A float64 array: numbers without an explicit dtype would be refused by the strict promotion of the tests."""
    return jnp.asarray(value, jnp.float64)


class Problem(NamedTuple):
    """A network and data for it."""

    network: Network
    inputs: Array
    targets: Array


def random_problem(sizes: tuple[int, ...], seed: int = 1, samples: int = 7, **network) -> Problem:
    """Random inputs with random targets: real numbers for the squared loss, one-hot for softmax."""
    for_inputs, for_targets = jax.random.split(jax.random.key(seed))
    inputs = jax.random.normal(for_inputs, (samples, sizes[0]), jnp.float64)
    targets = jax.random.normal(for_targets, (samples, sizes[-1]), jnp.float64)
    if network.get("loss") == "softmax":
        targets = jax.nn.one_hot(targets.argmax(-1), sizes[-1], dtype=jnp.float64)
    return Problem(Network(sizes, gain=f64(1.0), **network), inputs, targets)


PROBLEMS = {  # all depths, activations and losses, with and without biases and skip connections
    "depth-1": random_problem((3, 2), bias=True),
    "depth-2-relu": random_problem((3, 4, 2), activation="relu", bias=True),
    "depth-3-tanh": random_problem((3, 4, 3, 2), activation="tanh", loss="softmax", bias=False, skips=((0, 2), (1, 3))),
    "depth-4-softplus": random_problem(
        (2, 3, 3, 3, 2), activation="softplus", output_activation="tanh", bias=True, skips=((0, 4),)
    ),
    "depth-3-linear": random_problem((3, 4, 3, 2), activation="linear", loss="softmax", bias=True),
}

TINY = random_problem((3, 4, 2), activation="tanh", bias=True, samples=4)  # that every rule can learn


def wired(rule: Any, network: Network) -> Circuit:
    """What a rule wires on a network, whose layers get the activation that the rule needs where it needs one."""
    needed = getattr(rule, "activation", None)
    if needed is not None:
        network = dataclasses.replace(network, activation=needed, output_activation=needed)
    return rule.wire(network)


@functools.cache
def circuit_of(name: str) -> Circuit:
    """What a rule wires on the tiny network: once, as that looks at the shapes of all laws."""
    return wired(ALL_RULES[name], TINY.network)


def pieces_of(circuit: Circuit) -> set[Any]:
    """What its layers and projections consist of: kinds, ports, laws and flags, without names, sizes and numbers."""

    def described(node: Any) -> Any:
        if dataclasses.is_dataclass(node):
            kept = (f.name for f in dataclasses.fields(node) if f.name not in ("name", "level", "size"))
            return type(node).__name__, *((name, described(getattr(node, name))) for name in kept)
        if isinstance(node, tuple):
            return tuple(map(described, node))
        named = isinstance(node, str) and any(char.isdigit() for char in node)
        return type(node).__name__ if named or not isinstance(node, str | bool | None) else node

    return {described(piece) for piece in (*circuit.layers, *circuit.projections)}


def with_new_pieces(names: Iterable[str]) -> list[str]:
    """The rules that have a piece which none before them has: between them, all pieces."""
    seen, found = set(), []
    for name in names:
        if not (pieces := pieces_of(circuit_of(name))) <= seen:
            found.append(name)
        seen |= pieces
    return found


def random_weights(circuit: Circuit, seed: int = 2) -> Weights:
    """The circuit's own initial weights, with biases that are not zero."""
    key = jax.random.key(seed)
    weights = circuit.initial_weights(key)
    biases = {name: w for name, w in weights.items() if name.startswith("b")}
    return weights | {name: 0.3 * jax.random.normal(key, w.shape, w.dtype) for name, w in biases.items()}


def timescales(
    propagation: object = 0.01, plasticity: object = 1.0, decay: object = None, trace: object = None
) -> Timescales:
    """Time constants in seconds, in float64; without decay and without an eligibility trace unless they are given."""
    optional = [None if value is None else f64(value) for value in (decay, trace)]
    return Timescales(f64(propagation), f64(plasticity), *optional)


def clock(duration=0.1, gap=0.0, steps: int = 1) -> Clock:
    """`steps` steps per presentation of `duration` + `gap` seconds, in float64."""
    return Clock(f64(duration), f64(gap), steps)


def stream(problem: Problem, seed: int = 3) -> Stream:
    """The problem's samples in random order."""
    return Stream(problem.inputs, problem.targets, jax.random.key(seed))


def flow(
    circuit: Circuit, problem: Problem, times: Timescales, time: Clock | None = None, integrator: str = "heun"
) -> WeightFlow:
    """A weight flow on all samples of the problem."""
    return PlainFlow(circuit, times, problem.inputs, problem.targets, time or clock(), PlainSteps(integrator))


@eqx.filter_jit
def flow_drift(circuit: Circuit, weights: Weights, problem: Problem, times: Timescales | None = None) -> Weights:
    """The drift of every plastic matrix in the weight flow; with the default time constants it is <m p^T>."""
    regime = flow(circuit, problem, times or timescales())
    state = regime.init(weights)
    return regime.system(state.fixed).drift(state[:3], None, NO_LOOK)[0]


def discrete(circuit: Circuit, problem: Problem, times: Timescales, time: Clock) -> Discrete:
    """A discrete run on the problem's stream."""
    return Discrete(circuit, times, stream(problem), Clock(time.duration, time.gap, 1))


def run(regime: AbstractRegime, weights: Weights, presentations: int, slow: Mapping | None = None) -> Weights:
    """All matrices after some presentations; weight flow and discrete runs may start from other slow variables."""
    if slow is None and not isinstance(regime, Coupled):
        slow = regime.circuit.initial_slow()
    return _run(regime, weights, jnp.int32(presentations), slow)


@eqx.filter_jit
def _run(regime: AbstractRegime, weights: Weights, presentations: Array, slow: Mapping | None) -> Weights:
    """Compiles once for each structure of the regime, and every test that runs that structure shares it."""
    state = regime.init(weights)
    if slow is not None:
        state = state._replace(slow=slow)
    return regime.weights(regime.advance(state, jnp.int32(0), presentations))


def distance(left: Weights, right: Weights) -> float:
    """The largest absolute difference between two sets of matrices of the same names."""
    assert left.keys() == right.keys() and left
    return max(float(jnp.abs(left[name] - right[name]).max()) for name in left)
