"""B2: the representations of two embedded deep linear networks under SGD, against their common closed form."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit, Weights
from dynamics.discrete import DiscreteState
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds
from experiments.predictions.drawing import band, drawn, look, marked_across
from experiments.predictions.kit import discrete, f64, keys_from, weight_flow, weights_after, wired
from experiments.predictions.linear.setting import frozen, orthonormal, stacked
from experiments.results.verdicts import close, exceeds, matches, stays_below
from rules import SGD

RECORDS, CONDITIONS = 40, ("SGD", "no label noise", "weight decay")
SETTLED = RECORDS // 2  # the first record that counts
Widths = Annotated[tuple[Annotated[int, Field(strict=True, ge=2, le=50)], ...], Field(min_length=2, max_length=2)]


class Task(NamedTuple):
    """<x x^T>, <eps eps^T> and V of the targets y = V x + eps."""

    inputs: np.ndarray
    noise: np.ndarray
    teacher: np.ndarray


class PlatonicKernel(AbstractPrediction):
    number = "B2"
    title = "Label noise and SGD make different linear networks see alike"
    source = """ziyin2025platonic, perfect Platonic representations of embedded deep linear networks; the kernel
        derived: at zero bias SGD minimises |S_eps^(1/2) M_O W2|^2 |W1 M_I S_x^(1/2)|^2, whose least value is a
        nuclear norm"""
    equation = """f = M_O W2 W1 M_I x: K(x, x') = c x^T S_x^(-1/2) (S_x^(1/2) V^T S_eps V S_x^(1/2))^(1/2) S_x^(-1/2)
        x', h = W1 M_I x"""
    claim = """Networks of different width, with different fixed invertible maps M_I and M_O before and after, one of
        which sees another view Z x of the inputs, reach under SGD with label noise the same kernel of hidden
        activities, up to a factor, and come nearer to each other as they go on. So do not networks that see no label
        noise, or all samples at once; weight decay bends the kernel; and at the end the gradients of both layers have
        the same second moments."""
    method = """Discrete updates, one sample each, from random starts of order one. Samples are products of points and
        noises, so that their moments are exact and noise knows nothing of inputs. Kernels are averaged over the last
        half of the updates and compared by their cosine in the metric of the inputs, not centred (CKA). Full-batch
        gradient descent (Euler steps of the weight flow) from the same starts has a tenth of the updates."""
    tolerance = """0.98 between networks and 0.99 to the closed form, which is reached up to the fluctuations of SGD,
        of order eta^(1/2), for every seed; the balance of gradients and their sizes: 5 %. Without label noise, and with
        all samples at once, the networks must be 3 times as far apart (in 1 - CKA), and with weight decay twice as far
        from the closed form. These, and the balance, by 99.9 % intervals over seeds."""
    quick = {"updates": 32_000, "seeds": 20, "rate": 0.025}

    inputs: Annotated[int, Field(strict=True, ge=2, le=12)] = 4
    outputs: Annotated[int, Field(strict=True, ge=2, le=12)] = 3
    widths: Widths = (4, 6)
    noise: Positive = 0.3  # of the labels, as a variance
    rate: Positive = 0.02  # eta
    decay: Positive = 0.1  # weight decay of the last control
    updates: Annotated[int, Field(strict=True, ge=1000, le=1_000_000)] = 100_000
    seeds: Seeds = 20

    def misfit(self) -> str | None:
        if min(self.widths) < min(self.inputs, self.outputs):
            return "widths must be at least the number of outputs or inputs, or the bias is not zero"

    def measure(self) -> Finding:
        tasks = [self.task(seed) for seed in self._all]
        # (conditions, seeds, networks, records, i, i), (seeds, networks, 2, ..) and (seeds, networks, i, i)
        kernels, moments, descended = self._trained(tasks)
        last = kernels[..., SETTLED:, :, :].mean(-3)
        metric = np.stack([root(task.inputs) for task in tasks])
        platonic = np.stack([platonic_kernel(task) for task in tasks])
        between = likeness(last[:, :, 0], last[:, :, 1], metric)
        own = likeness(last, platonic[None, :, None], metric[None, :, None]).min(-1)
        first, whole = (likeness(each[:, 0], each[:, 1], metric) for each in (kernels[0, :, :, 0], descended))
        apart, off, than = np.log10(1 - between), np.log10(1 - own), "more than under SGD"
        worst, note = float(between[0].min()), f"CKA at all samples: {np.median(whole):.2g} for the median seed"
        away = f"log10 of 1 - CKA of the two networks, {than}"
        verdicts = [
            close("perfect alignment", "CKA of the two networks, worst seed", 1.0, worst, 0.02),
            close("Platonic kernel", "CKA with the closed form, worst network", 1.0, float(own[0].min()), 0.01),
            exceeds(
                "alignment grows", "log10 of 1 - CKA at first, less at the end", 0.0, np.log10(1 - first) - apart[0]
            ),
            exceeds("without label noise", away, 0.5, apart[1] - apart[0]),
            exceeds("all samples at once", away, 0.5, np.log10(1 - whole) - apart[0], note),
            exceeds("weight decay", f"log10 of 1 - CKA with the closed form, {than}", 0.3, off[2] - off[0]),
        ]
        gap = np.linalg.norm(moments[..., 0, :, :] - moments[..., 1, :, :], axis=(-1, -2))
        gap = (gap / np.linalg.norm(moments.sum(-3), axis=(-1, -2)) * 2).mean(-1)
        trace = np.trace(moments, axis1=-2, axis2=-1).mean(1)
        verdicts.append(stays_below("balanced gradients", "|E g1 g1^T - E g2^T g2| / their mean", 0.05, gap))
        ratio = trace[:, 0] / trace[:, 1]
        verdicts.append(matches("equipartition", "E |g1|^2 / E |g2|^2", 1.0, ratio, 0.05))
        return Finding(verdicts, self._drawn(kernels, metric, platonic, between, own))

    @property
    def _all(self) -> range:
        return range(self.seed, self.seed + self.seeds)

    def task(self, seed: int) -> Task:
        """Random moments whose eigenvalues lie between 0.3 and 2.2 of their mean."""
        rng, d, o = np.random.default_rng([seed, 1]), self.inputs, self.outputs

        def moments(n: int) -> np.ndarray:
            frame, values = orthonormal(rng, n, n), rng.uniform(0.3, 2.0, n)
            return frame * (values / values.mean()) @ frame.T

        return Task(moments(d), self.noise * moments(o), rng.standard_normal((o, d)))

    def _samples(self, task: Task) -> tuple[np.ndarray, np.ndarray]:
        """Every point +- with every noise +-: the inputs and the noises, with exactly the moments of the task."""
        points, noises = (n**0.5 * root(m) for n, m in ((self.inputs, task.inputs), (self.outputs, task.noise)))
        x, eps = (np.concatenate([one, -one]) for one in (points, noises))
        return np.repeat(x, len(eps), 0), np.tile(eps, (len(x), 1))

    def _network(self, seed: int, which: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The start and the map M_I Z. A narrower network is one whose other neurons are silent for ever."""
        rng = np.random.default_rng([seed, 2, which])
        d, o, most, width = self.inputs, self.outputs, max(self.widths), self.widths[which]

        def invertible(n: int) -> np.ndarray:
            return orthonormal(rng, n, n) * rng.uniform(0.5, 1.5, n) @ orthonormal(rng, n, n).T

        first, second = np.zeros((most, d)), np.zeros((o, most))
        first[:width], second[:, :width] = rng.standard_normal((width, d)), rng.standard_normal((o, width))
        view = np.eye(d) if which == 0 else invertible(d)
        return {"W1": first / d**0.5, "W2": second / width**0.5, "W3": invertible(o)}, invertible(d) @ view

    def circuit(self) -> Circuit:
        """W1 and W2 learn, M_O = W3 is fixed; M_I is part of the samples."""
        whole = wired(SGD(), (self.inputs, max(self.widths), self.outputs, self.outputs), activation="linear")
        return frozen(whole, ("W3",))

    def _trained(self, tasks: list[Task]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Kernels of x, under SGD the mean E g1 g1^T and E g2^T g2 of the last half; kernels of full-batch descent."""
        pairs = [(seed, which) for seed in self._all for which in (0, 1)]
        built = [self._network(*pair) for pair in pairs]
        samples = [self._samples(task) for task in tasks for _ in (0, 1)]
        maps = f64(np.stack([view for _, view in built]))
        x, eps = (f64(np.stack(part)) for part in zip(*samples, strict=True))
        teachers = f64(np.stack([task.teacher for task in tasks for _ in (0, 1)]))
        circuit, every = self.circuit(), self.updates // RECORDS

        def one(  # fmt: skip
            start: Weights, view: Array, x: Array, eps: Array, teacher: Array, key: Array, on: Array, l2: Array
        ) -> tuple:
            y = x @ teacher.T + on * eps
            run = discrete(circuit, Stream(x @ view.T, y, key), self.rate, 1 / l2)

            def record(state: DiscreteState, k: Array) -> tuple:
                def update(state: DiscreteState, i: Array) -> tuple:
                    after = run.advance(state, i, 1)
                    now, then = run.weights(state), run.weights(after)
                    g1, g2 = ((then[name] - now[name]) / self.rate for name in ("W1", "W2"))
                    inner = now["W1"] @ view
                    return after, (inner.T @ inner, jnp.stack([g1 @ g1.T, g2.T @ g2]))

                after, found = jax.lax.scan(update, state, k * every + jnp.arange(every, dtype=jnp.int32))
                return after, jax.tree.map(lambda each: each.mean(0), found)

            _, (kernels, moments) = jax.lax.scan(record, run.init(start), jnp.arange(RECORDS, dtype=jnp.int32))
            return kernels, moments[SETTLED:].mean(0)

        def whole(start: Weights, view: Array, x: Array, eps: Array, teacher: Array) -> Array:
            flow = weight_flow(circuit, x @ view.T, x @ teacher.T + eps, self.rate)
            inner = weights_after(flow, start, jnp.int32(self.updates // 10))["W1"] @ view
            return inner.T @ inner

        keys = keys_from(self.seed, len(pairs))
        over = jax.vmap(jax.vmap(one, (0, 0, 0, 0, 0, 0, None, None)), (None,) * 6 + (0, 0))
        on, l2 = f64([1.0, 0.0, 1.0]), f64([1e-12, 1e-12, self.decay])
        given = stacked([start for start, _ in built]), maps, x, eps, teachers
        kernels, moments = (
            np.asarray(part).reshape(3, self.seeds, 2, *part.shape[2:]) for part in jax.jit(over)(*given, keys, on, l2)
        )
        descended = np.asarray(jax.jit(jax.vmap(whole))(*given)).reshape(self.seeds, 2, self.inputs, self.inputs)
        return kernels, moments[0], descended

    @drawn(7.0, 2.5)
    def _drawn(
        self, figure: Figure, kernels: np.ndarray, metric: np.ndarray, platonic: np.ndarray, between: np.ndarray,
        own: np.ndarray,
    ) -> None:  # fmt: skip
        left, right = figure.subplots(1, 2)
        at = (np.arange(RECORDS) + 0.5) * (self.updates // RECORDS) * self.rate**2 * self.noise
        for i, name in enumerate(CONDITIONS):
            alike = likeness(kernels[i, :, 0], kernels[i, :, 1], metric[:, None])
            band(left, at, alike.T, color=look(i)["color"], label=name)
        left.axhline(1, color="0.3", linestyle=":", label="theory, SGD")
        left.set(xlabel=r"updates $\times\ \eta^2 \times$ label noise", ylabel="CKA of the two networks")
        left.legend()
        for i in range(len(CONDITIONS)):
            marked_across(right, between[i], 2.1 - i, fillstyle="none", **look(i))
            marked_across(right, own[i], 1.9 - i, **look(i))
        right.axvline(1, color="0.3", linestyle=":")
        right.set(yticks=[2, 1, 0], yticklabels=CONDITIONS, xlabel="CKA: open, between networks; full, with theory")


def root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def platonic_kernel(task: Task) -> np.ndarray:
    """S_x^(-1/2) (S_x^(1/2) V^T S_eps V S_x^(1/2))^(1/2) S_x^(-1/2), in the coordinates of x."""
    inputs = root(task.inputs)
    inverse = np.linalg.inv(inputs)
    # By singular values: of the product's eigenvalues those that are 0 would have roots of 1e-8.
    _, sizes, right = np.linalg.svd(root(task.noise) @ task.teacher @ inputs, full_matrices=False)
    return inverse @ (right.T * sizes) @ right @ inverse


def likeness(one: np.ndarray, other: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """The cosine of two kernels in the metric of the inputs, whose square root is `metric`; over leading axes."""
    a, b = metric @ one @ metric, metric @ other @ metric
    return (a * b).sum((-1, -2)) / np.sqrt((a * a).sum((-1, -2)) * (b * b).sum((-1, -2)))
