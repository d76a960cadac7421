"""Predictions of deep linear networks: closed forms against brute force, small networks, planted defects."""

import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp

import dynamics.flow
import dynamics.settle
import rules.kolen_pollack
from dynamics.circuit import AbstractFactor
from dynamics.errors import PlasticodeError
from experiments.predictions import prediction_class
from experiments.predictions.linear.feedback import FeedbackModes
from experiments.predictions.linear.modes import RiccatiSolution, solution
from experiments.predictions.linear.platonic import PlatonicKernel, platonic_kernel, root
from experiments.predictions.linear.saddles import PlateauNoise, SaddleLottery
from experiments.predictions.linear.setting import crossing, mode_time, sigmoid
from tests.experiments.predictions.verdicts import failed

# Cheap settings of every prediction, with which its claims still hold.
SMALL = {
    "linear-sigmoids": {
        "inputs": 3, "hidden": 4, "outputs": 3, "strengths": (3.0, 1.3), "depths": (2, 3), "seeds": 3,
        "sizes": (1e-3, 1e-5), "start": 0.01,
    },
    "linear-riccati": {"size": 2, "hidden": 3, "strongest": 1.7, "start": 0.15, "seeds": 8},
    "linear-feedback": {"size": 3, "hidden": 4, "strengths": (2.2, 1.1), "feedback": 0.9, "seeds": 2},
    "platonic": {"updates": 32_000, "seeds": 16, "rate": 0.025},
    "saddle-plateaus": {
        "inputs": 3, "hidden": 4, "outputs": 3, "strengths": (3.0, 1.4), "sizes": (1e-4, 1e-6, 1e-8), "seeds": 6,
    },
    "saddle-lottery": {"depths": (2, 3), "starts": (0.06, 0.1, 0.2), "strength": 1.3},
    "saddle-noise": {"seeds": 100, "noises": (1e-5, 1e-3, 1e-2), "start": 1e-4, "strength": 1.4},
}  # fmt: skip


def small(name, **settings):
    """The prediction called `name`, cheap."""
    return prediction_class(name).configured(name, SMALL[name] | settings)


# -------------------------------------------------------------------------------------------------------- closed forms


@pytest.mark.parametrize("depth", [2, 3, 4, 7])
def test_times_of_modes_are_integrals(depth):
    rng = np.random.default_rng(depth)
    for _ in range(5):
        s = rng.uniform(0.3, 4)
        start, end = s * rng.uniform(1e-3, 0.1), s * rng.uniform(0.2, 0.99)
        time, _ = quad(lambda u, s=s: 1 / (depth * u ** (2 - 2 / depth) * (s - u)), start, end, limit=500)
        assert mode_time(start, end, s, depth) == pytest.approx(time, rel=1e-6)


