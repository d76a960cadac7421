"""A3.1: how much slower perturbation learning is than gradient descent, exactly."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray
from matplotlib.axes import Axes

from experiments.predictions.contract import AbstractPrediction, Finding, Positives, Seeds, Size
from experiments.predictions.kit import f64, intervals, keys_from, look, marked, plotted, wired
from experiments.predictions.perturbation.setting import node, updating, weight
from experiments.results.verdicts import Verdict, all_match, exceeds, matches
from rules import SGD
from rules.contract import AbstractRule

NAMES = ("gradient descent", "node perturbation", "weight perturbation")


class SlowDown(AbstractPrediction):
    """A linear layer that learns a teacher online, by the gradient and by its two estimates from noise."""

    number = "A3.1"
    title = "Perturbations learn slower than the gradient, by their number and two"
    source = "werfel2005learning, abstract, at large sizes; exact for M outputs and N Gaussian inputs: derived"
    equation = """E|W - W*|^2 per step: 1 - 2 eta + eta^2 c; c = N + 2 (gradient), (M + 2)(N + 2) (node), (M N + 2)(N +
        2) (weight); best eta = 1 / c"""
    claim = """At its best learning rate node perturbation is slower than gradient descent by the factor M + 2, and
        weight perturbation by M N + 2: the number of what is perturbed, as published for large M and N, and two. Above
        2 / c each diverges in the mean."""
    method = """Discrete updates of each rule on inputs that are drawn anew, at learning rates that are fractions of 2 /
        c. The ratio of |W - W*|^2 from step to step, whose mean given the weights is the same for all weights; means
        over steps are one sample per replica. The factor: c from the ratios at the largest learning rate, over N +
        2."""
    tolerance = "99.9 % intervals over replicas, for all learning rates together; no other."
    quick = {"replicas": 600, "steps": 12}

    outputs: Size = 4
    inputs: Size = 10
    fractions: Positives = (0.25, 0.5, 0.75, 1.25)  # eta in units of 2 / c
    steps: Size = 30
    replicas: Seeds = 3000

    def misfit(self) -> str | None:
        if max(self.fractions) <= 1:
            return "the largest of fractions must be above 1, where learning diverges"

    @property
    def constants(self) -> np.ndarray:
        """c of each rule."""
        m, n = self.outputs, self.inputs
        return np.array([n + 2, (m + 2) * (n + 2), (m * n + 2) * (n + 2)])

    @property
    def rates(self) -> np.ndarray:
        """eta: (rules, fractions)."""
        return 2 / self.constants[:, None] * np.array(self.fractions)

    def expected(self) -> np.ndarray:
        """Ratios per step: (rules, fractions)."""
        return 1 - 2 * self.rates + self.rates**2 * self.constants[:, None]

    def measure(self) -> Finding:
        rules = (SGD(), node(), weight())
        ratios = np.stack([self._ratios(rule, rates) for rule, rates in zip(rules, self.rates, strict=True)])
        quantity, expected = "|W - W*|^2 after a step, over that before", self.expected()
        verdicts = [
            all_match(name, quantity, law, samples.T)
            for name, law, samples in zip(NAMES, expected, ratios, strict=True)
        ]
        last = int(np.argmax(self.fractions))
        eta = self.rates[:, last, None]
        found = (ratios[:, last] - 1 + 2 * eta) / eta**2 / (self.inputs + 2)
        verdicts += [self._factor(i, found[i]) for i in (1, 2)]
        means, half = intervals(ratios[:, last])
        least = int(np.argmin((means - 1) / half))
        note = f"by {NAMES[least]}, where it is least certain"
        verdicts.append(exceeds("diverges above 2 / c", quantity, 1.0, ratios[least, last], note))
        return Finding(verdicts, self._drawn(ratios))

    def _factor(self, i: int, samples: np.ndarray) -> Verdict:
        size = self.outputs * (self.inputs if i == 2 else 1)
        note = f"published for large sizes: {size}"
        return matches(f"slow-down of {NAMES[i]}", "c / (N + 2)", float(size + 2), samples, 0.0, note)

    def _ratios(self, rule: AbstractRule, rates: np.ndarray) -> np.ndarray:
        """(fractions, replicas): means over steps."""
        m, n = self.outputs, self.inputs
        circuit = wired(rule, (n, m), activation="linear")

        def one(key: PRNGKeyArray, eta: Array) -> Array:
            update, (start, course) = updating(circuit, eta), jax.random.split(key)
            teacher, w = jax.random.normal(start, (2, m, n), jnp.float64)

            def step(w: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
                x = jax.random.normal(key, (n,), jnp.float64)
                after = update({**fixed, "W1": w}, x, teacher @ x, key)["W1"]
                return after, jnp.sum((after - teacher) ** 2) / jnp.sum((w - teacher) ** 2)

            fixed = circuit.initial_weights(start)
            return jax.lax.scan(step, w, jax.random.split(course, self.steps))[1].mean()

        keys = keys_from(self.seed, self.replicas)
        return np.asarray(jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))(keys, f64(rates)))

    @plotted(3.6, 2.8)
    def _drawn(self, panel: Axes, ratios: np.ndarray) -> None:
        fine = np.linspace(0, 1.1 * max(self.fractions), 200)
        panel.axhline(0, color="0.6", linewidth=0.8)
        for i, name in enumerate(NAMES):
            panel.plot(fine, -4 * fine * (1 - fine), color="0.3", label="theory" if i == 0 else None)
            shifted = np.array(self.fractions) + 0.012 * (i - 1)
            marked(
                panel, shifted, (ratios[i] - 1) * self.constants[i], **look(i), label=f"{name}, c = {self.constants[i]}"
            )
        panel.set(xlabel="learning rate eta c / 2", ylabel="(ratio of |W - W*|$^2$ per step - 1) c")
        panel.legend()
