"""Predictions of perturbation learning: closed forms against brute force, small networks, planted defects."""

import numpy as np
import pytest
from scipy.integrate import quad

import rules.node_perturbation
import rules.perturbed
import rules.weight_mirror
import rules.weight_perturbation
from dynamics.errors import PlasticodeError
from dynamics.layers import Draw
from dynamics.maps import Gaussian
from experiments.predictions import prediction_class
from experiments.predictions.perturbation.mirror import MirrorAlignment
from experiments.predictions.perturbation.reward_delay import RewardDelay
from experiments.predictions.perturbation.size import PerturbationSize
from experiments.predictions.perturbation.steps import PerturbationStability, SlowDown, exponent, mean_cosine
from rules.node_perturbation import NodePerturbation
from rules.perturbed import Loss, _again, compared
from rules.weight_mirror import WeightMirror
from rules.weight_perturbation import Rewarded, WeightPerturbation
from tests.experiments.predictions.verdicts import failed

# Cheap settings of every prediction, with which its claims still hold.
SMALL = {
    "perturbation-slow-down": {"outputs": 2, "inputs": 3, "replicas": 600, "steps": 12},
    "perturbation-cosine": {"inputs": 2, "outputs": 2, "hidden": (3,), "layers": (3,), "replicas": 500},
    "perturbation-stability": {"weights": 4, "replicas": 600, "steps": 20},
    "perturbation-size": {"outputs": 1, "inputs": 2, "sizes": (0.3, 0.8), "replicas": 150},
    "perturbation-reward-delay": {
        "delays": (0.0, 0.5, 1.4),
        "seeds": 60,
        "presentations": 15,
        "propagation": 0.02,
        "trace": 0.0,
    },
    "weight-mirror-alignment": {"hidden": 3, "outputs": 2, "rate": 0.05, "seeds": 100},
}


def small(name, **settings):
    """The prediction called `name`, cheap."""
    return prediction_class(name).configured(name, SMALL[name] | settings)


# -------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("seed", [0, 1])
def test_the_ratio_per_step_is_that_of_outer_products(seed):
    rng = np.random.default_rng(seed)
    m, n, count = int(rng.integers(1, 4)), int(rng.integers(1, 4)), 400_000
    p = SlowDown(outputs=m, inputs=n, fractions=(float(rng.uniform(0.1, 0.9)), 1.1))
    w, x = rng.standard_normal((m, n)), rng.standard_normal((count, n))
    e = x @ w.T  # the student is W* - w
    xi, noise = rng.standard_normal((count, m)), rng.standard_normal((count, m, n))
    steps = (
        e[:, :, None] * x[:, None],
        ((e * xi).sum(1)[:, None] * xi)[:, :, None] * x[:, None],
        np.einsum("ci,cij,cj->c", e, noise, x)[:, None, None] * noise,
    )
    for dw, rates, expected in zip(steps, p.rates, p.expected(), strict=True):
        samples = ((w - rates[0] * dw) ** 2).sum((1, 2)) / (w**2).sum()
        assert samples.mean() == pytest.approx(expected[0], abs=5 * samples.std() / count**0.5)


@pytest.mark.parametrize("n", [2, 3, 7, 40])
def test_the_mean_cosine_is_that_of_a_uniform_direction(n):
    """The density of one coordinate is (1 - u^2)^((n - 3) / 2), u = sin(a)."""
    size, _ = quad(lambda a: np.cos(a) ** (n - 2), 0, np.pi / 2)
    mean, _ = quad(lambda a: np.sin(a) * np.cos(a) ** (n - 2), 0, np.pi / 2)
    assert mean_cosine(np.array([n]))[0] == pytest.approx(mean / size, rel=1e-10)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_exponent_is_that_of_steps_on_a_bowl(seed):
    rng = np.random.default_rng(seed)
    n, a, count = int(rng.integers(2, 9)), rng.uniform(0.05, 0.8), 1_000_000
    w, xi = np.eye(n)[0], rng.standard_normal((count, n))
    samples = np.log(((w - a * (xi @ w)[:, None] * xi) ** 2).sum(1))
    assert exponent(a, n) == pytest.approx(samples.mean(), abs=5 * samples.std() / count**0.5 + 5e-4)


