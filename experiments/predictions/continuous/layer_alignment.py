"""T1.3: how much of its gradient each layer of a deep network follows when every neuron is a lag."""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit
from dynamics.network import Network
from experiments.predictions.continuous.closed_depth import (
    SMALL,
    Case,
    Lag,
    Repeats,
    Width,
    expected_strengths,
    isotropic_case,
    learned,
    weak,
)
from experiments.predictions.continuous.closed_forms import f64
from experiments.predictions.contract import AbstractPrediction, Duration, Finding, Positive
from experiments.report.figures import OKABE_ITO, style
from experiments.results.verdicts import Verdict, all_match, exceeds, matches, mean_of
from experiments.spec.units import Time
from rules import DFA, SGD

RULES = {"layerwise": SGD(), "direct": DFA()}
PARTS = {"prediction": 0.0, "target": 100.0}  # |target| / |prediction|: which part of the error is looked at
LOOKS = {
    ("layerwise", "prediction"): (OKABE_ITO[0], "o", "-"),
    ("layerwise", "target"): (OKABE_ITO[4], "s", "--"),
    ("direct", "prediction"): (OKABE_ITO[1], "^", "-"),
    ("direct", "target"): (OKABE_ITO[5], "D", "--"),
}


class Measured(NamedTuple):
    """Of one rule and depth: strengths and cosines by part (and "learning"), (seeds, layers); the closed form."""

    strength: dict[str, np.ndarray]
    cosine: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