def test_sigmoids_take_those_times_and_crossings_are_found():
    s, start, times = np.array([3.0, 0.8]), 0.01, np.linspace(0, 9, 50)
    u = sigmoid(times, start, s)
    np.testing.assert_allclose(mode_time(start, u[1:8], s, 2), np.broadcast_to(times[1:8, None], (7, 2)), rtol=1e-9)
    np.testing.assert_allclose(crossing(times, (u / s).T), mode_time(start, s / 2, s, 2), rtol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_riccati_solution_is_that_of_the_flow(seed):
    rng = np.random.default_rng(seed)
    p = RiccatiSolution(
        size=int(rng.integers(2, 4)), hidden=5, strongest=rng.uniform(1, 2), start=rng.uniform(0.1, 0.5)
    )
    teacher, start, d = p.teacher(), p.balanced(seed), p.size

    def field(_, flat):
        first, second = flat[: 5 * d].reshape(5, d), flat[5 * d :].reshape(d, 5)
        error = teacher - second @ first
        return np.concatenate([(second.T @ error).ravel(), (error @ first.T).ravel()])

    times = np.array([0.0, 0.7, 3.0, 8.0])
    flat = np.concatenate([start["W1"].ravel(), start["W2"].ravel()])
    run = solve_ivp(field, (0, 8), flat, t_eval=times, rtol=1e-10, atol=1e-12)
    for now, expected in zip(run.y.T, solution(start, teacher, times), strict=True):
        q = np.concatenate([now[: 5 * d].reshape(5, d).T, now[5 * d :].reshape(d, 5)])
        np.testing.assert_allclose(q @ q.T, expected, atol=1e-7)


@pytest.mark.parametrize("name", ["FA", "KP"])
def test_modes_under_feedback_rules_solve_their_equations(name):
    rng = np.random.default_rng(3)
    for _ in range(3):
        s, b = rng.uniform(0.4, 3, 2)
        p = FeedbackModes(strengths=(float(s), float(s / 2)), feedback=float(b))

        def field(_, w, s=s, name=name):
            error = s - w[0] * w[1]
            return [w[2] * error, error * w[0], error * w[0] * (name == "KP")]

        times = np.linspace(0.1, 2, 6) / s
        run = solve_ivp(field, (0, times[-1]), [0, 0, b], t_eval=times, rtol=1e-11, atol=1e-13)
        u = run.y[0] * run.y[1]
        shown = u < 0.97 * s
        np.testing.assert_allclose(p.times_of(name, u[shown], s), times[shown], rtol=1e-6)


def test_the_platonic_kernel_is_that_of_the_least_product_of_norms():
    """K = B^T B of the factors of L S R^T that are balanced: no other factors have a smaller |A|^2 |B|^2."""
    p, rng = PlatonicKernel(seed=5), np.random.default_rng(0)
    task = p.task(5)
    metric = root(task.inputs)
    whole = root(task.noise) @ task.teacher @ metric
    left, sizes, right = np.linalg.svd(whole, full_matrices=False)
    a, b = left * np.sqrt(sizes), np.sqrt(sizes)[:, None] * right
    kernel = metric @ platonic_kernel(task) @ metric
    np.testing.assert_allclose(kernel, b.T @ b, atol=1e-12)
    np.testing.assert_allclose(
        kernel @ kernel, metric @ task.teacher.T @ task.noise @ task.teacher @ metric, atol=1e-12
    )
    least = (a**2).sum() * (b**2).sum()
    for _ in range(50):
        t = np.eye(3) + 0.3 * rng.standard_normal((3, 3))
        assert ((a @ np.linalg.inv(t)) ** 2).sum() * ((t @ b) ** 2).sum() > least


def test_samples_of_the_platonic_task_have_its_moments():
    p = PlatonicKernel(inputs=3, outputs=2, widths=(2, 4), noise=0.4, seed=2)
    task = p.task(2)
    x, eps = p._samples(task)
    np.testing.assert_allclose(x.T @ x / len(x), task.inputs, atol=1e-12)
    np.testing.assert_allclose(eps.T @ eps / len(x), task.noise, atol=1e-12)
    np.testing.assert_allclose(np.einsum("ni,nj,nk,nl->ijkl", x, x, eps, eps) / len(x),
                               np.einsum("ij,kl->ijkl", task.inputs, task.noise), atol=1e-12)  # fmt: skip


def test_the_mean_time_at_a_noisy_saddle_is_that_of_its_linear_part():
    rng, s, a = np.random.default_rng(1), 1.3, 0.003
    p = PlateauNoise(strength=s, start=a, noises=(1e-4, 0.004, 0.03))
    for sigma, mean in zip(p.noises, p.expected(np.array(p.noises)), strict=True):
        x = 2**0.5 * a + sigma / (2 * s) ** 0.5 * rng.standard_normal(400_000)
        times = mode_time(np.minimum(x**2 / 2, 0.49 * s), s / 2, s, 2)
        assert mean == pytest.approx(times.mean(), abs=5 * times.std() / len(x) ** 0.5 + 1e-3)


def test_the_lottery_expects_a_power_law():
    small_starts = SaddleLottery(starts=(1e-5, 2e-5, 4e-5), depths=(2, 3, 4))
    for depth in (3, 4):
        slope = np.polyfit(np.log(small_starts.starts), np.log(small_starts.expected(depth)), 1)[0]
        assert slope == pytest.approx(2 - depth, abs=1e-3)


# ------------------------------------------------------------------------------------------------------ small networks


@pytest.mark.parametrize("name", SMALL)
def test_claims_hold_in_small_networks(name):
    assert failed(small(name).measure()) == set()


@pytest.mark.parametrize(
    ("name", "settings", "culprit"),
    [
        ("linear-sigmoids", {"strengths": (3.0, 2.0, 1.0, 0.5)}, "strengths"),
        ("linear-sigmoids", {"start": 0.5}, "start"),
        ("linear-riccati", {"hidden": 1}, "hidden"),
        ("linear-riccati", {"time": 0.3}, "time"),
        ("linear-feedback", {"strengths": (4.0, 3.0, 2.0, 1.0)}, "strengths"),
        ("platonic", {"widths": (2, 6)}, "widths"),
        ("saddle-plateaus", {"strengths": (2.0, 1.8)}, "strength"),
        ("saddle-plateaus", {"sizes": (1e-6, 1e-4, 1e-8)}, "sizes"),
        ("saddle-lottery", {"starts": (0.2, 0.1, 0.05)}, "starts"),
        ("saddle-noise", {"noises": (0.2, 0.3, 0.4)}, "noises"),
    ],
)
def test_values_without_meaning_are_refused(name, settings, culprit):
    with pytest.raises(PlasticodeError, match=culprit):
        small(name, **settings)


# ----------------------------------------------------------------------------------------------------- planted defects


class Louder(AbstractFactor):
    def __call__(self, local):
        return local.activity * (1.001 + 0 * local.activity)


def test_feedback_that_learns_a_little_faster_breaks_its_invariant(plant, monkeypatch):
    monkeypatch.setattr(rules.kolen_pollack, "Activity", Louder)
    assert {"modes under KP", "KP conserves"} <= failed(small("linear-feedback").measure())


def test_an_error_of_the_wrong_size_fails_the_riccati_solution(plant):
    right = dynamics.settle.output_error
    plant(dynamics.settle, "output_error", lambda layer, y, z, on: right(layer, y, z, (1 + 1e-4) * on))
    assert "function W2 W1" in failed(small("linear-riccati").measure())


def test_layers_of_different_speed_lose_the_balance(plant):
    right = dynamics.flow.weight_drifts

    def uneven(*known):
        drifts = right(*known)
        return drifts | {"W1": 1.01 * drifts["W1"]}

    plant(dynamics.flow, "weight_drifts", uneven)
    assert "conserved balance" in failed(small("linear-riccati").measure())
