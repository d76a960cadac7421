"""B7: the generalisation error of gradient descent on features of two scales against its trace formula."""

from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Finding, NonNegative, Seeds
from experiments.predictions.drawing import against, drawn, look, marked
from experiments.predictions.kit import all_close, f64, intervals, weight_flow, wired
from experiments.predictions.linear.setting import course, orthonormal
from experiments.results.verdicts import Verdict, close, exceeds, matches, stays_below
from rules import SGD

Conditions = Annotated[
    tuple[Annotated[float, Field(strict=True, ge=1, le=1e6)], ...], Field(min_length=2, max_length=4)
]

LEVEL = 0.95  # of its peak, above which an error has not descended again


class Draw(NamedTuple):
    """The student's inputs X = Z F (n, d), the targets (n,), the teacher (d,) and F (d, d)."""

    inputs: np.ndarray
    targets: np.ndarray
    teacher: np.ndarray
    mixing: np.ndarray


class EpochDoubleDescent(AbstractPrediction):
    number = "B7"
    title = "Features of two scales make the test error descend twice"
    source = "pezeshki2022multi, the trace formula of the generalisation error (from the paper's code), without ridge"
    equation = """E_G(t) = tr[(I - A)^T (I - A)] / (2 d) + noise^2 tr(B^T B) / (2 d), A = F V D V^T F^-1, B = F V D
        L^(-1/2), D = diag(1 - (1 - eta L)^t), X^T X = V L V^T, X = Z F, eta = 1 / L_max"""
    claim = """A student that sees Z F, where some features are kappa times smaller than others, by full-batch
        gradient descent has this generalisation error, averaged over teachers, and the shape that the formula says:
        between the times at which both kinds are learned a minimum and a second peak, as at kappa = 50; neither of
        them, as at kappa = 1; or a rise after which it stays, as at kappa = 1e5 in the times that are looked at."""
    method = """Euler steps of the weight flow of SGD, which are gradient descent, on draws of Z, F and a teacher with
        |w|^2 = d; errors at times in equal ratios against the recursion of each draw, against the trace, and the
        extrema of means over draws."""
    tolerance = """1e-9 for the recursion of each draw: rounding. The trace: 99.9 % intervals, of all times together,
        by the worst. Peaks: within 0.15 of a decade of that of the mean formula. Where the formula rises
        by less than 1e-3 the mean must, too; where it ends within 5 % of its peak the errors must end within 10 %."""
    quick = {"features": 40, "samples": 60, "large": 24, "draws": 25, "longest": 3.5}

    features: Annotated[int, Field(strict=True, ge=4, le=200)] = 50  # d
    samples: Annotated[int, Field(strict=True, ge=6, le=400)] = 75  # n
    large: Annotated[int, Field(strict=True, ge=1, le=199)] = 30  # p, features of size 1
    conditions: Conditions = (1.0, 50.0, 1e5)  # kappa: without an extremum, with two, and one that is never done
    noise: NonNegative = 0.0
    longest: Annotated[float, Field(strict=True, ge=2, le=5)] = 4.3  # log10 of the steps
    times: Annotated[int, Field(strict=True, ge=15, le=100)] = 40
    draws: Seeds = 20

    def misfit(self) -> str | None:
        if not self.large < self.features < self.samples:
            return "large must be below features, and features below samples"
        if list(self.conditions) != sorted(self.conditions):
            return "conditions must rise"

    def measure(self) -> Finding:
        marks = np.unique(np.geomspace(1, 10**self.longest, self.times).round().astype(int))
        given = [[self.draw(kappa, seed) for seed in self._all] for kappa in self.conditions]
        errors = self._learned(given, marks)  # (kappa, draws, times)
        own = np.array([[self._one(draw, marks) for draw in group] for group in given])
        traces = np.array([[self.trace(draw, marks) for draw in group] for group in given])
        verdicts = [all_close("recursion", "largest error of a draw's E_G", 0.0, errors - own, 1e-9)]
        for kappa, each, trace in zip(self.conditions, errors, traces, strict=True):
            verdicts.append(self._agreement(kappa, each - trace))
            verdicts += self._shape(kappa, marks, each, trace.mean(0))
        return Finding(verdicts, self._drawn(marks, errors, traces))

    @property
    def _all(self) -> range:
        return range(self.seed, self.seed + self.draws)

    def draw(self, kappa: float, seed: int) -> Draw:
        """Z ~ N(0, 1/d), F = U diag(1, .., 1/kappa) V^T; the same random numbers at every kappa."""
        rng, d, n = np.random.default_rng(seed), self.features, self.samples
        z = rng.standard_normal((n, d)) / d**0.5
        sizes = np.where(np.arange(d) < self.large, 1.0, 1 / kappa)
        mixing = orthonormal(rng, d, d) * sizes @ orthonormal(rng, d, d).T
        teacher = rng.standard_normal(d)
        teacher *= (d / (teacher @ teacher)) ** 0.5
        return Draw(z @ mixing, z @ teacher + self.noise * rng.standard_normal(n), teacher, mixing)

    def _learned(self, given: list[list[Draw]], marks: np.ndarray) -> np.ndarray:
        """E_G after so many steps of gradient descent: (kappa, draws, times)."""
        flat = [draw for group in given for draw in group]
        x, y = (f64(np.stack(part)) for part in list(zip(*flat, strict=True))[:2])
        eta = f64(1 / np.linalg.eigvalsh(np.einsum("dni,dnj->dij", x, x))[:, -1])
        weights = np.asarray(_descended(x, y, eta, jnp.asarray(np.diff(marks, prepend=0), jnp.int32)))
        seen = np.stack([draw.mixing for draw in flat]) @ weights.swapaxes(1, 2)
        teachers = np.stack([draw.teacher for draw in flat])[..., None]
        return (np.square(seen - teachers).mean(1) / 2).reshape(len(given), self.draws, len(marks))

    def _one(self, draw: Draw, marks: np.ndarray) -> np.ndarray:
        """E_G of one draw by the recursion in eigenvectors, w(t) = V D L^-1 V^T X^T y."""
        values, vectors = np.linalg.eigh(draw.inputs.T @ draw.inputs)
        done = _done(values, marks) / values * (vectors.T @ draw.inputs.T @ draw.targets)
        seen = draw.mixing @ vectors @ done.T
        return np.square(seen - draw.teacher[:, None]).mean(0) / 2

    def trace(self, draw: Draw, marks: np.ndarray) -> np.ndarray:
        """E_G averaged over teachers with |w|^2 = d, and over the noise."""
        values, vectors = np.linalg.eigh(draw.inputs.T @ draw.inputs)
        left, right = draw.mixing @ vectors, vectors.T @ np.linalg.inv(draw.mixing)
        found = []
        for done in _done(values, marks):
            wrong = np.eye(self.features) - left * done @ right
            noisy = left * (done / np.sqrt(values))
            found.append((np.square(wrong).sum() + self.noise**2 * np.square(noisy).sum()) / (2 * self.features))
        return np.array(found)

    def _agreement(self, kappa: float, off: np.ndarray) -> Verdict:
        means, half = intervals(off.T, 1 - 0.001 / off.shape[1])
        k = int(np.argmax(np.abs(means) / (half + 1e-300)))
        more = float(half[k] - intervals(off.T, 0.999)[1][k])
        note = f"the worst of {off.shape[1]} times"
        quantity = "E_G - trace formula, where it fits least"
        return matches(f"trace formula, kappa = {kappa:g}", quantity, 0.0, off[:, k], more + 1e-12, note, scale=0.2)

    def _shape(self, kappa: float, marks: np.ndarray, errors: np.ndarray, formula: np.ndarray) -> list[Verdict]:
        """Whether errors (draws, times) have the minimum, the peak after it and the fall that the mean formula has."""
        at, name = extrema(formula), f"kappa = {kappa:g}"
        if at is None:
            return [close(f"one descent, {name}", "largest rise", 0.0, rise(errors.mean(0)), 1e-3)]
        low, high = at
        grown = errors[:, high] - errors[:, low]
        verdicts = [exceeds(f"rise, {name}", "E_G at the peak, less at the minimum before", 0.0, grown)]
        if formula[-1] > LEVEL * formula[high]:
            late, quantity = errors[:, -1] / errors[:, high], "E_G at the end / at its highest"
            return [*verdicts, exceeds(f"no second descent, {name}", quantity, LEVEL - 0.05, late)]
        fallen, found = errors[:, -1] - errors[:, high], extrema(errors.mean(0))
        verdicts.append(stays_below(f"second descent, {name}", "E_G at the end, less at the peak", 0.0, fallen))
        expected, measured = np.log10(marks[high]), np.log10(marks[found[1]]) if found else np.nan
        verdicts.append(close(f"peak, {name}", "its log10 of time", float(expected), float(measured), 0.15))
        return verdicts

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, marks: np.ndarray, errors: np.ndarray, traces: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        for i, (kappa, each, trace) in enumerate(zip(self.conditions, errors, traces, strict=True)):
            against(left, i, (marks, trace.mean(0)), (marks[::2], each[:, ::2].T), rf"$\kappa$ = {kappa:g}")
        left.set(xscale="log", xlabel=r"steps of gradient descent, $\eta = 1/\lambda_{max}$", ylabel="test error E$_G$")
        left.legend(title="lines: trace formula", loc="lower left")
        i, off = 1, errors[1] - traces[1]
        right.axhline(0, color="0.3", label="theory")
        marked(right, marks, off.T, label=rf"$\kappa$ = {self.conditions[i]:g}", **look(i))
        right.set(xscale="log", xlabel="steps", ylabel="E$_G$ - trace formula")
        right.legend()


