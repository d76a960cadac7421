"""The window integrator beside its peers: same equations, same accuracy, one process.

    python -m benchmarks.integrators [--quick] [--workloads A,B,C,D] [--repeats N] [--configurations N]
                                     [--json FILE] [--figures DIR] [--long]

Every competitor is given the cheapest setting whose relative error of the weight change, against float64 RK4, is at
most 1e-2 and 1e-3; then all are timed in turn. The table goes to stdout as Markdown. `--figures` adds charts and, with
the full run, cost curves; `--long` is the window integrator alone on 1000 configurations x 2000 presentations of C.
"""

import argparse
import json
import os
import resource
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import charts, curves, engine, packages, scans, torch_peer
from benchmarks.contract import QUICK_STEPS, STEPS, TARGETS, Competitor
from benchmarks.devices import configure
from benchmarks.matching import Accepted, ladder_of, search
from benchmarks.report import markdown, row, verdicts
from benchmarks.timing import Timed, machine, measure, prepare, product_rates, say
from benchmarks.workloads import WORKLOADS, Workload, quick

LONG_CONFIGURATIONS, LONG_PRESENTATIONS, LONG_WANTED = 1000, 2000, 180.0


def all_competitors(fast: bool) -> list[Competitor]:
    """Everyone; a competitor stands after the one whose settings it takes over."""
    steps = QUICK_STEPS if fast else STEPS
    return [
        *scans.competitors(steps),
        *engine.competitors(),
        *packages.diffrax_competitors(steps),
        *torch_peer.competitors(steps, with_compile=not fast),
        *packages.brainpy_competitors(steps),
    ]


def match(workload: Workload, competitors: list[Competitor], programs: dict) -> tuple[dict, dict[str, str]]:
    """The accepted settings of every competitor that runs, by name and target, and why the others do not.

    Programs of a small problem that is the whole workload are kept in `programs`, to be timed.
    """
    problem = workload.small_problem()
    say(f"{workload.name}: float64 reference, {workload.reference_steps} steps per presentation")
    reference = scans.reference(problem)
    accepted: dict[str, dict[float, Accepted]] = {}
    absent: dict[str, str] = {}
    for competitor in competitors:
        if competitor.missing or not competitor.applies(workload.configurations):
            absent[competitor.name] = competitor.missing or "one block holds all configurations: the same as vmap"
            continue
        began = time.perf_counter()
        try:
            program = competitor.prepare(problem)
            found, closest = search(program, ladder_of(competitor, accepted), problem, reference)
        except Exception as error:  # one package's failure is a result, and must not cost the others theirs
            absent[competitor.name] = f"not available: {type(error).__name__}: {_first_line(error)}"
            say(f"{workload.name}: {competitor.name} {absent[competitor.name]}")
            continue
        accepted[competitor.name] = found
        if problem.configurations == workload.configurations:
            programs[competitor.name, problem.configurations] = problem, program
        settings = "; ".join(f"{t:g}: {competitor.label(f.setting)} ({f.median:.1e})" for t, f in found.items())
        say(f"{workload.name}: {competitor.name:<28} {settings}  [{time.perf_counter() - began:.0f} s]")
        for target in (t for t in TARGETS if t not in found):
            least = f"the least error is {closest.median:.1e}, with {competitor.label(closest.setting)}"
            absent[f"{competitor.name} at {target:g}"] = f"not reached: {least}"
    return accepted, absent


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def compare(workload: Workload, competitors: list[Competitor], repeats: int, seconds: float) -> tuple[list, dict]:
    """All lines of one workload, and what is common to them."""
    programs: dict = {}
    accepted, absent = match(workload, competitors, programs)
    by_name = {competitor.name: competitor for competitor in competitors}
    entries: dict[tuple[str, float], Timed] = {}
    for name, found in accepted.items():
        for one in found.values():
            if (name, one.setting) not in entries:
                say(f"{workload.name}: preparing {name}, {by_name[name].label(one.setting)}")
                entries[name, one.setting] = prepare(by_name[name], workload, one, seconds, programs)
    say(f"{workload.name}: timing {len(entries)} programs, {repeats} rounds")
    measure(list(entries.values()), repeats)
    rates = product_rates(repeats)
    rate = max(rates.values())
    rows = [
        row(workload.name, target, entries[name, one.setting], one, rate)
        for name, found in accepted.items()
        for target, one in found.items()
    ]
    return rows, asdict(workload) | {"absent": absent, "product_rate": rate, "product_rates": rates}


