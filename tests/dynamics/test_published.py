"""Published rules with a circuit of their own for errors: difference target propagation, the dendritic microcircuit.

Each against what it computes by hand, in numpy.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dynamics.circuit import (
    AbstractFactor,
    Circuit,
    Error,
    Gaussian,
    Layer,
    OneToOne,
    Shared,
    TwoFactor,
    Value,
    Variable,
)
from tests.dynamics.pieces import cosine, drift, given_input, normal, to
from tests.problems import f64, timescales

ONE, SAME, FLOW = Gaussian(f64(1.0)), OneToOne(f64(1.0)), timescales(plasticity=1.0)


class Between(AbstractFactor):
    """What arrives at one port less what arrives at another."""

    plus: str = eqx.field(static=True)
    minus: str = eqx.field(static=True)

    def __call__(self, local):
        return local.inputs[self.plus] - local.inputs[self.minus]


class Target(AbstractFactor):
    """t = z + rate e."""

    rate: float = 1.0

    def __call__(self, local):
        return local.activity + self.rate * local.error


def test_difference_target_propagation_is_as_published():
    """W_l' = (t_l - z_l) z_{l-1}^T with t_l = z_l + g(V t_{l+1}) - g(V z_{l+1}), the same V twice; e_l = t_l - z_l.

    The output's target is z + 0.3 (y - z) (bibtex: lee2015difference).
    """
    sizes, rate = (3, 5, 4, 2), 0.3
    layers = [given_input("z0", 3), Layer("z3", 2, role="output", level=3)]
    wires = [to(f"W{i}", f"z{i - 1}", f"z{i}", ONE, TwoFactor(Error()), level=i) for i in (1, 2, 3)]
    for i in (1, 2):
        up = Target(rate) if i == 2 else Target()
        of_target, of_activity = (Layer(f"{name}{i}", sizes[i], "tanh", level=i) for name in "uv")
        error = (Variable("error", Between("up", "down")),)
        layers += [Layer(f"z{i}", sizes[i], "tanh", level=i, variables=error), of_target, of_activity]
        wires += [
            to(f"V{i + 1}", f"z{i + 1}", f"u{i}", ONE, carries=up),
            to(f"V{i + 1} again", f"z{i + 1}", f"v{i}", Shared(f"V{i + 1}")),
            to(f"U{i}", f"u{i}", f"z{i}", SAME, port="up"),
            to(f"D{i}", f"v{i}", f"z{i}", SAME, port="down"),
        ]
    circuit, x, y = Circuit(tuple(layers), tuple(wires)), normal(4, 3), normal(4, 2)
    weights = circuit.initial_weights(jax.random.key(4))
    w = {name: np.asarray(matrix).T for name, matrix in weights.items()}  # one sample per row
    z1 = np.tanh(x @ w["W1"])
    z2 = np.tanh(z1 @ w["W2"])
    z3 = z2 @ w["W3"]
    t3 = z3 + rate * (y - z3)
    t2 = z2 + np.tanh(t3 @ w["V3"]) - np.tanh(z3 @ w["V3"])
    t1 = z1 + np.tanh(t2 @ w["V2"]) - np.tanh(z2 @ w["V2"])
    found = drift(circuit, weights, x, y, FLOW)
    for name, post, pre in (("W1", t1 - z1, x), ("W2", t2 - z2, z1), ("W3", y - z3, z2)):
        np.testing.assert_allclose(found[name], post.T @ pre / 4, rtol=0, atol=1e-14)


class Rate(AbstractFactor):
    """r = tanh(u)."""

    def __call__(self, local):
        return jnp.tanh(local.activity)


class Unpredicted(AbstractFactor):
    """The rate less that of the basal input alone."""

    def __call__(self, local):
        return jnp.tanh(local.activity) - jnp.tanh(local.preactivation)


class Soma(AbstractFactor):
    """a + by (what arrives at `port` - u), or a + by times the apical compartment where there is no port."""

    by: Array
    port: str = eqx.field(static=True, default="")

    def __call__(self, local):
        pull = local.inputs[self.port] - local.activity if self.port else local.values["apical"]
        return local.preactivation + self.by * pull


def microcircuit(nudge, w1, w2, b):
    """Pyramidal cells h and o, and interneurons i that the output teaches (bibtex: sacramento2018dendritic)."""
    apical = Variable("apical", Between("top", "lateral"))
    layers = (
        given_input("x", w1.shape[1]),
        Layer("y", w2.shape[0], role="target", level=0),
        Layer("h", w1.shape[0], variables=(Variable("activity", Soma(f64(0.8))), apical)),
        Layer("o", w2.shape[0], variables=(Variable("activity", Soma(nudge, "target")),)),
        Layer("i", w2.shape[0], variables=(Variable("activity", Soma(f64(0.5), "teacher")),)),
    )
    law = TwoFactor(Unpredicted())
    wires = (
        to("W1", "x", "h", w1, law),
        to("W2", "h", "o", w2, law, carries=Rate()),
        to("WI", "h", "i", w2, law, carries=Rate()),
        to("B", "o", "h", b, port="top", carries=Rate()),
        to("PI", "i", "h", b, TwoFactor(Value("apical")), port="lateral", carries=Rate()),
        to("Y", "y", "o", SAME, port="target"),
        to("T", "o", "i", SAME, port="teacher"),
    )
    return Circuit(layers, wires)


def test_a_dendritic_microcircuit_predicts_itself_and_then_passes_errors_back():
    """Interneurons that predict the output: without a nudge nothing learns, with a weak one W1' ~ f' B (f' e) x^T."""
    w1, w2, b, x, y = normal(5, 3), normal(2, 5) / 5**0.5, normal(5, 2), normal(3, 3), normal(3, 2)
    still, taught = (
        drift(circuit, circuit.initial_weights(jax.random.key(0)), x, y, FLOW)
        for circuit in (microcircuit(f64(nudge), w1, w2, b) for nudge in (0.0, 1e-3))
    )
    assert set(still) == {"W1", "W2", "WI", "PI"} and max(float(jnp.abs(d).max()) for d in still.values()) < 1e-14
    r = np.tanh(x @ w1.T)
    u = r @ w2.T
    e = (1 - np.tanh(u) ** 2) * (y - u)
    for name, expected in (("W1", ((1 - r**2) * (e @ b.T)).T @ x), ("W2", e.T @ r)):
        assert cosine(taught, {name: f64(expected)}) > 0.99999
