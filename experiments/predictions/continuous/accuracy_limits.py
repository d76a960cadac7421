"""T1.5a, T1.5c, T1.7, T1.9: what late errors, lags, gaps and noise do to the accuracy of networks that learn digits."""

from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes

from dynamics.integrators import Window
from dynamics.noise import Noise
from dynamics.stimulus import Stream
from experiments.predictions.continuous.accuracies import AbstractDigitsPrediction, Replicates, Rules, in_t, knees
from experiments.predictions.continuous.interference import weight_changes
from experiments.predictions.contract import Finding, NonNegatives, Positive, Positives
from experiments.predictions.drawing import against, legend_outside, look, marked, plotted
from experiments.predictions.kit import all_close, coupled, f64, records, wired
from experiments.predictions.study.plasticity_window import WINDOW_DROP
from experiments.results.verdicts import JUDGED, Verdict, between, bracketed, close, exceeds, matches, stays_below
from rules import SGD

LATE = 1.1  # T: from here on no synapse's input and error overlap, lags included
KNEE = (0.5, 1.0)  # T: where half the overlap is left, and none
UNITS, TIMES = 500, 40


class AccuracyDelay(AbstractDigitsPrediction):
    """Accuracy against error delay, rule by rule."""

    number = "T1.5a"
    title = "In a dense stream accuracy collapses before the delay reaches the stimulus duration"
    source = "bacvanski2025continuous, abstract and delay maps; the slowing limit is derived"
    equation = """T/2 < d_knee < T;  accuracy(d, tau_plast) <= accuracy(0, tau_plast / S_l(d)), S_l(d) = E max(0, 1 - |d
        + V - U| / T), U ~ Gamma(l - 1), V ~ Gamma(1 + L - l), in tau_prop"""
    claim = """With errors that come d late in a stream without gaps, accuracy after long enough training has fallen
        half way to chance somewhere between d = T/2 and T, and is at chance beyond T. On the way it is below that of a
        prompt network which is slowed to the same overlap: late errors also meet the next stimulus."""
    method = """Test accuracy on digits after training; the knee of the mean curve over seeds, with its jackknife
        interval. The slowing limit is simulated without a delay, with tau_plast / S_l(d) in each layer."""
    tolerance = """Intervals over seeds at 99.9 % lie inside the bounds, or above 0. At chance: the 99.9 % interval over
        seeds plus the inequality of the classes in the test set."""
    quick = {
        "rules": ("fa",), "delays": (0.0, 0.5, 0.8, 1.1), "presentations": 400, "plasticity": 40.0,
        "seeds": 10,
    }  # fmt: skip

    rules: Rules = ("sgd", "fa", "dfa", "kp")
    seeds: Replicates = 12
    delays: NonNegatives = (0.0, 0.3, 0.5, 0.65, 0.75, 0.8, 0.9, 1.0, 1.1)  # in units of T

    def misfit(self) -> str | None:
        delays = np.array(self.delays)
        if delays[0] != 0 or (np.diff(delays) <= 0).any() or delays[-1] < LATE or not self._falling().any():
            return f"delays must start at 0, increase, have one from 0.5 to 1, and reach {LATE:g} (unit T)"

    def _falling(self) -> np.ndarray:
        """Which delays leave less than half of the overlap, but some."""
        return (np.array(self.delays) >= KNEE[0]) & (np.array(self.delays) < KNEE[1])

    def measure(self) -> Finding:
        (found, notes), n = self.learned(self._points), len(self.delays)
        late = {name: accuracy[:, :n] for name, accuracy in found.items()}
        prompt = {name: np.delete(accuracy, np.s_[1:n], axis=1) for name, accuracy in found.items()}
        verdicts = [verdict for name in found for verdict in self._verdicts(name, late[name], prompt[name])]
        return Finding(verdicts, self._drawn(late, prompt), notes)

    def _points(self, rule: str) -> dict[str, list[Any]]:
        """Every delay; then prompt networks that are slowed to the overlap at each delay but the first, 0."""
        slow = [self.slowed(rule, delay, self.propagation, self.propagation) for delay in self.delays[1:]]
        return {
            "delays.error": [in_t(delay) for delay in self.delays] + ["0 T"] * len(slow),
            "timescales.plasticity": [self.usual] * len(self.delays) + slow,
        }

    def _verdicts(self, name: str, late: np.ndarray, prompt: np.ndarray) -> list[Verdict]:
        found = knees(late, self.delays, self.chance.level)
        cost = (prompt - late)[:, self._falling()].mean(axis=1)
        beyond = late[:, np.array(self.delays) >= LATE].mean(axis=1)
        return [
            between(f"knee before no overlap is left ({name})", "delay at half accuracy, d / T", *KNEE, found),
            exceeds(f"the next stimulus interferes ({name})",
                    "accuracy of the slowing limit less that in the stream, mean over delays from T/2 to T", 0.0, cost),
            matches(f"no overlap, no learning ({name})", f"test accuracy at delays of at least {LATE:g} T",
                    self.chance.level, beyond, self.chance.imbalance),
        ]  # fmt: skip

    @plotted(3.4, 2.8)
    def _drawn(self, panel: Axes, late: dict[str, np.ndarray], prompt: dict[str, np.ndarray]) -> None:
        for i, (name, accuracy) in enumerate(late.items()):
            against(panel, i, (self.delays, prompt[name].mean(axis=0)), (self.delays, accuracy.T), name, linewidth=1)
        panel.plot([], [], color="0.3", linewidth=1, label="slowing limit")
        self.chance.draw(panel)
        panel.set(xlabel="error delay d (stimulus durations T)", ylabel="test accuracy", ylim=(0, 1))
        legend_outside(panel, 3)


