"""Predictions on the geometry of learning: closed forms against brute force, small settings, planted defects."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import dynamics.maps
import dynamics.settle
import rules.momentum
import rules.replicas
from dynamics.circuit import Outer, Trace
from dynamics.errors import PlasticodeError
from experiments.predictions import prediction_class
from experiments.predictions.geometry.decay import NoetherEquilibrium, strength
from experiments.predictions.geometry.logistic import ExponentiatedLogistic, logistic
from experiments.predictions.geometry.multiplicative import ExponentiatedLognormal, flipped_share, mean_square
from experiments.predictions.geometry.replicas import ReplicaAgreement, ReplicaNoise, laplacian
from tests.experiments.predictions.verdicts import failed

# Cheap settings of every prediction, with which its claims still hold.
SMALL: dict[str, Any] = {
    "exponentiated-logistic": {"starts": (0.05, -0.4), "inputs": 2, "samples": 6, "scales": (0.4,), "rate": 0.9},
    "exponentiated-lognormal": {"seeds": 30, "inputs": 8, "outputs": 8, "strength": 0.6, "decay": 0.2},
    "exponentiated-strong-orders": {"seeds": 40, "halvings": 2, "strength": 0.5},
    "exponentiated-signs": {"seeds": 8, "steps": (1, 3), "presentations": 500, "hidden": 12, "strength": 0.7},
    "replicas-noise": {"seeds": 6, "copies": 3, "couplings": (0.0, 1.5), "outputs": 30, "curvatures": (0.6, 1.5)},
    "replicas-agreement": {"copies": 4, "couplings": (0.3, 0.9, 1.2), "goal": 1.4},
    "noether-charges": {"seeds": 8, "inputs": 6, "hidden": 5, "outputs": 3, "decay": 0.7},
    "softmax-charge": {"seeds": 8, "hidden": 3, "classes": 4, "samples": 12, "decay": 0.7},
    "noether-momentum": {"seeds": 6, "inputs": 3, "hidden": 4, "outputs": 2, "time": 1.0},
    "noether-equilibrium": {"seeds": 12, "dimension": 8, "decay": 0.08, "starts": (0.6,), "averaged": 20.0},
    "symmetry-restoration": {
        "strengths": (1.6, 0.7), "decays": (0.3, 1.1), "inputs": 3, "hidden": 3, "outputs": 2,
    },
    "equivariance": {"seeds": 6, "inputs": 3, "hidden": 4, "outputs": 2, "samples": 8},
}  # fmt: skip


def small(name, **settings) -> Any:
    """The prediction called `name`, cheap."""
    return prediction_class(name).configured(name, SMALL[name] | settings)


# -------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_weight_solves_its_equation_on_both_sides_of_zero(seed):
    rate, target, start = np.random.default_rng(seed).uniform(0.3, 2, 3)
    for w0 in (start, -start):
        solved = solve_ivp(lambda _, w: np.abs(w) * rate * (target - w), (0, 2), [w0], rtol=1e-10, atol=1e-12)  # noqa: B023
        assert logistic(np.array([2.0]), np.array([w0]), rate, target)[0] == pytest.approx(solved.y[0, -1], rel=1e-7)


@pytest.mark.parametrize("seed", [0, 1])
def test_moments_of_multiplicative_noise_in_both_calculi(seed):
    """By exponentials of normal numbers; of Stratonovich through the drift that Ito's calculus adds."""
    rng = np.random.default_rng(seed)
    s, decay = rng.uniform(0.2, 0.6, 2)
    p = ExponentiatedLognormal(strength=s, decay=decay, start=1.3)
    draws = rng.standard_normal(400_000)
    for calculus, drift in (("ito", -decay - s**2 / 2), ("stratonovich", -decay)):
        w = 1.3 * np.exp(drift + s * draws)
        mean, variance = p.moments(calculus)
        assert mean == pytest.approx(w.mean(), abs=5 * w.std() / 400_000**0.5)
        assert variance == pytest.approx(w.var(), rel=0.02)


