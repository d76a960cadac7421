"""T3.1, T3.2, T3.7: randomly wired feedback in networks that learn: it settles, descends, and becomes Hebbian."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamics.circuit import Weights
from dynamics.flow import batch_factors
from dynamics.instruments import alignment, drive, forward_matrices, gradient
from dynamics.plasticity import mean_drive
from experiments.predictions.contract import Finding, Fraction
from experiments.predictions.drawing import band, drawn, legend_outside, marked, marked_across, plotted
from experiments.predictions.heterosynaptic.training import QUICK, AbstractTraining, Course, consistency, last_crossing
from experiments.predictions.kit import all_close, f64
from experiments.report.figures import LINES, OKABE_ITO
from experiments.results.verdicts import Verdict, close, exceeds, mean_of, stays_below


class Settling(AbstractTraining):
    """When |V'| has died away, when the gradient alignment is complete, and what decays in between."""

    number = "T3.1"
    title = "Feedback weights settle before the learning signal aligns"
    source = "ziyin2025heterosynaptic, fig. 2b; the exponential is derived from the two weight equations"
    equation = "V' -> 0 before cos(dW, -grad) saturates; |V - W^T M^T| = const exp(-t / tau_dec)"
    claim = """The rate of change of the feedback weights of every layer falls to a small fraction of its peak earlier
        than the gradient alignment of the layer below reaches most of its final value. What aligns it is weight decay,
        which makes V forget where it started."""
    method = """Tanh networks with randomly wired feedback populations learn random teachers in the weight flow. Per
        seed: from when on |V'| stays below `settled` of its peak, and the alignment above `aligned` of its end."""
    tolerance = """The difference of the two times, over seeds, lies above 0 at 99.9 %. The exponential is exact up to
        the error of Euler's steps, -log(1 - step / tau_dec) / step in place of 1 / tau_dec: twice that is allowed."""
    quick = QUICK | {"seeds": 10}

    settled: Fraction = 0.1
    aligned: Fraction = 0.9

    def measure(self) -> Finding:
        circuit = self.circuit()
        layers = range(1, len(self.hidden) + 1)
        feedback = [f"V{level + 1}" for level in layers]

        def probe(w: Weights, x: Array, y: Array) -> dict[str, Array]:
            drives, cosines = drive(circuit, w, {}, x, y), alignment(circuit, w, {}, x, y)
            return {
                "speed": jnp.stack([jnp.linalg.norm(drives[v] - w[v] / f64(self.decay)) for v in feedback]),
                "mismatch": jnp.stack([jnp.linalg.norm(_mismatch(w, level)) for level in layers]),
                "alignment": jnp.stack([cosines[f"W{level}"] for level in layers]),
            }

        course = self.course(circuit, probe, [self.decay])[0]
        settled, aligned = self._times(course)
        verdicts = []
        for i, (early, late) in enumerate(zip(settled.T, aligned.T, strict=True), 1):
            quantity = f"aligned minus settled, layer {i} (tau_plast)"
            note = f"settled at {mean_of(early).value:.3g}, aligned at {mean_of(late).value:.3g}"
            verdicts.append(exceeds(f"V{i + 1} settles first", quantity, 0.0, late - early, note))
        return Finding([*verdicts, self._forgetting(course)], self._drawn(course, settled, aligned))

    def _times(self, course: Course) -> tuple[np.ndarray, np.ndarray]:
        """(seeds, layers): when the feedback weights are settled, and when the learning signal is aligned."""
        speed, cosine = course.probes["speed"], course.probes["alignment"]
        pairs = [(s, i) for s in range(self.seeds) for i in range(len(self.hidden))]
        shape = (self.seeds, len(self.hidden))
        settled = [last_crossing(course.times, -speed[s, :, i], -self.settled * speed[s, :, i].max()) for s, i in pairs]
        aligned = [last_crossing(course.times, cosine[s, :, i], self.aligned * cosine[s, -1, i]) for s, i in pairs]
        return np.reshape(settled, shape), np.reshape(aligned, shape)

    def _forgetting(self, course: Course) -> Verdict:
        """The rate at which the mismatch decays over the first tau_dec: the same for every seed and layer."""
        at = min(int(np.searchsorted(course.times, self.decay)), len(course.times) - 1)
        mismatch = course.probes["mismatch"]
        rates = -np.log(mismatch[:, at] / mismatch[:, 0]) / course.times[at] * self.decay
        euler = -np.log1p(-self.step / self.decay) * self.decay / self.step
        quantity = "rate of |V - W^T M^T|, in units of 1/tau_dec (the seed and layer farthest off)"
        return all_close("the start is forgotten with tau_dec", quantity, 1.0, rates, 2 * abs(euler - 1))

    @drawn(3.4, 3.8)
    def _drawn(self, figure: Figure, course: Course, settled: np.ndarray, aligned: np.ndarray) -> None:
        x, probes = course.times / self.decay, course.probes
        top, bottom = figure.subplots(2, 1, sharex=True)
        mismatch = probes["mismatch"].mean(-1)
        shown = slice(None, None, max(1, len(x) // 15))
        top.plot(x, np.exp(-x), color="0.3", label="exp(-t / tau_dec)")
        start = (mismatch / mismatch[:, :1]).mean(0)
        top.plot(x[shown], start[shown], "o", color=OKABE_ITO[2], label="|V - W^T M^T|")
        for i in range(len(self.hidden)):
            colour, line = OKABE_ITO[i % len(OKABE_ITO)], ("-", "--", ":")[i % 3]
            speed = probes["speed"][:, :, i]
            curve = {"color": colour, "linestyle": line}
            band(top, x, (speed / speed.max(1, keepdims=True)).T, label=f"|V{i + 2}'|", **curve)
            band(bottom, x, probes["alignment"][:, :, i].T, label=f"layer {i + 1}", **curve)
            for panel, moments in ((top, settled), (bottom, aligned)):
                label = (f"below {self.settled:g} peak", f"above {self.aligned:g} end")[panel is bottom]
                height, spot = (0.05, 0.12)[panel is bottom] + 0.08 * i, {"marker": "d", "color": colour}
                marked_across(panel, moments[:, i] / self.decay, height, label=None if i else label, **spot)
        top.set(ylabel="relative to peak or start", ylim=(0, 1.05))
        bottom.set(xlabel="time (tau_dec)", ylabel="cos(dW, -gradient)", ylim=(min(0, bottom.get_ylim()[0]), 1.05))
        top.legend()
        bottom.legend(loc="lower right")


def _mismatch(w: Weights, level: int) -> Array:
    """V - W^T M^T of the hop into layer `level`."""
    return w[f"V{level + 1}"] - w[f"W{level + 1}"].T @ w[f"M{level + 1}"].T


class ConsistentSign(AbstractTraining):
    """The consistency score phi of every layer, in networks with random wiring."""

    number = "T3.2"
    title = "Random wiring gives every layer a learning signal of the descending sign"
    source = "ziyin2025heterosynaptic, fig. 1d and 2b; derived as q = f' W^T M^T M q_+, M^T M >= 0"
    equation = "phi_l = <dW_l, grad_l> / |grad_l|^2 < 0 for all l; phi_L = -1"
    claim = """Once the feedback weights are stationary, the learning signal of every layer has a negative component
        along the gradient (phi < 0: it descends), in every randomly wired network. The output layer has phi = -1."""
    method = """Tanh networks learn random teachers in the weight flow; phi compares <m p^T> of every matrix with the
        gradient of the loss by automatic differentiation. The same networks without decay, whose feedback never forgets
        how it started, are a control."""
    tolerance = """No network may have phi >= 0 in any layer at the end, and the mean over networks is below 0 at 99.9
        %; the output's phi is -1 up to rounding, 1e-9."""
    quick = QUICK | {"seeds": 10, "records": 60}

    def measure(self) -> Finding:
        circuit = self.circuit()
        names = forward_matrices(circuit)

        def probe(w: Weights, x: Array, y: Array) -> dict[str, Array]:
            drives, downhill = drive(circuit, w, {}, x, y), gradient(circuit, w, x, y)
            return {"phi": jnp.stack([consistency(drives[name], downhill[name]) for name in names])}

        decaying, lasting = self.course(circuit, probe, [self.decay, np.inf])
        end, without = decaying.probes["phi"][:, -1], lasting.probes["phi"][:, -1, :-1]
        uphill = int(np.sum(~(end < 0)))
        verdicts = [
            close("every layer of every network", f"layers with phi >= 0 among {end.size}", 0.0, float(uphill), 0.0),
            all_close("output layer", "phi", -1.0, end[:, -1], 1e-9),
            *(stays_below(f"layer {i + 1}", "phi at the end", 0.0, end[:, i]) for i in range(len(self.hidden))),
        ]
        note = (
            f"Without weight decay, {int(np.sum(~(without < 0)))} of {without.size} hidden layers end with phi >= 0: "
            "V then keeps its random start, and the sign is not guaranteed."
        )
        return Finding(verdicts, self._drawn(decaying, lasting), [note])

    @plotted(3.4, 3.0)
    def _drawn(self, panel: Axes, decaying: Course, lasting: Course) -> None:
        x = decaying.times / self.decay
        panel.axhspan(0, 1e3, color="0.92", linewidth=0)
        panel.axhline(0, color="0.3", linewidth=0.8)
        panel.axhline(-1, color="0.3", linewidth=0.8, linestyle=":", label="output layer")
        for i in range(len(self.hidden)):
            colour = OKABE_ITO[i % len(OKABE_ITO)]
            band(panel, x, decaying.probes["phi"][:, :, i].T, color=colour, label=f"layer {i + 1}")
            control = {"label": f"layer {i + 1}, no decay", "linestyle": "--"}
            band(panel, x, lasting.probes["phi"][:, :, i].T, color=colour, **control)
            end = decaying.probes["phi"][:, -1, i]
            spread = x[-1] * (1.03 + 0.04 * i + 0.02 * np.linspace(0, 1, len(end)))
            panel.plot(spread, end, ".", color=colour, markersize=3)
        ends = np.concatenate([course.probes["phi"][:, -1].ravel() for course in (decaying, lasting)])
        panel.set_ylim(ends.min() - 0.1, ends.max() + 0.2)
        panel.set(xlabel="time (tau_dec)", ylabel="consistency score phi")
        legend_outside(panel, 2, loc="upper left")


class HebbianFraction(AbstractTraining):
    """The fraction of synapses whose learning signal has the sign of the Hebbian product of activities."""

    number = "T3.7"
    title = "Learning turns Hebbian late in training with weight decay"
    source = "ziyin2025heterosynaptic, fig. 2b (Hebbian overlap); the stationary value is derived"
    equation = "P[sign <q z^T> = sign <a z^T>] crosses 1/2 upward; stationary: <q z^T> ~ W, <a z^T> = W <z z^T>"
    claim = """The sign agreement of the learning signal with the Hebbian update is below chance early in training and
        rises through 1/2 late, after the task is learned. At stationarity decay has to be balanced, so it is the
        agreement of W with W <z z^T>."""
    method = """Randomly wired tanh networks learn random teachers in the weight flow. Both products are averages over
        the data, a the preactivation, z the activity below. The paper's overlap is read as this fraction, of the
        learning signal or of the whole update with its decay: both are shown. A control has no decay. Learning lasts
        until the loss has made 90 % of its fall."""
    tolerance = """Means over seeds lie on the claimed side of 1/2 (and of the control) at 99.9 %. The stationary value
        is that of the final weights up to 2 %, for what exp(-length) of the mismatch leaves at synapses near a sign
        change."""
    quick = QUICK | {"seeds": 8}

    learned: Fraction = 0.9

    def measure(self) -> Finding:
        circuit = self.circuit()
        names = forward_matrices(circuit)

        def probe(w: Weights, x: Array, y: Array) -> dict[str, Array]:
            locals_, factors = batch_factors(circuit, w, {}, x, y)
            found, net = [], []
            for name in names:
                below = factors[name].pre
                drive, hebb = mean_drive(factors[name]), locals_[f"z{name[1:]}"].preactivation.T @ below
                found.append(jnp.stack([_agreement(drive, hebb), _agreement(w[name], w[name] @ (below.T @ below))]))
                net.append(_agreement(drive - w[name] / f64(self.decay), hebb))
            errors = locals_[f"z{len(names)}"].error
            return {"fraction": jnp.stack(found), "net": jnp.stack(net), "loss": jnp.sum(errors * errors)}

        decaying, lasting = self.course(circuit, probe, [self.decay, np.inf])
        learnt = np.array([self._learnt(decaying, s) for s in range(self.seeds)])
        half = np.stack([self._half_risen(decaying, i) for i in range(len(names))])
        early, end = self._early(decaying, learnt), decaying.probes["fraction"][:, -1, :, 0]
        whole = decaying.probes["net"].mean(2)
        last = min(int(np.searchsorted(decaying.times, self.decay)), len(decaying.times) - 1)
        settling = slice(min(int(np.searchsorted(decaying.times, learnt.mean())), last), last + 1)
        quantity, late = "fraction, mean of layers", "half of it less learning, mean of layers (tau_plast)"
        verdicts = [
            stays_below("signal not Hebbian while learning", quantity, 0.5, early.mean(1)),
            *(exceeds(f"{name} Hebbian late", "fraction at the end", 0.5, end[:, i]) for i, name in enumerate(names)),
            exceeds("the rise is late", late, 0.0, half.mean(0) - learnt),
            *self._stationary(decaying, lasting),
            stays_below("whole update not Hebbian up to tau_dec", quantity, 0.5, whole[:, settling].mean(1)),
            exceeds("whole update Hebbian at the end", quantity, 0.5, whole[:, -1]),
        ]
        layers = ", ".join(f"{name} {value:.3f}" for name, value in zip(names, early.mean(0), strict=True))
        note = (
            f"While the loss falls the fraction is {layers}: feedback that is still random gives hidden layers chance, "
            "and only the output layer starts below it, as -z z^T is part of its signal. The whole update, decay "
            "included, is what is anti-Hebbian; it vanishes at stationarity, where its signs mean nothing."
        )
        return Finding(verdicts, self._drawn(decaying, lasting, names), [note])

    def _early(self, course: Course, learnt: np.ndarray) -> np.ndarray:
        """(seeds, layers): the mean fraction until a network has learned."""
        rows = course.probes["fraction"][..., 0]
        shown = [row[course.times <= max(t, course.times[1])].mean(0) for row, t in zip(rows, learnt, strict=True)]
        return np.stack(shown)

    def _learnt(self, course: Course, seed: int) -> float:
        """When the loss of a network has made most of its fall."""
        fall = course.probes["loss"][seed]
        return last_crossing(course.times, fall[0] - fall, self.learned * (fall[0] - fall.min()))

    def _half_risen(self, course: Course, i: int) -> np.ndarray:
        """When the fraction of a matrix is half way from 1/2 to its end for good, by seed."""
        rows = course.probes["fraction"][:, :, i, 0]
        return np.array([last_crossing(course.times, row, (0.5 + row[-1]) / 2) for row in rows])

    def _stationary(self, decaying: Course, lasting: Course) -> list[Verdict]:
        end, without = decaying.probes["fraction"][:, -1].mean(1), lasting.probes["fraction"][:, -1, :, 0].mean(1)
        quantity = "fraction at the end, mean of all layers and networks"
        return [
            close("stationary value", quantity, end[:, 1].mean(), end[:, 0].mean(), 0.02),
            exceeds("decay makes it Hebbian", "fraction at the end less that without decay", 0.0, end[:, 0] - without),
        ]

    @plotted(3.4, 3.0)
    def _drawn(self, panel: Axes, decaying: Course, lasting: Course, names: tuple[str, ...]) -> None:
        x = decaying.times / self.decay
        panel.axhline(0.5, color="0.3", linewidth=0.8)
        for i, name in enumerate(names):
            colour = OKABE_ITO[i % len(OKABE_ITO)]
            band(panel, x, decaying.probes["fraction"][:, :, i, 0].T, color=colour, label=name)
            end = decaying.probes["fraction"][:, -1, i, 1]
            marked(panel, [x[-1] * (1.03 + 0.03 * i)], end[None], marker="o", color=colour)
        net, without = (probe.mean(-1).T for probe in (decaying.probes["net"], lasting.probes["fraction"][..., 0]))
        band(panel, x, net, color="0.3", label="whole update, mean", linestyle=LINES[1])
        band(panel, x, without, color=OKABE_ITO[3], label="without decay, mean", linestyle=LINES[2])
        panel.errorbar([], [], yerr=[], fmt="o", color="0.3", label="stationary theory")
        panel.set(xlabel="time (tau_dec)", ylabel="Hebbian fraction of synapses", ylim=(0, 1))
        legend_outside(panel, 2, loc="upper left")


def _agreement(one: Array, other: Array) -> Array:
    """The fraction of entries of the same sign."""
    return jnp.mean((one * other > 0).astype(one.dtype))
