"""A5.1: what the entropies of SKA's updates add up to."""

import numpy as np
from matplotlib.figure import Figure

from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Size, Sizes
from experiments.predictions.kit import all_close, drawn, look, order
from experiments.predictions.sgd.setting import eta_axis
from experiments.predictions.sgd.ska_setting import (
    Run,
    accumulated,
    compared,
    knowledge,
    names,
    problem,
    shannon,
    sigmoids,
)


class SkaEntropy(AbstractPrediction):
    """The sum of H(k) over updates against the change of Shannon entropy, layer by layer."""

    number = "A5.1"
    title = "SKA's entropy is Shannon's"
    source = "mahi2025structured, the entropy of a layer; the identity and its gap derived"
    equation = """sum_k H(k) = -(1/ln 2) sum a(k) dz(k) -> sum over units and samples of Hb(z_end) - Hb(z_0), in bits,
        with the gap -(eta / (2 ln 2)) integral of sigma'(a) a'^2 dt"""
    claim = """The entropy that SKA accumulates is a Riemann sum of d Hb = -(1/ln 2) a dz: in the limit of small eta it
        knows the ends alone and not the path, and is the change of the Shannon entropy of the units. The gap is of
        order 1 in eta, by a factor that the flow predicts."""
    method = """Published updates of a batch (its samples as positions of convolutions), in the discrete regime, and the
        weight flow, from the same weights, on inputs uniform from 0 to 1, in two networks. The slope of the logarithm
        of the gap, and gap / eta extrapolated from the two finest eta, against the integral along the flow."""
    tolerance = """Order 1 +- 0.1 in every layer; factors within 2 %; the extrapolated sum within 1e-3 of the change of
        entropy along the flow, whose own end differs by order eta^2."""
    quick = {"layers": (8, 6), "others": (5,), "inputs": 10, "samples": 20, "etas": (0.05, 0.025, 0.0125)}

    inputs: Size = 50
    layers: Sizes = (24, 12, 8)
    others: Sizes = (20, 20)  # of the second network
    samples: Size = 50
    etas: Positives = (0.02, 0.01, 0.005)
    time: Positive = 1.0  # in tau_plast

    def misfit(self) -> str | None:
        if len(self.etas) < 2 or list(self.etas) != sorted(set(self.etas), reverse=True):
            return "ska-entropy.etas must be 2 or more, in decreasing order"
        if self.etas[0] > self.time / 2:
            return "ska-entropy.etas must be at most half the time"
        return None

    def measure(self) -> Finding:
        verdicts, shown = [], {}
        for hidden in (self.layers, self.others):
            sizes = (self.inputs, *hidden)
            name, circuit = "-".join(map(str, sizes)), sigmoids(sizes)
            runs, flow = compared(circuit, *problem(self.seed, self.samples, sizes), np.array(self.etas), self.time)
            gaps = np.array([[self.gap(run, layer) for layer in names(circuit)] for run in runs])
            etas = self.time / np.rint(self.time / np.array(self.etas))
            quantity = "order of the gap in eta"
            verdicts.append(all_close(f"gap, {name}", quantity, 1.0, order(etas, np.abs(gaps)), 0.1))
            factor = np.array([self.factor(flow, layer) for layer in names(circuit)])
            fine = _limit(etas, gaps / etas[:, None])
            verdicts.append(all_close(f"factor, {name}", "gap / eta over its expectation", 1.0, fine / factor, 0.02))
            verdicts.append(self._ends(name, etas, runs, flow))
            shown[name] = etas, gaps, factor
        return Finding(verdicts, self._drawn(shown))

    @staticmethod
    def gap(run: Run, layer: str) -> float:
        """What the sum has beyond the change of entropy, in bits."""
        z = run.activities[layer]
        return float(accumulated(z).sum() - shannon(z[-1]) + shannon(z[0]))

    def factor(self, flow: Run, layer: str) -> float:
        """gap / eta for small eta, from the flow."""
        z = flow.activities[layer]
        step = self.time / (len(z) - 1)
        return float(-(np.diff(knowledge(z), axis=0) * np.diff(z, axis=0)).sum() / step / (2 * np.log(2)))

    def _ends(self, name: str, etas: np.ndarray, runs: list[Run], flow: Run) -> object:
        """Sums, extrapolated to eta = 0, over the change of entropy along the flow."""
        layers = list(flow.activities)
        sums = np.array([[accumulated(run.activities[layer]).sum() for layer in layers] for run in runs[-3:]])
        limit = _limit(etas[-3:], sums)
        changes = [np.diff(shannon(flow.activities[layer][[0, -1]]))[0] for layer in layers]
        quantity = "extrapolated sum of H over the change of Shannon entropy"
        return all_close(f"limit, {name}", quantity, 1.0, limit / changes, 1e-3)

    @drawn(6.4, 2.8)
    def _drawn(self, figure: Figure, shown: dict) -> None:
        panels = figure.subplots(1, 2)
        for panel, (name, (etas, gaps, factor)) in zip(panels, shown.items(), strict=True):
            for i, (gap, line) in enumerate(zip(gaps.T, factor, strict=True)):
                panel.plot(etas, -gap, linestyle="", label=f"layer {i + 1}", **look(i))
                panel.plot(etas, -line * etas, color=look(i)["color"])
            panel.plot([], [], color="0.3", label="theory")
            eta_axis(panel, etas)
            panel.set_title(name)
            panel.legend()
        panels[0].set_ylabel("change of entropy - sum of H (bits)")


def _limit(etas: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values at eta = 0, by the polynomial through all of them."""
    weights = [np.prod([b / (b - a) for b in etas if b != a]) for a in etas]
    return np.tensordot(weights, values, (0, 0))
