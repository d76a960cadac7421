"""The table and the verdicts of the side-by-side benchmark."""

from typing import Any

from benchmarks.contract import TARGETS
from benchmarks.matching import Accepted
from benchmarks.timing import Timed

# The window integrator against a family of competitors at relative error 1e-3: at least this many times faster.
WANTED = {
    "diffrax": {"A": 20, "C": 20},
    "scan": {"A": 10, "C": 10},
    "torch-eager": {"A": 40, "C": 40},
    "every competitor": {"B": 3, "D": 3},
}
WANTED_FRACTION = {"A": 0.4, "B": 0.4}  # of the measured matrix-product rate
OWN = ("window", "window by tolerance", "engine")  # families that are no competitors of the window integrator

COLUMNS = (
    "method",
    "error asked",
    "setting",
    "error, median (worst)",
    "configurations x simulated s per s",
    "µs per presentation and configuration",
    "window is faster by",
    "of the product rate",
    "compile s",
    "memory MB",
    "timed",
)


def row(workload: str, target: float, entry: Timed, found: Accepted, rate: float) -> dict[str, Any]:
    """One line of the results."""
    competitor, flops = entry.competitor, entry.flops
    return {
        "workload": workload,
        "method": competitor.name,
        "family": competitor.family,
        "target": target,
        "setting": competitor.label(entry.setting),
        "accepted_setting": entry.setting,
        "error_median": found.median,
        "error_worst": found.worst,
        "configurations": entry.problem.configurations,
        "all_configurations": entry.problem.workload.configurations,
        "presentations": entry.presentations,
        "seconds": entry.seconds,
        "microseconds_each": entry.each * 1e6,
        "simulated_rate": entry.simulated_rate,
        "flops_per_second": flops,
        "fraction_of_product_rate": None if flops is None else flops / rate,
        "compile_seconds": entry.cost.compile_seconds,
        "memory_bytes": entry.cost.memory_bytes,
    }


def best(rows: list[dict], workload: str, target: float, family: str | None = None) -> dict | None:
    """The fastest line of a family (absent: of all competitors of the window integrator)."""
    mine = [r for r in rows if r["workload"] == workload and r["target"] == target]
    mine = [r for r in mine if (r["family"] == family if family else r["family"] not in OWN)]
    return min(mine, key=lambda r: r["microseconds_each"], default=None)


def verdicts(rows: list[dict], workloads: list[str]) -> list[dict[str, Any]]:
    """Each thing that the window integrator must reach on the workloads that ran: wanted, measured, reached.

    What could not be measured has `measured` and `reached` None.
    """
    results, target = [], min(TARGETS)

    def add(name: str, wanted: float, measured: float | None) -> None:
        reached = None if measured is None else measured >= wanted
        results.append({"name": name, "wanted": wanted, "measured": measured, "reached": reached})

    for family, by_workload in WANTED.items():
        for workload in (w for w in by_workload if w in workloads):
            ours = best(rows, workload, target, "window")
            theirs = best(rows, workload, target, None if family == "every competitor" else family)
            ratio = theirs["microseconds_each"] / ours["microseconds_each"] if ours and theirs else None
            add(f"{workload}: times faster than {family} at {target:g}", by_workload[workload], ratio)
    for workload in (w for w in WANTED_FRACTION if w in workloads):
        ours = best(rows, workload, target, "window")
        fraction = ours["fraction_of_product_rate"] if ours else None
        add(f"{workload}: fraction of the float32 product rate at {target:g}", WANTED_FRACTION[workload], fraction)
    return results


def markdown(results: dict[str, Any]) -> str:
    """All tables, as a page."""
    machine, parts = results["machine"], []
    versions = ", ".join(f"{name} {v}" for name, v in machine["versions"].items() if v)
    parts.append(
        f"{machine['processor']}, {machine['cores']} cores, {len(machine['devices'])} JAX devices "
        f"({machine['backend']}); Python {machine['python']}, {versions}; float32, matrix products at precision "
        f"'{machine['matmul_precision']}'; load {machine['load'][0]:.1f} before, {results['load_after'][0]:.1f} after; "
        f"medians of {results['repeats']} interleaved repeats."
    )
    for name, workload in results["workloads"].items():
        parts.append(_table(name, workload, results["rows"]))
    parts.append(_verdict_table(results["verdicts"]))
    return "\n\n".join(parts) + "\n"


def _table(name: str, workload: dict, rows: list[dict]) -> str:
    sizes = "-".join(map(str, workload["sizes"]))
    lines = [
        f"## {name}: {sizes}, {workload['configurations']} configurations",
        "",
        f"Best float32 product rate measured: {workload['product_rate'] / 1e9:.0f} GFLOP/s.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for target in TARGETS:
        mine = [r for r in rows if r["workload"] == name and r["target"] == target]
        ours = best(rows, name, target, "window")
        for each in sorted(mine, key=lambda r: r["microseconds_each"]):
            lines.append("| " + " | ".join(_cells(each, ours)) + " |")
    lines += ["", *(f"- {method}: {why}" for method, why in workload["absent"].items())]
    return "\n".join(lines).rstrip()


def _cells(each: dict, ours: dict | None) -> list[str]:
    fraction = each["fraction_of_product_rate"]
    ratio = each["microseconds_each"] / ours["microseconds_each"] if ours else None
    whole = each["configurations"] == each["all_configurations"]
    return [
        each["method"],
        f"{each['target']:g}",
        each["setting"],
        f"{each['error_median']:.1e} ({each['error_worst']:.1e})",
        f"{each['simulated_rate']:.3g}",
        f"{each['microseconds_each']:.4g}",
        "-" if ratio is None else f"{ratio:.3g}x",
        "-" if fraction is None else f"{fraction:.1%}",
        f"{each['compile_seconds']:.1f}",
        f"{each['memory_bytes'] / 2**20:.0f}",
        f"{each['presentations']} presentations" + ("" if whole else f", {each['configurations']} configurations only"),
    ]


def _verdict_table(verdicts_: list[dict]) -> str:
    lines = ["## Targets", "", "| target | at least | measured | reached |", "|---|---|---|---|"]
    for each in verdicts_:
        measured = "not measured" if each["measured"] is None else f"{each['measured']:.3g}"
        reached = {None: "-", True: "yes", False: "no"}[each["reached"]]
        lines.append(f"| {each['name']} | {each['wanted']:g} | {measured} | {reached} |")
    return "\n".join(lines)
