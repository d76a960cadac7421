"""A3.4: perturbations of finite size, compared with the opposite ones (symmetric) or with none (one-sided)."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray
from matplotlib.figure import Figure
from scipy.special import roots_hermitenorm

from dynamics.instruments import loss
from experiments.predictions.contract import AbstractPrediction, Finding, Fraction, Positives, Seeds, Size
from experiments.predictions.drawing import against, drawn, look
from experiments.predictions.kit import all_close, f64, keys_from, wired
from experiments.predictions.perturbation.setting import node, updating, updating_given, weight
from experiments.results.verdicts import Verdict, all_match, close
from rules.contract import AbstractRule

NODES = 9  # of Gauss-Hermite quadrature per neuron: exact up to the order 17 in the size
SMALL = (0.02, 0.04)  # sizes between which the order of the bias is told
RELAXATIONS = 12  # until a floor is stationary, and as many during which it is measured
TRIES = 200  # steps from W* that are averaged per replica: what they are made of is of the sixth order in the noise


class PerturbationSize(AbstractPrediction):
    number = "A3.4"
    title = "The size of a perturbation: one side leaves a floor, and both have a bias of second order"
    source = "werfel2005learning, for the rules; moments of a linear layer and the orders: derived"
    equation = """One-sided, at W = W*: E|dW|^2 = eta^2 s^2 q / 4, q = M (M + 2)(M + 4) N (node), N (N + 2) M (M + 2)(M
        N + 4) (weight), 0 symmetric. Floor: E|W - W*|^2 = eta s^2 q / (4 (2 - eta c))"""
    claim = """Compared with the network without noise, a step has a part s |xi|^2 / 2 of mean zero that does not vanish
        with the error: learning ends at a floor that grows as s^2. Compared with the opposite noise it ends at W*.
        Where the loss is not quadratic the mean step is off the gradient by O(s^2) either way."""
    method = """Linear layers that learn a teacher online from discrete updates: steps from W*, and the mean of |W -
        W*|^2 over time and replicas after 12 relaxation times. The bias: a tanh network with a softmax, the mean over
        noise by Gauss-Hermite quadrature in the noise of every neuron, against automatic differentiation."""
    tolerance = """99.9 % intervals over replicas, for all sizes together; 1e-12 of the one-sided step where a step is
        zero (rounding); 0.05 in the order."""
    quick = {"replicas": 150}

    outputs: Size = 2
    inputs: Size = 3
    sizes: Positives = (0.2, 0.5, 1.0)  # s
    rate: Fraction = 0.5  # eta in units of 2 / c
    replicas: Seeds = 600

    def misfit(self) -> str | None:
        if not 0 < self.rate < 1:
            return "rate must lie between 0 and 1, where learning converges"

    @property
    def ordered(self) -> np.ndarray:
        """The sizes, from small to large."""
        return np.array(sorted(self.sizes))

    def constants(self, of: str) -> tuple[int, int]:
        """c and q of "node" or "weight" perturbation."""
        m, n = self.outputs, self.inputs
        if of == "node":
            return (m + 2) * (n + 2), m * (m + 2) * (m + 4) * n
        return (m * n + 2) * (n + 2), n * (n + 2) * m * (m + 2) * (m * n + 4)

    def floor(self, of: str, sizes: np.ndarray) -> np.ndarray:
        """E|W - W*|^2 at which one-sided learning ends."""
        c, q = self.constants(of)
        eta = 2 * self.rate / c
        return eta * sizes**2 * q / (4 * (2 - eta * c))

    def measure(self) -> Finding:
        sizes = self.ordered
        first, floors = zip(*(self._learnt(rule, of) for of, rule in (("node", node), ("weight", weight))), strict=True)
        verdicts = []
        for i, of in enumerate(("node", "weight")):
            c, q = self.constants(of)
            verdicts.append(self._one_step(of, first[i][:-1], (2 * self.rate / c) ** 2 * sizes**2 * q / 4))
        still = np.array([one[-1] / one[-2].mean() for one in first])
        quantity = "|W - W*|^2 over that of the largest one-sided perturbation"
        verdicts.append(all_close("symmetric steps rest at W*", quantity, 0.0, still, 1e-12))
        expected = np.stack([self.floor(of, sizes) for of in ("node", "weight")])
        ends = np.stack([floor[:-1] for floor in floors])
        verdicts.append(all_match("floor", "E|W - W*|^2 at the end", expected, np.moveaxis(ends, -1, 0)))
        biases = {name: self._biases(symmetric) for name, symmetric in (("symmetric", True), ("one-sided", False))}
        for name, off in biases.items():
            order = float(np.log(off[1] / off[0]) / np.log(SMALL[1] / SMALL[0]))
            verdicts.append(close(f"bias, {name}", "order of |mean step + eta g| in s", 2.0, order, 0.05))
        return Finding(verdicts, self._drawn(ends, biases))

    def _one_step(self, of: str, found: np.ndarray, expected: np.ndarray) -> Verdict:
        return all_match(f"one-sided {of} perturbation", "|W - W*|^2 after a step from W*", expected, found.T)

    def _learnt(self, rule: Callable[..., AbstractRule], of: str) -> tuple[np.ndarray, np.ndarray]:
        """|W - W*|^2 after a step from W*, and at the end: (sizes and the symmetric rule, replicas)."""
        c, _ = self.constants(of)
        eta, relaxation = 2 * self.rate / c, c / (4 * self.rate * (1 - self.rate))
        count = round(RELAXATIONS * relaxation)

        def course(size: Array, symmetric: bool, key: PRNGKeyArray) -> tuple[Array, Array]:
            circuit = wired(rule(size, symmetric=symmetric), (self.inputs, self.outputs), activation="linear")
            update, fixed = updating(circuit, eta), circuit.initial_weights(key)
            teacher = fixed["W1"]

            def step(w: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
                x = jax.random.normal(key, (self.inputs,), jnp.float64)
                after = update({**fixed, "W1": w}, x, teacher @ x, key)["W1"]
                return after, jnp.sum((after - teacher) ** 2)

            losses = jax.lax.scan(step, teacher, jax.random.split(key, 2 * count))[1]
            first = jax.vmap(lambda key: step(teacher, key)[1])(jax.random.split(key, TRIES))
            return first.mean(), losses[count:].mean()

        @jax.jit
        def run(keys: Array, sizes: Array) -> tuple[Array, Array]:
            one_sided = jax.vmap(lambda s: jax.vmap(lambda key: course(s, False, key))(keys))(sizes)
            symmetric = jax.vmap(lambda key: course(sizes[-1], True, key))(keys)
            return jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), one_sided, symmetric)

        first, last = run(keys_from(self.seed, self.replicas), f64(self.ordered))
        return np.asarray(first), np.asarray(last)

    def _biases(self, symmetric: bool) -> np.ndarray:
        """|mean step + g| over |g| at the sizes `SMALL` and at those of the prediction."""
        shape = (2, 1, 2)
        key, noisy = jax.random.key(self.seed), shape[1:]
        x, y = jax.random.normal(key, shape[:1], jnp.float64), f64([1.0, 0.0])
        points, weights = roots_hermitenorm(NODES)
        grid = f64(list(itertools.product(points, repeat=sum(noisy))))
        shares = np.prod(list(itertools.product(weights / weights.sum(), repeat=sum(noisy))), axis=1)
        names = [f"xi{i}" for i in (1, 2)]

        def mean_step(size: Array) -> Array:
            circuit = wired(node(size, symmetric=symmetric), shape, loss="softmax")
            start = circuit.initial_weights(key)
            update, plastic = updating_given(circuit, 1.0), [p.name for p in circuit.plastic]

            def change(xi: Array) -> dict[str, Array]:
                end = update(start, x, y, dict(zip(names, jnp.split(xi, np.cumsum(noisy)[:-1]), strict=True)))
                return {name: end[name] - start[name] for name in plastic}

            steps = jax.vmap(change)(grid)
            mean = {name: jnp.tensordot(f64(shares), steps[name], 1) for name in plastic}
            own = {name: start[name] for name in plastic}
            g = jax.grad(lambda w: loss(circuit, {**start, **w}, x[None], y[None]))(own)
            off = sum(jnp.sum((mean[name] + g[name]) ** 2) for name in plastic)
            return jnp.sqrt(off / sum(jnp.sum(g[name] ** 2) for name in plastic))

        return np.asarray(jax.jit(jax.vmap(mean_step))(f64([*SMALL, *self.ordered])))

    @drawn(6.6, 2.7)
    def _drawn(self, figure: Figure, ends: np.ndarray, biases: dict[str, np.ndarray]) -> None:
        left, right = figure.subplots(1, 2)
        sizes = self.ordered
        fine = np.geomspace(sizes[0] / 1.4, sizes[-1] * 1.4, 50)
        for i, of in enumerate(("node", "weight")):
            against(left, i, (fine, self.floor(of, fine)), (sizes, ends[i]), f"one-sided {of} perturbation")
        left.set(xscale="log", yscale="log", xlabel="size s of the perturbation", ylabel="E |W - W*|$^2$ at the end")
        left.set_xticks(sizes, [f"{size:g}" for size in sizes])
        left.minorticks_off()
        left.legend(title="lines: theory", loc="lower right")
        all_sizes = np.array([*SMALL, *sizes])
        for i, (name, off) in enumerate(biases.items(), 2):
            right.plot(all_sizes, off, linestyle="", label=name, **look(i))
        right.plot(all_sizes, biases["symmetric"][0] * (all_sizes / SMALL[0]) ** 2, color="0.3", label="order 2")
        right.set(xscale="log", yscale="log", xlabel="size s of the perturbation")
        right.set_ylabel("|mean step + eta g| / |eta g|")
        right.legend()