def test_the_two_thresholds_are_where_mean_and_exponent_change_their_signs():
    p = PerturbationStability(weights=5)
    mean, typical = p.thresholds
    assert mean < typical and exponent(typical, 5) == pytest.approx(0, abs=1e-9)
    assert 1 - 2 * mean + mean**2 * 7 == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_floor_is_where_moments_of_noise_rest(seed):
    """q by drawing noise; the floor by iterating the second moment until it rests."""
    rng = np.random.default_rng(seed)
    m, n, count, s = int(rng.integers(1, 4)), int(rng.integers(1, 4)), 1_000_000, rng.uniform(0.1, 1)
    p = PerturbationSize(outputs=m, inputs=n, rate=float(rng.uniform(0.2, 0.8)))
    x, xi, noise = (rng.standard_normal((count, *shape)) for shape in ((n,), (m,), (m, n)))
    of_nodes = (xi**2).sum(1) ** 3 * (x**2).sum(1)
    of_weights = (np.einsum("cij,cj->ci", noise, x) ** 2).sum(1) ** 2 * (noise**2).sum((1, 2))
    for of, samples in (("node", of_nodes), ("weight", of_weights)):
        c, q = p.constants(of)
        assert samples.mean() == pytest.approx(q, abs=5 * samples.std() / count**0.5)
        eta, moment = 2 * p.rate / c, 0.0
        for _ in range(5000):
            moment = (1 - 2 * eta + eta**2 * c) * moment + eta**2 * s**2 * q / 4
        assert p.floor(of, np.array([s]))[0] == pytest.approx(moment, rel=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_mirror_wanders_as_its_recursion_says(seed):
    rng = np.random.default_rng(seed)
    n, m, count = int(rng.integers(1, 5)), int(rng.integers(1, 4)), 20_000
    p = MirrorAlignment(hidden=n, outputs=m, rate=float(rng.uniform(0.02, 0.2)), noise=1.3, decays=(0.7,))
    w, v, steps, eta = rng.standard_normal((m, n)), np.zeros((count, n, m)), 12, p.rate / 0.7
    for _ in range(steps):
        x = 1.3 * rng.standard_normal((count, n))
        v += eta * (x[:, :, None] * (x @ w.T)[:, None] - 0.7 * v)
    unit, at = p.scale(1.0)[0] * w.T, np.array([steps])
    along = (v * unit).sum((1, 2)) / (unit**2).sum()
    assert along.mean() == pytest.approx(1 - p.kept(at)[0], abs=5 * along.std() / count**0.5)
    off = ((v - (1 - p.kept(at)) * unit) ** 2).sum((1, 2)) / (unit**2).sum()
    assert off.mean() == pytest.approx(p.wandering(at)[0], abs=5 * off.std() / count**0.5)


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.8, 1.3, 2.6])
def test_late_rewards_meet_the_noise_of_others(delay):
    """Boxes that overlap, without filters, by drawing: A and B."""
    rng = np.random.default_rng(3)
    m, n, count = 2, 3, 400_000
    p = RewardDelay(outputs=m, inputs=n, propagation=1e-9, samples=10_000)
    x, xi, w = rng.standard_normal((count, n)), rng.standard_normal((count, m)), rng.standard_normal((m, n))
    r = (x @ w.T * xi).sum(1)
    whole, rest = int(delay), delay - int(delay)
    met = (1 - rest) * np.roll(r, whole) + rest * np.roll(r, whole + 1)
    drive = met[:, None, None] * xi[:, :, None] * x[:, None]
    a, b = (float(one[0]) for one in p.expected(np.array([delay])))
    for samples, expected in (((drive * w).sum((1, 2)), a), ((drive**2).sum((1, 2)), b)):
        samples = samples / (w**2).sum()
        assert samples.mean() == pytest.approx(expected, abs=6 * samples.std() / count**0.5 + 1e-3)