def _done(values: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """1 - (1 - eta l)^t with eta = 1 / l_max: (times, eigenvalues), exact for small l too."""
    with np.errstate(divide="ignore"):
        return -np.expm1(np.multiply.outer(marks, np.log1p(-np.clip(values / values[-1], 0, 1))))


@eqx.filter_jit
def _descended(x: Array, y: Array, eta: Array, counts: Array) -> Array:
    circuit = wired(SGD(), (x.shape[-1], 1))

    def one(x: Array, y: Array, eta: Array) -> Array:
        flow = weight_flow(circuit, x, y[:, None], eta * x.shape[0])  # it averages over samples: a step sums
        return course(flow, {"W1": jnp.zeros((1, x.shape[1]), jnp.float64)}, counts)["W1"][:, 0]

    return jax.vmap(one)(x, y, eta)


def rise(curve: np.ndarray) -> float:
    """The largest rise of a curve above what it was at any time before."""
    return float((curve - np.minimum.accumulate(curve)).max())


def extrema(curve: np.ndarray) -> tuple[int, int] | None:
    """The positions of a minimum and the peak after it that the largest rise lies between; None without any."""
    high = int((curve - np.minimum.accumulate(curve)).argmax())
    low = int(curve[: high + 1].argmin())
    return (low, high) if high > low and curve[high] > curve[low] + 1e-3 else None