@pytest.mark.parametrize("solver", ["euler", "milstein"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_mean_square_error_of_a_solver_is_that_of_drawn_paths(solver, seed):
    rng = np.random.default_rng(seed)
    drift, s, steps, paths = rng.uniform(-0.5, 0.2), rng.uniform(0.2, 0.5), int(rng.integers(1, 6)), 400_000
    h = 1 / steps
    b = h**0.5 * rng.standard_normal((steps, paths))
    factors = 1 + drift * h + s * b + (s**2 / 2 * (b**2 - h) if solver == "milstein" else 0)
    off = (factors.prod(0) - np.exp(drift - s**2 / 2 + s * b.sum(0))) ** 2
    expected = float(mean_square(solver, np.array([steps]), drift, s**2)[0])
    assert expected == pytest.approx(off.mean(), abs=5 * off.std() / paths**0.5)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_share_of_flipped_signs_is_that_of_drawn_products(seed):
    rng = np.random.default_rng(seed)
    s, decay, steps, paths = rng.uniform(0.5, 1.2), rng.uniform(0, 1), int(rng.integers(1, 6)), 200_000
    factors = 1 - decay / steps + s * steps**-0.5 * rng.standard_normal((steps, paths))
    share = (factors.prod(0) < 0).mean()
    assert flipped_share(np.array([steps]), s, decay)[0] == pytest.approx(share, abs=5 * (share / paths) ** 0.5)


@pytest.mark.parametrize("graph", ["complete", "ring", "star"])
@pytest.mark.parametrize("copies", [3, 6])
def test_stationary_variances_of_replicas_solve_their_lyapunov_recursion(graph, copies):
    """P <- M P M^T + s^2 dt from zero, M = 1 - dt (l + kappa Laplacian), in numpy."""
    p = ReplicaNoise(curvatures=(0.7, 1.9), copies=copies, strength=0.4)
    links = rules.replicas.couplings(graph, copies)
    matrix, dt = np.diag(links.sum(1)) - links, 0.01
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix), np.sort(laplacian(graph, copies)), atol=1e-12)
    steps = round(4 / 0.7 / dt)
    for kappa in (0.0, 1.3):
        mean = apart = 0.0
        for curvature in p.curvatures:
            moved, cov = np.eye(copies) - dt * (curvature * np.eye(copies) + kappa * matrix), np.zeros((copies, copies))
            for _ in range(steps):
                cov = moved @ cov @ moved.T + 0.4**2 * dt * np.eye(copies)
            mean += cov.mean()
            apart += np.trace(cov) / copies - cov.mean()
        np.testing.assert_allclose(p.expected(graph, (kappa,), dt)[:, 0], [mean, apart], rtol=1e-9)


@pytest.mark.parametrize("kappa", [0.0, 0.6, 1.0, 1.4])
def test_the_split_branch_and_the_strength_of_a_mode_solve_their_equations(kappa):
    solved = solve_ivp(lambda _, u: (1 - kappa) * u - u**3, (0, 4), [0.3], rtol=1e-10, atol=1e-12).y[0, -1]
    assert ReplicaAgreement.branch(np.array([kappa]), 4.0)[0] == pytest.approx(solved, rel=1e-7)
    solved = solve_ivp(lambda _, v: 2 * v * (1 - kappa - v), (0, 4), [0.02], rtol=1e-10, atol=1e-13).y[0, -1]
    assert strength(np.array([4.0]), 0.02, np.array([1 - kappa]))[0] == pytest.approx(solved, rel=1e-7)


def test_the_norm_of_scale_invariant_weights_is_that_of_updates_by_hand():
    p = NoetherEquilibrium(dimension=6, rate=0.05, decay=0.1, starts=(1.0,))
    rng, d, paths, count = np.random.default_rng(0), 6, 4000, 400
    w = np.full((paths, d), (p.equilibrium * 3.0) ** 0.25 / d**0.5)
    for _ in range(count):
        y = d**0.5 * rng.choice([-1, 1], (paths, 1)) * np.eye(d)[rng.integers(0, d, paths)]
        size = np.linalg.norm(w, axis=1, keepdims=True)
        z = w / size
        w = (1 - 0.05 * 0.1) * w + 0.05 * (y - z * (y * z).sum(1, keepdims=True)) / size
    fourth = (w**2).sum(1) ** 2
    assert p.recursion(count, 3 * p.equilibrium)[-1] == pytest.approx(fourth.mean(), abs=5 * fourth.std() / paths**0.5)
    assert p.equilibrium == pytest.approx(0.05 * 5 / (2 * 0.1), rel=0.01)
    assert p.recursion(20_000, p.equilibrium)[-1] == pytest.approx(p.equilibrium, rel=0.01)


@pytest.mark.parametrize("seed", [0, 1])
def test_slopes_of_sums_over_classes_are_those_of_the_loss(seed):
    """By derivatives of the loss, mean over samples, with respect to the readout."""
    p = small("softmax-charge", seeds=2, seed=seed)
    x, y, w = p._data()
    for name, softmax in (("EG", True), ("squared loss", False)):
        for i in range(2):

            def loss(readout, i=i, softmax=softmax):
                z = jnp.tanh(x[i] @ w["W1"][i].T + w["b1"][i].T) @ readout.T + w["b2"][i].T
                each = -(y[i] * jax.nn.log_softmax(z)).sum(1) if softmax else ((y[i] - z) ** 2).sum(1) / 2
                return each.mean()

            law = -jax.grad(loss)(jnp.asarray(w["W2"][i]))
            expected = (np.abs(w["W2"][i]) * law).sum(0) if softmax else law.sum(0)
            np.testing.assert_allclose(p.slopes(name, (x, y, w))[i], expected, atol=1e-12)
            assert np.abs(law.sum(0)).max() < 1e-12 or not softmax


