"""T1.9: noise in the activities costs no accuracy until it is as large as the activities themselves."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

from dynamics.integrators import Window
from dynamics.noise import Noise
from dynamics.stimulus import Stream
from experiments.predictions.continuous.accuracies import AbstractDigitsPrediction, in_t
from experiments.predictions.contract import Finding, NonNegatives, Positive
from experiments.predictions.kit import coupled, f64, legend_outside, look, marked, plotted, wired
from experiments.predictions.study.plasticity_window import WINDOW_DROP
from experiments.results.verdicts import JUDGED, Verdict, close, exceeds, stays_below
from rules import SGD

UNITS, TIMES = 500, 40


class ActivityNoise(AbstractDigitsPrediction):
    """Accuracy against the standard deviation of Ornstein-Uhlenbeck noise in every activity."""

    number = "T1.9"
    title = "Learning is robust to noise in the activities"
    source = "bacvanski2025continuous, abstract (integration noise); the deviation is derived"
    equation = """tau_prop dz = (-z + f(a)) dt + s sqrt(2 tau_prop) dB;  without input: var z = s^2, <z(t) z(t + T)> =
        s^2 exp(-T / tau_prop)"""
    claim = """Weights average over noise that is fast: up to s = 0.3, where activities lie between -1 and 1, accuracy
        is that of the quiet network up to 5 %. It does fall once the noise drowns the activities."""
    method = f"""Test accuracy (without noise) on digits after learning in noise, in pairs of equal seeds. The noise
        itself: {UNITS} units without input, seen {TIMES} times."""
    tolerance = """Accuracies: the loss, with its whole 99.9 % interval over seeds, is below the 5 % that bound the
        plasticity window. Moments of the noise: 99.9 % of their sampling distribution, from the number of units and
        times and their correlation."""
    quick = {"rules": ("fa",), "noises": (0.0, 0.3, 4.0), "presentations": 600, "plasticity": 50.0}

    noises: NonNegatives = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0, 4.0)
    harmless: Positive = 0.3

    def misfit(self) -> str | None:
        if self.noises[0] != 0 or any(np.diff(self.noises) <= 0) or not 0 < self.harmless < self.noises[-1]:
            return f"noises must start at 0, increase, and reach beyond harmless = {self.harmless:g}"
        if not any(0 < s <= self.harmless for s in self.noises):
            return f"noises must have one above 0 that is at most harmless = {self.harmless:g}"

    def measure(self) -> Finding:
        points, steps = {"noise.activity": list(self.noises)}, {"dt": in_t(self.propagation)}
        found, notes = self.learned(lambda rule: points, integrator=steps)
        verdicts = [verdict for name, each in found.items() for verdict in self._verdicts(name, each)]
        return Finding([*self._moments(), *verdicts], self._drawn(found), notes)

    def _verdicts(self, name: str, accuracy: np.ndarray) -> list[Verdict]:
        loss, noises = accuracy[:, :1] - accuracy[:, 1:], self.noises[1:]
        drop = WINDOW_DROP * float(accuracy[:, 0].mean())
        mild = np.array(noises) <= self.harmless
        worst = int(np.where(mild, loss.mean(axis=0), -np.inf).argmax())
        return [
            stays_below(f"noise that costs nothing ({name})", f"largest loss of accuracy up to s = {self.harmless:g}",
                        drop, loss[:, worst], f"at s = {noises[worst]:g}"),
            exceeds(f"noise that costs learning ({name})", f"loss of accuracy at s = {noises[-1]:g}", drop,
                    loss[:, -1]),
        ]  # fmt: skip

    def _moments(self) -> list[Verdict]:
        """Variance and correlation of the noise over one presentation against the Ornstein-Uhlenbeck process."""
        z, s = self._still(), self.harmless
        r = np.exp(-1 / self.propagation)
        # Independent values that tell as much of the variance: correlations r^n weigh in as r^2n.
        size = z.size * (1 - r**2) / (1 + r**2)
        quantile = float(jax.scipy.stats.norm.ppf((1 + JUDGED) / 2))
        spread = quantile * np.sqrt(2 / size)
        later = float(np.mean(z[1:] * z[:-1]) / np.mean(z**2))
        note = f"{UNITS} units, {TIMES} times"
        return [
            close("stationary deviation of the noise", "var z / s^2", 1.0, float(np.mean(z**2) / s**2), spread, note),
            close("correlation of the noise", "correlation of z with itself one T later", r, later, spread, note),
        ]

    def _still(self) -> np.ndarray:
        """Activities (times, units) of a layer without input that only noise drives, from when it is stationary on."""
        circuit, window = wired(SGD(), (1, UNITS), gain=f64(0.0)), Window(nodes=12, parts=1, gaps=False)
        nothing = Stream(f64(np.zeros((1, 1))), f64(np.zeros((1, UNITS))), jax.random.key(0))
        noise, key = Noise(activity=f64(self.harmless)), jax.random.key(self.seed)
        run = coupled(circuit, nothing, self.propagation, np.inf, 1.0, 1, integrator=window, noise=noise, key=key)
        settled = int(np.ceil(10 * self.propagation))  # of the start from 0, exp(-10) is left

        def show(progress: Any, k: jax.Array) -> tuple[Any, jax.Array]:
            progress = run.advance(progress, k, 1)
            return progress, progress.state.activity["z1"]

        start = run.init(run.circuit.initial_weights(jax.random.key(0)))
        shown = jnp.arange(settled + TIMES, dtype=jnp.int32)
        return np.asarray(jax.jit(lambda p, k: jax.lax.scan(show, p, k)[1])(start, shown))[settled:]

    @plotted(3.4, 2.7)
    def _drawn(self, panel: Axes, found: dict[str, np.ndarray]) -> None:
        for i, (name, accuracy) in enumerate(found.items()):
            panel.axhline(accuracy[:, 0].mean(), color=look(i)["color"], linewidth=1)
            marked(panel, self.noises, accuracy.T, label=name, **look(i))
        panel.plot([], [], color="0.3", linewidth=1, label="quiet network")
        self.chance.draw(panel)
        panel.axvspan(0, self.harmless, color="0.93", zorder=-1)
        panel.set_xscale("symlog", linthresh=0.1, linscale=0.4)
        panel.set_xticks([s for s in self.noises if s != 0.6], [f"{s:g}" for s in self.noises if s != 0.6])
        panel.minorticks_off()
        panel.set(xlabel="deviation s of the activity noise", ylabel="test accuracy", ylim=(0, 1))
        legend_outside(panel, 3)
