"""Terms of laws and variables of layers: each against its closed form, by windows against small steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import (
    AbstractFactor,
    Activity,
    Circuit,
    Constant,
    Dense,
    Error,
    Gaussian,
    Given,
    Input,
    Layer,
    Negative,
    OneToOne,
    Outer,
    Prospective,
    Scaled,
    Times,
    Trace,
    TwoFactor,
    Value,
    Variable,
    Wave,
)
from dynamics.delays import Delays
from dynamics.errors import PlasticodeError
from dynamics.stimulus import Clock
from dynamics.timescales import Timescales
from tests.dynamics.pieces import advanced, apart, both, coupled, drift, given_input, normal, to
from tests.problems import f64, timescales
from tests.unjudged import PlainFlow as WeightFlow
from tests.unjudged import PlainSteps as FixedStep
from tests.unjudged import PlainWindow as Window

X = f64([[1.0, 0.0], [0.0, 2.0]])
ZERO = f64([[0.0], [0.0]])


def regression(term: Outer | None = None, *more: Scaled, name: str = "W", **own):
    """A linear unit that learns the target zero from two inputs: W' = -W <x x^T>."""
    layers = given_input("x", 2), Layer("y", 1, role="output")
    matrix = Dense(Given(f64([[1.0, 1.0]])), **own)
    return Circuit(layers, (to(name, "x", "y", matrix, (term or Outer(Error()), *more)),))


RATES = np.array([0.5, 2.0])  # <x x^T> of X


@pytest.mark.parametrize("late", [0.2, 0.6])
def test_a_gated_trace_of_the_product_bridges_a_late_reward(late):
    """Pulses of b = 0.1 s in m and p, a reward as long that is late by d."""
    width, te, period = 0.1, 0.5, 1.0

    def pulse(start):
        return Wave(
            lambda t: jnp.where((t >= start) & (t < start + width), 1.0, 0.0)[None], (f64(start), f64(start + width))
        )

    layers = (
        Layer("p", 1, source=pulse(0.0), level=0),
        Layer("q", 1, source=pulse(0.0), level=0),
        Layer("r", 1, source=pulse(late), level=0),
        Layer("n", 1),
    )
    law = (Outer(Input("drive"), gate=Input("reward"), trace=Trace("product", f64(te))),)
    one = OneToOne(f64(1.0))
    wires = (
        to("W", "p", "n", f64([[0.0]]), law),
        to("Q", "q", "n", one, port="drive"),
        to("R", "r", "n", one, port="reward"),
    )
    circuit = Circuit(layers, wires)
    weights = circuit.initial_weights(jax.random.key(0))
    expected = te * (1 - np.exp(-width / te)) * (np.exp(-(late - width) / te) - np.exp(-late / te))
    for by, steps, off in ((Window(nodes=10, parts=1, gaps=False), 10, 1e-8), (FixedStep("heun"), 1000, 6e-3)):
        run = coupled(circuit, timescales(0.05, 1.0), f64([[0.0]]), None, Clock(f64(period), f64(0.0), steps), by)
        assert abs(float(advanced(run, weights, jnp.int32(1)).state.weights["W"][0, 0]) / expected - 1) < off


class Kept(AbstractFactor):
    """1 - tau U x z: what the share x of vesicles relaxes to."""

    used: float

    def __call__(self, local):
        return 1 - self.used * local.values["x"] * local.activity


class Released(AbstractFactor):
    """U x z."""

    def __call__(self, local):
        return 0.4 * local.values["x"] * local.activity


def test_depressing_synapses_settle_at_their_closed_form():
    """tau x' = 1 - x - tau U x r, what is carried U x r: at rest U r / (1 + U tau r)."""
    use, recovery, rate = 0.4, 0.3, 6.0
    layers = (
        Layer("s", 1, role="constant", level=0),
        Layer("a", 1, variables=(Variable("x", Kept(recovery * use), f64(recovery)),)),
        Layer("b", 1),
    )
    law = TwoFactor(Activity())
    circuit = Circuit(
        layers, (to("S", "s", "a", f64([[rate]])), to("W", "a", "b", f64([[1.0]]), law, carries=Released()))
    )
    weights, times = circuit.initial_weights(jax.random.key(0)), timescales(0.01, 1e14)
    expected = use * rate / (1 + use * recovery * rate)
    found = drift(circuit, weights, f64([[0.0]]), None, timescales(0.01, 1.0))["W"]
    assert abs(float(found[0, 0]) - expected**2) < 1e-12
    run = coupled(circuit, times, f64([[0.0]]), None, Clock(f64(0.5), f64(0.0), 2000), FixedStep("dopri5"))
    assert abs(float(advanced(run, weights, jnp.int32(8)).state.activity["b"][0]) - expected) < 1e-9
    window, steps = both(circuit, timescales(0.05, 0.3), f64([[0.0]]), None, weights, shown=3, nodes=18)
    assert apart(window.state.weights, steps.state.weights, weights) < 1e-5


