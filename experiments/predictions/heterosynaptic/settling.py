"""T3.1: the feedback weights settle first, and only then is the learning signal aligned with the gradient."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from dynamics.circuit import Weights
from dynamics.instruments import alignment, drive
from experiments.predictions.contract import Finding, Fraction
from experiments.predictions.heterosynaptic.training import QUICK, AbstractTraining, Course, last_crossing
from experiments.predictions.kit import all_close, band, drawn, f64, marked_across
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, exceeds, mean_of


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
