"""B9: how far first-layer weights move, and how much the tangent kernel turns, from starts of equal norm."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Weights
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds
from experiments.predictions.drawing import drawn, look, marked
from experiments.predictions.kit import all_close, f64, weight_flow, weights_after, wired
from experiments.predictions.linear.setting import Matrices, orthonormal, stacked, whitened
from experiments.results.verdicts import exceeds, stays_below
from rules import SGD

STEP = 0.1  # of dopri5, in tau_plast
STARTS = ("low rank", "full rank", "aligned", "aligned, silent", "isotropic, silent")


class ConnectivityRank(AbstractPrediction):
    number = "B9"
    title = "Low-rank connections learn richly, full rank lazily, and aligned low rank laziest"
    source = "liu2024connectivity, ranks of the initial connectivity; for isotropic and aligned starts derived"
    equation = """per mode from silence: w1^2 - w2^2 = c^2 and w1 w2 = s at the end, so |dW1|^2 = sum (w1 - c)^2, w1^2
        = (c^2 + (c^4 + 4 s^2)^(1/2)) / 2; c^2 = |W1|^2 / rank if aligned, |W1|^2 / inputs if isotropic"""
    claim = """Of first layers of one Frobenius norm, those of the task's rank and random move most and turn the
        tangent kernel most; those of full rank less; those of the task's rank and aligned with it least of all. All
        reach zero loss. Where the start has the task's singular vectors and the readout is silent the move has a
        closed form."""
    method = """The weight flow of SGD by dopri5 on whitened inputs to convergence, from kinds of W1 with a small
        readout or a silent one, over tasks and seeds; the tangent kernel of all weights on the inputs, alignment as
        the cosine of start and end."""
    tolerance = """1e-5 for closed forms: the steps. Orders: the least difference over tasks of each seed, 99.9 %
        intervals over seeds. Only the extremes are claimed: between them the alignment of kernels is not monotonic in
        rank."""
    quick = {"seeds": 6, "tasks": 2, "inputs": 12, "hidden": 24}

    inputs: Annotated[int, Field(strict=True, ge=4, le=60)] = 20
    hidden: Annotated[int, Field(strict=True, ge=4, le=400)] = 100
    outputs: Annotated[int, Field(strict=True, ge=1, le=20)] = 3
    norm: Positive = 3.0  # |W1| at the start
    strength: Positive = 1.0  # root mean square of the task's singular values
    readout: Positive = 0.1  # standard deviation of W2, times the root of the hidden neurons
    time: Positive = 30.0  # tau_plast
    tasks: Annotated[int, Field(strict=True, ge=1, le=50)] = 5
    seeds: Seeds = 6

    def misfit(self) -> str | None:
        if not 2 * self.outputs <= self.inputs <= self.hidden:
            return "inputs must be at least twice outputs, or no rank is low, and at most hidden"

    def measure(self) -> Finding:
        moves, kernels, losses, exact = self._measured()  # (tasks, seeds, starts) each; exact of the last two starts
        verdicts = [
            all_close("aligned, closed form", "|dW1| less the closed form", 0.0, moves[..., 3] - exact[..., 0], 1e-5),
            all_close("isotropic, closed form", "|dW1| less the closed form", 0.0, moves[..., 4] - exact[..., 1], 1e-5),
        ]
        for first, second in ((0, 1), (1, 2)):
            names = f"{STARTS[first]} above {STARTS[second]}"
            differ = np.log(moves[..., first] / moves[..., second]).min(0)
            verdicts.append(exceeds(f"moves: {names}", "least ln of the ratio of |dW1|", 0.0, differ))
        for first, second in ((0, 1), (1, 2)):
            names = f"{STARTS[second]} above {STARTS[first]}"
            differ = (kernels[..., second] - kernels[..., first]).min(0)
            verdicts.append(exceeds(f"kernel alignment: {names}", "least difference", 0.0, differ))
        largest = np.log10(losses.max((0, 2)) + 1e-300)
        verdicts.append(stays_below("all learned", "log10 of the largest loss at the end", -8.0, largest))
        shown = ", ".join(f"{name} {v:.3g}" for name, v in zip(STARTS, moves.mean((0, 1)), strict=True))
        return Finding(verdicts, self._drawn(moves, kernels, exact), [f"Mean |dW1|: {shown}."])

    def _task(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Left singular vectors, singular values and right singular vectors."""
        rng, k = np.random.default_rng([self.seed, number, 1]), self.outputs
        s = rng.uniform(0.5, 1.5, k)
        s *= self.strength / np.sqrt(np.square(s).mean())
        return orthonormal(rng, k, k), s, orthonormal(rng, self.inputs, k)

    def _starts(self, seed: int, right: np.ndarray) -> list[Matrices]:
        """W1 of each kind with the same norm, and the readout."""
        rng, k, d, n = np.random.default_rng([seed, 2]), self.outputs, self.inputs, self.hidden
        random = rng.standard_normal((n, d))
        left, values, vectors = np.linalg.svd(random, full_matrices=False)
        low = left[:, :k] * values[:k] @ vectors[:k]
        aligned, isotropic = orthonormal(rng, n, k) @ right.T, orthonormal(rng, n, d)
        small = self.readout / n**0.5 * rng.standard_normal((k, n))
        pairs = [(low, small), (random, small), (aligned, small), (aligned, 0 * small), (isotropic, 0 * small)]
        return [{"W1": self.norm * w / np.linalg.norm(w), "W2": out} for w, out in pairs]

    def closed(self, s: np.ndarray, rank: int) -> float:
        """|dW1| of a start whose modes all have c^2 = |W1|^2 / rank."""
        c2 = self.norm**2 / rank
        first = np.sqrt((c2 + np.sqrt(c2**2 + 4 * s**2)) / 2)
        return float(np.linalg.norm(first - c2**0.5))

    def _measured(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        starts, teachers, exact = [], [], []
        for number in range(self.tasks):
            left, s, right = self._task(number)
            for seed in range(self.seed, self.seed + self.seeds):
                starts += self._starts(seed, right)
                teachers += [left * s @ right.T] * len(STARTS)
                exact.append((self.closed(s, self.outputs), self.closed(s, self.inputs)))
        circuit = wired(SGD(), (self.inputs, self.hidden, self.outputs), activation="linear")
        x, y = (f64(np.stack(part)) for part in zip(*map(whitened, teachers), strict=True))
        count = jnp.int32(np.ceil(self.time / STEP))

        def one(start: Weights, x: Array, y: Array) -> Weights:
            flow = weight_flow(circuit, x, y, STEP, integrator="dopri5")
            return weights_after(flow, start, count)

        ends = {k: np.asarray(w) for k, w in jax.jit(jax.vmap(one))(stacked(starts), x, y).items()}
        begins = {name: np.stack([start[name] for start in starts]) for name in ("W1", "W2")}
        moves = np.linalg.norm(ends["W1"] - begins["W1"], axis=(-1, -2))
        before, after = tangent(begins), tangent(ends)
        kernels = [cosine(*pair) for pair in zip(zip(*before, strict=True), zip(*after, strict=True), strict=True)]
        losses = np.square(ends["W2"] @ ends["W1"] - np.stack(teachers)).sum((-1, -2)) / 2
        shape = self.tasks, self.seeds, -1
        moves, kernels, losses, closed = (np.reshape(each, shape) for each in (moves, kernels, losses, exact))
        return moves, kernels, losses, closed

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, moves: np.ndarray, kernels: np.ndarray, exact: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        places = np.arange(len(STARTS))
        for panel, values in ((left, moves), (right, kernels)):
            for task in range(self.tasks):
                shift = (task - (self.tasks - 1) / 2) * 0.12
                marked(panel, places + shift, values[task].T, **look(task % 6, fillstyle="none"))
            panel.set(
                xticks=places, xticklabels=[name.replace(", ", ",\n").replace(" rank", "\nrank") for name in STARTS]
            )
        for task in range(self.tasks):
            shift = (task - (self.tasks - 1) / 2) * 0.12
            theory = exact[task].mean(0)
            left.plot(places[3:] + shift, theory, "_", color="0.2", ms=9, label=None if task else "theory")
        left.set(ylabel=r"move of the first layer $|\Delta W_1|$")
        left.legend()
        right.set(ylabel="tangent kernel, cosine with its start")


def tangent(weights: Matrices) -> tuple[np.ndarray, np.ndarray]:
    """The tangent kernel on whitened inputs is I_o x A + B x I_i: A = W1^T W1 (.., i, i), B = W2 W2^T (.., o, o)."""
    first, second = weights["W1"], weights["W2"]
    return first.swapaxes(-1, -2) @ first, second @ second.swapaxes(-1, -2)


def cosine(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """The cosine of two such kernels."""

    def product(p: tuple[np.ndarray, np.ndarray], q: tuple[np.ndarray, np.ndarray]) -> float:
        (a, b), (c, d) = p, q
        mixed = np.trace(a) * np.trace(d) + np.trace(c) * np.trace(b)
        return float(len(b) * (a * c).sum() + mixed + len(a) * (b * d).sum())

    return product(one, other) / (product(one, one) * product(other, other)) ** 0.5