def test_a_pair_rule_of_two_traces_knows_the_order_of_phases():
    """W' = A z_post x_pre - B x_post z_pre with cosines of phase 0 and phi, and traces of t1 and t2."""
    omega, t1, t2, plus, minus, phase = 2 * np.pi, 0.1, 0.3, 1.0, 0.7, 0.6
    quick = f64(1e-3)

    def layer(name, tau):
        return Layer(
            name, 1, variables=(Variable("activity", Input("in"), quick), Variable("trace", Activity(), f64(tau)))
        )

    wave = [Wave(lambda t, lag=lag: jnp.cos(omega * t - lag)[None]) for lag in (0.0, phase)]
    layers = (
        Layer("p", 1, source=wave[0], level=0),
        Layer("q", 1, source=wave[1], level=0),
        layer("a", t1),
        layer("b", t2),
    )
    one = OneToOne(f64(1.0))
    law = Outer(Times(plus, Activity()), pre=Value("trace")), Outer(Times(-minus, Value("trace")))
    wires = to("P", "p", "a", one, port="in"), to("Q", "q", "b", one, port="in"), to("W", "a", "b", f64([[0.0]]), law)
    circuit = Circuit(layers, wires)
    weights = circuit.initial_weights(jax.random.key(0))
    run = coupled(
        circuit, timescales(1.0, 1.0), f64([[0.0]]), None, Clock(f64(1.0), f64(0.0), 2000), FixedStep("dopri5")
    )
    before, after = (float(advanced(run, weights, jnp.int32(k)).state.weights["W"][0, 0]) for k in (5, 6))
    gain = lambda tau: 1 / (1 + 1j * omega * tau)  # noqa: E731
    late = np.exp(-1j * phase)
    both_lag = 1 / (1 + (omega * 1e-3) ** 2)
    expected = 0.5 * both_lag * (plus * (late * np.conj(gain(t1))).real - minus * (late * gain(t2)).real)
    assert abs(after - before - expected) < 1e-6


@pytest.mark.parametrize("prospective", [False, True])
def test_a_prospective_chain_of_three_has_the_lag_of_one(prospective):
    tau, one, q = 0.01, f64([[1.0]]), 2.0
    carries = Prospective() if prospective else "activity"
    layers = (Layer("s", 1, role="constant", level=0), *(Layer(f"z{i}", 1) for i in (1, 2, 3)))
    wires = (
        to("W1", "s", "z1", one),
        to("W2", "z1", "z2", one, carries=carries),
        to("W3", "z2", "z3", one, carries=carries),
    )
    circuit = Circuit(layers, (*wires, to("L", "z3", "z3", 0 * one, TwoFactor(Activity()))))
    weights = circuit.initial_weights(jax.random.key(0))
    expected = 1 - np.exp(-q) * (1 if prospective else 1 + q + q * q / 2)
    for by, steps in ((Window(nodes=16, parts=1, gaps=False), 16), (FixedStep("dopri5"), 400)):
        run = coupled(circuit, timescales(tau, 1e9), f64([[0.0]]), None, Clock(f64(q * tau), f64(0.0), steps), by)
        assert abs(float(advanced(run, weights, jnp.int32(1)).state.activity["z3"][0]) - expected) < 1e-9


def test_an_instantaneous_loop_is_told():
    layers = Layer("s", 1, role="constant", level=0), Layer("u", 1), Layer("v", 1)
    one = f64([[0.5]])
    wires = to("A", "u", "v", one, carries=Prospective()), to("B", "v", "u", one, carries=Prospective())
    with pytest.raises(PlasticodeError, match="a loop through projection 'A' and projection 'B' and the drive"):
        Circuit(layers, wires)


def test_a_pull_to_a_fixed_matrix_is_an_anchor():
    """W' = -W <x x^T> + k (A - W)."""
    layers = given_input("x", 2), Layer("y", 1, role="output"), Layer("a", 1)
    anchor, start = f64([[3.0, -1.0]]), f64([[1.0, 1.0]])
    law = Outer(Error()), Scaled(Constant(0.7), "A"), Scaled(Constant(-0.7))
    circuit = Circuit(layers, (to("W", "x", "y", start, law), to("A", "x", "a", anchor)))
    weights = circuit.initial_weights(jax.random.key(0))
    flow = WeightFlow(circuit, timescales(plasticity=1.0), X, ZERO, Clock(f64(0.1), f64(0.0), 20), FixedStep("dopri5"))
    end = advanced(flow, weights, jnp.int32(10)).weights["W"]
    rest = 0.7 * anchor / (RATES + 0.7)[None]
    np.testing.assert_allclose(end, rest + (start - rest) * np.exp(-RATES - 0.7)[None], atol=1e-10)
    window, steps = both(circuit, timescales(0.02, 0.4, decay=3.0), X, ZERO, weights)
    assert apart(window.state.weights, steps.state.weights, weights) < 1e-5


