"""The price of continuous time: what a presentation costs by windows, over what a discrete update of the network costs.

    python -m benchmarks.price [--workloads A,B,C] [--json FILE]

The yardstick is a hand-written, batched and jitted discrete update of feedback alignment: one pass forward, one back,
one outer product per matrix. All run in one process, in turn; times are CPU times, so that a load on the machine does
little to the ratios, which are medians of those of each round. Two windows are priced: the cheapest setting whose error
of the weight change is at most 1e-3 in the median over configurations, and `tolerance = 1e-3` as a spec has it.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from benchmarks import engine, scans
from benchmarks.contract import Competitor, Setting
from benchmarks.devices import BLOCK, JaxProgram, configure
from benchmarks.matching import Accepted, relative_errors
from benchmarks.timing import machine, say
from benchmarks.workloads import WORKLOADS, Problem, T, Workload, sample

ERROR = 1e-3  # of the weight change, relative
ROUNDS = 5
# How many configurations are timed, and presentations of each: windows judge the first ones more often than later ones.
SIZES = {"A": (16, 2048), "B": (4, 512), "C": (64, 2048), "D": (1, 64)}
YARDSTICK_RUNS = 20  # of the discrete update in a round: as many presentations, again and again


def discrete(point: tuple, samples: tuple, setting: Setting, presentations: Array) -> tuple[Array, ...]:
    """W_1 .. W_L after `presentations` discrete updates with the learning rate T / tau_plast, as a user writes them."""
    (weights, feedback, tau, seed), (inputs, targets) = point, samples

    def present(k: Array, weights: tuple[Array, ...]) -> tuple[Array, ...]:
        shown = sample(seed, jnp.asarray(k, jnp.int32), inputs.shape[0])
        z = [inputs[shown]]
        for w in weights[:-1]:
            z.append(jnp.tanh(w @ z[-1]))
        e = [targets[shown] - weights[-1] @ z[-1]]
        for below, v in zip(z[:0:-1], feedback[::-1], strict=True):
            e.append((1 - below**2) * (v @ e[-1]))
        return tuple(w + (T / tau * m)[:, None] * p[None] for w, m, p in zip(weights, e[::-1], z, strict=True))

    return jax.lax.fori_loop(0, presentations, present, weights)


@dataclass
class Entry:
    """One competitor, and the microseconds of CPU time per presentation and configuration of every round."""

    run: Callable[[], Any]
    updates: int
    microseconds: list[float] = field(default_factory=list)

    def round(self) -> None:
        began = time.process_time()
        self.run()
        self.microseconds.append((time.process_time() - began) / self.updates * 1e6)


def timed_problem(workload: Workload, count: int) -> Problem:
    """`count` configurations in whole blocks of neighbours, as a sweep lays them out: they learn about equally fast."""
    blocks = max(count // BLOCK, 1)
    first = np.linspace(0, workload.configurations - count // blocks, blocks).round().astype(int)
    return workload.problem([int(start) + i for start in first for i in range(count // blocks)])


def cheapest(competitor: Competitor, workload: Workload, reference: list[np.ndarray]) -> Accepted:
    """The first setting that is right to `ERROR` in the median of the small problem; a tolerance: that of a spec."""
    problem = workload.small_problem()
    program, found = competitor.prepare(problem), []
    for setting in competitor.ladder:
        errors = relative_errors(program.run(setting, workload.reference_presentations), reference, problem.weights)
        found.append(Accepted(setting, float(np.median(errors)), float(errors.max()), 0.0))
        say(f"{workload.name}: {competitor.label(setting)}: error {np.median(errors):.1e}, worst {errors.max():.1e}")
        if found[-1].median <= ERROR:
            break
    return found[-1]


def priced(workload: Workload, configurations: int, presentations: int, rounds: int = ROUNDS) -> dict[str, Any]:
    """The two prices of a workload, what they were measured at, and the microseconds behind them."""
    reference = scans.reference(workload.small_problem())
    window, by_tolerance, _ = engine.competitors()
    settings = {
        "median": (window, cheapest(window, workload, reference)),
        "tolerance": (by_tolerance, cheapest(replace(by_tolerance, ladder=(ERROR,)), workload, reference)),
    }
    problem, updates = timed_problem(workload, configurations), configurations * presentations
    hand = JaxProgram(problem, discrete, static=True)

    def yardstick() -> None:
        for _ in range(YARDSTICK_RUNS):
            hand.run(0, presentations)

    entries = {"discrete": Entry(yardstick, YARDSTICK_RUNS * updates)}
    for name, (competitor, found) in settings.items():
        program = competitor.prepare(problem)
        entries[name] = Entry(_call(program.run, found.setting, presentations), updates)
    for entry in entries.values():  # compiles, and touches fresh memory
        entry.run()
    for _ in range(rounds):
        for entry in entries.values():
            entry.round()
    floor = entries["discrete"].microseconds
    result: dict[str, Any] = {"configurations": configurations, "presentations": presentations}
    result["discrete"] = {"microseconds": statistics.median(floor)}
    for name, (competitor, found) in settings.items():
        ratios = [mine / least for mine, least in zip(entries[name].microseconds, floor, strict=True)]
        result[name] = {
            "ratio": statistics.median(ratios),
            "range": [min(ratios), max(ratios)],
            "setting": competitor.label(found.setting),
            "error": found.median,
            "worst_error": found.worst,
            "microseconds": statistics.median(entries[name].microseconds),
        }
    return result


def _call(run: Callable, *arguments: Any) -> Callable[[], Any]:
    return lambda: run(*arguments)


def markdown(workloads: dict[str, dict[str, Any]]) -> str:
    """The prices as a table."""
    lines = [
        "| workload | discrete, µs | cheapest at median 1e-3 | error (worst) | tolerance = 1e-3 | error (worst) |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in workloads.items():
        cells = [name, f"{one['discrete']['microseconds']:.2f}"]
        for kind in ("median", "tolerance"):
            price = one[kind]
            cells.append(f"{price['ratio']:.1f}x ({price['setting']}, {price['microseconds']:.1f} µs)")
            cells.append(f"{price['error']:.1e} ({price['worst_error']:.1e})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default="A,C", help="letters, separated by commas: A, B, C, D (A,C)")
    parser.add_argument("--json", type=Path, help="a file for all that was measured")
    arguments = parser.parse_args(argv)
    arguments.workloads = arguments.workloads.split(",")
    if unknown := [name for name in arguments.workloads if name not in WORKLOADS]:
        parser.error(f"--workloads has {', '.join(unknown)}: allowed are {', '.join(WORKLOADS)}")
    return arguments


def main() -> None:
    """The command."""
    arguments = parse()
    configure()
    workloads = {name: priced(WORKLOADS[name], *SIZES[name]) for name in arguments.workloads}
    print(markdown(workloads))
    if arguments.json:
        results = {"machine": machine(), "rounds": ROUNDS, "workloads": workloads}
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