def long_run(workload: Workload) -> dict[str, Any]:
    """The window integrator alone on many configurations and presentations: seconds, and memory before and after."""
    window = engine.competitors()[1]
    tolerance, program = min(TARGETS), window.prepare(replace(workload, configurations=LONG_CONFIGURATIONS).problem())
    cost = program.compile(tolerance)
    program.run(tolerance, LONG_PRESENTATIONS // 100)
    before = _peak_memory()
    began = time.perf_counter()
    program.run(tolerance, LONG_PRESENTATIONS)
    seconds = time.perf_counter() - began
    say(f"--long: {LONG_CONFIGURATIONS} x {LONG_PRESENTATIONS} presentations of {workload.name} in {seconds:.1f} s")
    return {
        "configurations": LONG_CONFIGURATIONS,
        "presentations": LONG_PRESENTATIONS,
        "tolerance": tolerance,
        "seconds": seconds,
        "seconds_wanted": LONG_WANTED,
        "reached": seconds + cost.compile_seconds <= LONG_WANTED,
        "compile_seconds": cost.compile_seconds,
        "process_peak_bytes_after_1_percent": before,
        "process_peak_bytes": _peak_memory(),
        "program_bytes": cost.memory_bytes,
    }


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in kB


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    configure()
    results: dict[str, Any] = {"machine": machine(), "repeats": arguments.repeats, "quick": arguments.quick}
    competitors, rows, workloads = all_competitors(arguments.quick), [], {}
    for name in arguments.workloads:
        workload = quick(WORKLOADS[name]) if arguments.quick else WORKLOADS[name]
        if arguments.configurations:
            workload = replace(workload, configurations=arguments.configurations)
        lines, workloads[name] = compare(workload, competitors, arguments.repeats, arguments.seconds)
        rows += lines
    results |= {"workloads": workloads, "rows": rows, "verdicts": verdicts(rows, arguments.workloads)}
    results["memory_bytes_are"] = (
        "JAX: arguments, results and temporary buffers of the compiled program over all devices; PyTorch: the tensors "
        "that a run holds"
    )
    if arguments.figures and not arguments.quick:
        results["curves"] = curves.measure(rows, competitors, arguments.repeats, arguments.seconds)
    if arguments.long:
        results["long"] = long_run(WORKLOADS["C"])
    results["load_after"] = os.getloadavg()
    return results


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 configurations of A and C, one repeat, under a minute")
    parser.add_argument("--workloads", help="letters, separated by commas (A,B,C,D; with --quick A,C)")
    parser.add_argument("--configurations", type=int, help="this many instead of each workload's own")
    parser.add_argument("--repeats", type=int, help="rounds of timing (5; with --quick 1)")
    parser.add_argument("--seconds", type=float, help="what one timing of a fast method takes (1; with --quick 0.1)")
    parser.add_argument("--json", type=Path, help="a file for all that was measured")
    parser.add_argument("--figures", type=Path, help="a folder for charts as PNG")
    parser.add_argument("--long", action="store_true", help="also 1000 configurations x 2000 presentations of C")
    arguments = parser.parse_args(argv)
    arguments.workloads = (arguments.workloads or ("A,C" if arguments.quick else "A,B,C,D")).split(",")
    if unknown := [name for name in arguments.workloads if name not in WORKLOADS]:
        parser.error(f"--workloads has {', '.join(unknown)}: allowed are {', '.join(WORKLOADS)}")
    arguments.repeats = arguments.repeats or (1 if arguments.quick else 5)
    arguments.seconds = arguments.seconds or (0.1 if arguments.quick else 1.0)
    return arguments


def main() -> None:
    """The command."""
    arguments = parse()
    results = run(arguments)
    print(markdown(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if arguments.figures:
        charts.draw(results, arguments.figures)


if __name__ == "__main__":
    main()
