"""A published inference task: the coefficients of a plasticity rule from choices alone, with intervals.

    python -m benchmarks.published_task [--animals 1] [--first 0] [--trials 240] [--terms all] [--steps 0] [--json FILE]

An animal smells one of two odours, and accepts or refuses it. What it accepts may be rewarded, with probabilities that
change twice, and the synapses of its first layer learn by input times reward less expected reward. Seen are odours,
choices and rewards. Free are the 18 coefficients of x^a r^b w^c (a, b up to 2, c up to 1), or those of `--terms`, such
as x0,x1 for a up to 1; the rule that learns is x r. (The setting is that of Mehta and others 2024.) With `--steps` so
many steps of an ensemble sample the whole posterior as well (pip install emcee), whose intervals stand beside those of
the fit.
"""

import argparse
import contextlib
import importlib
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.taylor_rule import ORDER, Taylor, coefficient
from benchmarks.timing import machine, say
from dynamics.network import Network
from experiments.execution.runner import configure
from experiments.inference.density import LogDensity, log_density
from experiments.inference.fitting import fit

HIDDEN, OUTPUTS = 10, 2
FIRING, SPREAD = 0.75, 0.05  # of the neuron that an odour excites, and of both
GAIN = 0.01 * 2**0.5  # initial weights have a standard deviation of 0.01
RATE = 0.5  # T / tau_plast
REWARDED = ((0.2, 0.8), (0.9, 0.1), (0.2, 0.8))  # probabilities of both odours, block by block
EXPECTED = 10  # accepted odours over which rewards are averaged
RANGE, PRIOR = 3.0, 1.0  # of a coefficient, to both sides; the standard deviation around 0
TRUTH = coefficient(1, 1, 0)
WALKERS, FAR = 64, 3.0  # of the ensemble; from the ends of the ranges it begins at, as log(share / (1 - share))


class Session(NamedTuple):
    """Odours (n, 2), what they taught (n, 2), whether they were accepted, and the logit of its probability (n,)."""

    inputs: np.ndarray
    targets: np.ndarray
    choice: np.ndarray
    logit: np.ndarray


