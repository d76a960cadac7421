"""How often `plasticode fit --rules` names the rule that has made a recording, and how often another.

    python -m benchmarks.which_rule [--simulations 100] [--presentations 100] [--noise 0.1] [--rules A,B] [--json FILE]

Small networks in discrete updates; seen are half of the hidden neurons, whose noise is free, and choices. Each of the
rules makes so many recordings, which differ by their noise; all are then asked to explain each of them.
"""

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.timing import machine, say
from experiments.execution.runner import configure
from experiments.inference.comparison import Contest, contenders, own_numbers
from experiments.inference.searching import in_memory
from experiments.inference.simulation import simulator
from experiments.inference.table import read_fit
from experiments.spec.loading import make_spec

KP, SD = "kp", "observe.z1.sd"


def problem(rule: str, rules: list[str], presentations: int, noise: float) -> dict[str, Any]:
    """The spec of an experiment in which `rule` learns."""
    seen = {"of": "z1", "neurons": [0, 2], "sd": noise}
    choice = {"of": "output", "data": "choice", "noise": "categorical", "temperature": 0.3}
    free = {"timescales.plasticity": ["0.1 s", "10 s"], "rule.feedback_scale": [0.2, 4.0], SD: [noise / 10, noise * 10]}
    return {
        "regime": "discrete",
        "rule": rule,
        "task": {"name": "circles", "samples": 100},
        "network": {"hidden": [4]},
        "stimulus": {"presentations": presentations},
        "timescales": {"plasticity": "0.5 s"},
        "fit": {"free": free, "observe": [seen, choice], "starts": 4, "rules": rules},
    }


def measure(rules: list[str], simulations: int, presentations: int, noise: float) -> dict[str, Any]:
    """The verdicts on recordings of each rule."""
    specs = {rule: make_spec(problem(rule, rules, presentations, noise)) for rule in rules}
    table = read_fit(specs[rules[0]])
    asked = contenders(specs[rules[0]], table)
    found: dict[str, Any] = {}
    for rule, spec in specs.items():
        draw, counted, began = simulator(spec, own_numbers(spec, table)[0]), Counter(), time.process_time()
        for seed in range(simulations):
            contest = Contest(asked, table, draw(seed)[0], seed)
            told = contest.compared(in_memory(contest.searches, None))
            counted[told.verdict if told.kind != "undecided" else f"undecided: {', '.join(sorted(told.left))}"] += 1
        right = counted[f"explained-by: {rule}"]
        open_ = sum(n for verdict, n in counted.items() if verdict.startswith("undecided") and rule in verdict)
        other = simulations - right - open_
        took = (time.process_time() - began) / simulations
        say(f"made by {rule}: {right} right, {open_} undecided, {other} other; {took:.2f} CPU s each")
        say(f"    {dict(counted)}")
        found[rule] = {"right": right, "undecided": open_, "other": other, "verdicts": counted}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--presentations", type=int, default=100)
    parser.add_argument("--noise", type=float, default=0.1)
    parser.add_argument("--rules", default="fa,kp,sgd")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    configure("float64")
    found = measure(asked.rules.split(","), asked.simulations, asked.presentations, asked.noise)
    if asked.json:
        asked.json.write_text(json.dumps({"machine": machine(), "rules": found}, indent=2))


if __name__ == "__main__":
    main()
