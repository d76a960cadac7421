"""The engine on an accelerator, in one go: whether it is right there, and what it costs.

    python -m benchmarks.accelerator [--minutes 8] [--json FILE] [--figures DIR]

First what is right: products (no TF32), points over all devices, and every rule by windows on A's and C's network in
float32 against float64 on the CPU. Then how fast windows, steps and discrete updates are on A and C with 64 to 65,536
configurations, what memory they take, how long they compile, and how many kernels and looks of the host a presentation
takes. Nothing begins after the minutes are over, and what matters most comes first; all that is known is written to
FILE after every measurement. Exit code 1: something is wrong. Without an accelerator it runs on the CPU, with 8 and 64
configurations, to be tried.
"""

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import charts, device_checks, engine
from benchmarks.contract import Setting
from benchmarks.devices import Advance, JaxProgram, configure
from benchmarks.kernels import Program
from benchmarks.timing import machine, say
from benchmarks.workloads import WORKLOADS, Problem, Workload
from experiments.machine.files import write, writer
from experiments.machine.processes import cores

CHECKING = 0.4  # of the time, at most
# Of one batch, what matters most first: the expectation is for thousands, the ends of the range come next.
CONFIGURATIONS, ON_CPU = (4096, 64, 65536, 1024, 16384, 256), (64, 8)
DRAWN = 64  # configurations that differ in their weights: larger batches repeat them
FIRST = 64  # presentations that are not timed: of the first 48 each is judged
REPEATS, LONGEST = 3, 3.0  # timings of a program, and the seconds that one takes at most
SWEEPS, STEPS, TOLERANCE = 3, 50, 1e-3
WINDOW = f"window, tolerance {TOLERANCE:g}"
EXPECTED = 2e6  # presentations of configurations a second of A, by tolerance, on one H200


class Budget:
    """So many minutes, from now on."""

    def __init__(self, minutes: float):
        self.begun, self.seconds = time.monotonic(), 60 * minutes

    def is_spent(self, share: float = 1.0) -> bool:
        """Whether this share of it is over."""
        return time.monotonic() - self.begun >= share * self.seconds


def methods(workload: Workload) -> dict[str, tuple[Advance, Setting]]:
    """What is timed, and at which setting."""
    of_sweeps = engine.nodes(workload, TOLERANCE) + SWEEPS / 10
    return {
        WINDOW: (engine.coupled(workload, engine.by_tolerance(workload)), TOLERANCE),
        f"window, {SWEEPS} sweeps": (engine.coupled(workload, engine.shaped), of_sweeps),
        f"Euler, {STEPS} steps": (engine.coupled(workload, engine.fixed), STEPS),
        "discrete": (engine.discrete(workload), 0),
    }


def batch(workload: Workload, count: int) -> Problem:
    """`count` configurations: a few that are drawn, again and again, each with its own plasticity and order."""
    few = workload.problem(list(range(min(DRAWN, workload.configurations))))
    rows = np.arange(count) % few.configurations
    weights, feedback = jax.tree.map(lambda a: jnp.asarray(a)[rows], (few.weights, few.feedback))
    taus = np.geomspace(*workload.plasticity, count).astype(np.float32)
    return few._replace(weights=weights, feedback=feedback, taus=taus, seeds=np.arange(count, dtype=np.uint32))


def checked(budget: Budget, workloads: list[Workload], rules: list[str]) -> Iterator[dict[str, Any]]:
    """What each comparison has found; in as many threads as there are cores, as most of it is compilation."""

    def one(check: Callable[[], device_checks.Check]) -> device_checks.Check | None:
        return None if budget.is_spent(CHECKING) else check()

    with ThreadPoolExecutor(cores()) as pool:
        names = {pool.submit(one, check): name for name, check in device_checks.all_checks(workloads, rules)}
        for future in as_completed(names):
            try:
                found = future.result()
            except Exception as error:  # of the compiler or the device: a finding, which must not cost the others
                yield {"name": names[future], "passed": False, "failed": _told(error)}
                continue
            if found is None:
                yield {"name": names[future], "passed": None}
            else:
                yield found._asdict() | {"passed": found.passed}


def timed(budget: Budget, workload: Workload, count: int, seconds: float) -> Iterator[dict[str, Any]]:
    """What each method costs on one batch; what has failed has `failed`, which says why."""
    every = methods(workload)
    about = {"workload": workload.name, "configurations": count}
    try:
        problem = batch(workload, count)
        ready = {name: JaxProgram(problem, advance, static=True) for name, (advance, _) in every.items()}
    except Exception as error:  # no memory for so many
        yield about | {"method": "all", "failed": _told(error)}
        return
    with ThreadPoolExecutor(min(cores(), len(every))) as pool:
        costs = {name: pool.submit(ready[name].compile, setting) for name, (_, setting) in every.items()}
    for name, (_, setting) in every.items():
        if budget.is_spent():
            return
        try:
            cost = costs[name].result()
            program, per_second = ready[name], _rate(functools.partial(ready[name].run, setting), count, seconds)
            counts = Program(program.text(setting)).per_presentation(SWEEPS)
        except Exception as error:
            yield about | {"method": name, "failed": _told(error)}
            continue
        yield about | {
            "method": name,
            "per_second": per_second,
            "compile_seconds": cost.compile_seconds,
            "memory_bytes": cost.memory_bytes,
            "kernels": counts.kernels,
            "looks": counts.looks,
        }


