"""T3.7: with weight decay, the learning signal of every layer becomes Hebbian late in training."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes

from dynamics.circuit import Weights
from dynamics.flow import batch_factors
from dynamics.instruments import forward_matrices
from dynamics.plasticity import mean_drive
from experiments.predictions.contract import Finding, Fraction
from experiments.predictions.heterosynaptic.training import QUICK, AbstractTraining, Course, last_crossing
from experiments.predictions.kit import band, f64, legend_outside, marked, plotted
from experiments.report.figures import LINES, OKABE_ITO
from experiments.results.verdicts import Verdict, close, exceeds, stays_below


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
