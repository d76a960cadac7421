"""T1.3b: a skip connection helps a first layer to learn only where it brings the error back sooner."""

import itertools
from typing import Annotated, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.instruments import forward_matrices
from experiments.predictions.continuous.closed_depth import PARTS, AbstractDeepPrediction, expected_strengths
from experiments.predictions.contract import Finding, Seeds
from experiments.predictions.kit import drawn, legend_outside, marked
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import all_match, exceeds, matches
from rules import SGD

WIRINGS = ("chain", "input skip", "hidden skip")
FROZEN = 1e5  # tau_plast / T with signals of order one: absent skips stay absent


class Measured(NamedTuple):
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

    def _note(self, found: Measured) -> str:
        values = found.expected["prediction"][:, :, 0].mean(1)
        return (
            "The part of the error that the prediction makes up does gain from a skip from the input, which makes the "
            f"prediction itself earlier: the first layer's strength is {values[0]:.3g} in the chain, {values[1]:.3g} "
            f"with that skip and {values[2]:.3g} with the one from the first hidden layer."
        )

    def _measured(self) -> Measured:
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
        return Measured(matrices, parts, dict(zip(PARTS, expected, strict=True)))

    @drawn(7.0, 2.7)
    def _drawn(self, figure: Figure, found: Measured) -> None:
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
