"""B1.3: closed forms of single modes from silence, and matrices that two local rules conserve."""

from typing import Annotated, Any

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field
from scipy.integrate import cumulative_simpson

from dynamics.circuit import Circuit, Weights
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds
from experiments.predictions.drawing import drawn, look, ticked
from experiments.predictions.kit import all_close, order, wired
from experiments.predictions.linear.setting import (
    Matrices,
    crossing,
    flown,
    modes,
    orthonormal,
    product,
    stacked,
)
from experiments.results.verdicts import Verdict, close
from rules import FA, KP
from rules.contract import AbstractRule

RULES: dict[str, AbstractRule] = {"FA": FA(), "KP": KP()}
RECORDS, LEARNED = 100, 0.98
FINE = 0.1  # step of dopri5 in units of the fastest relaxation
Strengths = Annotated[tuple[Positive, ...], Field(min_length=2, max_length=6)]


class FeedbackModes(AbstractPrediction):
    number = "B1.3"
    title = "Modes under feedback alignment and Kolen-Pollack learning, in closed form"
    source = """saxe2014exact, the setting; derived for feedback alignment (the conserved matrix: lillicrap2016random,
        supplement) and for Kolen-Pollack learning"""
    equation = """FA: W1 W1^T - V W2 - (V W2)^T is conserved; from silence u = w^3 / (2 b), w' = (c^3 - w^3) / 2, c^3
        = 2 b s. KP: W1 W1^T - V V^T is conserved; from silence u = b^2 sinh h (cosh h - 1), h' = s - u"""
    claim = """With the feedback's singular vectors aligned to the teacher's, and W = 0 at the start, every mode u(t)
        follows the closed form of its rule: no saddle is left slowly. A mode starts as (b s)^2 s t^3 / 2 under both
        rules, and under FA is half learned after a time proportional to (b s)^(-2/3), where gradient descent needs
        1/s. With any matrices the two invariants hold."""
    method = """The weight flow by dopri5 on whitened inputs; modes l_j^T W2 W1 r_j against t(w) in closed form for FA
        and by quadrature for KP; the invariants from random starts with random feedback."""
    tolerance = """1e-6 of the run's time, and 1e-8 of the matrices' squared norms: what dopri5 leaves in steps of a
        tenth of the fastest relaxation, and the quadrature. The power of the half-time: 0.01, for reading it between
        records; the onset: 0.05, as records lie where u is up to 0.01 s."""
    quick = {"strengths": (4.0, 2.0, 1.0), "seeds": 3}

    size: Annotated[int, Field(strict=True, ge=2, le=30)] = 5  # of inputs and outputs
    hidden: Annotated[int, Field(strict=True, ge=2, le=60)] = 7
    strengths: Strengths = (4.0, 2.5, 1.5, 0.6)
    feedback: Positive = 0.8  # b
    seeds: Seeds = 10  # of random starts

    def misfit(self) -> str | None:
        if len(self.strengths) > min(self.size, self.hidden):
            return "there must be at most as many strengths as inputs, outputs and hidden neurons"

    def measure(self) -> Finding:
        verdicts, curves = [], {}
        left, right = self._frames()
        for name, rule in RULES.items():
            time = self._time(name)
            count = int(np.ceil(time * self._fastest / (FINE * RECORDS)))
            found = flown(self._circuit(rule), self._starts(left, right), self._teacher, time, RECORDS, count)
            times, u = np.linspace(0, time, RECORDS + 1), modes(product(found, 2)[0], left, right)
            curves[name] = times, u
            verdicts.append(self._exact(name, times, u))
            drift = np.abs(invariant(name, found) - invariant(name, found)[:, :1])
            size = np.stack([(w[:, :1] ** 2).sum((-1, -2)) for w in found.values()]).sum(0)[..., None, None]
            verdicts.append(all_close(f"{name} conserves", "largest drift of the invariant", 0.0, drift / size, 1e-8))
        times, u = curves["FA"]
        half = crossing(times, (u / self.strengths).T)
        power = float(order(self.strengths, half))
        verdicts.append(close("half-time under FA", "its power of s", -2 / 3, power, 0.01))
        verdicts.append(self._onset(curves))
        return Finding(verdicts, self._drawn(curves))

    def _exact(self, name: str, times: np.ndarray, u: np.ndarray) -> Verdict:
        off = []
        for s, mode in zip(self.strengths, u.T, strict=True):
            inside = (mode > 1e-9 * s) & (mode < LEARNED * s)
            off.append(np.abs(self.times_of(name, mode[inside], s) - times[inside]).max() / times[-1])
        return all_close(f"modes under {name}", "largest error of t(u) / time of the run", 0.0, np.array(off), 1e-6)

    def times_of(self, name: str, u: np.ndarray, s: float) -> np.ndarray:
        """When a mode of strength s, silent at the start, reaches values u."""
        b = self.feedback
        if name == "FA":
            c, w = (2 * b * s) ** (1 / 3), np.cbrt(2 * b * u)
            logarithm = np.log((c**2 + c * w + w**2) / (c - w) ** 2) / 6
            angles = np.arctan((2 * w + c) / (3**0.5 * c)) - np.arctan(3**-0.5)
            return 2 / c**2 * (logarithm + angles / 3**0.5)
        # h is a function of u and t of h; both monotonic. The grid is fine at both ends, where 1/(s - u) is steep.
        top = _hyperbolic(LEARNED * s / b**2)
        h = top * (1 - np.linspace(1, 0, 20_001) ** 2)
        t = cumulative_simpson(1 / (s - b**2 * np.sinh(h) * (np.cosh(h) - 1)), x=h, initial=0)
        return np.interp(_hyperbolic(u / b**2), h, t)

    def _onset(self, curves: dict[str, Any]) -> Verdict:
        ratios = []
        for times, u in curves.values():
            for s, mode in zip(self.strengths, u.T, strict=True):
                early = np.flatnonzero((mode < 0.01 * s) & (times > 0))
                if early.size:
                    t = times[early[0]]
                    ratios.append(mode[early[0]] / ((self.feedback * s) ** 2 * s * t**3 / 2))
        return all_close("onset", "u / ((b s)^2 s t^3 / 2) at the first record", 1.0, np.array(ratios), 0.05)

    @property
    def _fastest(self) -> float:
        """Of the relaxation of learned modes: 3 c^2 / 2, and w1^2 + v w2 up to s + b^2 under KP."""
        s, b = max(self.strengths), self.feedback
        return max(1.5 * (2 * b * s) ** (2 / 3), 2 * (s + b**2))

    def _time(self, name: str) -> float:
        weakest = min(self.strengths)
        return float(self.times_of(name, np.array([0.95 * weakest]), weakest)[0])

    @property
    def _teacher(self) -> np.ndarray:
        left, right = self._frames()
        return left * self.strengths @ right.T

    def _frames(self) -> tuple[np.ndarray, np.ndarray]:
        rng, k = np.random.default_rng(self.seed), len(self.strengths)
        return orthonormal(rng, self.size, k), orthonormal(rng, self.size, k)

    def _starts(self, left: np.ndarray, right: np.ndarray) -> Weights:
        """Silence with aligned feedback, then random matrices, one for each seed."""
        n, h = self.size, self.hidden
        inner = orthonormal(np.random.default_rng([self.seed, 1]), h, left.shape[1])
        starts = [{"W1": np.zeros((h, n)), "W2": np.zeros((n, h)), "V2": self.feedback * inner @ left.T}]
        for seed in range(self.seed, self.seed + self.seeds):
            rng = np.random.default_rng([seed, 2])
            shapes = {"W1": (h, n), "W2": (n, h), "V2": (h, n)}
            starts.append({k: self.feedback * rng.standard_normal(shape) / h**0.5 for k, shape in shapes.items()})
        return stacked(starts)

    def _circuit(self, rule: AbstractRule) -> Circuit:
        return wired(rule, (self.size, self.hidden, self.size), activation="linear")

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, curves: dict[str, Any]) -> None:
        *panels, scaling = figure.subplots(1, 3)
        for panel, (name, (times, u)) in zip(panels, curves.items(), strict=True):
            for j, s in enumerate(self.strengths):
                fine = LEARNED * s * np.linspace(1e-6, 0.999, 300) ** 2
                panel.plot(self.times_of(name, fine, s), fine, color=look(j)["color"])
                shown = (times < self.times_of(name, fine[-1:], s)).nonzero()[0][::5]
                panel.plot(times[shown], u[shown, j], linestyle="", label=f"s = {s:g}", **look(j))
            panel.set(xlabel=r"time ($\tau_{plast}$)", ylabel="mode strength u", title=name, xlim=(0, times[-1]))
        panels[0].legend(title="lines: theory", fontsize=7)
        s = np.geomspace(min(self.strengths) / 1.5, max(self.strengths) * 1.5, 30)
        for i, (name, (times, u)) in enumerate(curves.items()):
            theory = [float(self.times_of(name, np.array([one / 2]), one)[0]) for one in s]
            scaling.loglog(s, theory, color=look(i)["color"])
            half = crossing(times, (u / self.strengths).T)
            scaling.loglog(self.strengths, half, linestyle="", label=name, **look(i))
        scaling.set(xlabel="singular value s", ylabel=r"half-time ($\tau_{plast}$)", title="time to learn half")
        ticked(scaling, self.strengths, ".2g")
        scaling.legend()


def _hyperbolic(value: np.ndarray | float) -> np.ndarray:
    """h with sinh h (cosh h - 1) = value, by Newton's method from above: the left side is convex."""
    value = np.asarray(value, float)
    h = np.minimum(np.cbrt(2 * value), 1) + np.log1p(2 * value) / 2
    for _ in range(60):
        h = h - (np.sinh(h) * (np.cosh(h) - 1) - value) / np.maximum(np.cosh(2 * h) - np.cosh(h), 1e-300)
    return np.asarray(h)


def invariant(name: str, found: Matrices) -> np.ndarray:
    """What FA, or KP, conserves, over all leading axes."""
    first, feedback = found["W1"], found["V2"]
    if name == "KP":
        return first @ first.swapaxes(-1, -2) - feedback @ feedback.swapaxes(-1, -2)
    mixed = feedback @ found["W2"]
    return first @ first.swapaxes(-1, -2) - mixed - mixed.swapaxes(-1, -2)