class LayerAlignment(AbstractPrediction):
    """Strength and alignment of learning, layer by layer and depth by depth."""

    number = "T1.3"
    title = "Depth costs overlap: first layers lose most, direct errors less"
    source = "bacvanski2025continuous, layerwise and direct error propagation; derived: counting stages"
    equation = """S_l = E[max(0, 1 - |V - U|/T)], U ~ Gamma(l-1), V ~ Gamma(m); part of the error from the prediction: m
        = 2L-l+1 layerwise, so that the mean lag is (2L-2l+2) tau_prop, L+2 direct, so that it is (L-l+3) tau_prop; from
        the target: m = L-l+1 layerwise, 2 direct (1 at l = L)"""
    claim = """Every stage between a synapse and its two signals costs overlap. Layerwise errors lose the first layer
        where 2 L tau_prop approaches T, direct errors only where (L+2) tau_prop does. Where the prediction makes up the
        error the first layer loses most and the last least; the part that the target makes up comes earlier, so that it
        is the middle layers that it suits best, and the last ones have their input too late for it."""
    method = """Coupled runs in a dense stream of random samples with orthogonal matrices; direct feedback is the
        transposed product of the forward matrices. Small signals and frozen weights isolate either part of the error;
        then tanh networks learn. Strength: the change of W along its drive without lags. L counts layers of neurons,
        hidden ones and the output."""
    tolerance = """The 99.9 % interval over seeds, which differ in samples and their order, for all layers and depths
        together; Heun steps of tau_prop / 10 are off by about 1e-4."""
    quick = {"hidden": (1, 3), "seeds": 8, "presentations": 60}

    duration: Duration = Time(0.05)
    propagation: Lag = 0.1  # tau_prop / T
    hidden: Annotated[tuple[Annotated[int, Field(strict=True, ge=1, le=10)], ...], Field(min_length=2)] = (
        1,
        2,
        3,
        4,
        5,
    )
    width: Width = 8
    presentations: Annotated[int, Field(strict=True, ge=10, le=10_000)] = 100
    plasticity: Positive = 1000.0  # tau_plast / T of the networks that learn
    scale: Positive = 0.5  # of the inputs of the networks that learn
    seeds: Repeats = 12

    def measure(self) -> Finding:
        depths = sorted({hidden + 1 for hidden in self.hidden})
        found = {(rule, depth): self._measured(rule, depth) for rule in RULES for depth in depths}
        verdicts = [self._agreement(found, rule, part) for rule in RULES for part in PARTS]
        verdicts += self._order(found, depths)
        notes = []
        for rule in RULES:
            limit = self._limit(found, rule, depths)
            verdicts += [limit] if limit is not None else []
            notes += (
                []
                if limit is not None
                else [f"With {rule} errors the first layer's strength passes 1/2 between none of the depths."]
            )
        return Finding(verdicts, self._drawn(found, depths), notes)

    def _circuit(self, rule: str, depth: int) -> Circuit:
        return RULES[rule].wire(Network((self.width,) * (depth + 1), activation="tanh", bias=False, gain=f64(1.0)))

    def _measured(self, rule: str, depth: int) -> Measured:
        circuit, duration = self._circuit(rule, depth), self.duration.seconds(1.0)
        seeds = range(self.seed, self.seed + self.seeds)
        cases: list[Case] = []
        for target in PARTS.values():
            still = weak(self.presentations, duration, SMALL, target)
            cases += [isotropic_case(circuit, self.width, seed, SMALL, target, still) for seed in seeds]
        learning = self.plasticity * duration
        cases += [isotropic_case(circuit, self.width, seed, self.scale, 1.0, learning) for seed in seeds]
        run = learned(circuit, cases, duration, self.propagation, self.presentations)

        def split(by_matrix: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            parts = np.stack([by_matrix[f"W{i}"] for i in range(1, depth + 1)], 1).reshape(3, self.seeds, depth)
            return dict(zip((*PARTS, "learning"), parts, strict=True))

        expected = {}
        for part, case in zip(PARTS, cases[:: self.seeds], strict=False):
            closed = expected_strengths(circuit, case, self.propagation)
            expected[part] = np.array([closed[f"W{i}"] for i in range(1, depth + 1)])
        return Measured(split(run.strength), split(run.cosine), expected)

    def _agreement(self, found: Mapping[tuple[str, int], Measured], rule: str, part: str) -> Verdict:
        each = [one for (other, _), one in found.items() if other == rule]
        expected = np.concatenate([one.expected[part] for one in each])
        samples = np.concatenate([one.strength[part] for one in each], 1)
        return all_match(f"{rule} errors, {part} part", "strength of every layer at every depth", expected, samples)

    def _order(self, found: Mapping[tuple[str, int], Measured], depths: list[int]) -> list[Verdict]:
        layerwise, direct = found["layerwise", depths[-1]], found["direct", depths[-1]]
        steps = np.diff(layerwise.strength["prediction"], axis=1)
        strength, cosine = layerwise.strength["learning"], layerwise.cosine["learning"]
        where, quiet = f"at {depths[-1] - 1} hidden layers", "smallest gain of strength from a layer to the next"
        gain = direct.strength["learning"][:, 0] - strength[:, 0]
        return [
            exceeds("order of the layers, layerwise", f"{quiet}, {where}", 0.0, steps[:, steps.mean(0).argmin()]),
            exceeds(
                "first layer weakest, learning tanh network",
                f"strength of the second layer less that of the first, {where}",
                0.0,
                strength[:, 1] - strength[:, 0],
            ),
            exceeds(
                "direct errors keep the first layer, learning tanh network",
                f"strength of the first layer, direct less layerwise, {where}",
                0.0,
                gain,
            ),
            exceeds(
                "alignment falls with depth, learning tanh network",
                f"cosine with the gradient, last layer less first, {where}",
                0.0,
                cosine[:, -1] - cosine[:, 0],
            ),
        ]

    def _limit(self, found: Mapping[tuple[str, int], Measured], rule: str, depths: list[int]) -> Verdict | None:
        """The depth at which half of the first layer's strength is left."""
        expected = _crossing(depths, np.array([found[rule, depth].expected["prediction"][0] for depth in depths]))
        if expected is None:
            return None
        samples = np.stack([found[rule, depth].strength["prediction"][:, 0] for depth in depths], 1)
        places = [_crossing(depths, one) for one in samples]
        quantity = "layers at which the first one's strength falls to 1/2, interpolated linearly"
        slope = 2 if rule == "layerwise" else 1
        first = 1 / (2 * slope * self.propagation) - (0 if rule == "layerwise" else 2)
        note = f"mean lag alone: {first:.3g}"
        return matches(
            f"depth limit, {rule} errors",
            quantity,
            expected,
            np.array([np.nan if place is None else place for place in places]),
            note=note,
        )

    def _drawn(self, found: Mapping[tuple[str, int], Measured], depths: list[int]) -> Figure:
        with style():
            figure = Figure((7.0, 2.8), layout="constrained")
            by_layer, by_depth, aligned = figure.subplots(1, 3, sharey=True)
            deepest = depths[-1]
            layers = np.arange(1, deepest + 1)
            for (rule, part), look in LOOKS.items():
                one = found[rule, deepest]
                _marked(by_layer, layers, one.expected[part], one.strength[part], look, f"{rule}, {part}")
                line = np.array([found[rule, depth].expected[part][0] for depth in depths])
                points = np.stack([found[rule, depth].strength[part][:, 0] for depth in depths], 1)
                _marked(by_depth, np.array(depths), line, points, look)
            for rule in RULES:
                colour, marker, _ = LOOKS[rule, "prediction"]
                values = found[rule, deepest].cosine["learning"]
                _marked(aligned, layers, None, values, (colour, marker, ":"))
            by_depth.axhline(0.5, color="0.8", linewidth=0.6, zorder=0)
            by_layer.set(xlabel="layer l", ylabel="strength S", title=f"every layer, L = {deepest}", ylim=(0, 1.03))
            by_depth.set(xlabel="layers L", title="first layer", xticks=depths)
            aligned.set(xlabel="layer l", ylabel="cosine with -gradient", title=f"learning tanh network, L = {deepest}")
            handles, names = by_layer.get_legend_handles_labels()
            title = "error and its part; lines: theory (right: guides), points: simulation"
            figure.legend(handles, names, loc="outside lower center", ncols=4, title=title)
        return figure


def _crossing(depths: list[int], strengths: np.ndarray) -> float | None:
    """Where a falling strength first passes 1/2, or None."""
    for i in range(len(depths) - 1):
        above, below = strengths[i], strengths[i + 1]
        if above > 0.5 >= below:
            return float(depths[i] + (depths[i + 1] - depths[i]) * (above - 0.5) / (above - below))
    return None


def _marked(
    panel: Axes, x: np.ndarray, line: np.ndarray | None, samples: np.ndarray, look: tuple[str, str, str], name: str = ""
) -> None:
    """Theory as a line (without one: a guide through the means), simulation as markers with 95 % intervals."""
    colour, marker, dash = look
    means = [mean_of(column) for column in samples.T]
    values = np.array([mean.value for mean in means])
    panel.plot(x, values if line is None else line, color=colour, linestyle=dash)
    panel.errorbar(x, values, [mean.half for mean in means], fmt=marker, color=colour, capsize=1.5, label=name or None)
