"""Whether a number that is called `ok` is right: random circuits, run as users run them, against float64 references.

    python -m benchmarks.trust [--draws 2000] [--seed 0] [--tolerance 1e-3] [--json FILE] [--share I/N] [--only S[:D]]

The true error of a draw is |W - W_ref| / D over all plastic matrices at the end of its run, D being the distance that
the weights have moved, summed over presentations. Three counts matter: draws that are `ok` with an error above twice
the tolerance (there must be none), draws that are marked though their error is within the tolerance (below 2 %), and
draws that a spec and Python judge differently.
"""

import argparse
import gc
import json
import math
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.trust_draws import DRAWS, Structure, numbers, structure
from benchmarks.trust_report import Judged, is_wrong, markdown
from benchmarks.trust_runs import Outcome, assembled, through_python, through_spec
from benchmarks.trust_truth import Truth, truth
from dynamics.errors import PlasticodeError
from experiments.execution.runner import configure

PYTHON = 3  # draws of a structure that go through Python too


def judged(
    drawn: Structure,
    seed: int,
    tolerance: float,
    python: bool = False,
    points: slice = slice(None),
) -> list[Judged]:
    """All draws of a structure (or some of its `points`)."""
    values = {path: column[points] for path, column in numbers(drawn, seed).items()}
    count, first = len(values["seed"]), range(DRAWS)[points].start
    try:
        job = assembled(drawn, values)
        told = through_spec(job)
        also = through_python(job, PYTHON) if python else []
        also += [""] * (count - len(also))
    except PlasticodeError as refusal:
        nan = np.full(count, math.nan)
        told, also = Outcome([f"refused: {refusal}"] * count, nan, np.full((count, 1), math.nan)), [""] * count
        true = Truth(np.zeros((count, 1)), np.zeros((count, 1)), nan, nan, nan)
    else:
        true = truth(job, drawn, tolerance)
    rows = []
    for i in range(count):
        apart = float(np.linalg.norm(told.weights[i] - true.end[i]))
        point = {path: np.asarray(column[i]).tolist() for path, column in values.items()}
        rows.append(
            Judged(
                drawn.number,
                first + i,
                drawn.features,
                told.status[i],
                also[i],
                float(told.estimate[i]),
                apart / max(float(true.distance[i]), 1e-300),
                apart / max(float(np.linalg.norm(true.end[i] - true.start[i])), 1e-300),
                float(true.growth[i]),
                float(true.error[i]),
                point,
            )
        )
    return rows


def run(arguments: argparse.Namespace) -> list[Judged]:
    """Everything that was asked for; rows are written as they come."""
    rows, begun = [], time.perf_counter()
    for number in _structures(arguments):
        drawn, started = structure(arguments.seed, number, arguments.tolerance), time.perf_counter()
        python = arguments.python > 0 and number % arguments.python == 0
        new = judged(drawn, arguments.seed, arguments.tolerance, python, arguments.points)
        rows += new
        if arguments.json:
            with arguments.json.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row._asdict()) + "\n" for row in new)
        wrong = sum(is_wrong(row, arguments.tolerance) for row in new)
        told = f"{wrong} wrong of {len(new)}, {time.perf_counter() - started:.0f} s: {', '.join(drawn.features)}"
        print(f"[{time.perf_counter() - begun:5.0f} s] structure {number}: {told}", flush=True)
        jax.clear_caches()  # every compiled program holds memory maps, and Linux allows a process 65530
        gc.collect()
    return rows


def _structures(arguments: argparse.Namespace) -> list[int]:
    """The structures to draw: all that the draws need, or those of this share, or the only one."""
    if arguments.only is not None:
        return [arguments.only]
    every = range(-(-arguments.draws // DRAWS))
    return [number for number in every if number % arguments.share[1] == arguments.share[0] - 1]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help=f"draws, in structures of {DRAWS} (2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing (0)")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="integrator.tolerance (1e-3)")
    parser.add_argument("--python", type=int, default=4, help="run every so many structures through Python too (4)")
    parser.add_argument("--json", type=Path, help="a file that gets a line per draw")
    parser.add_argument("--share", default="1/1", help="I/N: every N-th structure, so that N processes share the work")
    parser.add_argument("--only", help="S or S:D: one structure, or one draw of it")
    parser.add_argument("--summary", type=Path, nargs="+", help="no runs: sum up such files")
    arguments = parser.parse_args(argv)
    arguments.share = tuple(map(int, arguments.share.split("/")))
    number, _, draw = (arguments.only or "").partition(":")
    arguments.only = int(number) if number else None
    arguments.points = slice(int(draw), int(draw) + 1) if draw else slice(None)
    return arguments


def main() -> None:
    """The command."""
    arguments = parse()
    configure("float64", devices=1)
    if arguments.summary:
        lines = [line for path in arguments.summary for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [Judged(**json.loads(line)) for line in lines]
    else:
        rows = run(arguments)
    print(markdown(rows, arguments.tolerance))


if __name__ == "__main__":
    main()
