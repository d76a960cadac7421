"""The benchmarks compare like with like. Their timings are for docs/benchmarks.md: a loaded machine would fail them."""

import importlib.util
from dataclasses import replace

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import charts, engine, packages, scans, torch_peer
from benchmarks.against_scan import measure
from benchmarks.contract import TARGETS, Competitor, Cost
from benchmarks.devices import ALL, JaxProgram
from benchmarks.integrators import parse
from benchmarks.matching import Accepted, ladder_of, relative_errors, search
from benchmarks.report import markdown, row, verdicts
from benchmarks.timing import Timed, fitting, product_rates
from benchmarks.workloads import WORKLOADS, Workload
from dynamics import Stream

TINY = Workload("A", (6, 5, 4, 3), 4, plasticity=(0.3, 0.6), reference_presentations=2, reference_steps=1000)


@pytest.fixture(scope="module")
def problem():
    return TINY.problem()


def errors(program, problem, steps, reference):
    weights = program.run(steps, TINY.reference_presentations)
    return relative_errors(weights, reference, problem.weights)


def test_engine_and_hand_written_scan_integrate_the_same_equations():
    """An independent implementation of the coupled equations, step by step: equal to float32 rounding, that is to
    half an eps of the weights at each of 2500 steps at random."""
    assert measure(configurations=2, presentations=5, repeats=1)["largest_relative_difference"] < 3e-5


def test_workloads_are_what_they_say():
    """Norm 2 of random inputs, real digits, log-spaced plasticity, configurations that do not depend on the others."""
    a = replace(WORKLOADS["A"], configurations=3).problem()
    np.testing.assert_allclose(np.linalg.norm(a.inputs, axis=1), 2, rtol=1e-6)
    np.testing.assert_allclose(a.taus, [0.5, np.sqrt(2.5), 5], rtol=1e-6)
    c = replace(WORKLOADS["C"], configurations=2).problem()
    assert set(np.unique(c.inputs * 16)) == set(range(17))
    few = replace(WORKLOADS["A"], configurations=3).problem([2])
    assert all((one[0] == all_[2]).all() for one, all_ in zip(few.weights, a.weights, strict=True))
    assert WORKLOADS["A"].flops_per_stage == 2 * (2 * (64 * 128 + 128 * 128 + 1280) + 128 * 128 + 1280)


def test_the_order_is_that_of_the_engine(problem):
    stream = Stream(jnp.asarray(problem.inputs), jnp.asarray(problem.targets), jax.random.key(problem.seeds[1]))
    assert problem.order(5)[1].tolist() == [int(stream.index(jnp.int32(k))) for k in range(5)]


def euler_programs(problem):
    yield "scan", JaxProgram(problem, scans.scan(scans.euler), ALL)
    yield "blocks", JaxProgram(problem, scans.scan(scans.euler), 1)
    yield "engine", engine.competitors()[-1].prepare(problem)
    yield "diffrax", JaxProgram(problem, packages.diffrax_presentations(diffrax.Euler()))
    if importlib.util.find_spec("torch"):
        yield "torch", torch_peer.TorchProgram(problem, torch_peer.euler, 1, compiled=False)
    if importlib.util.find_spec("brainpy"):
        yield "brainpy", JaxProgram(problem, packages.brainpy_presentations("euler"))


def test_competitors_integrate_the_same_equations_by_the_same_method(problem):
    """Euler in every implementation: equal to rounding, while the error of Euler itself is far larger."""
    programs = dict(euler_programs(problem))
    ends = {name: program.run(80, 2) for name, program in programs.items()}
    for name, end in ends.items():
        assert relative_errors(end, ends["scan"], problem.weights).max() < 1e-5, name
    assert relative_errors(ends["scan"], scans.reference(problem), problem.weights).min() > 1e-3


def test_orders_of_convergence(problem):
    """Twice the steps: half the error of Euler, a sixteenth of RK4's; high orders elsewhere have the same limit."""
    reference = scans.reference(problem)
    for step, order, steps in ((scans.euler, 1, 100), (scans.rk4, 4, 100)):
        program = JaxProgram(problem, scans.scan(step), ALL, dtype=np.float64)
        coarse, fine = (errors(program, problem, n, reference).mean() for n in (steps, 2 * steps))
        assert coarse / fine == pytest.approx(2**order, rel=0.2)
    tsit5 = JaxProgram(problem, packages.diffrax_presentations(diffrax.Tsit5()))
    assert errors(tsit5, problem, 50, reference).max() < 1e-3


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_rk4_of_pytorch_is_that_of_the_scan(problem):
    """PyTorch stores no slope of W: the same steps all the same, where RK4 itself is wrong by far more."""
    program = torch_peer.TorchProgram(problem, torch_peer.rk4, 4, compiled=False)
    end = JaxProgram(problem, scans.scan(scans.rk4), ALL).run(20, 2)
    assert relative_errors(program.run(20, 2), end, problem.weights).max() < 1e-5
    assert relative_errors(end, scans.reference(problem), problem.weights).min() > 1e-4


