"""Predictions of emergent Hebbian learning: closed forms against brute force, small networks, planted defects."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.linalg import expm
from scipy.optimize import minimize

import dynamics.flow
import dynamics.integrators.windows
import dynamics.plasticity
import dynamics.settle
from dynamics.errors import PlasticodeError
from dynamics.network import Network
from experiments.predictions import prediction_class
from experiments.predictions.hebbian import at_rest, decay_trend
from experiments.predictions.hebbian.batch_size import HebbianBatchSize
from experiments.predictions.hebbian.bridge import HebbianBridge
from experiments.predictions.hebbian.phase_diagram import HebbianPhaseDiagram
from experiments.predictions.hebbian.setting import (
    RandomSignal,
    balance,
    share_inside,
    stationary_flow,
    student,
)
from experiments.predictions.hebbian.sparsity import HebbianSparsity
from experiments.predictions.kit import f64, jackknifed
from experiments.spec.units import Time
from rules import DFA, KP, SGD
from tests.experiments.predictions.verdicts import failed

# Cheap settings of every prediction, with which its claims still hold.
SMALL = {
    "hebbian-stationary": {"inputs": 3, "hidden": 4, "outputs": 2, "samples": 6, "gammas": (0.15,), "seeds": 3},
    "hebbian-phase-diagram": {
        "inputs": 4, "batch": 8, "averaged": 60.0, "step": 0.05, "seeds": 6, "variance": 1.7,
        "gammas": (0.03, 0.1, 0.4, 1.0, 3.0), "noises": (0.15, 0.4, 0.8, 1.5),
    },
    "hebbian-batch-size": {
        "inputs": 3, "outputs": 5, "batches": (1, 8, 64), "samples": 512, "gammas": (0.1, 0.4), "variance": 0.6,
        "seeds": 5,
    },
    "hebbian-bridge": {
        "inputs": 3, "gammas": (0.05, 0.2, 0.6), "noises": (0.15,), "averaged": 200.0, "plasticity": Time(4.0),
        "variance": 1.4, "teacher_norm": 0.8, "seeds": 6,
    },
    "hebbian-synaptic-noise": {
        "inputs": 5, "hidden": 12, "outputs": 2, "samples": 8, "noises": (1.2,), "averaged": 6.0, "seeds": 6,
        "plasticity": Time(5.0),
    },
    "hebbian-adam": {
        "inputs": 8, "hidden": 8, "outputs": 8, "gammas": (0.0, 0.02), "time": 24.0, "batch": 32,
        "rate": 0.02, "seeds": 5,
    },
    "hebbian-sparsity": {
        "inputs": 4, "samples": 300, "penalties": (0.0, 0.4), "variance": 1.3, "gamma": 0.2, "seeds": 8,
    },
    "hebbian-decay-trend": {
        "inputs": 8, "hidden": 8, "outputs": 8, "gammas": (0.0, 0.02), "time": 16.0, "batch": 16, "seeds": 4,
    },
}  # fmt: skip


def small(name, **settings):
    """The prediction called `name`, cheap."""
    return prediction_class(name).configured(name, SMALL[name] | settings)


# -------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("seed", [0, 1])
def test_the_per_sample_overlap_is_that_of_gaussian_inputs(seed):
    """A = s^2 (d + 2) [...] by drawing inputs and noise, with nothing but numpy."""
    rng = np.random.default_rng(seed)
    d, n = int(rng.integers(2, 5)), 400_000
    s, gamma, noise = rng.uniform(0.5, 2, 3)
    p = HebbianPhaseDiagram(inputs=d, variance=s, gammas=(gamma / s,), noises=(noise,), teacher_norm=1.3)
    teacher = rng.standard_normal(d)
    teacher *= 1.3 / np.linalg.norm(teacher)
    w = s / (s + gamma) * teacher + noise * 1.3 / (2 * d**0.5) * rng.standard_normal((n, d))
    x = s**0.5 * rng.standard_normal((n, d))
    h = (x * w).sum(1)
    samples = (x @ teacher - h) * h * (x * x).sum(1) / (s**2 * (d + 2) * 1.3**2 / 4)
    assert samples.mean() == pytest.approx(p.expected()[0, 0], abs=5 * samples.std() / n**0.5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_correction_for_a_finite_step_solves_the_moments_of_one_weight(seed):
    """d = 1 and batches of one sample: E x^2 = 1 and E x^4 = 3 close the recursion of E v and E v^2."""
    rng = np.random.default_rng(seed)
    g, noise, step, w = rng.uniform(0.1, 2), rng.uniform(0.1, 1.5), rng.uniform(0.01, 0.1), rng.uniform(0.5, 2)
    p = HebbianPhaseDiagram(inputs=1, batch=1, gammas=(g,), noises=(noise,), step=step, teacher_norm=w)
    spread = (noise * w / 2) ** 2
    mean = square = 0.0
    for _ in range(100_000):
        kept = 1 - step * g
        residual = w**2 - 2 * w * mean + square + spread  # E (w* - v - eps)^2
        square = kept**2 * square + 2 * kept * step * (w * mean - square) + 3 * step**2 * residual
        mean = kept * mean + step * (w - mean)
    overlap = (w * mean - square - spread) / (w**2 / 4)
    assert p.finite_step()[0, 0] == pytest.approx(overlap, rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_cosine_of_a_batch_is_that_of_outer_products(seed):
    rng = np.random.default_rng(seed)
    d, n, size, count = int(rng.integers(2, 5)), int(rng.integers(2, 5)), int(rng.integers(1, 7)), 20_000
    s, gamma, noise = rng.uniform(0.3, 2, 3)
    teacher = rng.standard_normal((n, d))
    teacher *= n**0.5 / np.linalg.norm(teacher)
    x = s**0.5 * rng.standard_normal((count, size, d))
    h = x @ teacher.T * s / (s + gamma)
    e = x @ teacher.T - h + noise * rng.standard_normal((count, size, n))
    g, hebb = (np.einsum("cbi,cbj->cij", a, x) / size for a in (e, h))
    products = np.array([(g * hebb).sum((1, 2)), (g * g).sum((1, 2)), (hebb * hebb).sum((1, 2))])

    def cosines(kept):
        a, b, c = kept.mean(1)
        return a / np.sqrt(b * c)

    samples = np.array([cosines(part) for part in np.array_split(products, 20, axis=1)])
    p = HebbianBatchSize(inputs=d, outputs=n, variance=s, gammas=(gamma,), label_noise=noise)
    expected = p.expected(np.array([size]))[0, 0]
    assert cosines(products) == pytest.approx(expected, abs=5 * samples.std() / 20**0.5)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_moments_of_noisy_weights_are_those_of_the_whole_process(seed):
    """All weights at once: matrix exponentials of each presentation, iterated until mean and covariance rest."""
    rng = np.random.default_rng(seed)
    d, g, k = int(rng.integers(2, 5)), rng.uniform(0.05, 0.5), rng.uniform(0.05, 0.5)
    s, w, tau, span = rng.uniform(0.5, 2), rng.uniform(0.5, 2), rng.uniform(2, 5), 0.05
    p = HebbianBridge(inputs=d, variance=s, teacher_norm=w, plasticity=Time(tau), propagation=Time(1e-12))
    target, power = np.full(d, w / d**0.5), 2 * k * s * w**2 / (d * tau)
    maps = []
    for axis in np.eye(d):
        taught = np.diag(axis) * d * s / tau
        leave = taught + np.eye(d) * s * g / tau
        blocks = expm(np.block([[leave, power * np.eye(d)], [np.zeros((d, d)), -leave.T]]) * span)
        keep = np.linalg.inv(blocks[:d, :d])
        pull = np.linalg.solve(leave, (np.eye(d) - keep) @ taught @ target)
        maps.append((keep, pull, keep @ blocks[:d, d:]))
    mean, square = np.zeros(d), np.zeros((d, d))
    for _ in range(4000):
        moved = [(keep @ mean, keep @ square @ keep.T, pull, noise) for keep, pull, noise in maps]
        square = sum(q + np.outer(m, b) + np.outer(b, m) + np.outer(b, b) + c for m, q, b, c in moved) / d
        mean = sum(m + b for m, _, b, _ in moved) / d
    exact = p.exact([g], [k])
    assert exact.overlap[0, 0] == pytest.approx((target @ mean - np.trace(square)) / w**2, rel=1e-6)
    assert exact.decay[0, 0] == pytest.approx(g * np.trace(square) / w**2, rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_short_presentations_give_the_law_of_the_flip_and_the_balance_of_noise(seed):
    rng = np.random.default_rng(seed)
    gamma, k = rng.uniform(0.05, 0.8, 2)
    p = HebbianBridge(inputs=int(rng.integers(1, 9)), duration=Time(1e-6), propagation=Time(1e-12))
    overlap, decay = (float(side[0, 0]) for side in p.exact([gamma], [k]))
    u = gamma / (1 + gamma)
    assert overlap == pytest.approx((1 - u) * (u - k), abs=1e-5)
    assert overlap == pytest.approx(decay - k, abs=1e-5)  # tau_plast sigma^2 tr(C) / 2 in units of s^2 |w*|^2


def test_the_flow_rests_at_the_ridge_solution():
    rng = np.random.default_rng(0)
    root, teacher, gamma = rng.standard_normal((4, 4)), rng.standard_normal((3, 4)), 0.3
    covariance = root @ root.T
    expected = teacher @ covariance @ np.linalg.inv(covariance + gamma * np.eye(4))
    rest = jax.jit(lambda teacher: stationary_flow(student(4, 3), f64(covariance), teacher, f64(gamma))["W1"])
    found = rest(f64(teacher))
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_balance_gives_drive_hebbian_update_and_power():
    rng = np.random.default_rng(1)
    x, y, w = (f64(rng.standard_normal(shape)) for shape in ((6, 3), (6, 2), (2, 3)))
    drives, hebbs, powers = balance(student(3, 2), {"W1": w}, x, y)
    h = np.asarray(x) @ np.asarray(w).T
    np.testing.assert_allclose(drives["W1"], (y - h).T @ x / 6, rtol=1e-12)
    np.testing.assert_allclose(hebbs["W1"], h.T @ x / 6, rtol=1e-12)
    assert float(powers["W1"]) == pytest.approx((h**2).sum(1).mean(), rel=1e-12)


def test_the_random_signal_is_local_and_knows_nothing_of_the_output_of_its_network():
    circuit = RandomSignal().wire(Network((3, 4, 2), bias=False, gain=f64(1.0)))
    assert circuit.is_local
    weights = circuit.initial_weights(jax.random.key(0))
    rng = np.random.default_rng(0)
    x, y = f64(rng.standard_normal((5, 3))), f64(rng.standard_normal((5, 2)))
    drives = jax.jit(lambda weights: balance(circuit, weights, x, y)[0])
    first, second = drives(weights), drives(weights | {"W2": 2 * weights["W2"]})
    for name in ("W1", "W2"):
        np.testing.assert_array_equal(first[name], second[name])
    pseudo = np.asarray(y) - np.tanh(x @ weights["R1"].T) @ weights["R2"].T
    expected = (pseudo @ weights["B2"].T).T @ np.tanh(x @ weights["W1"].T) / 5
    np.testing.assert_allclose(first["W2"], expected, rtol=1e-12)


def test_pseudovalues_of_a_mean_are_its_samples_and_a_share_counts_cells():
    samples = np.random.default_rng(0).standard_normal((2, 6))
    np.testing.assert_allclose(jackknifed(lambda kept: samples[:, kept].mean(-1), 6), samples, atol=1e-12)
    means = samples.mean(-1)
    assert share_inside(means, samples) == 1
    assert share_inside(means + np.array([0, 100]), samples) == 0.5
    assert share_inside(means + np.array([0, 100]), samples, np.array([0, 101])) == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_a_penalized_neuron_rests_where_its_loss_is_least(seed):
    """By scipy, on a large sample; and its parts of the learning signal there."""
    rng = np.random.default_rng(seed)
    s, gamma, size = (rng.uniform(0.5, 2, 3) * [1, 0.3, 1]).tolist()
    p = HebbianSparsity(inputs=2, variance=s, gamma=gamma, teacher_norm=size, penalties=(0.0, 0.1))
    penalty = rng.uniform(0.1, 0.7) * p.silent
    x = s**0.5 * rng.standard_normal((400_000, 2))
    y = x @ [size, 0]

    def loss(w):
        h = x @ w
        return np.mean((y - h) ** 2 / 2 + penalty * np.abs(h)) + gamma * w @ w / 2

    w = minimize(loss, [0.5 * size, 0.1 * size], method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-9}).x
    h = x @ w
    hebb = (h[:, None] * x).mean(0)
    parts = [(signal[:, None] * x).mean(0) @ hebb for signal in (-penalty * np.sign(h), y - h - penalty * np.sign(h))]
    np.testing.assert_allclose([np.linalg.norm(w), *parts], p.expected(penalty), rtol=0.02)


# ------------------------------------------------------------------------------------------------------ small networks


@pytest.mark.parametrize(
    "name", ["hebbian-stationary", "hebbian-phase-diagram", "hebbian-batch-size", "hebbian-adam", "hebbian-sparsity"]
)
def test_claims_hold_in_small_networks(name, monkeypatch):
    monkeypatch.setattr(at_rest, "RULES", {"KP": KP(), "random signal": RandomSignal()})
    assert failed(small(name).measure()) == set()


def test_the_bridge_holds_for_a_small_neuron_and_expects_what_its_noise_says():
    finding = small("hebbian-bridge").measure()
    assert failed(finding) == set()
    flip = next(verdict for verdict in finding.verdicts if verdict.name.startswith("flip"))
    assert flip.expected == pytest.approx(0.15 / 0.85)


def test_noise_takes_its_part_in_a_small_network(monkeypatch):
    monkeypatch.setattr(at_rest, "NOISY", {"DFA": DFA()})
    finding = small("hebbian-synaptic-noise").measure()
    assert failed(finding) == set()
    assert finding.verdicts[0].expected == 1.2


def test_the_trend_holds_in_a_small_network_and_the_claim_on_no_decay_fails(monkeypatch):
    monkeypatch.setattr(decay_trend, "RULES", {"DFA": DFA()})
    finding = small("hebbian-decay-trend").measure()
    assert failed(finding) == {"DFA without decay"}
    assert "none" in finding.notes[0] or "0.45" in finding.notes[0]


@pytest.mark.parametrize(
    ("name", "settings", "culprit"),
    [
        ("hebbian-phase-diagram", {"step": 0.5}, "step"),
        ("hebbian-phase-diagram", {"noises": (0.1, 0.2)}, "noises"),
        ("hebbian-phase-diagram", {"gammas": (1.0, 0.1)}, "gammas"),
        ("hebbian-batch-size", {"batches": (8, 8)}, "batches"),
        ("hebbian-batch-size", {"samples": 10}, "samples"),
        ("hebbian-bridge", {"noises": (1.0,)}, "noises"),
        ("hebbian-bridge", {"propagation": Time(0.01)}, "propagation"),
        ("hebbian-synaptic-noise", {"plasticity": Time(0.1)}, "plasticity"),
        ("hebbian-synaptic-noise", {"seeds": 1}, "seeds"),
        ("hebbian-decay-trend", {"gammas": (0.1,)}, "gammas"),
    ],
)
def test_values_without_meaning_are_refused(name, settings, culprit):
    with pytest.raises(PlasticodeError, match=culprit):
        small(name, **settings).measure()


def test_a_decay_that_leaves_no_weights_is_refused(monkeypatch):
    monkeypatch.setattr(at_rest, "RULES", {"SGD": SGD()})
    with pytest.raises(PlasticodeError, match="leaves no weights"):
        small("hebbian-stationary", gammas=(9.0,)).measure()


# ----------------------------------------------------------------------------------------------------- planted defects


def test_a_decay_of_half_the_rate_fails_the_balance(plant, monkeypatch):
    right = dynamics.plasticity.weight_drifts

    def slow(circuit, timescales, *known):
        return right(circuit, dataclasses.replace(timescales, decay=2 * timescales.decay), *known)

    plant(dynamics.flow, "weight_drifts", slow)
    monkeypatch.setattr(at_rest, "RULES", {"DFA": DFA()})
    assert "balance under DFA" in failed(small("hebbian-stationary").measure())


def test_an_error_of_the_wrong_size_fails_the_phase_diagram(plant):
    right = dynamics.settle.output_error
    plant(dynamics.settle, "output_error", lambda layer, y, z, on: right(layer, y, z, 0.8 * on))
    assert "sizes" in failed(small("hebbian-phase-diagram").measure())


def test_synaptic_noise_of_the_wrong_variance_fails_the_bridge(plant):
    right = dynamics.integrators.windows.brownian_increments
    plant(dynamics.integrators.windows, "brownian_increments", lambda key, like, dt: right(key, like, 2 * dt))
    assert "alignment" in failed(small("hebbian-bridge").measure())
