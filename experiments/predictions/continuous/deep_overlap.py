"""T1.3, T1.3b: how much of its gradient each layer of a deep network follows when every neuron is a lag."""

import itertools
from collections.abc import Mapping
from typing import Annotated, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.instruments import forward_matrices
from experiments.predictions.continuous.closed_depth import PARTS, AbstractDeepPrediction, expected_strengths
from experiments.predictions.contract import Finding, Positive, Seeds
from experiments.predictions.drawing import drawn, legend_outside, marked
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, all_match, exceeds, matches
from rules import DFA, SGD

RULES = {"layerwise": SGD(), "direct": DFA()}
Depth = Annotated[int, Field(strict=True, ge=1, le=10)]
LOOKS = {
    ("layerwise", "prediction"): (OKABE_ITO[0], "o", "-"),
    ("layerwise", "target"): (OKABE_ITO[4], "s", "--"),
    ("direct", "prediction"): (OKABE_ITO[1], "^", "-"),
    ("direct", "target"): (OKABE_ITO[5], "D", "--"),
}
WIRINGS = ("chain", "input skip", "hidden skip")
FROZEN = 1e5  # tau_plast / T with signals of order one: absent skips stay absent


class ByDepth(NamedTuple):
    """Of one rule and depth: strengths and cosines by part (and "learning"), (seeds, layers); the closed form."""

    strength: dict[str, np.ndarray]
    cosine: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


