"""The charts: all competitors by workload, and the cost curves. Okabe-Ito colours, one per family."""

from pathlib import Path
from typing import Any

from benchmarks.contract import TARGETS
from benchmarks.curves import SHAPES

COLOURS = {
    "window": "#D55E00",
    "window by tolerance": "#F0E442",
    "engine": "#E69F00",
    "scan": "#0072B2",
    "diffrax": "#009E73",
    "torch-eager": "#CC79A7",
    "torch-compile": "#56B4E9",
    "brainpy": "#000000",
}
COST = "µs per presentation and configuration"
AXES = {
    "configurations": "configurations in one batch",
    "width": "width of the hidden layers (neurons)",
    "depth": "matrices W between layers",
    "presentations": "presentations in one run",
    "delays": "delay of the output error (ms)",
}


def draw(results: dict[str, Any], folder: Path) -> list[Path]:
    """Writes the charts of what was measured; the files that were written."""
    import matplotlib

    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    written = [_bars(results, folder / "integrators.png")]
    if results.get("curves"):
        written.append(_curves(results["curves"], folder / "integrators-cost.png"))
    return written


def _bars(results: dict[str, Any], path: Path) -> Path:
    from matplotlib import pyplot as plt

    names = list(results["workloads"])
    most = max(sum(r["workload"] == name and r["target"] == min(TARGETS) for r in results["rows"]) for name in names)
    size = 4.8 * len(names), 1.2 + 0.36 * most
    figure, axes = plt.subplots(1, len(names), figsize=size, squeeze=False, layout="constrained")
    for ax, name in zip(axes[0], names, strict=True):
        lines = [r for r in results["rows"] if r["workload"] == name and r["target"] == min(TARGETS)]
        lines.sort(key=lambda r: -r["microseconds_each"])
        values = [r["microseconds_each"] for r in lines]
        labels = [f"{r['method']}\n({r['setting']})" for r in lines]
        bars = ax.barh(labels, values, color=[COLOURS[r["family"]] for r in lines])
        ax.bar_label(bars, labels=[f"{v:.3g}" for v in values], padding=3, fontsize=8)
        ax.set_xscale("log")
        if values:
            ax.set_xlim(min(values) / 2, max(values) * 5)
        ax.tick_params(axis="y", labelsize=7)
        workload = results["workloads"][name]
        sizes = "-".join(map(str, workload["sizes"]))
        ax.set_title(f"{name}: {sizes}, {workload['configurations']} configurations", fontsize=9)
        ax.set_xlabel(COST)
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Cost at relative error {min(TARGETS):g} of the weight change", fontsize=11)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def _curves(points: list[dict[str, Any]], path: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(SHAPES), figsize=(3.6 * len(SHAPES), 3.6), sharey=True, layout="constrained")
    for ax, axis in zip(axes, SHAPES, strict=True):
        for family, marker in (("window", "o"), ("scan", "s")):
            mine = [p for p in points if p["axis"] == axis and p["family"] == family]
            label = "window integrator" if family == "window" else "best hand-written scan"
            if mine:
                xs, ys = [p["value"] for p in mine], [p["microseconds_each"] for p in mine]
                ax.plot(xs, ys, color=COLOURS[family], marker=marker, label=label)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ticks = SHAPES[axis][1]
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.minorticks_off()
        ax.set_xlabel(AXES[axis])
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(COST)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path


def throughput(costs: list[dict[str, Any]], folder: Path) -> Path:
    """Presentations a second against configurations, of each method and workload (benchmarks.accelerator)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    known = [cost for cost in costs if "per_second" in cost]
    names, methods = (sorted({cost[key] for cost in known}) for key in ("workload", "method"))
    figure, axes = plt.subplots(
        1, max(len(names), 1), figsize=(9, 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    colours = [COLOURS[family] for family in ("engine", "scan", "window", "diffrax")]  # told apart without colours, too
    for ax, name in zip(axes[0], names, strict=False):
        for method, colour, marker in zip(methods, colours, "os^D", strict=False):
            mine = sorted((c for c in known if (c["workload"], c["method"]) == (name, method)), key=_batch)
            ax.loglog([*map(_batch, mine)], [c["per_second"] for c in mine], color=colour, marker=marker, label=method)
        ax.set_title(f"{name}", fontsize=9)
        ax.set_xlabel(AXES["configurations"])
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("presentations of configurations a second")
    if known:
        axes[0][0].legend(frameon=False, fontsize=8)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "accelerator.png", dpi=150)
    plt.close(figure)
    return folder / "accelerator.png"


def _batch(cost: dict[str, Any]) -> int:
    return cost["configurations"]