def test_each_neuron_may_have_its_own_time_constant():
    taus = f64([0.01, 0.02, 0.05])
    layers = given_input("x", 2), Layer("y", 3, variables=(Variable("activity", Input("forward"), taus),))
    circuit = Circuit(layers, (to("W", "x", "y", normal(3, 2), TwoFactor(Activity())),))
    weights = circuit.initial_weights(jax.random.key(0))
    window, steps = both(circuit, timescales(9.0, 1e9), X[:1], None, weights, shown=1, duration=0.03)
    expected = weights["W"] @ X[0] * (1 - np.exp(-0.03 / taus))
    for end in (window, steps):
        np.testing.assert_allclose(end.state.activity["y"], expected, rtol=1e-8)


def test_what_is_carried_and_late_is_the_same_by_windows_and_by_steps():
    """A product of two variables, a constant lag before it arrives."""
    layers = (
        given_input("x", 2),
        Layer("a", 3, "tanh", variables=(Variable("x", Negative(Activity()), f64(0.03)),)),
        Layer("b", 2, level=2),
    )
    law = TwoFactor(Activity())
    wires = (
        to("A", "x", "a", Gaussian(f64(1.0)), law),
        to("B", "a", "b", Gaussian(f64(1.0)), law, carries=Released(), level=2),
    )
    circuit = Circuit(layers, wires)
    weights = circuit.initial_weights(jax.random.key(1))
    for lags in (Delays(hop=f64(0.0173)), Delays(hop=f64(0.0173), stages=2)):
        window, steps = both(
            circuit, timescales(0.02, 0.4), X, None, weights, delays=lags, gap=0.02, nodes=18, steps=1200
        )
        assert apart(window.state.weights, steps.state.weights, weights) < 2e-5
    prospective = dataclasses.replace(circuit.projection("B"), carries=Prospective())
    other = Circuit(layers, (circuit.projection("A"), prospective))
    with pytest.raises(
        PlasticodeError, match="'B' is late by a constant lag, and carries a function of inputs or drives"
    ):
        coupled(other, timescales(), X, None, Clock(f64(0.1), f64(0.0), 20), FixedStep(), delays=Delays(hop=f64(0.01)))


class Named(AbstractFactor):
    """A text that is not declared as static."""

    port: str = "forward"

    def __call__(self, local):
        return local.inputs[self.port]


def wired(law, **layer):
    wire = to("W", "x", "y", Gaussian(f64(1.0)), law)
    return lambda: Circuit((given_input("x", 2), Layer("y", 2, **layer)), (wire,))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            wired(TwoFactor(Value("threshhold")), variables=(Variable("threshold", Activity(), f64(1.0)),)),
            "did you mean 'threshold'",
        ),
        (
            wired((Outer(Activity(), gate=Input("rewards")),)),
            "port of layer 'y', which the law of 'W' reads, 'rewards' is not",
        ),
        (wired((Outer(Activity(), trace=Trace("pre", f64(1.0), slow=True)),)), "a slow trace must be of the product"),
        (wired((Outer(Activity()), Scaled(Constant(1.0), "U"))), "'U' is not known"),
        (wired(TwoFactor(Named())), "a field 'forward' of Named, which is no number"),
        (
            wired((), variables=(Variable("v", Activity(), slow=True),)),
            "the slow variable 'v' of layer 'y' has no timescale",
        ),
        (wired((), variables=(Variable("v", Activity(), normal(3)),)), r"has shape \[3\]: it must be one number, or 2"),
        (wired((), role="input", variables=(Variable("activity", Activity()),)), "which is given to it from outside"),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(make, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        make()


def test_a_trace_of_a_single_law_may_have_a_timescale_of_its_own():
    """The run has none, or another."""
    law = (Outer(Error(), trace=Trace("pre", f64(0.05))),)
    circuit = regression(law[0])
    weights = circuit.initial_weights(jax.random.key(0))
    ends = []
    for times in (timescales(0.02, 0.4), timescales(0.02, 0.4, trace=0.5)):
        window, steps = both(circuit, times, X, ZERO, weights)
        assert apart(window.state.weights, steps.state.weights, weights) < 1e-5
        ends.append(steps.state.weights)
    run_wide = Circuit(circuit.layers, (to("W", "x", "y", f64([[1.0, 1.0]]), TwoFactor(Error())),))
    times = Timescales(f64(0.02), f64(0.4), None, f64(0.05))
    ends.append(both(run_wide, times, X, ZERO, weights)[1].state.weights)
    assert apart(ends[0], ends[1], weights) == 0 and apart(ends[0], ends[2], weights) < 1e-12
