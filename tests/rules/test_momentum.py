"""Momentum: the heavy ball in closed form, the published update, windows against steps, gates and traces."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from dynamics.circuit import Activity, Circuit, Error, Outer, Trace
from dynamics.errors import PlasticodeError
from dynamics.network import Network
from dynamics.stimulus import Clock
from rules import SGD, AbstractRule, Curl, Exponentiated, Momentum, Replicas
from tests.dynamics.pieces import advanced, apart, both, coupled, discrete
from tests.problems import f64, flow_drift, random_problem, random_weights, timescales
from tests.unjudged import PlainFlow as WeightFlow
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

X, ZERO = f64([[1.0, 0.0], [0.0, 2.0]]), f64([[0.0], [0.0]])
RATES = np.array([0.5, 2.0])  # <x x^T> of X
START = {"W1": f64([[1.0, 1.0]])}
REGRESSION = Momentum(inertia=f64(0.3)).wire(Network((2, 1), bias=False, gain=f64(1.0)))


@pytest.mark.parametrize("decay", [None, 0.7])
def test_the_flow_is_the_heavy_ball_from_rest(decay):
    """W' = E - W/tau_dec, tau E' = -E - R W; it is m W'' + mu W' + (k + R) W = 0 as the docstring has it."""
    tau, idle = 0.3, 0.0 if decay is None else 1 / decay
    clock, times = Clock(f64(0.1), f64(0.0), 20), timescales(plasticity=1.0, decay=decay)
    end = advanced(WeightFlow(REGRESSION, times, X, ZERO, clock, FixedStep("dopri5")), START, jnp.int32(20))
    for w, rate in zip(end.weights["W1"][0], RATES, strict=True):
        m, mu, k = tau, 1 + tau * idle, idle
        second = np.array([[0, 1], [-(k + rate) / m, -mu / m]])
        assert abs(w - (expm(2 * second) @ [1, -idle])[0]) < 1e-9


def test_an_update_is_the_published_one():
    run = discrete(REGRESSION, timescales(plasticity=0.3), X, ZERO, 0.03)
    w, v = np.ones(2), np.zeros(2)
    for k in range(5):
        x = np.asarray(X)[int(run.stream.index(jnp.int32(k)))]
        v = 0.9 * v + 0.1 * -(w @ x) * x
        w = w + 0.1 * v
    np.testing.assert_allclose(advanced(run, START, jnp.int32(5)).weights["W1"][0], w, atol=1e-15)


@pytest.mark.parametrize("inertia", [0.049, 0.05, 0.06])
def test_updates_grow_as_the_roots_of_the_heavy_ball_do_and_from_half_a_presentation_down_always(inertia):
    """z^2 - (1 + beta - (1 - beta) eta) z + beta = 0, beta = 1 - T/inertia, of one weight with <x^2> = 1."""
    one, eta, beta = f64([[1.0]]), 0.1, 1 - 0.1 / inertia
    circuit = Momentum(inertia=f64(inertia)).wire(Network((1, 1), bias=False, gain=f64(1.0)))
    run = discrete(circuit, timescales(plasticity=1.0), one, ZERO[:1], 0.1)
    early, late = (float(advanced(run, {"W1": one}, jnp.int32(n)).weights["W1"][0, 0]) for n in (300, 310))
    root = np.abs(np.roots([1, -(1 + beta - (1 - beta) * eta), beta])).max()
    assert abs((late / early) ** 2 / root**20 - 1) < 1e-9 and (root > 1) == (inertia <= 0.05)


@pytest.mark.parametrize("gap", [0.0, 0.03])
def test_windows_equal_small_steps_and_the_flow_on_average(gap):
    window, steps = both(REGRESSION, timescales(0.01, 1.0, decay=4.0), X, ZERO, START, 520, shown=3, gap=gap, nodes=16)
    assert apart(window.state.weights, steps.state.weights, START) < 1e-5
    assert apart(window.state.trace, steps.state.trace, {"W1": f64([[0.0, 0.0]])}) < 1e-5
    quick, time = timescales(1e-4, 4.0), Clock(f64(0.02), f64(gap / 10), 14)
    one = f64([[1.0, 2.0]])
    ran = coupled(REGRESSION, quick, one, ZERO[:1], time, Window(nodes=14, parts=1, gaps=gap > 0))
    flow = WeightFlow(REGRESSION, quick, one, ZERO[:1], time, FixedStep("heun"))
    slow, fast = advanced(flow, START, jnp.int32(60)).weights, advanced(ran, START, jnp.int32(60)).state.weights
    assert apart(slow, fast, START) < 0.02  # of the order tau_prop / T


class Gating(AbstractRule):
    """e z^T, opened by the activity."""

    reference = "@misc{none, title={None}}"
    trace: Trace = Trace()

    def wire(self, network: Network) -> Circuit:
        return Circuit(network.layers(), network.forward((Outer(Error(), gate=Activity(), trace=self.trace),)))


def test_a_gate_is_part_of_what_is_averaged():
    """After one update of a trace from zero the weights have moved by (1 - beta) of what they move without."""
    problem = random_problem((3, 2), bias=True)
    plain, heavy = (rule.wire(problem.network) for rule in (Gating(), Momentum(Gating(), inertia=f64(0.5))))
    weights = random_weights(heavy)
    ends = [
        advanced(discrete(c, timescales(), *problem[1:], 0.1), weights, jnp.int32(1)).weights for c in (plain, heavy)
    ]
    moved = [jax.tree.map(lambda a, b: np.asarray(a - b), end, weights) for end in ends]
    for name, change in moved[0].items():
        np.testing.assert_allclose(moved[1][name], 0.2 * change, atol=1e-15)
    assert float(jnp.abs(flow_drift(plain, weights, problem)["W1"]).max()) > 0.01


def test_a_law_with_a_trace_of_its_own_is_refused():
    for trace in (Trace("product"), Trace("pre", f64(0.1))):
        with pytest.raises(PlasticodeError, match="the law of 'W1' has a trace of its own, which leaves no place"):
            Momentum(Gating(trace)).wire(Network((3, 2), gain=f64(1.0)))
    with pytest.raises(PlasticodeError, match="has a trace of its own"):
        Momentum(Momentum(SGD())).wire(Network((3, 2), gain=f64(1.0)))


@pytest.mark.parametrize("key", ["flow.entropic", "noise.sampling"])
def test_what_flows_do_not_know_of_slow_averages_is_refused(key):
    clock = Clock(f64(0.1), f64(0.0), 2)
    kind: dict[str, Any] = {"entropic": True} if key == "flow.entropic" else {"sampling_noise": True}
    with pytest.raises(
        PlasticodeError, match=f"follow slow averages, as those of momentum do, .*: {key} must be false"
    ):
        WeightFlow(REGRESSION, timescales(), X, ZERO, clock, FixedStep("euler"), **kind)


def test_what_a_rule_inside_refuses_is_told_by_its_path():
    network = Network((3, 2), gain=f64(1.0))
    for rule, path in (
        (Momentum(Curl(flips=f64([0.1, 0.2]))), "rule.credit.flips"),
        (Replicas(Momentum(Curl(flips=f64([0.1, 0.2])))), "rule.credit.credit.flips"),
        (Exponentiated(Replicas(copies=1)), "rule.credit.copies"),
        (Curl(Momentum(Momentum(SGD()))), "leaves no place for momentum: rule.credit.credit must be"),
    ):
        with pytest.raises(PlasticodeError, match=path):
            rule.wire(network)
