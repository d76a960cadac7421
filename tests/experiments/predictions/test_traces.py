"""Predictions of rules with traces: closed forms against brute force, small settings, planted defects."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.signal import lfilter

import rules.behavioural_timescale
import rules.eprop
import rules.stdp
import rules.three_factor
from dynamics.circuit import AbstractFactor, Trace
from dynamics.errors import PlasticodeError
from experiments.predictions import prediction_class
from experiments.predictions.traces import TRACES
from experiments.predictions.traces.overlaps import best_delay, filtered_overlap, traced_box
from experiments.predictions.traces.plateau import BTSPWeights
from experiments.predictions.traces.reward import ThreeFactorBaseline, ThreeFactorWindow
from experiments.predictions.traces.stdp import STDPChain, STDPPhase
from experiments.spec.units import Time
from rules.behavioural_timescale import Depressing
from tests.experiments.predictions.verdicts import failed

# Cheap settings of every prediction, with which its claims still hold.
SMALL = {
    "three-factor-window": {"traces": (0.7,), "delays": (0.0, 1.3, 1.8), "propagation": 0.06},
    "three-factor-baseline": {"delays": (0.3,), "presentations": 12, "eligibility": 0.3, "propagation": 0.1},
    "stdp-chain": {"lengths": (0.2, 0.5), "ratios": (0.6, 1.0)},
    "stdp-phase": {"phases": (-2.0, -0.5, 0.0, 1.0), "frequencies": (0.3, 1.0, 3.0)},
    "e-prop-window": {"traces": (0.1, 0.4), "delays": (0.0, 0.3, 0.6, 1.5)},
    "e-prop-gradient": {"inputs": 2, "hidden": 5, "seeds": 24, "scales": (0.0, 0.1, 0.2, 1.5)},
    "btsp-kernel": {
        "intervals": (-1.5, -0.8, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.5), "scales": (0.5, 0.7),
        "eligibility": Time(0.9), "propagation": Time(0.05), "duration": Time(0.08),
    },
    "btsp-weights": {"intervals": (-0.5, 0.5), "weights": (0.0, 1.0), "propagation": Time(0.06)},
}  # fmt: skip


def small(name, **settings):
    """The prediction called `name`, cheap."""
    return prediction_class(name).configured(name, SMALL[name] | settings)


# -------------------------------------------------------------------------------------------------------- closed forms


def filtered(signal, tau, dt):
    """A signal behind a filter of unit gain, exact for what is constant between the points."""
    keep = np.exp(-dt / tau)
    return np.asarray(lfilter([0, 1 - keep], [1, -keep], signal))


@pytest.mark.parametrize("seed", range(4))
def test_the_overlap_of_filtered_boxes_is_that_of_boxes_that_are_filtered(seed):
    rng = np.random.default_rng(seed)
    dt, duration = 2e-4, 1.0
    early, late = rng.uniform(0.1, 1.0, seed % 3), rng.uniform(0.1, 1.0, 2)
    if seed == 3:
        late[1] = late[0]
    delay = round(rng.uniform(-1.5, 1.5), 3)
    t = np.arange(-2, 25, dt) + dt / 2
    one, other = ((t > 0) & (t < duration)).astype(float), ((t > delay) & (t < delay + duration)).astype(float)
    for tau in early:
        one = filtered(one, tau, dt)
    for tau in late:
        other = filtered(other, tau, dt)
    assert filtered_overlap(delay, duration, early.tolist(), late.tolist()) == pytest.approx(
        (one * other).sum() * dt, abs=5e-4
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_best_delay_is_where_the_overlap_with_a_trace_is_largest(seed):
    tau = np.random.default_rng(seed).uniform(0.1, 5)
    delays = np.linspace(0, 1.5, 3001)
    overlaps = filtered_overlap(delays, 1.0, [tau], [])
    assert delays[overlaps.argmax()] == pytest.approx(best_delay(tau), abs=1e-3)
    assert overlaps.max() == pytest.approx(1 - best_delay(tau), abs=1e-6)
    by_hand = [quad(lambda t: float(traced_box(t, tau)), d, d + 1, points=[1.0])[0] for d in (0.3, 1.4)]
    np.testing.assert_allclose(filtered_overlap([0.3, 1.4], 1.0, [tau], []), by_hand, atol=1e-8)


def test_a_reward_without_filters_meets_the_trace_as_a_box():
    p, delays = ThreeFactorWindow(propagation=0.01), np.array([0.0, 0.4, 1.0, 2.0])
    box = filtered_overlap(delays, 1.0, [0.8], [])
    np.testing.assert_allclose(p.expected(delays, 0.8), box, atol=0.025)
    late = (p.expected(delays[2:], 0.8) - box[2:]) / box[2:]  # its pulse is 1.5 to 2.5 tau_prop late
    assert np.all((late < -1.0 * 0.01 / 0.8) & (late > -2.5 * 0.01 / 0.8 - 0.01))


@pytest.mark.parametrize("seed", range(2))
def test_the_drift_of_phases_is_the_integral_of_the_kernel(seed):
    rng = np.random.default_rng(seed)
    plus, minus, first, second = rng.uniform(0.2, 2, 4)
    phases = tuple(rng.uniform(-3, 3, 4).tolist())
    p = STDPPhase(potentiation_time=Time(first), frequencies=(0.5, 1.0, 2.0), phases=phases)
    found = p.expected(plus, minus, first, second)
    for i, w in enumerate(np.array(p.frequencies) / first):
        for j, phi in enumerate(phases):
            before = quad(lambda s, w=w, phi=phi: -minus * np.exp(s / second) / second * np.cos(w * s - phi), -60, 0)[0]
            after = quad(lambda s, w=w, phi=phi: plus * np.exp(-s / first) / first * np.cos(w * s - phi), 0, 60)[0]
            assert found[i, j] == pytest.approx((before + after) / 2, abs=1e-6)


def test_one_plateau_by_hand():
    """Euler steps of the law, at numbers of which none is a default."""
    p = BTSPWeights(
        duration=Time(0.3), propagation=Time(0.05), eligibility=Time(0.8), instruction=Time(0.5), plasticity=Time(0.1),
        depression=0.2, weights=(0.0, 1.5), intervals=(-0.4, 0.7),
    )  # fmt: skip
    dt = 1e-4
    t = np.arange(0, 12, dt)
    for s, after in zip(p.intervals, p.expected(), strict=True):
        signals = [((t >= start) & (t < start + 0.3)).astype(float) for start in (max(s, 0), max(-s, 0))]
        plateau = filtered(filtered(signals[0], 0.05, dt), 0.5, dt)
        trace = filtered(signals[1], 0.8, dt)
        w = np.array(p.weights)
        for a, b in zip(plateau, trace, strict=True):
            w = w + dt / 0.1 * 0.2 * a * (b - w)
        np.testing.assert_allclose(after, w, atol=5e-4)


def test_what_a_mean_leaves_of_rewards_is_nothing_without_gaps():
    p = ThreeFactorBaseline(propagation=0.03, gap=0.7)
    coefficients = p.expected(0.0, 0.5)
    assert abs(coefficients[p._settled(0.0)]) < 0.02 < coefficients[0]
    even = [p.expected(p.gap, d)[p._settled(p.gap)] for d in np.linspace(0, 1.7, 6, endpoint=False)]
    assert np.mean(even) == pytest.approx(0, abs=2e-3) and np.ptp(even) > 0.05
    spread = np.linspace(0, 1.7, 50, endpoint=False)
    # The sum over presentations ends 15 traces late, at exp(-15).
    assert p.left(spread).mean() == pytest.approx(0, abs=1e-6) and np.ptp(p.left(spread)) > 0.05


def test_both_sides_of_a_chain_become_equal_for_long_stimuli():
    plus, minus = STDPChain(lengths=(0.5, 1.0, 100.0)).sides()
    assert np.all(plus > minus) and plus[-1] / minus[-1] == pytest.approx(1, abs=1e-3)


# ------------------------------------------------------------------------------------------------------ small settings


def test_every_prediction_has_small_settings():
    assert set(SMALL) == set(TRACES)


@pytest.mark.parametrize("name", SMALL)
def test_claims_hold_at_small_settings(name):
    assert failed(small(name).measure()) == set()


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("btsp-kernel", {"intervals": (0.0, 0.3, 0.6, 1.0, 1.5, 2.0)}, "two beyond the duration on either side"),
        ("stdp-phase", {"frequencies": (0.1, 0.2, 0.3)}, "with 1 among them"),
        ("stdp-chain", {"lengths": (0.01, 0.02)}, "the last two lengths above"),
        ("e-prop-gradient", {"scales": (0.1, 0.2, 0.3, 0.4)}, "begin with 0"),
        ("e-prop-window", {"delays": (0.1, 0.2, 0.3, 2.0)}, "from 0 to above 1"),
        ("three-factor-baseline", {"gap": 0.1}, "so that rewards are pulses"),
    ],
)
def test_values_without_meaning_are_refused(name, settings, said):
    with pytest.raises(PlasticodeError, match=said):
        small(name, **settings)


# ----------------------------------------------------------------------------------------------------- planted defects


DEFECTS = {
    "a trace twice as long": (rules.three_factor, "Trace", lambda of, tau: Trace(of, 2 * tau), "three-factor-baseline"),
    "no slope": (rules.eprop, "Slope", lambda: One(), "e-prop-gradient"),
    "sides exchanged": (
        rules.stdp,
        "Trace",
        lambda of, tau: Trace("post" if of == "pre" else "pre", tau),
        "stdp-phase",
    ),
    "plateaus that forget nothing": (
        rules.behavioural_timescale,
        "Depressing",
        lambda by: Depressing(0 * by),
        "btsp-weights",
    ),
}


class One(AbstractFactor):
    """1."""

    def __call__(self, local):
        return jnp.ones_like(local.activity)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_fails_a_claim(defect, plant):
    module, name, wrong, prediction = DEFECTS[defect]
    plant(module, name, wrong)
    assert failed(small(prediction).measure())
