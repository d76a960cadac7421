"""The script for accelerators, as far as a CPU carries it out: every step once, tiny; when it stops; what it tells."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from benchmarks import accelerator, charts, device_checks
from benchmarks.workloads import WORKLOADS

pytestmark = pytest.mark.usefixtures("unchecked_types", "unjudged")
TINY = replace(WORKLOADS["A"], sizes=(6, 4, 3), configurations=2)


def test_every_step_is_carried_out_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(accelerator, "STEPS", 4)
    monkeypatch.setattr(accelerator, "FIRST", 2)
    monkeypatch.setattr(accelerator, "LONGEST", 0.01)
    saved = []

    def save(results):
        saved.append(json.loads(json.dumps(results)))

    results = accelerator.run(10, save, [TINY], (4,), ["fa"])
    assert [one["passed"] for one in results["checks"]] == [True] * 3, results["checks"]
    assert [one["method"] for one in results["costs"]] == list(accelerator.methods(TINY))
    for one in results["costs"]:
        assert min(one["per_second"], one["memory_bytes"], one["kernels"]) > 0, one
    assert results["costs"][-1]["looks"] == 0 and results["left_out"] == []  # discrete updates
    assert saved[-1] == json.loads(json.dumps(results)) and len(saved) == 3 + 4 + 1
    page = accelerator.markdown(results)
    assert "Right: 3 of 3" in page and "| A | 4 | discrete |" in page
    assert charts.throughput(results["costs"], tmp_path).stat().st_size > 10_000


def test_nothing_begins_when_the_time_is_over():
    results = accelerator.run(1e-9, lambda results: None, [TINY], (4, 8), ["fa"])
    assert [one["passed"] for one in results["checks"]] == [None] * 3
    assert results["costs"] == [] and results["left_out"] == ["A: 4 configurations", "A: 8 configurations"]
    assert "no time for 3" in accelerator.markdown(results)


def test_what_is_wrong_or_fails_is_told(monkeypatch):
    """A device whose products are rounded to 10 bits, and one that has no memory."""

    def rounded(*_):
        return device_checks.Check("products", "float64", 3e-4, device_checks.PRODUCT)

    def failing(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nmore")

    monkeypatch.setattr(device_checks, "all_checks", lambda *_: [("products", rounded), ("shards", failing)])
    monkeypatch.setattr(accelerator, "batch", failing)
    results = accelerator.run(10, lambda results: None, [TINY], (4,), [])
    assert [one["passed"] for one in results["checks"]] == [False, False]
    page = accelerator.markdown(results)
    assert "- products: 0.0003" in page and page.count("RESOURCE_EXHAUSTED: Out of memory") == 2 and "more" not in page


def test_a_difference_is_that_of_the_worst_configuration():
    right = {"W1": np.array([[[3.0, 4.0]], [[0.3, 0.4]]])}
    assert device_checks.apart({"W1": right["W1"] + 0.05}, right) == pytest.approx(0.05 * 2**0.5 / 0.5)
    assert device_checks.apart({"W1": right["W1"] * np.nan}, right) == np.inf


def test_configurations_that_repeat_have_an_order_and_a_plasticity_of_their_own():
    problem = accelerator.batch(TINY, 5)
    assert np.array_equal(problem.weights[0][0], problem.weights[0][4]) and problem.weights[0].shape[0] == 5
    assert len(set(problem.taus.tolist())) == len(set(problem.seeds.tolist())) == 5
    assert isinstance(problem.weights[0], jax.Array)


def test_no_time_is_refused(capsys):
    with pytest.raises(SystemExit):
        accelerator.parse(["--minutes", "0"])
    assert "--minutes is 0: it must be above 0" in capsys.readouterr().err