class LayerAlignment(AbstractDeepPrediction):
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

    hidden: Annotated[tuple[Depth, ...], Field(min_length=2)] = (1, 2, 3, 4, 5)
    plasticity: Positive = 1000.0  # tau_plast / T of the networks that learn
    seeds: Seeds = 12

    def measure(self) -> Finding:
        depths = sorted({hidden + 1 for hidden in self.hidden})
        found = {(rule, depth): self._measured(rule, depth) for rule in RULES for depth in depths}
        verdicts = [self._agreement(found, rule, part) for rule in RULES for part in PARTS]
        verdicts += self._order(found, depths)
        limits = {rule: self._limit(found, rule, depths) for rule in RULES}
        verdicts += [limit for limit in limits.values() if limit is not None]
        said = "errors the first layer's strength passes 1/2 between none of the depths."
        notes = [f"With {rule} {said}" for rule, limit in limits.items() if limit is None]
        return Finding(verdicts, self._drawn(found, depths), notes)

    def _measured(self, rule: str, depth: int) -> ByDepth:
        circuit = self.circuit(RULES[rule], depth)
        cases = [case for target in PARTS.values() for case in self.frozen(circuit, target)]
        cases += self.lively(circuit, self.plasticity)
        run = self.learned(circuit, cases)

        def split(by_matrix: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            parts = np.stack([by_matrix[f"W{i}"] for i in range(1, depth + 1)], 1).reshape(3, self.seeds, depth)
            return dict(zip((*PARTS, "learning"), parts, strict=True))

        expected = {}
        for part, case in zip(PARTS, cases[:: self.seeds], strict=False):
            closed = expected_strengths(circuit, case, self.propagation)
            expected[part] = np.array([closed[f"W{i}"] for i in range(1, depth + 1)])
        return ByDepth(split(run.strength), split(run.cosine), expected)

    def _agreement(self, found: Mapping[tuple[str, int], ByDepth], rule: str, part: str) -> Verdict:
        each = [one for (other, _), one in found.items() if other == rule]
        expected = np.concatenate([one.expected[part] for one in each])
        samples = np.concatenate([one.strength[part] for one in each], 1)
        return all_match(f"{rule} errors, {part} part", "strength of every layer at every depth", expected, samples)

    def _order(self, found: Mapping[tuple[str, int], ByDepth], depths: list[int]) -> list[Verdict]:
        layerwise, direct = found["layerwise", depths[-1]], found["direct", depths[-1]]
        steps = np.diff(layerwise.strength["prediction"], axis=1)
        strength, cosine = layerwise.strength["learning"], layerwise.cosine["learning"]
        where, network = f"at {depths[-1] - 1} hidden layers", "learning tanh network"
        claims = {
            ("order of the layers, layerwise", "smallest gain of strength from a layer to the next"):
                steps[:, steps.mean(0).argmin()],
            (f"first layer weakest, {network}", "strength of the second layer less that of the first"):
                strength[:, 1] - strength[:, 0],
            (f"direct errors keep the first layer, {network}", "strength of the first layer, direct less layerwise"):
                direct.strength["learning"][:, 0] - strength[:, 0],
            (f"alignment falls with depth, {network}", "cosine with the gradient, last layer less first"):
                cosine[:, -1] - cosine[:, 0],
        }  # fmt: skip
        return [exceeds(name, f"{quantity}, {where}", 0.0, each) for (name, quantity), each in claims.items()]

    def _limit(self, found: Mapping[tuple[str, int], ByDepth], rule: str, depths: list[int]) -> Verdict | None:
        """The depth at which half of the first layer's strength is left."""
        expected = _crossing(depths, np.array([found[rule, depth].expected["prediction"][0] for depth in depths]))
        if np.isnan(expected):
            return None
        samples = np.stack([found[rule, depth].strength["prediction"][:, 0] for depth in depths], 1)
        places = [_crossing(depths, one) for one in samples]
        quantity = "layers at which the first one's strength falls to 1/2, interpolated linearly"
        slope = 2 if rule == "layerwise" else 1
        first = 1 / (2 * slope * self.propagation) - (0 if rule == "layerwise" else 2)
        note = f"mean lag alone: {first:.3g}"
        return matches(f"depth limit, {rule} errors", quantity, expected, places, note=note)

    @drawn(7.0, 2.8)
    def _drawn(self, figure: Figure, found: Mapping[tuple[str, int], ByDepth], depths: list[int]) -> None:
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
        title = "error and its part; lines: theory (right: guides), points: simulation"
        legend_outside(by_layer, 4, loc="lower center", title=title)


def _crossing(depths: list[int], strengths: np.ndarray) -> float:
    """Where a falling strength first passes 1/2, or NaN."""
    for i in range(len(depths) - 1):
        above, below = strengths[i], strengths[i + 1]
        if above > 0.5 >= below:
            return float(depths[i] + (depths[i + 1] - depths[i]) * (above - 0.5) / (above - below))
    return np.nan


def _marked(
    panel: Axes, x: np.ndarray, line: np.ndarray | None, samples: np.ndarray, look: tuple[str, str, str], name: str = ""
) -> None:
    """Theory as a line (without one: a guide through the means), simulation as markers with 95 % intervals."""
    colour, marker, dash = look
    panel.plot(x, samples.mean(0) if line is None else line, color=colour, linestyle=dash)
    marked(panel, x, samples.T, marker=marker, color=colour, label=name or None)


class ByWiring(NamedTuple):
    """Strengths by part (and "tanh"): (wirings, seeds, matrices), and those of the closed form."""

    matrices: tuple[str, ...]
    strength: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


class SkipConnections(AbstractDeepPrediction):
    """Strength of learning in a deep network with and without a skip connection to its output."""

    number = "T1.3b"
    title = "A skip keeps the overlap where it shortens the way of the error"
    source = "bacvanski2025continuous, skip connections preserve overlap; derived: counting stages"
    equation = """S = sum over paths of E[max(0, 1 - |V - U|/T)] <drive of the path, drive> / |drive|^2, U ~
        Gamma(stages of the presynaptic path), V ~ Gamma(stages of the error's path)"""
    claim = """A skip from the first hidden layer to the output gives the error a way back of two stages and raises the
        strength of the first layer. A skip from the input to the output gives the error no way: what the first layer
        learns from the target is as weak as in the chain."""
    method = """Gradient descent through transposed weights, skips included, in a dense stream of random samples;
        orthogonal matrices, those of absent skips zero. Small signals and frozen weights isolate the target's and the
        prediction's part of the error; then tanh networks with signals of order one."""
    tolerance = """The 99.9 % interval over seeds, which differ in matrices, samples and their order, for all layers and
        wirings together; Heun steps of tau_prop / 10 are off by about 1e-4."""
    quick = {"seeds": 12, "presentations": 60}

    hidden: Annotated[int, Field(strict=True, ge=2, le=10)] = 4
    seeds: Seeds = 20

    def measure(self) -> Finding:
        found = self._measured()
        verdicts = []
        for part in PARTS:
            expected, samples = found.expected[part], found.strength[part]
            mean = expected.mean(1)
            off = (samples - expected).swapaxes(0, 1) + mean[None]  # every seed has matrices, so a theory, of its own
            verdicts.append(all_match(f"{part} part", "strength of every matrix in every wiring", mean, off))
        first = {part: values[:, :, 0] for part, values in found.strength.items()}
        theory = found.expected["target"][:, :, 0]
        chain, short, long = (WIRINGS.index(name) for name in ("chain", "input skip", "hidden skip"))
        quantity = "strength of the first layer from the target, less the chain's"
        names = "a skip from the input brings nothing", "a skip from the first hidden layer"
        for name, wiring in zip(names, (short, long), strict=True):
            gain = theory[wiring] - theory[chain]
            off = first["target"][wiring] - first["target"][chain] - gain
            verdicts.append(matches(name, quantity, float(gain.mean()), gain.mean() + off))
        name, gain = "a skip from the first hidden layer, tanh network", first["tanh"][long] - first["tanh"][chain]
        verdicts.append(exceeds(name, "strength of the first layer, less the chain's", 0.0, gain))
        return Finding(verdicts, self._drawn(found), [self._note(found)])

    def _note(self, found: ByWiring) -> str:
        values = found.expected["prediction"][:, :, 0].mean(1)
        return (
            "The part of the error that the prediction makes up does gain from a skip from the input, which makes the "
            f"prediction itself earlier: the first layer's strength is {values[0]:.3g} in the chain, {values[1]:.3g} "
            f"with that skip and {values[2]:.3g} with the one from the first hidden layer."
        )

    def _measured(self) -> ByWiring:
        depth = self.hidden + 1
        skips = ((0, depth), (1, depth))
        circuit = self.circuit(SGD(), depth, skips=skips)
        names = [f"S{source}_{target}" for source, target in skips]
        dead = {"chain": tuple(names), "input skip": (names[1],), "hidden skip": (names[0],)}
        pairs = itertools.product(PARTS.values(), WIRINGS)
        cases = [case for target, wiring in pairs for case in self.frozen(circuit, target, dead[wiring])]
        cases += [case for wiring in WIRINGS for case in self.lively(circuit, FROZEN, dead[wiring])]
        run = self.learned(circuit, cases)
        matrices = tuple(name for name in forward_matrices(circuit) if name.startswith("W"))
        shape = len(PARTS) + 1, len(WIRINGS), self.seeds, len(matrices)
        strength = np.stack([run.strength[name] for name in matrices], -1).reshape(shape)
        closed = [expected_strengths(circuit, case, self.propagation) for case in cases[: 2 * shape[1] * shape[2]]]
        expected = np.array([[one[name] for name in matrices] for one in closed]).reshape(2, *shape[1:])
        parts = dict(zip((*PARTS, "tanh"), strength, strict=True))
        return ByWiring(matrices, parts, dict(zip(PARTS, expected, strict=True)))

    @drawn(7.0, 2.7)
    def _drawn(self, figure: Figure, found: ByWiring) -> None:
        titles = {"prediction": "prediction's part", "target": "target's part", "tanh": "tanh network"}
        layers = np.arange(1, len(found.matrices) + 1)
        panels = figure.subplots(1, 3, sharey=True)
        for panel, (part, title) in zip(panels, titles.items(), strict=True):
            for i, (wiring, marker) in enumerate(zip(WIRINGS, "os^", strict=True)):
                strength = found.strength[part][i]
                line = (found.expected[part][i] if part in found.expected else strength).mean(0)
                dash = "-" if part in found.expected else ":"
                panel.plot(layers, line, color=OKABE_ITO[i], linestyle=dash)
                marked(panel, layers, strength.T, marker=marker, color=OKABE_ITO[i], label=wiring)
            panel.set(xlabel="layer l", title=title, xticks=layers)
        panels[0].set(ylabel="strength S", ylim=(0, None))
        title = "lines: theory (dotted: guides), points: simulation"
        legend_outside(panels[0], 3, loc="lower center", title=title)