class Curves(NamedTuple):
    """Accuracies (seeds, lags): of the late network, and of those slowed to the overlap with target and with loop."""

    late: np.ndarray
    target: np.ndarray
    loop: np.ndarray


class AccuracyPropagation(AbstractDigitsPrediction):
    """Accuracy against tau_prop, rule by rule."""

    number = "T1.5c"
    title = "Propagation lags cost accuracy as they use up the overlap of input and error"
    source = "bacvanski2025continuous, abstract (propagation is fast); bounds derived from its overlap"
    equation = """tau_loop < tau_knee < tau_target, where accuracy(tau_prop -> 0, tau_plast / S_l(tau)) is half way to
        chance;  S_l(tau) = E max(0, 1 - |V - U| / T), U ~ Gamma(l - 1), V ~ Gamma(n + 1 + L - l), in tau;  n = 0 for
        the target, n = L for the loop"""
    claim = """Of the error, the target passes 1 + L - l filters on its way to layer l, and the network's output, which
        goes round the loop, L more. The lag at which accuracy has fallen half way to chance lies between those at which
        prompt networks do that are slowed to the overlap with the one and with the other."""
    method = """Test accuracy on digits after a dense stream; knees of mean curves over seeds, in log tau_prop, with
        jackknife intervals. The slowed networks have the shortest lag, and tau_plast / S_l(tau) in each layer."""
    tolerance = "The 99.9 % interval over seeds of the distance to a bound lies on the claimed side."
    quick = {"rules": ("fa",), "lags": (0.02, 0.2, 0.5, 1.0, 2.0, 5.0), "presentations": 600, "plasticity": 50.0}

    lags: Positives = (0.02, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)  # tau_prop in units of T

    def misfit(self) -> str | None:
        if any(np.diff(self.lags) <= 0) or 8 * self.layers * self.lags[0] > 1:
            return f"lags must increase, and start at most at {1 / (8 * self.layers):.3g}, a prompt one"

    def measure(self) -> Finding:
        (found, notes), n, curves, verdicts = self.learned(self._points), len(self.lags), {}, []
        for name, accuracy in found.items():
            slowed = accuracy[:, n : 2 * n - 1], accuracy[:, 2 * n - 1 :]
            bounds = (np.concatenate([accuracy[:, :1], rest], axis=1) for rest in slowed)
            curves[name] = Curves(accuracy[:, :n], *bounds)
            verdicts += self._verdicts(name, curves[name], notes)
        return Finding(verdicts, self._drawn(curves), notes)

    def _points(self, rule: str) -> dict[str, list[Any]]:
        """Every lag; then networks slowed to the overlap with the target at each but the first, and with the loop."""
        first, later = self.lags[0], self.lags[1:]
        slow = [self.slowed(rule, 0.0, lag, first, loop) for loop in (False, True) for lag in later]
        return {
            "timescales.propagation": [in_t(lag) for lag in self.lags] + [in_t(first)] * len(slow),
            "timescales.plasticity": [self.usual] * len(self.lags) + slow,
        }

    def _verdicts(self, name: str, curves: Curves, notes: list[str]) -> list[Verdict]:
        late, target, loop = (knees(curve, np.log(self.lags), self.chance.level) for curve in curves)
        at, around = np.exp(late.mean()), 2 * self.layers
        notes.append(
            f"{name}: half accuracy at tau_prop = {at:.3g} T, where 2 L tau_prop = {around * at:.3g} T. Learning of "
            "the whole network does not end at 2 L tau_prop = T, as the lag around the loop to the first layer has "
            "it: the target comes by a shorter way, and the output layer goes on learning from the features there are."
        )
        bounds = f"knees of the bounds at {np.exp(loop.mean()):.3g} T and {np.exp(target.mean()):.3g} T"
        quantity = "log of tau_prop at the knee over that of the network slowed to the overlap with the"
        return [
            exceeds(f"the target comes before the loop closes ({name})", f"{quantity} loop", 0.0, late - loop, bounds),
            stays_below(f"other stimuli interfere ({name})", f"{quantity} target", 0.0, late - target, bounds),
        ]

    @plotted(3.4, 2.9)
    def _drawn(self, panel: Axes, curves: dict[str, Curves]) -> None:
        for i, (name, each) in enumerate(curves.items()):
            panel.plot(self.lags, each.target.mean(axis=0), color=look(i)["color"], linewidth=1)
            panel.plot(self.lags, each.loop.mean(axis=0), color=look(i)["color"], linewidth=1, linestyle="--")
            marked(panel, self.lags, each.late.T, label=name, **look(i))
        for line, text in (("-", "target"), ("--", "loop")):
            panel.plot([], [], color="0.3", linewidth=1, linestyle=line, label=f"slowed: {text}")
        critical = 1 / (2 * self.layers)
        panel.axvline(critical, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        panel.text(critical, 0.02, "$2L\\tau=T$ ", color="0.35", fontsize=7, ha="right")
        self.chance.draw(panel)
        panel.set(xscale="log", xlabel="propagation time constant (stimulus durations T)", ylim=(0, 1))
        panel.set_ylabel("test accuracy")
        legend_outside(panel, 2)


class BlankGaps(AbstractDigitsPrediction):
    """Accuracy against the gap between stimuli, at a delay shorter and one longer than a stimulus."""

    number = "T1.7"
    title = "Blank gaps as long as the delay rescue learning from late errors, but not beyond T"
    source = "bacvanski2025continuous, delays; what gaps do is derived from its model"
    equation = """tau_plast dW = (T - d) e_k x_k^T + max(0, d - g) e_k x_(k+1)^T;  with g >= d: accuracy(d, tau_plast)
        is about accuracy(0, tau_plast / S_l(d))"""
    claim = """In a dense stream an error that is late by d < T meets its own stimulus for T - d and the next one for d.
        A gap g >= d takes away the second part: accuracy rises, to that of a prompt network slowed to the same overlap.
        At d > T there is no first part, and gaps do not help."""
    method = """Test accuracy on digits with and without gaps, in pairs of equal seeds. For the equation: a linear layer
        that starts at 0 and learns little, against the sum over its stimuli, with the error unit's filter in the
        overlaps."""
    tolerance = """The 99.9 % interval over seeds. The slowed network is a bracket, as the two parts of the error,
        target and output, pass different numbers of filters. The equation: 0.2 %, five times the error of Heun steps of
        tau_prop / 8."""
    quick = {"rules": ("fa",), "gaps": (0.0, 1.2), "presentations": 400, "plasticity": 25.0, "seeds": 10}

    rules: Rules = ("fa", "dfa")  # SGD diverges in the stream without gaps
    plasticity: Positive = 40.0
    gaps: NonNegatives = (0.0, 0.3, 0.6, 0.9, 1.2)  # in units of T
    delay: Positive = 0.9
    late: Positive = 1.1
    seeds: Replicates = 14

    def misfit(self) -> str | None:
        if self.gaps[0] != 0 or any(np.diff(self.gaps) <= 0) or self.gaps[-1] < self.late:
            return f"gaps must start at 0, increase, and reach late = {self.late:g} (in units of T)"
        if not self.delay < 1 <= self.late:
            return f"delay = {self.delay:g} must be below 1 and late = {self.late:g} at least 1 (units of T)"

    def measure(self) -> Finding:
        (accuracies, notes), n = self.learned(self._points), len(self.gaps)
        found = {name: (each[:, :n], each[:, n:-2], each[:, -2:]) for name, each in accuracies.items()}
        verdicts = [verdict for name, parts in found.items() for verdict in self._verdicts(name, *parts)]
        return Finding([self._equation(), *verdicts], self._drawn(found), notes)

    def _points(self, rule: str) -> dict[str, list[Any]]:
        """Every gap at the shorter delay, at the longer one, and prompt networks slowed to the shorter's overlap."""
        n = len(self.gaps)
        slow = [self.slowed(rule, self.delay, self.propagation, self.propagation, loop) for loop in (False, True)]
        return {
            "delays.error": [in_t(self.delay)] * n + [in_t(self.late)] * n + ["0 T"] * 2,
            "stimulus.gap": [in_t(gap) for gap in (*self.gaps, *self.gaps, *self.gaps[-1:] * 2)],
            "timescales.plasticity": [self.usual] * (2 * n) + slow,
        }

    def _equation(self) -> Verdict:
        measured, expected = weight_changes(self.seed, self.delay, self.gaps, self.propagation)
        error = np.linalg.norm(measured - expected, axis=(1, 2)) / np.linalg.norm(expected, axis=(1, 2))
        quantity = "largest deviation of dW from the sum over stimuli, relative to its norm, of all gaps"
        return all_close("what a late error teaches", quantity, 0.0, error, 2e-3)

    def _verdicts(self, name: str, short: np.ndarray, late: np.ndarray, prompt: np.ndarray) -> list[Verdict]:
        d, beyond, gap = f"d = {self.delay:g} T", f"d = {self.late:g} T", f"a gap of {self.gaps[-1]:g} T"
        gain = short[:, -1] - short[:, 0]
        return [
            exceeds(f"gaps rescue late errors ({name})", f"accuracy with {gap} less that without, {d}", 0.0,
                    gain, f"with gaps {short[:, -1].mean():.3f}"),
            bracketed(f"with gaps a delay only slows ({name})",
                      f"accuracy with {gap}, {d}, between those of prompt networks slowed to the overlap with "
                      "the output and with the target", prompt[:, 1].mean(), prompt[:, 0].mean(), short[:, -1]),
            matches(f"beyond T gaps do not help ({name})", f"accuracy with {gap} less that without, {beyond}", 0.0,
                    late[:, -1] - late[:, 0], note=f"with gaps {late[:, -1].mean():.3f}", scale=abs(gain.mean())),
        ]  # fmt: skip

    @plotted(3.4, 2.9)
    def _drawn(self, panel: Axes, found: dict[str, tuple[np.ndarray, ...]]) -> None:
        for i, (name, (short, late, prompt)) in enumerate(found.items()):
            panel.axhline(prompt[:, 0].mean(), color=look(i)["color"], linewidth=1)
            marked(panel, self.gaps, short.T, label=f"{name}, d = {self.delay:g} T", **look(i))
            hollow = look(i, markerfacecolor="white", label=f"{name}, d = {self.late:g} T")
            marked(panel, self.gaps, late.T, **hollow)
        panel.plot([], [], color="0.3", linewidth=1, label=f"slowed to the overlap at {self.delay:g} T")
        panel.axvline(self.delay, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
        panel.text(self.delay, 0.99, " g = d", color="0.35", fontsize=7, va="top")
        self.chance.draw(panel, 0.3)
        panel.set(xlabel="gap g between stimuli (stimulus durations T)", ylabel="test accuracy", ylim=(0, 1))
        legend_outside(panel, 2)


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

        start, z = run.init(circuit.initial_weights(jax.random.key(0))), lambda progress: progress.state.activity["z1"]
        return np.asarray(jax.jit(lambda p: records(run, p, settled + TIMES, 1, z))(start))[settled:]

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
