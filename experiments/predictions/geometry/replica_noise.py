"""A6.1: replicas average their noise out, as much as their graph lets them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from dynamics.circuit import Circuit
from dynamics.flow import WeightFlow
from dynamics.integrators import FixedStep
from dynamics.noise import Noise
from dynamics.stimulus import Clock
from dynamics.timescales import Timescales
from experiments.predictions.contract import AbstractPrediction, Finding, NonNegatives, Positive, Positives, Seeds, Size
from experiments.predictions.kit import drawn, f64, keys_from, look, marked, wired
from experiments.results.verdicts import Verdict, all_match, matches
from rules.gradient import SGD
from rules.replicas import GRAPHS, Replicas

RELAXATIONS = 4  # of the slowest mode, before anything is measured; its variance is then short of exp(-8)


def laplacian(graph: str, copies: int) -> np.ndarray:
    """The eigenvalues mu_0 = 0, mu_1, .. of the graph that couples the copies, in closed form."""
    if graph == "complete":
        return np.array([0.0] + [1.0] * (copies - 1))
    if graph == "star":
        return np.array([0.0] + [1.0] * (copies - 2) + [float(copies)])
    return np.sort(2 - 2 * np.cos(2 * np.pi * np.arange(copies) / copies))


class ReplicaNoise(AbstractPrediction):
    """Copies of a linear network whose synapses are noisy, on complete, ring and star graphs."""

    number = "A6.1"
    title = "Copies that pull each other share their information and average their noise"
    source = (
        "bouvrie2011synchronization, the role of the Laplacian spectrum; stationary moments of quadratic losses derived"
    )
    equation = """E|mean - w*|^2 = sum_m s^2 / (2 n l_m); (1/n) sum_i E|w_i - mean|^2 = (1/n) sum_k>0 sum_m s^2 / (2
        (l_m + kappa mu_k)), l_m the curvatures, mu_k the eigenvalues of the graph"""
    claim = """The mean of n noisy copies has 1/n of the variance of one, whatever the coupling and the graph. Coupling
        makes every single copy nearly as good as the mean: the disagreement falls with kappa mu_k, under strong
        coupling as (n - 1) / kappa in a complete graph and (n^2 - 1) / (12 kappa) on a ring, which so needs more of it
        from 12 copies on, and less before. Noise that all copies share, that of the samples, is not averaged."""
    method = """The weight flow with noise in every synapse, by Euler's steps, for 4 relaxation times of the slowest
        mode; each row of the weight matrices is a problem of its own. Shared noise: sampling noise of one data set,
        whose labels are noisy."""
    tolerance = """99.9 % intervals over seeds, of all couplings together. The expectation is that of the steps: a mode
        of rate r has the variance s^2 / (2 r - r^2 dt), cut short at exp(-8)."""
    quick = {"seeds": 8, "copies": 4, "couplings": (0.0, 0.5, 3.0)}

    curvatures: Positives = (0.5, 2.0)
    couplings: NonNegatives = (0.0, 0.5, 2.0, 5.0)
    copies: Size = 6
    strength: Positive = 0.3  # s
    outputs: Size = 40  # rows, each a quadratic problem
    seeds: Seeds = 16

    def misfit(self) -> str | None:
        return "copies must be at least 3, for a ring" if self.copies < 3 else None

    def measure(self) -> Finding:
        found = {graph: self._errors(graph) for graph in GRAPHS}
        verdicts: list[Verdict] = []
        for graph, errors in found.items():
            expected = self.expected(graph, self.couplings, self._step(graph))
            for i, what in enumerate(("mean", "disagreement")):
                quantity = f"E|{'mean - w*' if what == 'mean' else 'w_i - mean'}|^2, at every coupling"
                verdicts.append(all_match(f"{what}, {graph}", quantity, expected[i], errors[:, i]))
        verdicts.append(self._shared())
        return Finding(verdicts, self._drawn(found))

    def expected(self, graph: str, couplings: tuple[float, ...], dt: float) -> np.ndarray:
        """E|mean - w*|^2 and the mean of E|w_i - mean|^2 of one row: (2, couplings); for steps of `dt`."""
        rates = np.array(self.curvatures)[:, None, None] + (
            np.array(couplings)[None, :, None] * laplacian(graph, self.copies)[None, None]
        )
        steps = np.round(RELAXATIONS / min(self.curvatures) / dt)
        variance = (
            self.strength**2 / (2 * rates - rates**2 * dt) * -np.expm1(2 * steps * np.log(np.abs(1 - rates * dt)))
        )
        each = variance.sum(0) / self.copies
        return np.stack([each[:, 0], each[:, 1:].sum(1)])

    def _step(self, graph: str) -> float:
        """A tenth of the fastest mode's time."""
        return 0.1 / (max(self.curvatures) + max(self.couplings) * laplacian(graph, self.copies)[-1])

    def _data(self) -> tuple[Array, Array]:
        """Inputs with <x x^T> = diag(curvatures), targets zero."""
        count = len(self.curvatures)
        return f64(np.diag(np.sqrt(count * np.array(self.curvatures)))), jnp.zeros((count, self.outputs), jnp.float64)

    def _errors(self, graph: str) -> np.ndarray:
        """Both errors by seed and coupling, means over rows: (seeds, 2, couplings)."""
        (x, y), dt = self._data(), self._step(graph)
        steps = round(RELAXATIONS / min(self.curvatures) / dt)

        def run(key: Array, coupling: Array) -> Array:
            circuit = self._circuit(graph, coupling)
            flow = WeightFlow(
                circuit, Timescales(f64(1.0), f64(1.0)), x, y, Clock(f64(dt), f64(0.0), 1), FixedStep(), key,
                noise=Noise(synaptic=f64(self.strength)),
            )  # fmt: skip
            zero = jnp.zeros((self.outputs, len(self.curvatures)), jnp.float64)
            start = {p.name: zero for p in circuit.plastic}
            end = flow.advance(flow.init(start), jnp.int32(0), jnp.int32(steps)).weights
            copies = jnp.stack(list(end.values()))
            mean = copies.mean(0)
            apart = copies - mean[None]
            return jnp.stack([jnp.sum(mean**2), jnp.sum(apart**2) / self.copies]) / self.outputs

        every = jax.jit(jax.vmap(jax.vmap(run, (None, 0), 1), (0, None)))
        return np.asarray(every(keys_from(self.seed, self.seeds), f64(list(self.couplings))))

    def _circuit(self, graph: str, coupling: Array) -> Circuit:
        rule = Replicas(SGD(), coupling=coupling, copies=self.copies, graph=graph)
        return wired(rule, (len(self.curvatures), self.outputs))

    def _shared(self) -> Verdict:
        """E|mean of n|^2 over E|one|^2 under sampling noise: 1 where it is shared, 1/n where it were independent."""
        base = self._data()[0]
        x, y = jnp.concatenate([base, base]), jnp.concatenate([jnp.ones_like(base[:, :1]), -jnp.ones_like(base[:, :1])])
        dt, one = 0.05 / max(self.curvatures), wired(SGD(), (len(self.curvatures), 1))
        many = wired(Replicas(SGD(), copies=self.copies), (len(self.curvatures), 1))
        steps = jnp.int32(round(RELAXATIONS / min(self.curvatures) / dt))

        @jax.jit
        @jax.vmap
        def run(key: Array) -> Array:
            ends = []
            for circuit in (one, many):
                clock = Clock(f64(dt), f64(0.0), 1)
                flow = WeightFlow(
                    circuit, Timescales(f64(1.0), f64(1.0)), x, y, clock, FixedStep(), key, sampling_noise=True
                )
                zero = {p.name: jnp.zeros((1, len(self.curvatures)), jnp.float64) for p in circuit.plastic}
                end = flow.advance(flow.init(zero), jnp.int32(0), steps).weights
                ends.append(jnp.sum(jnp.stack(list(end.values())).mean(0) ** 2))
            return ends[1] / ends[0]

        ratios = np.asarray(run(keys_from(self.seed, self.seeds)))
        note = "one data set, whose samples every copy sees at once"
        return matches("shared noise", "E|mean of n|^2 over E|one|^2", 1.0, ratios, 1e-9, note)

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, found: dict[str, np.ndarray]) -> None:
        panels = figure.subplots(1, 2)
        top = max(self.couplings) or 1.0
        fine = tuple(np.linspace(0, top, 60).tolist())
        for i, (graph, errors) in enumerate(found.items()):
            lines = self.expected(graph, fine, self._step(graph))
            for j, panel in enumerate(panels):
                panel.plot(fine, lines[j], color=look(i)["color"])
                marked(panel, self.couplings, errors[:, j].T, label=graph, **look(i))
        panels[0].set(xlabel="coupling $\\kappa$", ylabel="E|mean - w*|$^2$", ylim=(0, None))
        panels[1].set(xlabel="coupling $\\kappa$", ylabel="disagreement E|w$_i$ - mean|$^2$", ylim=(0, None))
        panels[1].legend(title="lines: theory")
