"""A3.1 to A3.3: steps of perturbation learning: how slow, how well aligned with the gradient, and how stable."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PRNGKeyArray
from matplotlib.axes import Axes
from scipy.optimize import root_scalar
from scipy.special import gammaln

from dynamics.circuit import Circuit
from dynamics.instruments import loss
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size, Sizes
from experiments.predictions.drawing import look, marked, plotted
from experiments.predictions.kit import f64, intervals, keys_from, wired
from experiments.predictions.perturbation.setting import node, updating, weight
from experiments.results.verdicts import Verdict, all_match, close, exceeds, matches, stays_below
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
            shifted, c = np.array(self.fractions) + 0.012 * (i - 1), self.constants[i]
            marked(panel, shifted, (ratios[i] - 1) * c, **look(i), label=f"{name}, c = {c}")
        panel.set(xlabel="learning rate eta c / 2", ylabel="(ratio of |W - W*|$^2$ per step - 1) c")
        panel.legend()


class Steps(NamedTuple):
    """One step of every replica: its cosine to minus the gradient, and its part along it over that of the gradient."""

    cosine: np.ndarray
    along: np.ndarray


class PerturbationCosine(AbstractPrediction):
    """The angle between one step of perturbation learning and the gradient, by the number of what is perturbed."""

    number = "A3.2"
    title = "One perturbation points along the gradient by 1 / sqrt(N)"
    source = "werfel2005learning, for the setting; the law of a uniform direction, exact at any N: derived"
    equation = """cos(dw, -g) = |u|, u a coordinate of a uniform direction in N dimensions: E cos = Gamma(N/2) /
        (sqrt(pi) Gamma((N+1)/2)), about sqrt(2 / (pi N)); E cos^2 = 1 / N"""
    claim = """A step dw = -(g . xi) xi of weight perturbation has the cosine of a random direction in as many
        dimensions as there are weights, and is never uphill. Node perturbation of a layer has that of its M neurons,
        however many inputs they have. On average both are the gradient."""
    method = """One discrete update per replica, with weights, sample and noise of its own, against minus the gradient
        of the loss by automatic differentiation: weight perturbation in tanh networks with biases and a softmax, node
        perturbation in linear layers."""
    tolerance = (
        "99.9 % intervals over replicas, for all sizes together; the perturbation is small enough not to matter."
    )
    quick = {"replicas": 800, "hidden": (2, 20), "layers": (2, 12)}

    inputs: Size = 4
    outputs: Size = 3
    hidden: Sizes = (2, 6, 20)  # neurons of the networks whose weights are perturbed
    layers: Sizes = (2, 4, 12)  # M of the layers whose neurons are perturbed
    size: Positive = 1e-4
    replicas: Seeds = 4000

    @property
    def weights(self) -> np.ndarray:
        """N: the number of weights and biases of each network."""
        return np.array([(self.inputs + 1) * n + (n + 1) * self.outputs for n in self.hidden])

    def measure(self) -> Finding:
        shapes = [(self.inputs, n, self.outputs) for n in self.hidden]
        of_weights = [self._steps(wired(weight(self.size), s, bias=True, loss="softmax")) for s in shapes]
        single = [(self.inputs, m) for m in self.layers]
        of_nodes = [self._steps(wired(node(self.size), s, activation="linear")) for s in single]
        n, m = self.weights, np.array(self.layers)
        cosines, others = (np.stack([s.cosine for s in steps], -1) for steps in (of_weights, of_nodes))
        along = np.stack([s.along for s in (*of_weights, *of_nodes)], -1)
        uphill = float(np.mean(np.concatenate([cosines.ravel(), others.ravel()]) < 0))
        approximate = ", ".join(f"{value:.4f}" for value in np.sqrt(2 / (np.pi * n)))
        note = f"sqrt(2 / (pi N)), the limit of large N, is {approximate}"
        verdicts = [
            all_match("weights: mean", "mean cos", mean_cosine(n), cosines, note),
            all_match("weights: square", "mean cos^2", 1 / n, cosines**2),
            all_match("neurons: square", "mean cos^2", 1 / m, others**2),
            close("never uphill", "share of steps with cos < 0", 0.0, uphill, 0.0),
            all_match("on average the gradient", "mean of dw . (-g) / |g|^2", np.ones(along.shape[1]), along),
        ]
        return Finding(verdicts, self._drawn(cosines.T, others.T))

    def _steps(self, circuit: Circuit) -> Steps:
        sizes = circuit.layer("z0").size, circuit.layer("y").size

        def one(key: PRNGKeyArray) -> tuple[Array, Array]:
            for_x, for_y, for_w, draw = jax.random.split(key, 4)
            x = jax.random.normal(for_x, sizes[:1], jnp.float64)
            label = jax.random.randint(for_y, (), 0, sizes[1])
            y = jax.nn.one_hot(label, sizes[1], dtype=jnp.float64)
            weights = circuit.initial_weights(for_w)
            after = updating(circuit, 1.0)(weights, x, y, draw)
            gradient = jax.grad(lambda w: loss(circuit, {**weights, **w}, x[None], y[None]))(
                {p.name: weights[p.name] for p in circuit.plastic}
            )
            g = jnp.concatenate([gradient[name].ravel() for name in sorted(gradient)])
            dw = jnp.concatenate([(after[name] - weights[name]).ravel() for name in sorted(gradient)])
            dot = -jnp.sum(dw * g)
            return dot / jnp.sqrt(jnp.sum(dw**2) * jnp.sum(g**2)), dot / jnp.sum(g**2)

        return Steps(*map(np.asarray, jax.jit(jax.vmap(one))(keys_from(self.seed, self.replicas))))

    @plotted(3.6, 2.8)
    def _drawn(self, panel: Axes, cosines: np.ndarray, others: np.ndarray) -> None:
        largest = max(self.weights.max(), max(self.layers))
        fine = np.geomspace(min(*self.layers, self.weights.min()) / 1.3, largest * 1.3, 200)
        panel.plot(fine, mean_cosine(fine), color="0.3", label="theory, mean")
        panel.plot(fine, np.sqrt(2 / (np.pi * fine)), color="0.6", linestyle=":", label="sqrt(2 / ($\\pi$ N))")
        marked(panel, self.weights, cosines, **look(0), label="weight perturbation, N weights")
        marked(panel, self.layers, others, **look(1), label="node perturbation, N neurons")
        panel.set(xscale="log", yscale="log", xlabel="number N of what is perturbed")
        panel.set_ylabel("cosine of step and descent")
        panel.legend()


def mean_cosine(n: np.ndarray) -> np.ndarray:
    """E |u| of a coordinate of a uniform direction in n dimensions."""
    return np.exp(gammaln(n / 2) - gammaln((n + 1) / 2)) / np.sqrt(np.pi)


class PerturbationStability(AbstractPrediction):
    """N weights on the loss lambda |w|^2 / 2, and one perturbation per step."""

    number = "A3.3"
    title = "Perturbations on a bowl: the mean diverges before a typical run does"
    source = "werfel2005learning, for the rule; mean and Lyapunov exponent on an isotropic quadratic: derived"
    equation = """w <- w - a (w . xi) xi, a = eta lambda: E L'/L = 1 - 2 a + a^2 (N + 2), above 1 from a = 2 / (N + 2)
        on; E ln(L'/L) = E ln((1 - a u^2)^2 + a^2 u^2 v), u ~ N(0, 1), v ~ chi^2 of N - 1"""
    claim = """The mean loss shrinks best at a = 1 / (N + 2), by 1 - 1 / (N + 2) per step, and diverges above 2 / (N +
        2). A typical run still converges there, up to where the Lyapunov exponent is 0: between the two few runs that
        grow fast carry the mean."""
    method = """Discrete updates of weight perturbation with N neurons on one input; the ratio of the loss from step to
        step and its logarithm, means over steps being one sample per replica. Besides the given learning rates there
        are two: half way from one threshold to the other, and beyond the second by half."""
    tolerance = "99.9 % intervals over replicas, for all learning rates together; the exponent by quadrature."
    quick = {"replicas": 800, "steps": 20}

    weights: Size = 6  # N
    curvature: Positive = 0.7  # lambda
    fractions: Positives = (0.25, 0.5, 0.75)  # a in units of 2 / (N + 2)
    steps: Size = 40
    replicas: Seeds = 4000

    def misfit(self) -> str | None:
        if self.weights < 2:
            return "weights must be at least 2: one weight has no direction to miss"

    @property
    def thresholds(self) -> tuple[float, float]:
        """a from which on the mean diverges, and a typical run."""
        mean = 2 / (self.weights + 2)
        return mean, float(root_scalar(lambda a: exponent(a, self.weights), bracket=(mean, 4)).root)

    @property
    def rates(self) -> np.ndarray:
        """a: those given, one between the thresholds, one above both."""
        mean, typical = self.thresholds
        return np.array([*(mean * np.array(self.fractions)), (mean + typical) / 2, 1.5 * typical])

    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        """E L'/L and E ln(L'/L) at all rates."""
        a, n = self.rates, self.weights
        return 1 - 2 * a + a**2 * (n + 2), np.array([exponent(one, n) for one in a])

    def measure(self) -> Finding:
        ratios, logs = self._simulated()
        mean, typical = self.expected()
        between = f"at a = {self.rates[-2]:.3g}, between the thresholds"
        ratio, log = "loss after a step over that before", "ln of that"
        verdicts = [
            all_match("mean", ratio, mean, ratios.T),
            all_match("Lyapunov exponent", log, typical, logs.T),
            exceeds("the mean diverges", ratio, 1.0, ratios[-2], between),
            stays_below("a typical run converges", log, 0.0, logs[-2], between),
            exceeds("above both it diverges too", log, 0.0, logs[-1], f"at a = {self.rates[-1]:.3g}"),
        ]
        return Finding(verdicts, self._drawn(ratios, logs))

    def _simulated(self) -> tuple[np.ndarray, np.ndarray]:
        """Means over steps: (rates, replicas) each."""
        n = self.weights
        circuit = wired(weight(), (1, n), activation="linear")
        x, y = f64([self.curvature**0.5]), jnp.zeros(n, jnp.float64)

        def one(key: PRNGKeyArray, rate: Array) -> tuple[Array, Array]:
            update, (start, course) = updating(circuit, rate / self.curvature), jax.random.split(key)
            weights = circuit.initial_weights(start)

            def step(w: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
                after = update({**weights, "W1": w}, x, y, key)["W1"]
                ratio = jnp.sum(after**2) / jnp.sum(w**2)
                return after / jnp.sqrt(jnp.sum(after**2)), ratio  # the loss has no scale

            ratios = jax.lax.scan(step, weights["W1"], jax.random.split(course, self.steps))[1]
            return ratios.mean(), jnp.log(ratios).mean()

        keys = keys_from(self.seed, self.replicas)
        found = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))(keys, f64(self.rates))
        return np.asarray(found[0]), np.asarray(found[1])

    @plotted(3.6, 2.8)
    def _drawn(self, panel: Axes, ratios: np.ndarray, logs: np.ndarray) -> None:
        fine = np.linspace(1e-9, 1.1 * self.rates.max(), 50)
        panel.axhline(0, color="0.6", linewidth=0.8)
        mean = np.log1p(fine * (fine * (self.weights + 2) - 2))
        panel.plot(fine, mean, color=look(0)["color"])
        panel.plot(fine, [exponent(a, self.weights) for a in fine], color=look(1)["color"], linestyle="--")
        panel.plot(self.rates, np.log(ratios.mean(-1)), **look(0, linestyle=""), label="mean: ln E L'/L")
        marked(panel, self.rates, logs, **look(1), label="typical: E ln L'/L")
        for threshold, i in zip(self.thresholds, (0, 1), strict=True):
            panel.axvline(threshold, color=look(i)["color"], linewidth=0.6, linestyle=":")
        panel.set(xlabel="learning rate a = eta lambda", ylabel="growth of the loss per step")
        panel.legend(title="lines: theory")


def exponent(a: float, n: int) -> float:
    """E ln((1 - a u^2)^2 + a^2 u^2 v), u normal and v chi^2 of n - 1.

    By the midpoint rule in u and w = v^(1/2), on a grid on which ln's one singularity, of a point, does not matter.
    """
    u, w = ((np.arange(cells) + 0.5) * reach / cells for cells, reach in ((800, 8.0), (400, 6.0 + n**0.5)))
    density = np.exp(-(u[:, None] ** 2) / 2) * w ** (n - 2) * np.exp(-(w**2) / 2)
    values = np.log((1 - a * u[:, None] ** 2) ** 2 + (a * u[:, None] * w) ** 2)
    return float((density * values).sum() / density.sum())
