"""B1.1, B1.2: two-layer and deeper linear networks in closed form: modes one by one, and all weights at once."""

from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import against, drawn, look, ticked
from experiments.predictions.kit import all_close, intervals, order, wired
from experiments.predictions.linear.setting import (
    Matrices,
    aligned,
    crossing,
    flown,
    mode_time,
    modes,
    orthonormal,
    product,
    sigmoid,
    stacked,
)
from experiments.results.verdicts import Verdict, close, exceeds, matches
from rules import SGD

RECORDS, LEARNED = 80, 0.99  # a run lasts until the weakest mode is learned so far
FINE = 0.1  # step of dopri5 in units of the fastest relaxation
COARSE = (4, 8, 16, 32)  # Euler steps between two records
Depths = Annotated[tuple[Annotated[int, Field(strict=True, ge=2, le=8)], ...], Field(min_length=1)]
COURSE = 60  # records of the Riccati solution


class ModeSigmoids(AbstractPrediction):
    """Mode strengths of deep linear networks against their closed forms, from aligned and from random starts."""

    number = "B1.1"
    title = "Singular modes of a deep linear network learn along sigmoids"
    source = """saxe2014exact, equations for balanced, decoupled starts; for L layers integrated by a hypergeometric
        function"""
    equation = """u(t) = s / (1 + (s/u0 - 1) exp(-2 s t)) for two layers; u' = L u^(2 - 2/L) (s - u) for L, that is t
        = [F(u) - F(u0)] / (L b s), F(u) = u^b 2F1(1, b; 1 + b; u/s), b = 2/L - 1"""
    claim = """On whitened inputs every singular mode of the teacher is learned on its own, from a balanced aligned
        start exactly as the closed form says. Gradient descent in steps eta is off by O(eta). From small random
        weights of size a a mode appears after a time that grows by 1/s for every factor e by which a is smaller."""
    method = """The weight flow of SGD by dopri5; by Euler steps, which are gradient descent. Modes are l_j^T W_L ...
        W_1 r_j. Random starts: the same random numbers at two sizes a; the time at which a mode is half learned."""
    tolerance = """1e-6 of s for two layers, 1e-6 of the time for more: what dopri5 leaves in steps of a tenth of the
        fastest relaxation. Order: 0.1. Random starts are aligned by growth itself, and modes are not quite decoupled
        while they do: 1 % beyond the 99.9 % interval."""
    quick = {"depths": (2, 3), "strengths": (4.0, 2.5, 1.5), "seeds": 4}

    inputs: Size = 5
    hidden: Size = 6
    outputs: Size = 4
    strengths: Positives = (4.0, 2.5, 1.5, 0.6)
    start: Positive = 1e-3  # u0
    depths: Depths = (2, 3, 4)
    sizes: Annotated[tuple[Positive, Positive], Field()] = (1e-4, 1e-7)  # a
    seeds: Seeds = 10

    def misfit(self) -> str | None:
        if len(self.strengths) > min(self.inputs, self.hidden, self.outputs):
            return "there must be at most as many strengths as inputs, hidden neurons and outputs"
        if self.start > 0.1 * min(self.strengths):
            return "start must be at most a tenth of the weakest strength, or there is no sigmoid to see"

    def measure(self) -> Finding:
        two, slopes = self._two_layers()
        runs = {depth: two if depth == 2 else self._aligned(depth) for depth in self.depths}
        verdicts = []
        for depth, (times, u) in runs.items():
            verdicts.append(self._exact(depth, times, u))
        errors = self._descent()
        slope = float(order(1 / np.array(COARSE), errors))
        verdicts.append(close("gradient descent", "order in eta of the largest error of a mode", 1.0, slope, 0.1))
        means, half = intervals(slopes)
        worst = int(np.argmax(np.abs(means - 1) - half))
        note = f"s = {self.strengths[worst]:g}, the mode that fits least"
        quantity = "s x (growth of the half-time per ln(1/a))"
        verdicts.append(matches("random starts", quantity, 1.0, slopes[worst], 0.01, note))
        return Finding(verdicts, self._drawn(runs, errors))

    def _exact(self, depth: int, times: np.ndarray, u: np.ndarray) -> Verdict:
        s = np.array(self.strengths)
        if depth == 2:
            off = np.abs(u - sigmoid(times, self.start, s)) / s
            return all_close("two layers", "largest error of u / s", 0.0, off, 1e-6)
        inside = (u > 1.01 * self.start) & (u < LEARNED * s)
        predicted = mode_time(self.start, np.where(inside, u, s / 2), s, depth)
        off = np.where(inside, predicted - times[:, None], 0) / times[-1]
        return all_close(f"{depth} layers", "largest error of t(u) / time of the run", 0.0, off, 1e-6)

    def _frames(self) -> tuple[np.ndarray, np.ndarray]:
        """The teacher's singular vectors, left and right."""
        rng, k = np.random.default_rng(self.seed), len(self.strengths)
        return orthonormal(rng, self.outputs, k), orthonormal(rng, self.inputs, k)

    def _span(self, depth: int) -> tuple[float, int]:
        """How long a run lasts, and the steps of dopri5 between two records."""
        weakest, strongest = min(self.strengths), max(self.strengths)
        time = float(mode_time(self.start, LEARNED * weakest, weakest, depth))
        rate = depth * strongest ** (2 - 2 / depth)
        return time, int(np.ceil(time * rate / (FINE * RECORDS)))

    def _aligned(self, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Times, and the modes (records, modes) from a balanced aligned start."""
        left, right = self._frames()
        time, count = self._span(depth)
        found = flown(
            self._circuit(depth), stacked([self._start(depth)]), left * self.strengths @ right.T, time, RECORDS, count
        )
        return np.linspace(0, time, RECORDS + 1), modes(product(found, depth)[0], left, right)

    def _start(self, depth: int) -> Matrices:
        """A balanced aligned start, every mode at u0."""
        size = np.full(len(self.strengths), self.start ** (1 / depth))
        return aligned(np.random.default_rng([self.seed, depth]), *self._frames(), self.hidden, [size] * depth)

    def _circuit(self, depth: int) -> Circuit:
        return wired(SGD(), (self.inputs, *[self.hidden] * (depth - 1), self.outputs), activation="linear")

    def _descent(self) -> np.ndarray:
        """The largest error of a mode of two layers in u / s, for so many Euler steps between records."""
        left, right = self._frames()
        start, s = stacked([self._start(2)]), np.array(self.strengths)
        time, teacher = float(mode_time(self.start, 0.9 * s[0], s[0], 2)), left * s @ right.T
        exact, errors = sigmoid(np.linspace(0, time, RECORDS + 1), self.start, s), []
        for count in COARSE:
            found = flown(self._circuit(2), start, teacher, time, RECORDS, count, "euler")
            errors.append(np.abs(modes(product(found, 2)[0], left, right) - exact).max())
        return np.array(errors)

    def _two_layers(self) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Of two layers the aligned run, and s_j dt_j / dln(1/a) of random starts, (modes, seeds): one program."""
        left, right = self._frames()
        s = np.array(self.strengths)
        starts = [self._start(2)]
        for seed in range(self.seed, self.seed + self.seeds):
            rng = np.random.default_rng([seed, 1])
            first = rng.standard_normal((self.hidden, self.inputs))
            second = rng.standard_normal((self.outputs, self.hidden))
            starts += [{"W1": a * first, "W2": a * second} for a in self.sizes]
        time = (np.log(1 / min(self.sizes)) + 4) / min(s)  # the start's own part along a mode may be small
        records = int(np.ceil(time * max(s) * 4))
        found = flown(self._circuit(2), stacked(starts), left * s @ right.T, time, records, 5)
        u, times = modes(product(found, 2), left, right), np.linspace(0, time, records + 1)
        half = crossing(times, np.moveaxis(u[1:] / s, 1, -1)).reshape(self.seeds, 2, -1)
        shown = slice(0, int(np.searchsorted(times, self._span(2)[0])) + 1, max(1, records // (3 * RECORDS)))
        slopes = (s * (half[:, 1] - half[:, 0]) / np.log(self.sizes[0] / self.sizes[1])).T
        return (times[shown], u[0, shown]), slopes

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, runs: dict, errors: np.ndarray) -> None:
        curves, deeper, descent = figure.subplots(1, 3)
        for panel, depth in ((curves, min(runs)), (deeper, max(runs))):
            times, u = runs[depth]
            for j, s in enumerate(self.strengths):
                fine = self.start + (LEARNED * s - self.start) * np.linspace(0, 1, 400) ** 3
                shown = times[u[:, j] < LEARNED * s].size
                panel.plot(mode_time(self.start, fine, s, depth), fine, color=look(j)["color"])
                every = max(1, times.size // 27)
                panel.plot(times[:shown:every], u[:shown:every, j], linestyle="", label=f"s = {s:g}", **look(j))
            panel.set(xlabel=r"time ($\tau_{plast}$)", ylabel="mode strength u", title=f"{depth} layers")
        curves.legend(title="lines: theory", loc="center right", fontsize=7)
        steps = 1 / np.array(COARSE)
        descent.loglog(steps, errors[0] * steps / steps[0], color="0.3", label="theory: slope 1")
        descent.loglog(steps, errors, linestyle="", label="simulation", **look(0))
        descent.set(xlabel=r"step $\eta$ (records)", ylabel="largest error of u", title="gradient descent")
        ticked(descent, steps, ".2g")
        descent.legend()


class RiccatiSolution(AbstractPrediction):
    """The Gram matrix of all weights of a two-layer linear network against its closed form."""

    number = "B1.2"
    title = "Two linear layers follow a matrix Riccati equation from any balanced start"
    source = "braun2022exact, the solution for zero-balanced weights, after fukumizu1998effect"
    equation = """Q = [W1^T; W2], F = [[0, S^T], [S, 0]]: Q Q^T (t) = e^(Ft) Q0 [I + Q0^T (e^(Ft) F^-1 e^(Ft) - F^-1)
        Q0 / 2]^-1 Q0^T e^(Ft), if W2^T W2 = W1 W1^T at t = 0"""
    claim = """Whatever its singular vectors (if det(W2 W1) has the sign of det S), a balanced start leads along this
        solution: the function W2 W1 and the Gram matrices W1^T W1 and W2 W2^T of both layers. All balanced starts end
        in the same representation, W1^T W1 = (S^T S)^(1/2). W2^T W2 - W1 W1^T is conserved from any start; from one
        that is not balanced the solution does not hold."""
    method = """The weight flow of SGD by dopri5 on whitened inputs from balanced starts with random singular vectors,
        and from random unbalanced ones; the closed form in the eigenvectors of F, where no exponential is
        inverted."""
    tolerance = """1e-6 of |Q Q^T| at the end of the run, and 1e-8 of |Q0|^2 for what is conserved: dopri5 with steps
        of a tenth of the fastest relaxation. The representation at the end: what the closed form has left to go,
        and 1e-6. Runs after which it has more than a thousandth of the strongest singular value to go are refused."""
    quick = {"seeds": 4}

    size: Annotated[int, Field(strict=True, ge=1, le=50)] = 4  # of inputs and of outputs
    hidden: Annotated[int, Field(strict=True, ge=1, le=100)] = 6
    strongest: Positive = 2.0  # singular values of the teacher, between this and half of it
    start: Positive = 0.1  # singular values of W2 W1 at the start, up to this
    time: Positive = 14.0  # tau_plast
    seeds: Seeds = 10

    def misfit(self) -> str | None:
        if self.hidden < self.size:
            return "hidden must be at least size, or no balanced start has full rank"
        if self._remaining() > 1e-3 * self.strongest:
            return "time must be longer: at its end even the closed form is far from the one representation"

    def measure(self) -> Finding:
        teacher, balanced = self.teacher(), [self.balanced(seed) for seed in self._all]
        starts = stacked([*balanced, *(self._unbalanced(seed) for seed in self._all)])
        count = int(np.ceil(self.time / COURSE * 2 * self.strongest / FINE))
        found = flown(self._circuit(), starts, teacher, self.time, COURSE, count)
        times = np.linspace(0, self.time, COURSE + 1)
        grams, n = gram(found), self.seeds
        exact = np.stack([solution(start, teacher, times) for start in balanced])
        scale = np.linalg.norm(exact[:, -1], axis=(1, 2))[:, None, None, None]
        off, d = np.abs(grams[:n] - exact) / scale, self.size
        quantity = "largest error, over |Q Q^T|"
        verdicts = [
            all_close("function W2 W1", quantity, 0.0, off[:, :, d:, :d], 1e-6),
            all_close("Gram matrix W1^T W1", quantity, 0.0, off[:, :, :d, :d], 1e-6),
        ]
        ends = float(np.abs(grams[:n, -1, :d, :d] - self._rich()).max())
        quantity = "largest |W1^T W1 - (S^T S)^(1/2)|"
        verdicts.append(close("one representation", quantity, 0.0, ends, self._remaining() + 1e-6))
        balance = found["W2"].swapaxes(-1, -2) @ found["W2"] - found["W1"] @ found["W1"].swapaxes(-1, -2)
        drift = np.abs(balance - balance[:, :1]) / np.trace(grams[:, :1], axis1=-2, axis2=-1)[..., None, None]
        verdicts.append(all_close("conserved balance", "largest drift of W2^T W2 - W1 W1^T", 0.0, drift, 1e-8))
        early = times <= 4 / self.strongest
        unbalanced = [{name: w[i, 0] for name, w in found.items()} for i in range(n, 2 * n)]
        wrong = np.stack([unscaled(start, teacher, times[early]) for start in unbalanced])
        failing = np.abs(grams[n:, early] - wrong).max((1, 2, 3)) / scale[:, 0, 0, 0]
        failing = np.log10(failing)
        verdicts.append(exceeds("needs balance", "log10 of the solution's error from unbalanced starts", -2.0, failing))
        return Finding(verdicts, self._drawn(times, grams[:n], exact, off, drift))

    @property
    def _all(self) -> range:
        return range(self.seed, self.seed + self.seeds)

    def _circuit(self) -> Circuit:
        return wired(SGD(), (self.size, self.hidden, self.size), activation="linear")

    def teacher(self) -> np.ndarray:
        """S, with singular values in equal steps."""
        rng = np.random.default_rng(self.seed)
        s = np.linspace(self.strongest, self.strongest / 2, self.size)
        return orthonormal(rng, self.size, self.size) * s @ orthonormal(rng, self.size, self.size).T

    def _rich(self) -> np.ndarray:
        """(S^T S)^(1/2)."""
        _, s, right = np.linalg.svd(self.teacher())
        return right.T * s @ right

    def _remaining(self) -> float:
        """How far the closed form is from the one representation at the end: the largest entry of all seeds."""
        teacher, d, end = self.teacher(), self.size, np.array([self.time])
        ends = [solution(self.balanced(seed), teacher, end)[0, :d, :d] for seed in self._all]
        return float(np.abs(np.stack(ends) - self._rich()).max())

    def balanced(self, seed: int) -> Matrices:
        """W1 = R D^(1/2) V^T and W2 = U D^(1/2) R^T with random U, V, R and D.

        det(W2 W1) has the sign of det S: a balanced start keeps it, with the other it ends at a saddle.
        """
        rng = np.random.default_rng([seed, 1])
        inner, root = orthonormal(rng, self.hidden, self.size), np.sqrt(self.start * rng.uniform(0.2, 1, self.size))
        left, right = orthonormal(rng, self.size, self.size), orthonormal(rng, self.size, self.size)
        left[:, 0] *= np.sign(np.linalg.det(left @ right.T) * np.linalg.det(self.teacher()))
        return {"W1": inner * root @ right.T, "W2": left * root @ inner.T}

    def _unbalanced(self, seed: int) -> Matrices:
        rng = np.random.default_rng([seed, 2])
        first, second = rng.standard_normal((self.hidden, self.size)), rng.standard_normal((self.size, self.hidden))
        return {"W1": (self.start / self.hidden) ** 0.5 * first, "W2": 2 * (self.start / self.hidden) ** 0.5 * second}

    @drawn(7.0, 2.5)
    def _drawn(
        self,
        figure: Figure,
        times: np.ndarray,
        grams: np.ndarray,
        exact: np.ndarray,
        off: np.ndarray,
        drift: np.ndarray,
    ) -> None:
        function, inner, errors = figure.subplots(1, 3)
        d = self.size
        for panel, (row, name) in zip((function, inner), ((d, "W2 W1"), (0, "W1$^T$ W1")), strict=True):
            for i in range(min(d, 3)):
                label = f"entry 1, {i + 1}"
                against(panel, i, (times, exact[0, :, row, i]), (times[::4], grams[0, ::4, row, i]), label)
            panel.set(xlabel=r"time ($\tau_{plast}$)", ylabel=f"first row of {name}")
        function.legend(title="lines: theory", fontsize=7)
        errors.semilogy(times[1:], off.max((0, 2, 3))[1:] + 1e-17, label="Q Q$^T$", **look(0, markersize=2))
        errors.semilogy(times[1:], drift.max((0, 2, 3))[1:] + 1e-17, label="balance", **look(1, markersize=2))
        errors.axhline(1e-6, color="0.3", linestyle="--", label="tolerance, Q Q$^T$")
        errors.set(xlabel=r"time ($\tau_{plast}$)", ylabel="largest relative error, all seeds")
        errors.legend(fontsize=7)


def gram(found: Matrices) -> np.ndarray:
    """Q Q^T with Q = [W1^T; W2], over all leading axes."""
    q = np.concatenate([found["W1"].swapaxes(-1, -2), found["W2"]], -2)
    return q @ q.swapaxes(-1, -2)


def solution(start: Matrices, teacher: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Q Q^T at all times.

    In the eigenvectors of F, Q0 = [P; B P] in those of eigenvalues f > 0 and -f, and with what grows as e^(ft)
    divided out, so that nothing overflows or is lost: Q Q^T = Y N^-1 Y^T, Y = [I; e^(-ft) B e^(-ft)] and
    N = e^(-ft) [(P P^T)^-1 + B^T diag(1 - e^(-2ft)) f^-1 B / 2] e^(-ft) + diag(1 - e^(-2ft)) f^-1 / 2.
    """
    left, f, right = np.linalg.svd(teacher)
    grows, falls = (np.concatenate([right.T, sign * left]) / 2**0.5 for sign in (1, -1))
    whole = np.concatenate([start["W1"].T, start["W2"]])
    sizes, used = np.linalg.svd(whole, full_matrices=False)[1:]
    whole = whole @ used[sizes > 1e-9 * sizes[0]].T  # hidden directions without weights stay without
    p = grows.T @ whole
    b, start_of = falls.T @ whole @ np.linalg.inv(p), np.linalg.inv(p @ p.T)
    result = []
    for t in times:
        fallen, done = np.exp(-f * t), -np.expm1(-2 * f * t) / (2 * f)
        n = fallen[:, None] * (start_of + (b.T * done) @ b) * fallen + np.diag(done)
        y = grows + falls * fallen @ b * fallen
        result.append(y @ np.linalg.solve(n, y.T))
    return np.stack(result)


def unscaled(start: Matrices, teacher: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The same as it is published, of any start, for times at which e^(2ft) loses no digits."""
    left, f, right = np.linalg.svd(teacher)
    vectors = np.block([[right.T, right.T], [left, -left]]) / 2**0.5
    f, q = np.concatenate([f, -f]), vectors.T @ np.concatenate([start["W1"].T, start["W2"]])
    result = []
    for t in times:
        now = vectors * np.exp(f * t) @ q
        result.append(now @ np.linalg.inv(np.eye(q.shape[1]) + (q.T * np.expm1(2 * f * t) / f) @ q / 2) @ now.T)
    return np.stack(result)
