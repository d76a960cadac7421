"""T4.3, T4.7: the published table of Hebbian alignment against weight decay, as far as one can tell how it was made."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamics.circuit import Weights
from dynamics.errors import PlasticodeError
from dynamics.instruments import hebbian_alignment
from experiments.predictions.contract import AbstractPrediction, Finding, NonNegatives, Positive, Seeds, Size
from experiments.predictions.drawing import band, drawn, look, marked, plotted
from experiments.predictions.hebbian.setting import RandomSignal, rises
from experiments.predictions.kit import drift_of, f64, keys_from, weight_flow, weights_after, wired
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, exceeds, stays_below
from rules.contract import AbstractRule
from rules.feedback_alignment import DFA
from rules.gradient import SGD

RULES: dict[str, AbstractRule] = {"SGD": SGD(), "DFA": DFA(), "random signal": RandomSignal()}
PUBLISHED = {  # cosine in layer 2 by rule and weight decay
    "SGD": {0.0: -0.10, 5e-5: -0.06, 5e-4: 0.17, 5e-3: 0.59},
    "DFA": {0.0: 0.45, 5e-5: 0.45, 5e-4: 0.68, 5e-3: 0.87},
    "random signal": {0.0: 0.00, 5e-5: 0.00, 5e-4: 0.05, 5e-3: 0.50},
}
RECORDS, MEASURED_ON = 32, 256  # records of equal length; samples in the batch of each, as published
OPEN: dict[str, Any] = {"fillstyle": "none", "linestyle": ":", "linewidth": 0.8}
STEP = 0.05  # T / tau_plast
ADAM = {0.0: -0.02, 5e-5: 0.10, 5e-4: 0.66}  # cosine in layer 2 by weight decay; at 5e-3 weights collapse


class HebbianDecayTrend(AbstractPrediction):
    """A tanh student of three matrices learns from a random tanh teacher; the cosine of g and H in the middle one."""

    number = "T4.3"
    title = "Hebbian alignment rises with weight decay"
    source = """koplow2025emergence, table 1: student-teacher regression, 32 dimensions, layer 2; learning rate, length
        and widths are not known"""
    equation = "cos(E g, E H), in a batch of 256; no closed form where weights do not rest"
    claim = """The alignment of a hidden layer's learning signal with the Hebbian update rises monotonically with weight
        decay under gradient descent, direct feedback alignment and a random signal; under feedback alignment it is
        there without any decay."""
    method = """Mini-batches of fresh samples, one Euler step of the weight flow each. The published gamma is taken as
        that of a mean squared error over n outputs, gamma n / 2 in units of this model. Judged is the end, averaged
        over the last quarter of the records."""
    tolerance = """An increase must be beyond its 99.9 % interval over seeds. Values are shown beside the published, not
        judged."""
    quick = {"seeds": 4, "gammas": (0.0, 5e-4, 5e-3), "time": 16.0, "batch": 32}

    inputs: Size = 32
    hidden: Size = 32
    outputs: Size = 32
    gammas: NonNegatives = (0.0, 5e-5, 5e-4, 5e-3)
    time: Positive = 32.0  # of learning, in tau_plast
    batch: Size = 64
    seeds: Seeds = 10

    def measure(self) -> Finding:
        if list(self.gammas) != sorted(set(self.gammas)) or len(self.gammas) < 2:
            raise PlasticodeError("hebbian-decay-trend needs 2 gammas or more, in increasing order")
        courses = {name: self._simulated(rule) for name, rule in RULES.items()}
        ends = {name: course[:, -RECORDS // 4 :].mean(1) for name, course in courses.items()}
        quantity = "least increase from one gamma to the next"
        verdicts = [rises(f"rises under {name}", quantity, end) for name, end in ends.items()]
        notes = [self._compared(ends)]
        if self.gammas[0] == 0:
            verdicts.append(self._undecayed(courses["DFA"][0], ends["DFA"][0]))
        return Finding(verdicts, self._drawn(courses, ends), notes)

    def _undecayed(self, course: np.ndarray, end: np.ndarray) -> Verdict:
        """Whether feedback alignment is Hebbian without decay, where the table has 0.45."""
        first = course[: RECORDS // 8].mean()
        note = (
            f"0.45 in the table; here {first:.2f} in the first eighth of the time and {course.mean():.2f} on average. "
            "Without decay <g, H> is half the rate at which E|h|^2 grows (for fixed inputs of the layer), so it lasts "
            "only as long as weights grow: longer where feedback is weaker or learning shorter"
        )
        return exceeds("DFA without decay", "cosine at gamma = 0, at the end", 0.0, end, note)

    def _compared(self, ends: dict[str, np.ndarray]) -> str:
        """One sentence with all values beside the published ones."""
        parts = []
        for name, end in ends.items():
            pairs = [
                f"{mean:.2f} ({PUBLISHED[name][g]:.2f}) at {g:g}"
                for g, mean in zip(self.gammas, end.mean(-1), strict=True)
                if g in PUBLISHED[name]
            ]
            parts.append(f"{name}: {', '.join(pairs)}" if pairs else f"{name}: none")
        return f"Cosines at the end, and those published in brackets, by gamma. {'; '.join(parts)}."

    def _simulated(self, rule: AbstractRule, optimizer: optax.GradientTransformation | None = None) -> np.ndarray:
        """The cosine in the second matrix: (gammas, records, seeds); by Euler steps, or by those of an optimizer."""
        sizes = (self.inputs, self.hidden, self.hidden, self.outputs)
        # The spread of weights uniform within 1 / sqrt(fan in), the usual default.
        circuit, steps = wired(rule, sizes, gain=f64(3**-0.5)), max(1, round(self.time / (STEP * RECORDS)))

        def one(key: PRNGKeyArray, weights: Weights, first: Array, second: Array, gamma: Array) -> Array:
            def drawn(k: Array, samples: int) -> tuple[Array, Array]:
                x = jax.random.normal(jax.random.fold_in(key, k), (samples, self.inputs), jnp.float64)
                return x, jnp.tanh(x @ first) @ second

            def step(k: Array, now: tuple[Weights, Any]) -> tuple[Weights, Any]:
                flow = weight_flow(circuit, *drawn(k, self.batch), STEP, 1 / gamma)
                if optimizer is None:
                    return weights_after(flow, now[0], 1), now[1]
                updates, memory = optimizer.update(jax.tree.map(jnp.negative, drift_of(flow, now[0])), now[1])
                return jax.tree.map(jnp.add, now[0], updates), memory

            def record(now: tuple[Weights, Any], r: Array) -> tuple[tuple[Weights, Any], Array]:
                now = jax.lax.fori_loop(r * steps, (r + 1) * steps, step, now)
                return now, hebbian_alignment(circuit, now[0], {}, *drawn(-1 - r, MEASURED_ON))["W2"]

            start = weights, () if optimizer is None else optimizer.init(weights)
            return jax.lax.scan(record, start, jnp.arange(RECORDS, dtype=jnp.int32))[1]

        run = jax.jit(jax.vmap(jax.vmap(one, (0, 0, 0, 0, None), -1), (None, None, None, None, 0)))
        keys = keys_from(self.seed, self.seeds)
        teachers = [self._teacher(seed) for seed in range(self.seed, self.seed + self.seeds)]
        first, second = (f64(np.stack(each)) for each in zip(*teachers, strict=True))
        gammas = f64(np.array(self.gammas) * self.outputs / 2)
        return np.asarray(run(keys, jax.vmap(circuit.initial_weights)(keys), first, second, gammas))

    def _teacher(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        first = rng.standard_normal((self.inputs, self.hidden)) / self.inputs**0.5
        return first, rng.standard_normal((self.hidden, self.outputs)) / self.hidden**0.5

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, courses: dict[str, np.ndarray], ends: dict[str, np.ndarray]) -> None:
        left, right = figure.subplots(1, 2)
        places = np.arange(len(self.gammas))
        for i, (name, end) in enumerate(ends.items()):
            marked(left, places, end, **look(i), label=name)
            left.plot(places, [PUBLISHED[name].get(g, np.nan) for g in self.gammas], **look(i), **OPEN)
            band(right, self.time * np.arange(1, RECORDS + 1) / RECORDS, courses[name][0], color=OKABE_ITO[i])
        left.plot([], [], color="0.3", marker="o", **OPEN, label="published")
        left.set_xticks(places, [f"{g:g}" for g in self.gammas])
        left.set(xlabel="weight decay gamma, as published", ylabel="cosine of g and H, layer 2", ylim=(-0.2, 1.05))
        left.legend()
        right.axhline(0, color="0.3", linestyle="--", linewidth=0.8, label="theory: at rest without decay")
        right.set(xlabel="time (tau_plast)", ylabel="cosine of g and H, layer 2", ylim=(-0.2, 1.05))
        right.set_title(f"gamma = {self.gammas[0]:g}")
        right.legend()


class HebbianAdam(HebbianDecayTrend):
    """The student of `hebbian-decay-trend`, its drifts fed to Adam."""

    number: ClassVar[str] = "T4.7"
    title = "Hebbian alignment rises with weight decay under Adam too"
    claim = """Under Adam the alignment of a hidden layer's learning signal with the Hebbian update is about 0 without
        weight decay and rises with it, as far as weights do not collapse. With decay it stays below the published
        values here."""
    method = """Mini-batches of fresh samples; minus the drift of the weight flow, decay included, is the gradient that
        Adam gets. gamma as in `hebbian-decay-trend`, whose scale Adam does not see. The rate is not published."""
    tolerance = """Increases and the alignment without decay are judged by their 99.9 % intervals over seeds, the latter
        against half of what the largest decay reaches. Values are shown beside the published,
        not judged."""
    quick = {"seeds": 6, "gammas": (0.0, 5e-4), "time": 24.0, "batch": 32}

    gammas: NonNegatives = (0.0, 5e-5, 5e-4)
    time: Positive = 64.0  # 20 times as many steps
    rate: Positive = 3e-3

    def misfit(self) -> str | None:
        if list(self.gammas) != sorted(set(self.gammas)) or len(self.gammas) < 2 or self.gammas[0] != 0:
            return "gammas must be 2 or more, from 0 on in increasing order"

    def measure(self) -> Finding:
        with jax.numpy_dtype_promotion("standard"):  # optax takes powers of floats by integer counts
            end = self._simulated(SGD(), optax.adam(self.rate))[:, -RECORDS // 4 :].mean(1)
        least = end[0] - end[-1] / 2
        verdicts = [
            rises("rises under Adam", "least increase from one gamma to the next", end),
            stays_below("little without decay", "cosine at gamma = 0 less half of that at the largest", 0.0, least),
        ]
        means = dict(zip(self.gammas, end.mean(-1), strict=True))
        pairs = [f"{mean:.2f} ({ADAM.get(g, np.nan):.2f}) at {g:g}" for g, mean in means.items()]
        return Finding(verdicts, self._shown(end), [f"Cosines at the end, and those published: {', '.join(pairs)}."])

    @plotted(3.4, 2.6)
    def _shown(self, panel: Axes, end: np.ndarray) -> None:
        places = np.arange(len(self.gammas))
        marked(panel, places, end, **look(0), label="Adam")
        panel.plot(places, [ADAM.get(g, np.nan) for g in self.gammas], **look(0), **OPEN, label="published")
        panel.set_xticks(places, [f"{g:g}" for g in self.gammas])
        panel.set(xlabel="weight decay gamma, as published", ylabel="cosine of g and H, layer 2", ylim=(-0.2, 1.05))
        panel.legend()
