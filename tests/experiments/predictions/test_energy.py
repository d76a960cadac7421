"""Predictions of energy-based rules: closed forms against brute force, small networks, planted defects."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm

import rules.equilibrium_propagation
from dynamics.errors import PlasticodeError
from experiments.predictions import prediction_class
from experiments.predictions.energy import ENERGY
from experiments.predictions.energy.descents import equilibrated
from experiments.predictions.energy.late_errors import PCCriticalDelay, echoes
from experiments.predictions.energy.nudges import EPOscillating, EPTimescales
from experiments.predictions.energy.orders import forward, settled_error
from experiments.predictions.kit import f64
from rules.contrastive_hebbian import ContrastiveHebbian
from rules.equilibrium_propagation import EquilibriumPropagation, Nudged, OscillatingEP, copy_of
from rules.predictive_coding import Inferred, PredictiveCoding
from tests.experiments.predictions.verdicts import failed

SMALL = {
    "ep-orders": {"hidden": (3,), "seeds": 2, "samples": 2},
    "ep-learning": {"seeds": 5, "betas": (0.1, 0.05, 0.025), "time": 20.0, "steps": 2},
    "ep-timescales": {"ratios": (0.1, 0.05, 0.025), "seeds": 2},
    "ep-oscillating": {"amplitudes": (0.4, 0.1), "frequencies": (0.05, 0.1, 0.2), "seeds": 2},
    "chl-backprop": {"hidden": (3,), "seeds": 2, "samples": 2},
    "pc-energy": {"hidden": (3, 3), "seeds": 2},
    "pc-backprop": {"hidden": (4, 3), "seeds": 2, "samples": 2},
    "energy-delay-window": {"delays": (0.0, 0.7, 1.1), "propagation": 0.02},
    "pc-critical-delay": {"delays": (0.8, 0.95, 1.05, 1.3), "steps": 10},
}


def small(name, **settings) -> Any:
    """The prediction called `name`, cheap."""
    return prediction_class(name).configured(name, SMALL[name] | settings)


# -------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("seed", [0, 1])
def test_the_settled_energy_is_the_least_one(seed):
    """Least squares over all hidden activities of z1 = W1 x, ..., y = W_L z_{L-1}, by numpy."""
    rng = np.random.default_rng(seed)
    sizes = (3, *rng.integers(2, 5, 2), 2)
    w = {f"W{i}": rng.standard_normal((sizes[i], sizes[i - 1])) for i in (1, 2, 3)}
    x, y, (a, b) = rng.standard_normal(3), rng.standard_normal(2), sizes[1:3]
    zeros = np.zeros((2, a))
    system = np.block([[np.eye(a), np.zeros((a, b))], [-w["W2"], np.eye(b)], [zeros, w["W3"]]])
    left = np.linalg.lstsq(system, np.concatenate([w["W1"] @ x, np.zeros(b), y]), rcond=None)[1]
    found = equilibrated({n: f64(v) for n, v in w.items()}, f64(x)[None], f64(y)[None])
    assert float(found) == pytest.approx(float(left[0]) / 2 if left.size else 0.0, rel=1e-10, abs=1e-12)


def test_the_error_that_is_left_is_that_of_finite_differences():
    rng = np.random.default_rng(2)
    w = {f"W{i}": rng.standard_normal(shape) for i, shape in ((1, (4, 3)), (2, (3, 4)), (3, (2, 3)))}
    x, r, step = rng.standard_normal(3), rng.standard_normal(2), 1e-6

    def output(moved1, moved2):
        z1 = np.tanh(w["W1"] @ x) + moved1
        return w["W3"] @ (np.tanh(w["W2"] @ z1) + moved2)

    spread = np.eye(2)
    for size, place in ((4, 0), (3, 1)):
        for axis in step * np.eye(size):
            moved = [axis if k == place else np.zeros(n) for k, n in enumerate((4, 3))]
            column = (output(*moved) - output(*(-m for m in moved))) / (2 * step)
            spread += np.outer(column, column)
    weights = {n: f64(v) for n, v in w.items()}
    np.testing.assert_allclose(settled_error(weights, f64(x), f64(r)), np.linalg.solve(spread, r), rtol=1e-7)
    np.testing.assert_allclose(forward(weights, f64(x))[0], output(0, 0), rtol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_echoes_are_those_of_a_signal_that_is_written_down(seed):
    rng = np.random.default_rng(seed)
    gain, late = rng.uniform(-0.9, 0.9), int(rng.integers(50, 1400))
    n = 1000
    c = np.zeros(3 * n)
    for t in range(late, late + n):
        c[t] = 1 - gain * (c[t - late] if t >= late else 0)
    found = echoes(np.array([late / n, 0.0]), gain)
    assert found.overlap[0] == pytest.approx(c[:n].mean(), abs=2e-3)
    assert found.square[0] == pytest.approx((c**2).sum() / n, abs=2e-3)
    assert found.overlap[1] == pytest.approx(1 / (1 + gain))


def test_the_balance_of_harmonics_is_the_periodic_state():
    p = EPOscillating(amplitudes=(0.45, 0.15), frequencies=(0.3, 0.6, 1.3))
    for b, row in zip(p.amplitudes, p.balanced(), strict=True):
        for omega, expected in zip(p.frequencies, row, strict=True):
            period = 2 * math.pi / omega

            def field(t, y, b=b, omega=omega):
                s = b * math.sin(omega * t)
                return [-(1 + s) * y[0] + s, 2 / b * math.sin(omega * t) * y[0]]

            end = solve_ivp(
                field, (0, 20 * period), [0.0, 0.0], rtol=1e-9, atol=1e-11, t_eval=[19 * period, 20 * period]
            )
            assert np.diff(end.y[1])[0] / period == pytest.approx(expected, abs=1e-6)
    slow = EPOscillating(amplitudes=(0.45, 0.15))
    np.testing.assert_allclose(slow.balanced(np.array([1e-4]))[:, 0], slow.slow(), rtol=1e-6)


def test_the_course_and_the_rate_of_a_synapse_are_those_of_its_equations():
    rng = np.random.default_rng(3)
    p = EPTimescales(stimulus=float(rng.uniform(0.5, 1)), beta=float(rng.uniform(0.2, 1)), time=3.0)
    at = np.linspace(0, 3.0, 17)
    expected = [(expm(p.system(0.05) * t) @ [0, 0, 1])[2] for t in at]
    np.testing.assert_allclose(p.exact(0.05), expected, atol=1e-9)
    first = p.stimulus**2 * (2 + p.beta) / (1 + p.beta) ** 2
    bias = [p.rate(r) / -(p.stimulus**2 / (1 + p.beta)) - 1 for r in (1e-3, 5e-4)]
    assert 2 * bias[1] / 5e-4 - bias[0] / 1e-3 == pytest.approx(first, rel=1e-4)


def test_the_rightmost_root_lies_on_the_axis_at_the_critical_delay():
    w = float(np.random.default_rng(4).uniform(1.2, 2.5))
    p = PCCriticalDelay(strong=w)
    root = p.root(w, p.critical())
    assert root.real == pytest.approx(0, abs=1e-9) and root.imag == pytest.approx(math.sqrt(w**2 - 1))
    assert p.root(0.9, 50.0).real < 0 < p.root(1.1, 50.0).real


@pytest.mark.parametrize(("w", "delay"), [(0.8, 0.2), (0.8, 0.7), (2.5, 0.2), (2.5, 0.7)])
def test_the_rate_of_what_dies_out_or_grows_is_that_of_its_root(w, delay):
    """Of a damped or a growing oscillation about 0.3 that is written down, however soon it has died out."""
    p = PCCriticalDelay(strong=2.5)
    root, t = p.root(w, delay), np.arange(2000) / p.steps
    course = 0.3 + np.exp(root.real * t) * np.cos(root.imag * t + 1.0)
    assert p._rate(course, root) == pytest.approx(root.real, abs=2e-3)


# ------------------------------------------------------------------------------------------------------ small networks


@pytest.mark.parametrize("name", ENERGY)
def test_claims_hold_in_small_networks(name):
    assert failed(small(name).measure()) == set()


@pytest.mark.parametrize("name", ["ep-orders", "chl-backprop"])
def test_orders_hold_with_the_loss_of_softmax(name):
    assert failed(small(name, loss="softmax").measure()) == set()


@pytest.mark.parametrize(
    ("name", "settings", "culprit"),
    [
        ("ep-orders", {"betas": (0.1, 0.05)}, "betas"),
        ("ep-timescales", {"ratios": (0.8, 0.4, 0.2)}, "ratios"),
        ("ep-oscillating", {"frequencies": (0.2, 0.1, 0.05)}, "frequencies"),
        ("pc-energy", {"hidden": (3,)}, "hidden"),
        ("pc-backprop", {"hidden": (3,)}, "hidden"),
        ("energy-delay-window", {"beta": 1.5}, "beta"),
        ("energy-delay-window", {"delays": (0.5,)}, "delays"),
        ("pc-critical-delay", {"weak": 1.1}, "weak"),
        ("pc-critical-delay", {"strong": 3.0}, "strong must be below 2.83"),
    ],
)
def test_values_without_meaning_are_refused(name, settings, culprit):
    with pytest.raises(PlasticodeError, match=culprit):
        small(name, **settings)


# ----------------------------------------------------------------------------------------------------- planted defects

NUDGED, CLAMPED, CODED = EquilibriumPropagation.wire, ContrastiveHebbian.wire, PredictiveCoding.wire
ORDERS, BACKPROP, ENERGIES = "ep-orders", "chl-backprop", "pc-energy"
ASIDE = {"order, one-sided", "order, symmetric", "direction"}


@pytest.mark.parametrize(
    ("function", "old", "new", "name", "claims"),
    [
        (NUDGED, "2 * self.nudge if", "self.nudge if", ORDERS, {"order, symmetric"}),
        (Nudged.__call__, "+ beta", "- beta", ORDERS, ASIDE),
        (copy_of, "p.level - last", "last - p.level", ORDERS, ASIDE),
        (CLAMPED, "-one, variables=error", "one, variables=error", BACKPROP, {"order", "direction"}),
        (CLAMPED, '("D", "error")', "", BACKPROP, {"order", "direction"}),
        (copy_of, "gain=feedback", "gain=1 + 0 * feedback", BACKPROP, {"order", "direction"}),
        (Inferred.__call__, "+ local", "- local", ENERGIES, {"settled energy", "growth at the saddle"}),
        (CODED, "Modulated() if t == last else Residual()", "Residual()", ENERGIES, {"weights descend it"}),
        (CODED, "TwoFactor(Residual())", "TwoFactor(Modulated())", ENERGIES, {"weights descend it"}),
    ],
)
def test_a_wrong_line_fails_a_claim(rewrite, function, old, new, name, claims):
    """At a feedback gain below 1, the one at which layers that are weighed by a wrong power of it look right."""
    rewrite(function, old, new)
    assert claims <= failed(small(name, **({"feedback": 0.5} if name == ORDERS else {})).measure())


def test_a_free_copy_that_does_not_learn_fails_the_orders(plant, monkeypatch):
    right = rules.equilibrium_propagation.copy_of

    def alone(network, feedback, rate, mark="", **more):
        return right(network, feedback, rate if mark else 0 * rate, mark, **more)

    plant(rules.equilibrium_propagation, "copy_of", alone)
    assert "order, one-sided" in failed(small("ep-orders").measure())


@pytest.mark.parametrize(
    ("function", "old", "new"),
    [
        (OscillatingEP.wire, "2 / self.nudge", "1 / self.nudge"),
        (OscillatingEP.wire, 'gate=Input("phase"), ', ""),
        (Nudged.__call__, "self.beta * local.inputs[self.by] if", "self.beta if"),
    ],
)
def test_a_wrong_line_fails_the_synapse_of_an_oscillating_nudge(rewrite, function, old, new):
    """The first claim of `ep-oscillating`, one synapse against harmonic balance, to 1e-4."""
    p = EPOscillating(amplitudes=(0.15,), frequencies=(0.3, 0.6, 1.3))
    rewrite(function, old, new)
    assert np.abs(p._synapse() - p.balanced()).max() > 1e-3


def test_an_error_at_once_fails_the_window(plant):
    """One rule in the engine is then what it is without delays, and all rules that are so fail all claims."""
    import experiments.predictions.energy.late_errors as module

    p, right = small("energy-delay-window"), module.coupled
    at_once = p.expected(0 * np.array(p.delays))
    rest = iter(at_once.values())
    plant(module, "coupled", lambda *known, late, **more: right(*known, late=0 * late, **more))
    found = p._measured(p._rules()["predictive coding"])
    np.testing.assert_allclose(found, at_once["predictive coding"], rtol=6 * p.propagation)
    plant(type(p), "_measured", lambda self, rule: next(rest))
    assert len(failed(p.measure())) == 6


def test_weights_of_layers_that_forget_their_feedback_fail_backpropagation(plant):
    import rules.contrastive_hebbian as module

    right = module.copy_of

    def even(network, feedback, rate, mark="", **more):
        layers, wires = right(network, feedback, rate, mark, **more)
        laws = {p.name: right(network, 0 * feedback + 1, rate, mark, **more)[1][i].law for i, p in enumerate(wires)}
        return layers, tuple(dataclasses.replace(p, law=laws[p.name]) for p in wires)

    plant(module, "copy_of", even)
    assert {"order", "order in every layer", "direction"} <= failed(small("chl-backprop").measure())
