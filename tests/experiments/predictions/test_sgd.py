"""Predictions of SGD as a mode and of SKA: closed forms against brute force, small settings, planted defects."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import expit

import dynamics.discrete
import dynamics.noise
import rules.knowledge_accumulation
from dynamics.errors import PlasticodeError
from experiments.predictions import configured
from experiments.predictions.kit import f64, order
from experiments.predictions.sgd.minima import Stability, critical, leading, moment_map
from experiments.predictions.sgd.setting import balance, of_updates
from experiments.predictions.sgd.ska import SkaEntropy
from experiments.predictions.sgd.ska_growth import SkaGrowth
from experiments.predictions.sgd.ska_setting import Run, published, sigmoids
from experiments.spec.units import Time
from tests.experiments.predictions.verdicts import failed

# Cheap settings of every prediction, with which its claims still hold.
SMALL = {
    "modified-flow": {
        "inputs": 2, "hidden": 2, "outputs": 1, "samples": 2, "time": 0.8, "etas": (0.05, 0.025), "seeds": 2,
    },
    "law-of-balance": {
        "seeds": 8, "updates": 4000, "eta": 0.07, "noise": 0.7, "start": (0.6, 1.7), "batches": (1, 2), "samples": 30,
        "records": 20,
    },
    "ito-noise": {"seeds": 16, "eta": 0.15, "noise": 0.8, "decays": 1.0, "records": 2, "start": (1.8, 0.7)},
    "sgd-stability": {"dimension": 3, "samples": 200, "ratios": (0.9, 1.15), "batch": 3, "updates": 2, "seeds": 2000},
    "sgd-flatness": {"inputs": 4, "hidden": 8, "samples": 5, "updates": 1200, "seeds": 8},
    "ska-entropy": {
        "layers": (3, 2), "others": (4,), "inputs": 5, "samples": 6, "etas": (0.04, 0.02, 0.01), "time": 1.2,
    },
    "ska-time-invariance": {"layers": (3, 2), "inputs": 5, "samples": 6, "etas": (0.05, 0.025), "time": 1.0},
    "ska-growth": {"inputs": 3, "samples": 8, "length": 1.1, "eta": 0.1, "start": 2e-3, "propagation": Time(0.01)},
    "ska-field": {"inputs": 3, "layers": (3, 2), "samples": 5, "seeds": 4, "gain": 1.5},
}  # fmt: skip


def small(name, **settings) -> Any:
    """The prediction called `name`, cheap."""
    return configured([name], SMALL[name] | settings)[name]


@pytest.mark.parametrize("name", SMALL)
def test_predictions_hold_at_small_settings(name):
    finding = small(name).measure()
    assert failed(finding) == set(), finding.verdicts
    assert len(finding.verdicts) >= 3 and finding.figure.axes


# -------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("batch", [1, 3])
def test_moments_of_updates_are_those_of_many_draws(batch):
    """E theta theta^T after one update, by drawing batches with nothing but numpy."""
    rng = np.random.default_rng(batch)
    a, eta, n = rng.standard_normal((5, 2)), 0.4, 200_000
    start = np.array([[1.3, 0.4], [0.4, 0.7]])
    theta = rng.multivariate_normal(np.zeros(2), start, n)
    shown = a[rng.integers(5, size=(n, batch))]
    theta = theta - eta * np.einsum("nbi,nbj,nj->ni", shown, shown, theta) / batch
    expected = (moment_map(a, eta, batch) @ start.ravel()).reshape(2, 2)
    each = theta[:, :, None] * theta[:, None, :]
    assert (np.abs(each.mean(0) - expected) < 5 * each.std(0) / n**0.5).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_limits_of_stability_are_those_of_the_spectrum(seed):
    rng = np.random.default_rng(seed)
    a, eta = rng.standard_normal((12, 3)), rng.uniform(0.1, 0.5)
    radius, root = leading(moment_map(a, eta))
    assert radius == pytest.approx(np.abs(np.linalg.eigvals(moment_map(a, eta))).max(), rel=1e-9)
    grown = (moment_map(a, eta) @ (root @ root.T).ravel()).reshape(3, 3)
    np.testing.assert_allclose(grown, radius * root @ root.T, atol=1e-9)
    limit = critical(lambda eta: moment_map(a, eta))
    assert np.abs(np.linalg.eigvals(moment_map(a, limit))).max() == pytest.approx(1, abs=1e-9)
    unit = a / np.linalg.norm(a, axis=1, keepdims=True)
    assert critical(lambda eta: moment_map(unit, eta)) == pytest.approx(2, abs=1e-9)
    fine = np.array([critical(lambda eta, k=k: moment_map(unit, eta, substeps=k)) for k in (64, 128)])
    h = unit.T @ unit / 12
    both, sides = np.kron(h, h), np.kron(h, np.eye(3)) + np.kron(np.eye(3), h)
    spread = np.einsum("ni,nk,nj,nl->ikjl", unit, unit, unit, unit).reshape(9, 9) / 12 - both
    limits = 1 / np.linalg.eigvals(np.linalg.solve(sides, spread)).real  # det(-sides + eta spread) = 0
    assert 2 * fine[1] - fine[0] == pytest.approx(limits[limits > 0].min(), rel=1e-3)


@pytest.mark.parametrize(("batch", "substeps"), [(1, None), (4, None), (1, 8), (1, 32)])
def test_limits_of_isotropic_features_are_in_closed_form(batch, substeps):
    p = Stability(dimension=int(3 + batch), seed=batch)
    found = critical(lambda eta: moment_map(p.isotropic(), eta, batch, substeps))
    assert p.closed(batch, substeps) == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_second_moments_with_additive_noise_are_those_of_steps_by_hand(count):
    p, eta = Stability(dimension=4, batch=2), np.array([3.0, 9.0])
    moments = np.full(2, 0.25)  # of one direction
    for _ in range(8 * count):
        moments = (1 - eta / 8 / 4) ** 2 * moments + eta * eta / 8
    np.testing.assert_allclose(p.added(eta, count), 4 * moments)
    np.testing.assert_allclose(p.added(1e-4 * eta, None), 1e-4 * eta / 2 * 16, rtol=1e-3)  # eta s^2 Tr H^-1 / 2
    assert (p.additive_etas > max(p.closed(2), p.closed(1, 8))).all()


@pytest.mark.parametrize("batch", [1, 4])
def test_the_decay_of_a_charge_is_that_of_plain_updates(batch):
    """The chain by numpy: u and w, labels with noise, inputs of two sizes."""
    rng = np.random.default_rng(batch)
    eta, s, n, count = 0.05, 0.4, 400, 3000
    u, w = np.full(n, 1.6), np.full(n, 0.625)
    for _ in range(count):
        x = np.where(rng.random((n, batch)) < 0.5, 0.6, (2 - 0.36) ** 0.5)
        noise = s * rng.choice([-1, 1], (n, batch))
        g = ((x - (u * w)[:, None] * x) * x + noise).mean(1)  # x * noise has the variance s^2
        u, w = u + eta * g * w, w + eta * g * u
    m = 1 + ((0.6**4 + (2 - 0.36) ** 2) / 2 - 1) / batch
    expected = balance((1.6, 0.625), (eta * s) ** 2 / batch, eta * m, 1.0, of_updates, np.array([0.0, count]))[-1]
    measured = (u**2 - w**2) / (1.6**2 - 0.625**2)
    assert np.log(measured.mean()) / np.log(expected) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("seed", [0, 1])
def test_published_updates_of_a_batch_are_those_by_hand(seed):
    """Two layers with biases: a layer passes on its last activity, and compares each sample with it."""
    rng = np.random.default_rng(seed)
    sizes, eta, n = (3, 4, 2), float(rng.uniform(0.05, 0.3)), 5
    x, circuit = rng.uniform(size=(n, 3)), sigmoids(sizes)
    start = circuit.initial_weights(jax.random.key(seed))
    run = published(circuit, f64(x), start, f64(eta), 4)
    w = {name: np.array(value) for name, value in start.items()}
    last = [expit(x @ w["W1"].T + w["b1"].T)]
    last.append(expit(last[0] @ w["W2"].T + w["b2"].T))
    for k in range(4):
        given, now = [x, last[0]], []
        for i in (1, 2):
            a = given[i - 1] @ w[f"W{i}"].T + w[f"b{i}"].T
            z = expit(a)
            g = (a * z * (1 - z) + z - last[i - 1]) / np.log(2)
            np.testing.assert_allclose(run.activities[f"z{i}"][k], z.T, atol=1e-14)
            w[f"W{i}"], w[f"b{i}"] = w[f"W{i}"] + eta * g.T @ given[i - 1] / n, w[f"b{i}"] + eta * g.mean(0)[:, None]
            now.append(z)
        last = now
    for name, value in run.weights.items():
        np.testing.assert_allclose(value, w[name], atol=1e-14)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_growth_of_knowledge_is_that_of_its_equation(seed):
    rng = np.random.default_rng(seed)
    p = SkaGrowth(length=rng.uniform(0.5, 2), eta=rng.uniform(0.02, 0.5), start=rng.uniform(1e-3, 1e-2))
    c, times = (p.length**2 + 1) / np.log(2), np.linspace(0, 15 / p.rate, 20)
    fine = {"t_eval": times, "rtol": 1e-10, "atol": 1e-14}
    end = solve_ivp(lambda _, a: c * a * expit(a) * expit(-a), (0, times[-1]), [p.start], **fine)
    np.testing.assert_allclose(p.exact(times), end.y[0], rtol=1e-5)
    a = [1e-9, 1e-9]
    for _ in range(200):
        a.append(a[-1] + p.eta * c * (a[-1] + a[-1] - a[-2]) / 4)
    assert a[-1] / a[-2] == pytest.approx(p.published_rate(), rel=1e-9)
    lag = p.propagation.value  # in tau_plast, which is 1 s
    field = np.array([[c / 4, c, -c], [0.25 / lag, -1 / lag, 0], [0, 1 / lag, -1 / lag]])  # a, z - 1/2, u - 1/2
    assert max(np.linalg.eigvals(field).real) == pytest.approx(p.coupled_rate(), rel=1e-9)


def test_orders_are_slopes():
    steps = np.array([0.4, 0.2, 0.1])
    np.testing.assert_allclose(order(steps, np.stack([3 * steps**2, steps], 1)), [2, 1])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("modified-flow", {"etas": (0.1, 0.04)}),
        ("law-of-balance", {"start": (1.0, 1.0)}),
        ("ito-noise", {"start": (0.5, 2.0)}),
        ("ito-noise", {"decays": 1e-3}),
        ("sgd-stability", {"ratios": (1.1, 1.2)}),
        ("sgd-stability", {"samples": 3, "dimension": 4}),
        ("sgd-flatness", {"sharpness": 0.9}),
        ("sgd-flatness", {"hidden": 1}),
        ("ska-entropy", {"etas": (0.05, 0.1)}),
        ("ska-time-invariance", {"etas": (0.3, 0.1)}),
        ("ska-growth", {"start": 0.04}),
        ("ska-growth", {"propagation": Time(1.0)}),
        ("ska-field", {"layers": (3,)}),
    ],
)
def test_senseless_parameters_are_refused(name, settings):
    with pytest.raises(PlasticodeError, match=name):
        configured([name], settings)


# ------------------------------------------------------------------------------------------------------ planted defects


def test_batches_that_show_one_sample_are_noticed(plant):
    shown = dynamics.discrete.Discrete._shown

    def first(self, stream, k):
        return shown(self, dataclasses.replace(stream, side=jnp.zeros_like(stream.side)), k)

    plant(dynamics.discrete.Discrete, "_shown", first)
    assert "charge of the chain" in failed(small("law-of-balance", batches=(2,), updates=200).measure())


def test_noise_that_vanishes_at_the_minimum_is_noticed(plant):
    """In proportion to the weights it has a limit, far beyond which mean squares are those of rare ones."""
    p = small("sgd-stability", seeds=500)
    plant(dynamics.noise.Additive, "amplitude", lambda self, level, w: level * w)
    squares = p._simulated(p.isotropic(), np.ones(1), np.eye(3)[None], 1, 1, True)[1]
    assert (squares.mean(1) > 10 * p.added(p.additive_etas, 1)).all()


def _knowledge(a, z, before):
    return (a * z * (1 - z) + z - before) / np.log(2)


def _off_the_gradient():
    p = small("ska-field")
    return p._slopes(sigmoids((p.inputs, *p.layers), p.gain), 0)


def _off_the_course():
    p = small("ska-growth")
    times, a = p._flow()
    return np.abs(a / p.exact(times) - 1).max()


def _off_the_factor():
    p = small("ska-growth")
    return np.abs(p._published() / p.published_rate() - 1).max()


@pytest.mark.parametrize(
    ("defect", "caught", "allowed"),
    [
        (lambda a, z, u: _knowledge(a, z, u) * np.log(2), _off_the_gradient, 1e-11),  # nats
        (lambda a, z, u: _knowledge(-a, z, u), _off_the_course, 1e-4),  # the other sign
        (lambda a, z, u: _knowledge(a, z, 2 * u - z), _off_the_factor, 2e-3),  # the difference twice
        (lambda a, z, u: _knowledge(a, z, z), _off_the_factor, 2e-3),  # no difference
    ],
)
def test_defects_of_ska_are_noticed(plant, defect, caught, allowed):
    """By what the verdicts of its predictions are about, at the tolerance that they have."""

    def planted(self, local):
        return defect(local.preactivation, local.activity, local.values["before"])

    assert caught() < allowed
    plant(rules.knowledge_accumulation.Knowledge, "__call__", planted)
    assert caught() > allowed


def test_a_gap_of_entropy_is_that_of_a_riemann_sum():
    """Of any path: right ends instead of the integral of -log2(z / (1 - z)) dz."""
    z = expit(np.linspace(-1, 2, 20_001) ** 3)[:, None, None]
    run = Run({"z1": z}, {})
    middle = (z[1:] + z[:-1]) / 2
    integral = -(np.log2(middle / (1 - middle)) * np.diff(z, axis=0)).sum()
    right = -(np.log2(z[1:] / (1 - z[1:])) * np.diff(z, axis=0)).sum()
    assert SkaEntropy.gap(run, "z1") == pytest.approx(right - integral, rel=1e-3)
