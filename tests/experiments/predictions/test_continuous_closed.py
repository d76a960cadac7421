"""Closed forms of learning in continuous time against brute force; the predictions that use them; planted defects."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

import dynamics.field
import rules.kolen_pollack
from dynamics.circuit import AbstractFactor
from dynamics.errors import PlasticodeError
from dynamics.instruments import drive
from dynamics.network import Network
from dynamics.theory import lagged_overlap
from experiments.predictions import configured
from experiments.predictions.continuous import exact
from experiments.predictions.continuous.closed_depth import expected_strengths, isotropic_case
from experiments.predictions.continuous.closed_forms import drives_of, traced_overlap
from experiments.predictions.continuous.deep_overlap import LayerAlignment
from experiments.predictions.continuous.exact import LearningRate, Path
from experiments.predictions.continuous.overlap_law import TraceRescue
from experiments.predictions.kit import f64, wired
from experiments.results.verdicts import all_match
from rules import DFA, SGD

LAGS = {"propagation": (0.1,), "pre_stages": (0, 2), "error_stages": (1, 3), "delays": (0.0, 0.45)}
TRACE = {"traces": (0.7,), "delays": (0.4, 1.2, 1.7), "presentations": 10, "propagation": 0.1}
ALIGNMENT = {"hidden": (3,), "inputs": 2, "outputs": 2, "decay": 12.0, "plasticity": (3.0, 30.0), "seeds": 2}
DEPTH = {"hidden": (1, 2), "width": 4, "seeds": 10, "presentations": 40, "propagation": 0.15}


def measured(name, settings):
    return configured([name], settings, quick=True)[name].measure()


def failed(finding):
    return [verdict.name for verdict in finding.verdicts if not verdict.passed]


def brute_force_drives(circuit, weights, inputs, targets, lag):
    """<e z^T> of a linear circuit in a stream of random held samples, from its state space and by quadrature.

    The stimulus has the autocorrelation max(0, 1 - |s|): the drive is the double integral of two impulse responses.
    """
    order = [(layer.name, v) for layer in circuit.layers if not layer.given for v in ("activity", "error")]
    at, size = {}, 0
    for name, variable in order:
        at[name, variable] = slice(size, size + circuit.layer(name).size)
        size += circuit.layer(name).size
    moments = np.concatenate([inputs, targets], 1)
    moments = moments.T @ moments / len(inputs)
    n = inputs.shape[1]
    state, source = -np.eye(size), np.zeros((size, len(moments)))
    for p in circuit.projections:
        port = "activity" if p.port == "forward" else "error"
        matrix = weights[p.owner] if p.owner == p.name else weights[p.owner].T
        if circuit.layer(p.source).given:
            source[at[p.target, port], :n] += matrix
        else:
            state[at[p.target, port], at[p.source, p.carried_name]] += matrix
    last = next(layer.name for layer in circuit.layers if layer.role == "output")
    source[at[last, "error"], n:] += np.eye(len(moments) - n)
    state[at[last, "error"], at[last, "activity"]] -= np.eye(len(moments) - n)
    step = 0.025  # in tau_prop
    times = (np.arange(1000) + 0.5) * step
    forward = expm(state * step)
    responses = [expm(state * step / 2) @ source]
    for _ in times[1:]:
        responses.append(forward @ responses[-1])
    responses = np.array(responses) * step  # (times, state, source)
    drives = {}
    for p in circuit.plastic:
        late = responses[:, at[p.target, "error"]]
        if circuit.layer(p.source).given:
            near = np.maximum(0, 1 - times * lag)
            drives[p.name] = np.einsum("t,tas,sb->ab", near, late, moments[:, :n])
        else:
            near = np.maximum(0, 1 - np.abs(times[:, None] - times[None]) * lag)
            early = np.tensordot(near, responses[:, at[p.source, "activity"]], 1)
            drives[p.name] = np.einsum("tas,sr,tbr->ab", late, moments, early)
    return drives


@pytest.mark.parametrize(("rule", "skips"), [(SGD(), ((0, 2), (1, 3))), (DFA(), ())])
def test_drives_by_paths_equal_those_by_state_space(rule, skips):
    generator = np.random.default_rng(1)
    network = Network((2, 3, 2, 2), activation="linear", bias=False, skips=skips, gain=f64(1.0))
    circuit, lag = rule.wire(network), float(generator.uniform(0.1, 0.3))
    weights = {
        p.name: 0.7 * generator.standard_normal(circuit.shape(p)) for p in circuit.projections if p.owner == p.name
    }
    x = generator.standard_normal((6, 2))
    x, y = np.concatenate([x, -x]), generator.standard_normal((12, 2))
    brute = brute_force_drives(circuit, weights, x, y, lag)
    settled = drive(circuit, {name: f64(w) for name, w in weights.items()}, {}, f64(x), f64(y))
    for name, one in drives_of(circuit, weights, x, y, lag).items():
        np.testing.assert_allclose(one.settled, settled[name], atol=1e-12)
        np.testing.assert_allclose(one.lagged, brute[name], atol=2e-3 * np.abs(one.settled).max())


@pytest.mark.parametrize("rule", [SGD(), DFA()])
def test_isolated_parts_of_the_error_have_the_stages_that_counting_gives(rule):
    depth, lag = 4, 0.12
    circuit = rule.wire(Network((3,) * (depth + 1), bias=False, gain=f64(1.0)))
    for target, stages in (
        (0.0, lambda level: depth + 1 + (depth - level)),
        (1e6, lambda level: 1 + (depth - level)),
    ):
        strengths = expected_strengths(circuit, isotropic_case(circuit, 3, 0, 1.0, target, 1.0), lag)
        for level in range(1, depth + 1):
            back = stages(level)
            if isinstance(rule, DFA) and level < depth:
                back = stages(depth) + 1
            closed = lagged_overlap(0.0, 1.0, level - 1, back, lag)
            assert strengths[f"W{level}"] == pytest.approx(closed, abs=1e-5)


def test_traced_overlap_equals_quadrature():
    generator = np.random.default_rng(2)
    steps = 20_000
    t = (np.arange(8 * steps) + 0.5) / steps
    for _ in range(4):
        trace, lag, delay = generator.uniform(0.3, 2), generator.uniform(0.02, 0.3), generator.uniform(0, 2)
        p = np.where(t < 1, 1 - np.exp(-t / trace), np.exp((1 - t) / trace) - np.exp(-t / trace))
        since, after = np.maximum(t - delay, 0), np.maximum(t - delay - 1, 0)
        e = np.exp(-after / lag) - np.exp(-since / lag)
        assert traced_overlap(delay, trace, lag) == pytest.approx((p * e).sum() / steps, abs=1e-5)


def one_problem(settings, seed):
    circuit = wired(SGD(), (settings.inputs, settings.outputs))
    return circuit, exact._problem(settings, circuit, seed)


def test_flow_of_a_linear_layer_equals_many_small_steps():
    settings, path = LearningRate(presentations=8, decay=0.7), Path(exact.LIMIT, 0.3)
    _, problem = one_problem(settings, 4)
    start = slow = steps = np.asarray(problem.weights["W1"])
    far = moved = 0.0
    for k, (x, y) in enumerate(zip(*exact._shown(problem, 8), strict=True), 1):
        steps = steps + 0.3 * (np.outer(y - steps @ x, x) - 0.7 * steps)
        for _ in range(3000):
            slow = slow + 0.3 / 3000 * (np.outer(y - slow @ x, x) - 0.7 * slow)
        if k % 2 == 0:
            far, moved = far + ((slow - steps) ** 2).sum(), moved + ((steps - start) ** 2).sum()
    assert exact._fast_neurons(settings, problem, path) == pytest.approx(np.sqrt(far / moved), rel=1e-3)


def test_distance_of_a_linear_layer_from_sgd_equals_its_closed_forms():
    settings = LearningRate(presentations=12, decay=0.4, inputs=3, outputs=2, samples=5, seed=7, seeds=2)
    circuit, problem = one_problem(settings, 7)
    paths = [Path(exact.LIMIT, 0.11), Path(0.07, exact.LIMIT)]
    measured = settings._distances(circuit, paths)[0]
    forms = exact._fast_neurons, exact._slow_plasticity
    closed = [form(settings, problem, path) for form, path in zip(forms, paths, strict=True)]
    np.testing.assert_allclose(measured, closed, atol=5e-6)
    assert min(closed) > 1e-3


def test_the_worst_of_many_means_decides():
    samples = np.random.default_rng(0).normal([1.0, 2.0, 3.0], 0.1, (20, 3))
    assert all_match("", "", np.array([1.0, 2.0, 3.0]), samples).passed
    wrong = all_match("", "", np.array([1.0, 2.3, 3.0]), samples)
    assert not wrong.passed and wrong.expected == 2.3
    samples[0, 2] = np.nan
    assert all_match("", "", np.array([1.0, 2.0, 3.0]), samples).outcome == "failed"
    wide = np.random.default_rng(0).normal([1.0, 2.0, 3.0], [0.1, 0.1, 30.0], (20, 3))
    assert all_match("", "", np.array([1.0, 2.0, 3.0]), wide).outcome == "undecided"


def test_stages_of_lag():
    finding = measured("overlap-lag-stages", {**LAGS, "propagation": (0.17,), "delays": (0.0, 0.31, 0.9)})
    assert not failed(finding)


def test_trace_rescue_and_its_expectation_moves_with_its_parameters():
    finding = measured("trace-rescue", TRACE)
    assert not failed(finding) and len(finding.verdicts) == 6
    prediction = TraceRescue.model_validate(TRACE)
    later = TraceRescue.model_validate({**TRACE, "late": 2.5})
    assert later._recursion(0.7) < 0.5 * prediction._recursion(0.7)


def test_alignment_of_feedback():
    assert not failed(measured("kolen-pollack-rate", ALIGNMENT))


def test_layers_of_a_deep_network():
    prediction = LayerAlignment.model_validate(DEPTH)
    found = {("layerwise", 3): prediction._measured("layerwise", 3)}
    for part in ("prediction", "target"):
        assert prediction._agreement(found, "layerwise", part).passed
    found["layerwise", 3].expected["target"][1] += 0.15
    assert not prediction._agreement(found, "layerwise", "target").passed


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("overlap-lag-stages", {"error_stages": (0,)}),
        ("overlap-lag-stages", {"propagation": (1e-6,)}),
        ("trace-rescue", {"late": 0.5}),
        ("kolen-pollack-rate", {"decay": 0.0}),
        ("layer-alignment", {"seeds": 1}),
        ("skip-connections", {"hidden": 1}),
        ("learning-rate-equivalence", {"rates": (0.01, 0.02, 0.04)}),
    ],
)
def test_senseless_parameters_are_refused(name, settings):
    with pytest.raises(PlasticodeError, match=f"{name}.{next(iter(settings))}"):
        configured([name], settings)


class Louder(AbstractFactor):
    def __call__(self, local):
        return local.activity * jnp.asarray(1.01, local.activity.dtype)


def test_a_wrong_time_constant_of_neurons_fails_the_lag_stages(monkeypatch):
    right = dynamics.field.at_level
    monkeypatch.setattr(dynamics.field, "at_level", lambda values, level: 1.02 * right(values, level))
    assert failed(measured("overlap-lag-stages", LAGS)) == ["overlap law with stages of lag"]


def test_feedback_that_learns_from_another_signal_fails_the_alignment(monkeypatch):
    monkeypatch.setattr(rules.kolen_pollack, "Activity", Louder)
    assert "rate of alignment, plain run" in failed(measured("kolen-pollack-rate", ALIGNMENT))