def animal(seed: int, trials: int) -> Session:
    """A session of so many accepted odours, with the rule x r."""
    rng = np.random.default_rng(seed)
    circuit = Taylor().wire(Network((2, HIDDEN, OUTPUTS), bias=False, gain=np.asarray(GAIN)))
    w = np.array(circuit.initial_weights(jax.random.split(jax.random.key(seed), 3)[0])["W1"])
    baits, past, rows = np.zeros(2, bool), [0.0] * EXPECTED, []
    for trial in range(trials):
        baits |= rng.random(2) < REWARDED[len(REWARDED) * trial // trials]
        accepted = False
        while not accepted:
            odour = rng.integers(2)
            x = (FIRING * (np.arange(2) == odour) + SPREAD * rng.normal(size=2)).astype(np.float32).astype(float)
            logit = 5 * np.tanh(w @ x).mean()
            accepted = rng.random() < 1 / (1 + np.exp(-logit))
            surprise = float(np.float32(baits[odour] - np.mean(past))) if accepted else 0.0
            rows.append((x, (float(accepted), surprise), float(accepted), logit))
            if accepted:
                past = [*past[1:], float(baits[odour])]
                baits[odour] = False
                w += RATE * surprise * x
    return Session(*(np.array(column) for column in zip(*rows, strict=True)))


def spec(file: str, seed: int, names: list[str]) -> dict[str, Any]:
    """The experiment, and the coefficients that are free."""
    return {
        "regime": "discrete",
        "rule": {"name": "benchmarks.taylor_rule:Taylor"},
        "seed": seed,
        "task": {"name": "recorded", "file": file},
        "network": {"hidden": [HIDDEN], "bias": False, "gain": GAIN},
        "stimulus": {"duration": "50 ms"},
        "timescales": {"plasticity": "100 ms"},
        "fit": {
            "free": {f"rule.{name}": {"range": [-RANGE, RANGE], "prior": [0, PRIOR]} for name in names},
            "observe": [{"of": "output", "neurons": [0], "data": "choice", "noise": "bernoulli"}],
            "starts": 4,
        },
    }


@contextlib.contextmanager
def experiment(session: Session, seed: int, names: list[str]) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """The spec of a session, and its recording."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "session.npz"
        np.savez(file, inputs=session.inputs, targets=session.targets)
        yield spec(str(file), seed, names), {"choice": session.choice}


def sampled(density: LogDensity, start: np.ndarray, steps: int, seed: int) -> dict[str, np.ndarray]:
    """Between which numbers 95 % of the posterior lie, by path: an ensemble of walkers, whose first third is left out,
    with steps from one to another and along the difference of two."""
    emcee: Any = importlib.import_module("emcee")
    rng = np.random.RandomState(seed)
    begun = emcee.State(start + 0.05 * rng.normal(size=(WALKERS, len(start))), random_state=rng.get_state())
    moves = [(emcee.moves.StretchMove(), 0.4), (emcee.moves.DEMove(), 0.5), (emcee.moves.DESnookerMove(), 0.1)]
    many = jax.jit(jax.vmap(density))
    walk = emcee.EnsembleSampler(WALKERS, len(start), lambda x: np.asarray(many(x)), moves=moves, vectorize=True)
    walk.run_mcmc(begun, steps)
    numbers = density.numbers(walk.get_chain(discard=steps // 3, thin=5, flat=True))
    return {path: np.quantile(draws, [0.025, 0.975]) for path, draws in numbers.items()}


def chosen(terms: str) -> list[str]:
    """The names of the coefficients that are free."""
    names = [coefficient(*powers) for powers in itertools.product(range(ORDER), range(ORDER), range(2))]
    return names if terms == "all" else [one for one in names if any(part in one for part in terms.split(","))]


def measure(animals: range, trials: int, names: list[str], steps: int) -> list[dict[str, Any]]:
    """The fits of so many animals, and their posteriors by so many steps."""
    found = []
    for seed in animals:
        session = animal(seed, trials)
        began = time.perf_counter(), time.process_time()
        with experiment(session, seed, names) as (asked, data):
            told = fit(asked, data)
            seconds, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
            density = log_density(asked, data)
        known = [path for path, one in told.estimates.items() if one.verdict == "identified"]
        ends: dict[str, Any] = {"fit": {path: (one.low, one.high) for path, one in told.estimates.items()}}
        if steps:
            start = np.asarray(density.at({path: one.value for path, one in told.estimates.items()}))
            ends["posterior"] = sampled(density, np.clip(start, -FAR, FAR), steps, seed)
        inside = {
            kind: {path: bool(low <= (path == f"rule.{TRUTH}") <= high) for path, (low, high) in of.items()}
            for kind, of in ends.items()
        }
        at = told.estimates.get(f"rule.{TRUTH}")
        said = "" if at is None else f"; {TRUTH} = {at.value:.2f} ({at.low:.2f} to {at.high:.2f}), {at.verdict}"
        counts = ", ".join(
            f"{kind} {sum(of.values())} of {len(of)}, identified {sum(of[path] for path in known)} of {len(known)}"
            for kind, of in inside.items()
        )
        told_of = f"animal {seed}, {len(session.choice)} odours, {seconds:.1f} s ({cpu:.1f} CPU s)"
        say(f"{told_of}: in their intervals, {counts}{said}")
        row = {"seconds": seconds, "cpu": cpu, "inside": inside, "identified": known, "sentences": told.sentences}
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--animals", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--trials", type=int, default=240)
    parser.add_argument("--terms", default="all")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    configure("float64")
    which = range(asked.first, asked.first + asked.animals)
    found = measure(which, asked.trials, chosen(asked.terms), asked.steps)
    say("\n".join(found[0]["sentences"]))
    if asked.json:
        asked.json.write_text(json.dumps({"machine": machine(), "animals": found}, indent=2))


if __name__ == "__main__":
    main()
