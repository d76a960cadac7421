"""T3.2: whatever the wiring, every layer's learning signal comes to point down the gradient."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.axes import Axes

from dynamics.circuit import Weights
from dynamics.instruments import drive, forward_matrices, gradient
from experiments.predictions.contract import Finding
from experiments.predictions.heterosynaptic.training import QUICK, AbstractTraining, Course, consistency
from experiments.predictions.kit import all_close, band, legend_outside, plotted
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import close, stays_below


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
