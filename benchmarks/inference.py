"""What a fit costs, what it finds and what it names, on one test bed.

    python -m benchmarks.inference [cost] [memory] [degeneracies] [bound]

A tanh network of 10, 12 and 3 neurons learns by m = a e + b z (random feedback), T 50 ms, gap 20 ms, tau_prop 5 ms; 6
of 12 hidden neurons and 2 of 3 outputs are seen 3 times in each presentation.
"""

import functools
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import AbstractFactor, Activity, Circuit, Gaussian, Local, TwoFactor
from dynamics.network import Network
from experiments.inference.design import design
from experiments.inference.model import Model, Rows, model, sizes, truth_of
from experiments.inference.simulation import simulator
from experiments.inference.table import read_fit
from experiments.inference.verdicts import certainty
from experiments.machine.compilation import for_products
from experiments.spec.loading import make_spec
from rules import AbstractRule
from rules.contract import number

ROUNDS = 9
FREE = {
    "timescales.plasticity": ["0.1 s", "50 s"],
    "delays.error": ["0 ms", "60 ms"],
    "timescales.trace": ["3 ms", "1 s"],
    "rule.b": [-1, 1],
}


class Mixing(AbstractFactor):
    """m = a e + b z."""

    a: Float[Array, ""]
    b: Float[Array, ""]

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return self.a * local.error + self.b * local.activity


class Mixed(AbstractRule):
    """A supervised and a Hebbian coefficient, with random feedback."""

    reference: ClassVar[str] = "@misc{mixed, title={A rule of the benchmarks}}"
    a: Float[Array, ""] = number(1.0)
    b: Float[Array, ""] = number(-0.15)

    def wire(self, network: Network) -> Circuit:
        feedback = network.feedback(Gaussian(jnp.asarray(1.0, self.a.dtype), fan="target"))
        return Circuit(network.layers(), network.forward(TwoFactor(Mixing(self.a, self.b))) + feedback)