class FakeProgram:
    """Its error is 1/steps, and below 4 steps it is unstable."""

    def __init__(self, problem):
        self.problem = problem

    def compile(self, setting):
        return Cost(0.0, 0)

    def run(self, setting, presentations):
        wrong = np.nan if setting < 4 else 1 + 1 / setting
        return [w + wrong for w in self.problem.weights]


def test_the_cheapest_accurate_setting_is_chosen(problem):
    reference = [w + np.float32(1) for w in problem.weights]
    found, closest = search(FakeProgram(problem), (2, 50, 200, 500, 2000, 5000), problem, reference)
    assert {target: one.setting for target, one in found.items()} == {1e-2: 200, 1e-3: 2000}
    found, closest = search(FakeProgram(problem), (2, 50, 500), problem, reference)
    assert (set(found), closest.setting) == ({1e-2}, 500)


def test_a_twin_tries_what_its_twin_was_accepted_with():
    twin = Competitor("b", "scan", (5, 10, 20, 50), FakeProgram, lambda *_: None, like="a")
    known = {"a": {1e-2: Accepted(10, 0, 0, 0), 1e-3: Accepted(20, 0, 0, 0)}}
    assert ladder_of(twin, known) == (10, 20, 50)
    assert ladder_of(replace(twin, like=None), known) == (5, 10, 20, 50)


def test_slow_methods_are_timed_on_fewer_configurations():
    workload = replace(TINY, configurations=64)
    assert fitting(workload, 1e-3, 20) == 64
    assert fitting(workload, 0.3, 20) == 32  # 33 fit in half of the cap: whole blocks of 8 on each of two devices
    assert fitting(workload, 100.0, 20) == 16


def timed(problem, family, microseconds, operations=None):
    competitor = Competitor(family, family, (1,), FakeProgram, lambda *_: operations)
    seconds = microseconds * 1e-6 * problem.configurations * 10
    return Timed(competitor, 100, problem, FakeProgram(problem), Cost(1.0, 2**20), 10, [seconds] * 3)


def test_verdicts_and_table(problem, tmp_path):
    """A window of 10 us against diffrax at 150 (wanted: 20 times) and a scan at 120 (wanted: 10 times)."""
    found, rate = Accepted(100, 5e-4, 6e-4, 1e-6), 1e9
    lines = [("window", 10, 5000), ("diffrax", 150, 1), ("diffrax", 900, 1), ("scan", 120, 1), ("engine", 1, None)]
    rows = [row("A", min(TARGETS), timed(problem, f, each, flops), found, rate) for f, each, flops in lines]
    judged = {verdict["name"]: verdict for verdict in verdicts(rows, ["A"])}
    ratios = {name: (v["measured"] and round(v["measured"], 6), v["reached"]) for name, v in judged.items()}
    assert ratios == {
        "A: times faster than diffrax at 0.001": (15, False),
        "A: times faster than scan at 0.001": (12, True),
        "A: times faster than torch-eager at 0.001": (None, None),
        "A: fraction of the float32 product rate at 0.001": (0.5, True),
    }
    assert rows[0]["simulated_rate"] == pytest.approx(0.05 / 10e-6)
    machine = {"processor": "p", "cores": 2, "devices": ["cpu"], "backend": "cpu", "python": "3", "versions": {}}
    machine |= {"matmul_precision": "highest", "load": (0.1,)}
    workload = {"sizes": TINY.sizes, "configurations": 4, "product_rate": rate, "absent": {"BrainPy": "not installed"}}
    results = {"machine": machine, "load_after": (0.2,), "repeats": 3, "rows": rows, "workloads": {"A": workload}}
    page = markdown(results | {"verdicts": list(judged.values())})
    assert "| diffrax | 0.001 | 100 steps | 5.0e-04 (6.0e-04) |" in page and "15x" in page
    assert [path.name for path in charts.draw(results, tmp_path)] == ["integrators.png"]


def test_product_rates_are_positive():
    rates = product_rates(1, sizes=(32,))
    assert {"jax 32", "sharded 32"} <= set(rates) and min(rates.values()) > 0


def test_unknown_workloads_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["--workloads", "A,Z"])
    assert "Z: allowed are A, B, C, D" in capsys.readouterr().err
    assert parse(["--quick"]).workloads == ["A", "C"]