# ------------------------------------------------------------------------------------------------------ small settings


@pytest.mark.parametrize("name", SMALL)
def test_every_prediction_holds_at_other_settings(name):
    finding = small(name).measure()
    assert not failed(finding) and 3 <= len(finding.verdicts) <= 12


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("exponentiated-logistic", {"starts": (0.0,)}, "starts must not have 0, from which nothing moves"),
        ("replicas-noise", {"copies": 2}, "copies must be at least 3, for a ring"),
        ("noether-equilibrium", {"rate": 1.0, "decay": 0.1}, "rate times decay must be below 0.01"),
        ("symmetry-restoration", {"hidden": 1}, "inputs, hidden and outputs must be at least 2, one per mode"),
    ],
)
def test_parameters_that_do_not_fit_are_told_in_a_sentence(name, settings, sentence):
    with pytest.raises(PlasticodeError, match=sentence):
        small(name, **settings)


# ----------------------------------------------------------------------------------------------------- planted defects


def plain_step(self, theta, change):
    """A straight step in place of the exponential one."""
    return abs(theta) * change


def squared_metric(self, theta):
    return theta**2


def euclidean(self, theta):
    return theta**0


@pytest.mark.parametrize(
    ("defect", "claims"),
    [
        (squared_metric, {"logistic", "two one-to-one layers"}),
        (euclidean, {"logistic", "wrong side of zero", "no sign flips"}),
    ],
)
def test_defects_of_the_metric_of_the_mirror_are_caught(plant, monkeypatch, defect, claims):
    plant(dynamics.maps.Multiplicative, "metric", defect)
    if "two one-to-one layers" not in claims:
        monkeypatch.setattr(ExponentiatedLogistic, "_regressions", lambda self: [])
    assert failed(small("exponentiated-logistic").measure()) >= claims


def test_a_multiplicative_step_that_is_straight_changes_signs(plant):
    plant(dynamics.maps.Multiplicative, "step", plain_step)
    verdicts = small("exponentiated-signs", rate=1.5)._learning()
    assert "Dale's signs" in {verdict.name for verdict in verdicts if not verdict.passed}


def test_a_multiplicative_step_that_is_straight_breaks_its_own_charge(plant):
    p = small("softmax-charge")
    plant(dynamics.maps.Multiplicative, "step", plain_step)
    assert p._updated("EG", "sgd", p._data())[:, 1].max() > 1e-3


def test_errors_that_do_not_sum_to_zero_break_the_charge_of_a_softmax(plant):
    """Independent sigmoids in place of a softmax."""
    p = small("softmax-charge")
    plant(dynamics.settle, "output_error", lambda layer, target, z, on: target - on * jax.nn.sigmoid(z))
    assert p._flowed("SGD", p._data())[0, :, 0].min() > 1e-2


def heavier(self, term, p):
    return Outer(term.post, term.pre, trace=Trace("product", 2 * self.inertia, slow=True))


def weightless(self, term, p):
    return term


def fast(self, term, p):
    """A trace of the presynaptic side, which settles within a presentation."""
    return Outer(term.post, term.pre, trace=Trace("pre", self.inertia))


def test_a_drift_of_the_wrong_sign_fails_its_claim():
    p = small("noether-momentum")
    x, y, weights, _ = p._drawn_numbers()
    drift, kinetic = p._drift(x, y, weights)
    assert [p._light(sign * drift, kinetic)[0].passed for sign in (1, -1)] == [True, False]


@pytest.mark.parametrize("defect", [heavier, weightless, fast])
def test_defects_of_momentum_are_caught(plant, defect):
    plant(rules.momentum.Momentum, "_heavy", defect)
    verdicts = small("noether-equilibrium")._rest()
    assert "rotation, momentum" in {verdict.name for verdict in verdicts if not verdict.passed}


def open_ring(graph, copies):
    """A chain: the last copy is not linked to the first."""
    links = np.eye(copies, k=1)
    return links + links.T


def to_the_sum(graph, copies):
    return np.ones((copies, copies)) - np.eye(copies)


def one_way(graph, copies):
    """The outer copies of a star follow the inner one, which follows none."""
    links = np.zeros((copies, copies))
    links[1:, 0] = 1
    return links


@pytest.mark.parametrize(("graph", "defect"), [("ring", open_ring), ("complete", to_the_sum), ("star", one_way)])
def test_defects_of_the_coupling_of_replicas_are_caught(plant, graph, defect):
    plant(rules.replicas, "couplings", defect)
    assert not ReplicaAgreement(**SMALL["replicas-agreement"])._rates(graph).passed
