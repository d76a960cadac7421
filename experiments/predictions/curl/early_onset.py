"""T2.16b: students that start anywhere fail at fewer flips than the boundary says, and not because they are small."""

from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive, Seeds
from experiments.predictions.curl.learning import Units, divided, teachers
from experiments.predictions.curl.onsets import located, matrix_onsets
from experiments.predictions.curl.students import Protocol, Setting, error_courses
from experiments.predictions.curl.theory import hidden_boundary
from experiments.predictions.curl.trained import Ratio
from experiments.predictions.kit import drawn, legend_outside, look, marked
from experiments.results.verdicts import exceeds, stays_below
from experiments.spec.units import Time

EVERY, TEST, NEAR, SAMPLED = 50, 50, 1e-3, 200
CLEARLY = 0.8  # of the boundary


class EarlyOnset(AbstractPrediction):
    """The share of linear students without a solution at the end, against the number of flipped inputs."""

    number = "T2.16b"
    title = "Students that start anywhere fail before the boundary, which is no effect of their size"
    source = """ninou2025curl, inset of fig. 3a: at small alpha_h the observed transition lies slightly left of the
        theory, which was read as an effect of finite size; what is tested here beside it is derived"""
    equation = """the solution of an infinite network is stable for alpha_h < alpha_h*(c); a student of M inputs and N
        hidden units is stable beside its teacher where the eigenvalues of A - w_t (D1 w_t / |W1|^2 + W1^T w2 /
        |W2|^2)^T are positive; on its way the weights change by |dW2|^2 / |W2|^2 of order c, at any size"""
    claim = """Of students that start anywhere a share finds no solution already at fewer flipped inputs than the
        boundary allows: the transition is left of the theory, as published. Students of the same teachers that start
        beside them do return. Finite size is not why: matrices of the same size lose their stability at more flips than
        the boundary, not fewer. What fails is the way to a solution, along which weights change as much as they are
        large, however many there are."""
    method = """Clamped full-batch steps, as published, of students with weights of their own and of students whose
        readout is a hair beside the teacher's, for numbers of flips up to 0.8 of the boundary. Onsets by the matrices
        of 200 other teachers."""
    tolerance = """99.9 % intervals over seeds: of the share of students with an error above `unsolved` at the most
        flips below 0.8 of the boundary, and of the onset of matrices."""
    quick = {"units": (53,), "seeds": 48, "time": Time(500.0)}

    ratio: Ratio = 0.36  # c = inputs / hidden units
    units: Annotated[tuple[Units, ...], Field(min_length=1)] = (53, 80)
    step: Positive = 1.0  # in tau_plast = 1 s
    time: Duration = Time(600.0)
    unsolved: Positive = 1e-2
    seeds: Seeds = 64

    def misfit(self) -> str | None:
        if any(len(self.flips(n)) < 1 for n in self.units):
            return "curl-early-onset.units must be so many that one flipped input is below 0.8 of the boundary"
        return None

    def measure(self) -> Finding:
        star, found = hidden_boundary(self.ratio), {n: self._failed(n) for n in self.units}
        verdicts, notes = [], []
        for units, (flips, anywhere, beside) in found.items():
            inputs, _ = divided(units, self.ratio)
            at = f"{units} neurons, {flips[-1]} of {inputs} inputs flipped"
            more = (anywhere - beside)[:, -1]
            quantity = "share without a solution from anywhere, less that from beside the teacher"
            verdicts.append(exceeds(f"left of the boundary, {at}", quantity, 0.0, more))
            quantity = "share without a solution from beside the teacher"
            verdicts.append(stays_below(f"stable there, {at}", quantity, 0.25, beside[:, -1]))
            onsets = located(self._onsets(units), inputs)
            name = f"finite size shifts to the right, {units} neurons"
            verdicts.append(exceeds(name, "fraction flipped at the onset of matrices", star, onsets))
            shares = ", ".join(f"{s:.2f} at {n / inputs:.2f}" for s, n in zip(anywhere.mean(0), flips, strict=True))
            notes.append(f"Shares without a solution from anywhere, {units} neurons, by alpha_h: {shares}.")
        return Finding(verdicts, self._drawn(found), notes)

    def flips(self, units: int) -> np.ndarray:
        """The numbers of flipped inputs, from 1, clearly below the boundary."""
        inputs, _ = divided(units, self.ratio)
        return np.arange(1, int(CLEARLY * inputs * hidden_boundary(self.ratio)) + 1)

    def _onsets(self, units: int) -> np.ndarray:
        """The fewest flips at which matrices of this size are unstable."""
        return matrix_onsets(teachers(self.seed + 2**31, SAMPLED, *divided(units, self.ratio)), 0)

    def _failed(self, units: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers of flips; whether students have no solution at the end, from anywhere and from beside the teacher:
        (seeds, flips) each."""
        sizes, flips = divided(units, self.ratio), self.flips(units)
        protocol = Protocol(*sizes, "linear", True, self.step, self.time.value, EVERY, TEST)
        settings = [Setting(2 * sizes[0] + 10, 1.0, 1.0), Setting(2 * sizes[0] + 10, 1.0, 1.0, NEAR)]
        pairs = np.stack([flips / sizes[0], np.zeros(len(flips))], 1)
        errors = error_courses(protocol, settings, pairs, self.seed, self.seeds)[..., -1]
        anywhere, beside = (~(errors < self.unsolved)).astype(float)
        return flips, anywhere, beside

    @drawn(3.6, 3.0)
    def _drawn(self, figure: Figure, found: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
        panel, star = figure.subplots(), hidden_boundary(self.ratio)
        for i, (units, (flips, anywhere, beside)) in enumerate(found.items()):
            inputs, _ = divided(units, self.ratio)
            more = np.arange(int(inputs * min(2 * star, 1)) + 1)
            onsets = self._onsets(units)
            unstable = [(onsets <= n).mean() for n in more]
            panel.plot(more / inputs, unstable, color=look(i)["color"], label=f"matrices, {units} neurons")
            marked(panel, flips / inputs, anywhere.T, label="students from anywhere", **look(i))
            hollow = look(i, fillstyle="none")
            marked(panel, flips / inputs, beside.T, label="from beside the teacher", **hollow)
        panel.axvline(star, color="0.3", linestyle="--", label="theory, infinite size")
        panel.set(
            xlabel=r"fraction of flipped inputs $\alpha_h$", ylabel="share without a solution", ylim=(-0.05, 1.05)
        )
        legend_outside(panel, 2)
