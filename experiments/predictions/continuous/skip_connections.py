"""T1.3b: a skip connection helps a first layer to learn only where it brings the error back sooner."""

from typing import Annotated, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.instruments import forward_matrices
from dynamics.network import Network
from experiments.predictions.continuous.closed_depth import (
    SMALL,
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
from experiments.results.verdicts import all_match, exceeds, matches, mean_of
from experiments.spec.units import Time
from rules import SGD

WIRINGS = ("chain", "input skip", "hidden skip")
PARTS = {"prediction": 0.0, "target": 100.0}  # |target| / |prediction|: which part of the error is looked at
FROZEN = 1e5  # tau_plast / T with signals of order one: absent skips stay absent


class Measured(NamedTuple):
    """Strengths by part (and "tanh"): (wirings, seeds, matrices), and those of the closed form."""

    matrices: tuple[str, ...]
    strength: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


class SkipConnections(AbstractPrediction):
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

    duration: Duration = Time(0.05)
    propagation: Lag = 0.1  # tau_prop / T
    hidden: Annotated[int, Field(strict=True, ge=2, le=10)] = 4
    width: Width = 8
    presentations: Annotated[int, Field(strict=True, ge=10, le=10_000)] = 100
    scale: Positive = 0.5  # of the inputs of the tanh networks
    seeds: Repeats = 20

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
        verdicts.append(
            exceeds(
                "a skip from the first hidden layer, tanh network",
                "strength of the first layer, less the chain's",
                0.0,
                first["tanh"][long] - first["tanh"][chain],
            )
        )
        return Finding(verdicts, self._drawn(found), [self._note(found)])

    def _note(self, found: Measured) -> str:
        values = found.expected["prediction"][:, :, 0].mean(1)
        return (
            "The part of the error that the prediction makes up does gain from a skip from the input, which makes the "
            f"prediction itself earlier: the first layer's strength is {values[0]:.3g} in the chain, {values[1]:.3g} "
            f"with that skip and {values[2]:.3g} with the one from the first hidden layer."
        )

    def _measured(self) -> Measured:
        depth, duration = self.hidden + 1, self.duration.seconds(1.0)
        skips = ((0, depth), (1, depth))
        network = Network((self.width,) * (depth + 1), activation="tanh", bias=False, skips=skips, gain=f64(1.0))
        circuit = SGD().wire(network)
        names = [f"S{source}_{target}" for source, target in skips]
        dead = {"chain": tuple(names), "input skip": (names[1],), "hidden skip": (names[0],)}
        seeds = range(self.seed, self.seed + self.seeds)
        settings = [(SMALL, target, weak(self.presentations, duration, SMALL, target)) for target in PARTS.values()]
        settings.append((self.scale, 1.0, FROZEN * duration))
        cases = [
            isotropic_case(circuit, self.width, seed, scale, target, plasticity, dead[wiring])
            for scale, target, plasticity in settings
            for wiring in WIRINGS
            for seed in seeds
        ]
        run = learned(circuit, cases, duration, self.propagation, self.presentations)
        matrices = tuple(name for name in forward_matrices(circuit) if name.startswith("W"))
        shape = len(settings), len(WIRINGS), self.seeds, len(matrices)
        strength = np.stack([run.strength[name] for name in matrices], -1).reshape(shape)
        closed = [expected_strengths(circuit, case, self.propagation) for case in cases[: 2 * shape[1] * shape[2]]]
        expected = np.array([[one[name] for name in matrices] for one in closed]).reshape(2, *shape[1:])
        parts = dict(zip((*PARTS, "tanh"), strength, strict=True))
        return Measured(matrices, parts, dict(zip(PARTS, expected, strict=True)))

    def _drawn(self, found: Measured) -> Figure:
        with style():
            figure = Figure((7.0, 2.7), layout="constrained")
            titles = {"prediction": "prediction's part", "target": "target's part", "tanh": "tanh network"}
            layers = np.arange(1, len(found.matrices) + 1)
            panels = figure.subplots(1, 3, sharey=True)
            for panel, (part, title) in zip(panels, titles.items(), strict=True):
                for i, (wiring, marker) in enumerate(zip(WIRINGS, "os^", strict=True)):
                    means = [mean_of(column) for column in found.strength[part][i].T]
                    values, halves = [mean.value for mean in means], [mean.half for mean in means]
                    line = found.expected[part][i].mean(0) if part in found.expected else values
                    dash = "-" if part in found.expected else ":"
                    panel.plot(layers, line, color=OKABE_ITO[i], linestyle=dash)
                    panel.errorbar(layers, values, halves, fmt=marker, color=OKABE_ITO[i], capsize=1.5, label=wiring)
                panel.set(xlabel="layer l", title=title, xticks=layers)
            panels[0].set(ylabel="strength S", ylim=(0, None))
            handles, names = panels[0].get_legend_handles_labels()
            title = "lines: theory (dotted: guides), points: simulation"
            figure.legend(handles, names, loc="outside lower center", ncols=3, title=title)
        return figure