# ------------------------------------------------------------------------------------------------------ small networks


@pytest.mark.parametrize("name", SMALL)
def test_claims_hold_in_small_networks(name):
    assert failed(small(name).measure()) == set()


@pytest.mark.parametrize(
    ("name", "settings", "culprit"),
    [
        ("perturbation-slow-down", {"fractions": (0.2, 0.5)}, "fractions"),
        ("perturbation-stability", {"weights": 1}, "weights"),
        ("perturbation-size", {"rate": 1.0}, "rate"),
        ("perturbation-reward-delay", {"propagation": 0.1}, "propagation"),
        ("perturbation-reward-delay", {"delays": (0.0, 1.5)}, "delays"),
        ("weight-mirror-alignment", {"rate": 0.6}, "rate"),
    ],
)
def test_values_without_meaning_are_refused(name, settings, culprit):
    with pytest.raises(PlasticodeError, match=culprit):
        small(name, **settings)


# ----------------------------------------------------------------------------------------------------- planted defects

NODES, SYNAPSES, MIRROR = NodePerturbation.wire, WeightPerturbation.wire, WeightMirror.wire
SLOW, COSINE, MIRRORED = "perturbation-slow-down", "perturbation-cosine", "weight-mirror-alignment"
NODE, WEIGHT = {"node perturbation", "slow-down of node perturbation"}, {"weight perturbation"}


@pytest.mark.parametrize(
    ("function", "old", "new", "name", "claims"),
    [
        (NODES, "(2 if self.symmetric else 1)", "1", SLOW, NODE),
        (NODES, "OneToOne(self.size)", "OneToOne(one)", SLOW, NODE),
        (NODES, 'gate=Input("reward"), ', "", SLOW, NODE),
        (SYNAPSES, "self.size * sources**0.5", "self.size", SLOW, WEIGHT),
        (SYNAPSES, "if self.symmetric:", "if False:", SLOW, WEIGHT),
        (Rewarded.__call__, "/ self.size", "/ self.size**2", SLOW, WEIGHT),
        (SYNAPSES, '1 if p.source == "one" else network.sizes[int(p.source[1:])]', "2", COSINE, {"weights: square"}),
        (compared, '("", -1), ("\'", 1)', '("", 1), ("\'", -1)', SLOW, NODE | WEIGHT),
        (_again, 'p.source if p.source in ("z0", "one") else f"{p.source}\'"', "p.source", COSINE, {"never uphill"}),
        (Loss.__call__, "-target * jax.nn", "target * jax.nn", COSINE, {"never uphill"}),
        (MIRROR, "TwoFactor(Error())", "()", MIRRORED, {"carries errors"}),
        (MIRROR, "Constant(-self.decay)", "Constant(0 * self.decay)", MIRRORED, {"decay sets the scale"}),
        (MIRROR, "Draw(self.noise)", "Draw(self.noise**2)", MIRRORED, {"decay sets the scale"}),
    ],
)
def test_a_wrong_line_fails_a_claim(rewrite, function, old, new, name, claims):
    rewrite(function, old, new)
    assert claims <= failed(small(name).measure())


def test_noise_of_synapses_that_shrinks_with_their_number_fails_the_slow_down(plant):
    plant(rules.weight_perturbation, "Gaussian", lambda scale: Gaussian(scale / 3**0.5))
    assert "weight perturbation" in failed(small("perturbation-slow-down").measure())


def test_a_mirror_that_sees_the_same_noise_in_every_presentation_fails_its_course(plant):
    right = Draw.drawn
    plant(Draw, "drawn", lambda self, key, k, name, size: right(self, key, 0 * k, name, size))
    assert failed(small("weight-mirror-alignment").measure()) > {"fluctuations", "course with fluctuations"}


def test_a_reward_on_the_scale_of_one_side_fails_the_slow_down(plant):
    right = rules.perturbed.compared
    plant(rules.node_perturbation, "compared", lambda network, forward, apart: right(network, forward, apart / 2))
    assert "node perturbation" in failed(small("perturbation-slow-down").measure())