def _rate(run: Callable[[int], Any], count: int, seconds: float) -> float:
    """Presentations of configurations a second, after the first ones; a timing takes about so many `seconds`."""

    def clock(presentations: int) -> float:
        began = time.perf_counter()
        run(presentations)
        return time.perf_counter() - began

    clock(FIRST)  # touches fresh memory
    first = min(clock(FIRST) for _ in range(REPEATS))
    more = FIRST * max(int(seconds / first), 1)
    took = statistics.median(clock(FIRST + more) for _ in range(REPEATS)) - first
    return count * more / max(took, 1e-9)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def run(
    minutes: float, save: Callable[[dict], None], workloads: list[Workload], counts: tuple[int, ...], rules: list[str]
) -> dict[str, Any]:
    """Everything that there is time for; `save` is called with all that is known after every step."""
    budget = Budget(minutes)
    results: dict[str, Any] = {"machine": machine(), "minutes": minutes, "checks": [], "costs": [], "left_out": []}
    for found in checked(budget, workloads, rules):
        results["checks"].append(found)
        save(results)
        verdict = {True: "right", False: "WRONG", None: "no time"}[found["passed"]]
        say(f"{found['name']}: {found.get('failed') or verdict} {found.get('error', '')}")
    cases = [(workload, count) for count in counts for workload in workloads]
    seconds = min(budget.seconds * (1 - CHECKING) / (len(cases) * 4 * 2 * REPEATS), LONGEST)
    for workload, count in cases:
        if budget.is_spent():
            results["left_out"].append(f"{workload.name}: {count} configurations")
            continue
        say(f"{workload.name}: {count} configurations [{time.monotonic() - budget.begun:.0f} s]")
        for cost in timed(budget, workload, count, seconds):
            results["costs"].append(cost)
            save(results)
            say(f"  {cost['method']}: {cost.get('failed') or format(cost['per_second'], '.4g') + ' a second'}")
    results["peak_bytes"] = [(one.memory_stats() or {}).get("peak_bytes_in_use") for one in jax.local_devices()]
    results["seconds"] = time.monotonic() - budget.begun
    save(results)
    return results


def markdown(results: dict[str, Any]) -> str:
    """The page."""
    m, checks = results["machine"], results["checks"]
    made = (
        f"{', '.join(m['devices'])} ({m['backend']}); {m['processor']}, {m['cores']} cores; jax {m['versions']['jax']}"
    )
    done = [one for one in checks if one["passed"] is not None]
    lines = [
        f"{made}; float32, products at precision '{m['matmul_precision']}'; {results['seconds']:.0f} s.",
        "",
        f"Right: {sum(bool(one['passed']) for one in done)} of {len(done)}; no time for {len(checks) - len(done)}.",
        *(f"- {one['name']}: {one.get('failed') or one.get('error')}" for one in done if not one["passed"]),
        "",
        "| workload | configurations | method | a second | compile s | memory MB | kernels | looks of the host |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in sorted(results["costs"], key=lambda one: (one["workload"], one["configurations"])):
        cells = [one["workload"], f"{one['configurations']}", one["method"]]
        if "failed" in one:
            cells += [one["failed"], *"----"]
        else:
            cells += [f"{one['per_second']:.3g}", f"{one['compile_seconds']:.1f}", f"{one['memory_bytes'] / 2**20:.0f}"]
            cells += [f"{one['kernels']}", f"{one['looks']}"]
        lines.append(f"| {' | '.join(cells)} |")
    wanted = [one for one in results["costs"] if (one["workload"], one["method"]) == ("A", WINDOW)]
    best = [one["per_second"] for one in wanted if "failed" not in one]
    if best:
        lines += ["", f"A by tolerance, at best: {max(best):.3g} a second (expected of one H200: {EXPECTED:.0e})."]
    return "\n".join([*lines, *(f"- no time for {one}" for one in results["left_out"])]) + "\n"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing new begins (8)")
    parser.add_argument("--json", type=Path, help="a file for all that was measured")
    parser.add_argument("--figures", type=Path, help="a folder for a chart as PNG")
    arguments = parser.parse_args(argv)
    if not arguments.minutes > 0:
        parser.error(f"--minutes is {arguments.minutes:g}: it must be above 0")
    return arguments


def main() -> None:
    """The command."""
    arguments = parse()
    configure()

    def save(results: dict) -> None:
        if arguments.json:
            partial = arguments.json.with_name(f".{arguments.json.name}-{writer()}")
            write(arguments.json, partial, json.dumps(results, indent=1) + "\n")

    counts = ON_CPU if jax.default_backend() == "cpu" else CONFIGURATIONS
    results = run(arguments.minutes, save, [WORKLOADS["A"], WORKLOADS["C"]], counts, device_checks.rules())
    print(markdown(results))
    if arguments.figures:
        charts.throughput(results["costs"], arguments.figures)
    raise SystemExit(any(one["passed"] is False for one in results["checks"]))


if __name__ == "__main__":
    main()