def shown(folder: Path, presentations: int) -> Path:
    """A file of what the test bed is shown: 40 samples in a random order."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 10))
    y = np.tanh(x @ rng.normal(size=(10, 3)) / np.sqrt(10))
    order = rng.integers(0, 40, presentations)
    path = folder / f"shown-{presentations}.npz"
    np.savez(path, inputs=x[order], targets=y[order])
    return path


def test_bed(file: Path, presentations: int, **fit: Any) -> dict[str, Any]:
    """The tables of its spec."""
    times = ["10 ms", "30 ms", "48 ms"]
    observe = [
        {"of": "z1", "neurons": [0, 2, 4, 6, 8, 10], "times": times, "sd": 0.1},
        {"of": "output", "neurons": [0, 1], "times": times, "sd": 0.1},
    ]
    return {
        "regime": "coupled",
        "rule": "benchmarks.inference:Mixed",
        "task": {"name": "recorded", "file": str(file)},
        "network": {"hidden": [12], "bias": False, "output_activation": "tanh"},
        "stimulus": {"presentations": presentations, "duration": "50 ms", "gap": "20 ms"},
        "timescales": {"propagation": "5 ms", "plasticity": "2 s", "trace": "30 ms"},
        "delays": {"error": "12 ms"},
        "fit": {"free": FREE, "observe": observe} | fit,
    }


def made_of(table: dict[str, Any]) -> Model:
    spec = make_spec(table)
    return model(spec, read_fit(spec))


def rows_of(made: Model, presentations: int) -> Rows:
    seen = {name: np.zeros((presentations, size)) for name, size in sizes(made).items()}
    return Rows(np.arange(presentations, dtype=np.int32), seen)


def seconds(program: Callable[[], Any]) -> float:
    """Of the processor, of all its cores."""
    began = time.process_time()
    jax.block_until_ready(program())
    return time.process_time() - began


def cost(folder: Path, presentations: int = 256) -> None:
    made = made_of(test_bed(shown(folder, presentations), presentations))
    place, rows = truth_of(made), rows_of(made, presentations)

    plan = replace(made.plan, integrator=made.plan.integrator.unjudged())
    plain = replace(made, plan=plan)

    def forward(place: Any, data: Any) -> Any:
        return jax.tree.map(jnp.sum, plain.predicted(place, presentations, data))

    programs = {}
    for name, function, arguments in (
        ("forward", forward, (place, made.data)),
        ("judged", lambda p, d: jax.tree.map(jnp.sum, made.predicted(p, presentations, d)), (place, made.data)),
        ("scored", made.scored, (place, rows, made.data)),
    ):
        began = time.process_time()
        options = for_products(made.plan.sizes)
        compiled = jax.jit(function, compiler_options=options).lower(*arguments).compile()
        print(f"{name}: compiled in {time.process_time() - began:.1f} CPU s", flush=True)
        programs[name] = partial(compiled, *arguments)
    for program in programs.values():
        seconds(program)
    times = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            times[name].append(seconds(program))
    for name, taken in times.items():
        print(f"{name}: {1e3 * statistics.median(taken):.1f} ms")
    for base in ("forward", "judged"):
        ratio = statistics.median(s / f for s, f in zip(times["scored"], times[base], strict=True))
        print(f"J of {len(made.free)} numbers: {ratio:.2f} runs ({base})")


def memory(folder: Path) -> None:
    """What the program of an information matrix holds beside its arguments, which are the recording itself."""
    for presentations in (1000, 10_000, 100_000):
        made = made_of(test_bed(shown(folder, 1000), presentations))
        rows = rows_of(made, presentations)
        program = jax.jit(made.scored).lower(truth_of(made), rows, made.data).compile()
        held = program.memory_analysis()
        assert held is not None
        began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        jax.block_until_ready(program(truth_of(made), rows, made.data))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began
        print(
            f"{presentations} presentations: {held.temp_size_in_bytes / 2**20:.2f} MiB beside "
            f"{held.argument_size_in_bytes / 2**20:.1f} MiB of recording; the process grew by {grown / 1024:.1f} MiB",
            flush=True,
        )


class Scaling(AbstractFactor):
    """p = scale x."""

    scale: Float[Array, ""]

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return self.scale * local.activity


class ScaledHebbian(AbstractRule):
    """Hebbian learning of inputs whose scale is a number."""

    reference: ClassVar[str] = "@misc{scaled, title={A rule of the benchmarks}}"
    scale: Float[Array, ""] = number(1.0)

    def wire(self, network: Network) -> Circuit:
        first, *rest = network.forward(TwoFactor(Activity()))
        return Circuit(network.layers(), (replace(first, carries=Scaling(self.scale)), *rest))


def degeneracies(folder: Path, presentations: int = 60) -> None:
    """Six pairs of experiments: in one some numbers cannot be told apart, in the other all can."""
    named = invented = 0
    for title, unknown, known in cases(shown(folder, presentations), presentations):
        for table, is_planted in ((unknown, True), (known, False)):
            told = design(table)
            lost = [
                str(path)
                for path, error in zip(told.errors["free"].values, told.errors.values, strict=True)
                if np.isinf(error)
            ]
            named += is_planted and bool(told.blind)
            invented += not is_planted and bool(lost or told.blind)
            what = f"the data stay the same when {told.blind['']}" if told.blind else "all identified"
            print(f"{title}: {', '.join(table['fit']['free'])}: {what}", flush=True)
    print(f"{named} of 6 named, {invented} of 6 invented")


def cases(file: Path, presentations: int) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """What is planted, the tables of an experiment that cannot tell, and those of one that can."""
    z1, output = {"of": "z1", "sd": 0.05}, {"of": "output", "sd": 0.05}
    matrix = {"of": "W1", "sd": 0.05}
    choice = {"of": "output", "data": "choice", "noise": "categorical", "temperature": 0.5}
    tau, first, second = "timescales.plasticity", "timescales.plasticity.0", "timescales.plasticity.1"
    feedback, gain, temperature = "rule.feedback_scale", "network.gain", "observe.choice.temperature"
    ranges = {path: ["0.1 s", "50 s"] for path in (tau, first, second)}
    ranges |= dict.fromkeys((feedback, gain, temperature, "rule.scale", "rule.a"), [0.01, 10])
    ranges |= dict.fromkeys(("rule.potentiation", "rule.depression"), [0.01, 10]) | {"rule.b": [-1, 1]}

    def told(free: list[str], observe: list[dict], **more: Any) -> dict[str, Any]:
        layered = ["2 s", "2 s"] if first in free or second in free else "2 s"
        table = {
            "regime": "discrete",
            "task": {"name": "recorded", "file": str(file)},
            "network": {"hidden": [6], "bias": False},
            "stimulus": {"presentations": presentations, "duration": "50 ms"},
            "timescales": {"plasticity": layered},
            "fit": {"free": {path: ranges[path] for path in free}, "observe": observe},
        }
        return table | more

    mixed, fa = {"rule": "benchmarks.inference:Mixed"}, {"rule": "fa"}
    single = {"network": {"hidden": [], "bias": False}}
    scaled, hebbian = single | {"rule": "benchmarks.inference:ScaledHebbian"}, {"rule": "hebbian"}
    yield (
        "a law without a scale of its own",
        told([tau, "rule.a", "rule.b"], [z1, output], **mixed),
        told([tau, "rule.b"], [z1, output], **mixed),
    )
    yield (
        "the scale of inputs, where weights are seen",
        told([tau, "rule.scale"], [matrix], **scaled),
        told([tau, "rule.scale"], [matrix, output], **scaled),
    )
    yield (
        "feedback and its own plasticity",
        told([first, feedback, second], [z1], **fa),
        told([feedback, second], [z1], **fa),
    )
    yield (
        "choices of a linear readout",
        told([tau, gain, temperature], [choice], **single, **hebbian),
        told([tau, gain, temperature], [choice, output], **single, **hebbian),
    )
    stdp = {"rule": "stdp", "regime": "coupled", "timescales": {"plasticity": "2 s", "propagation": "10 ms"}}
    yield (
        "both halves of a spike-timing window",
        told([tau, "rule.potentiation", "rule.depression"], [matrix], **stdp),
        told(["rule.potentiation", "rule.depression"], [matrix], **stdp),
    )
    yield (
        "a layer behind all that is seen",
        told([first, second], [z1], **hebbian),
        told([first, second], [z1, output], **hebbian),
    )


REPLICATES = 208


def bound(folder: Path) -> None:
    """The errors of fits of simulated recordings over those of the Cramer-Rao bound, as recordings become longer."""
    kinds = {
        "gaussian": {"of": "z1", "sd": 0.1},
        "bernoulli": {"of": "z1", "noise": "bernoulli", "temperature": 0.3},
        "poisson": {"of": "z1", "noise": "poisson"},
        "categorical": {"of": "output", "data": "choice", "noise": "categorical", "temperature": 0.3},
    }
    free = {"timescales.plasticity": ["0.1 s", "50 s"], "rule.feedback_scale": [0.1, 8]}
    for name, observe in kinds.items():
        for presentations in (100, 400, 1600):
            table = {
                "regime": "discrete",
                "rule": "fa",
                "task": {"name": "recorded", "file": str(shown(folder, presentations))},
                "network": {"hidden": [12], "bias": False},
                "stimulus": {"presentations": presentations, "duration": "50 ms"},
                "timescales": {"plasticity": "2 s"},
                "fit": {"free": free, "observe": [observe]},
            }
            places, truth, errors = replicates(table)
            inside = np.abs(places - truth) < 4 * errors
            apart = (places - truth) / errors
            size = np.sqrt((apart**2).mean())
            spread = size * np.sqrt((apart**4).mean() / (apart**2).mean() ** 2 - 1) / 2 / np.sqrt(apart.size)
            bias = np.abs(apart.mean(axis=0)).max()
            print(
                f"{name}, {presentations} presentations: rms error / bound {size:.2f} +- {spread:.2f}, "
                f"bias {bias:.2f} of it, {(~inside).sum()} beyond 4 s.e., "
                f"s.e. {', '.join(f'{e:.3f}' for e in errors)} of the range",
                flush=True,
            )


def _replaced(rows: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    return np.where(rows.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def replicates(table: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The places that fits of simulated recordings end at, the true one, and the standard errors of the bound there."""
    spec = make_spec(table)
    fit = read_fit(spec)
    draw, made = simulator(spec, fit), model(spec, fit)
    recordings = [draw(seed)[0].seen for seed in range(REPLICATES)]
    seen = {name: np.stack([one[name] for one in recordings]) for name in recordings[0]}
    rows = np.arange(spec.stimulus.presentations, dtype=np.int32)
    scored = jax.vmap(lambda place, seen, data: made.scored(place, Rows(rows, seen), data), in_axes=(0, 0, None))
    program, truth = jax.jit(scored, compiler_options=for_products(made.plan.sizes)), truth_of(made)
    place, damping = np.tile(truth, (REPLICATES, 1)), np.full(REPLICATES, 1e-3)
    said = jax.tree.map(np.array, program(place, seen, made.data))
    bound = certainty(said.information.mean(axis=0)).errors
    for _ in range(40):
        weight = np.einsum("rii->ri", said.information)
        damped = said.information + (damping[:, None] * weight)[..., None] * np.eye(len(truth))
        step = np.linalg.solve(damped, said.gradient[..., None])[..., 0]
        moved = np.clip(place - step, 0, 1)
        there = jax.tree.map(np.array, program(moved, seen, made.data))
        better = there.loss < said.loss
        damping = np.where(better, damping / 5, damping * 5)
        place = np.where(better[:, None], moved, place)
        said = jax.tree.map(functools.partial(_replaced, better), said, there)
        if (np.abs(step) < 1e-3 * bound).all():
            break
    return place, truth, bound


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    with tempfile.TemporaryDirectory() as place:
        for name in sys.argv[1:] or ["cost"]:
            globals()[name](Path(place))
