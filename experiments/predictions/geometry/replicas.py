"""A6: coupled replicas: how much of their noise they average out, and how fast they agree."""

from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.circuit import Circuit, Weights
from dynamics.noise import Noise
from experiments.predictions.contract import AbstractPrediction, Finding, NonNegatives, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import against, drawn, look
from experiments.predictions.kit import all_close, f64, keys_from, weight_flow, weights_after, wired
from experiments.results.verdicts import Verdict, all_match, matches
from rules.gradient import SGD
from rules.replicas import GRAPHS, Replicas, couplings

RELAXATIONS = 4  # of the slowest mode, before anything is measured; its variance is then short of exp(-8)
TIME = 15.0  # 1/a, for which halves of the copies follow the split branch
SMALL = 1e-6  # a perturbation whose square does not count


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
            flow = weight_flow(circuit, x, y, dt, key=key, noise=Noise(synaptic=f64(self.strength)))
            zero = jnp.zeros((self.outputs, len(self.curvatures)), jnp.float64)
            end = weights_after(flow, {p.name: zero for p in circuit.plastic}, jnp.int32(steps))
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
                flow = weight_flow(circuit, x, y, dt, key=key, sampling_noise=True)
                zero = {p.name: jnp.zeros((1, len(self.curvatures)), jnp.float64) for p in circuit.plastic}
                end = weights_after(flow, zero, steps)
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
                against(panel, i, (fine, lines[j]), (self.couplings, errors[:, j].T), graph)
        panels[0].set(xlabel="coupling $\\kappa$", ylabel="E|mean - w*|$^2$", ylim=(0, None))
        panels[1].set(xlabel="coupling $\\kappa$", ylabel="disagreement E|w$_i$ - mean|$^2$", ylim=(0, None))
        panels[1].legend(title="lines: theory")


class ReplicaAgreement(AbstractPrediction):
    """Rates of disagreement on a quadratic loss, and two branches of solutions of a two-weight network."""

    number = "A6.2"
    title = "Copies agree where the coupling exceeds the curvature that separates them"
    source = (
        "bouvrie2011synchronization, synchronization of coupled learners; rates, split states and thresholds derived"
    )
    equation = """mode k: rate l + kappa mu_k; at a saddle of curvature -a disagreement grows at a - kappa mu_k; split
        state u = +-sqrt(a - kappa), which loses its stability at kappa = 2 a / 3"""
    claim = """Disagreement dies faster than the mean learns, by the coupling times the graph's eigenvalue. At a saddle
        copies part only below kappa = a / mu_2. Two halves of the copies of a deep network that learn w1 w2 = a on
        opposite branches stay apart, less and less far, up to kappa = a, but are stable only up to 2 a / 3: from there
        the smallest difference makes all take one branch."""
    method = """The weight flow by 5th-order steps: log ratios of the modes' amplitudes at two times; half the
        difference of the halves, from a start that is exactly antisymmetric, against u(t)^2 = c / (1 + (c/u0^2 - 1)
        exp(-2 c t)), c = a - kappa; the growth of a perturbation of the split state that is not antisymmetric."""
    tolerance = (
        """1e-6 for steps of the fifth order, 1e-4 where a perturbation of 1e-6 stands for an infinitesimal one."""
    )
    quick = {"couplings": (0.0, 0.5, 0.9, 1.2), "copies": 4}

    curvatures: Positives = (0.5, 2.0)
    goal: Positive = 1.0  # a
    couplings: NonNegatives = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.1, 1.5)  # kappa / a
    copies: Annotated[Size, Field(ge=4, multiple_of=2)] = 6

    def measure(self) -> Finding:
        verdicts = [self._rates(graph) for graph in GRAPHS]
        verdicts += [self._parting(graph) for graph in GRAPHS]
        split, growth = self._split()
        kappa = np.array(self.couplings)
        quantity = "|half the difference of the branches - u(t)|, in sqrt(a)"
        verdicts.append(all_close("split branch", quantity, 0.0, split - self.branch(kappa, TIME), 1e-6))
        if (kappa < 1).any():
            quantity = "|growth rate of a common displacement - (3 kappa - 2 a)| / a"
            off = (growth - (3 * kappa - 2))[kappa < 1]
            verdicts.append(all_close("the split is stable below 2/3", quantity, 0.0, off, 1e-4))
        return Finding(verdicts, self._drawn(split, growth))

    @staticmethod
    def branch(kappa: np.ndarray, time: float, start: float = 0.3) -> np.ndarray:
        """u(t) of u' = (1 - kappa) u - u^3, in units of a; expm1 keeps it exact where kappa is close to 1."""
        c = 1 - kappa
        grown = np.where(c == 0, 2 * time, np.expm1(2 * c * time) / np.where(c == 0, 1, c))
        return start * np.exp(c * time) / np.sqrt(1 + start**2 * grown)

    def _circuit(self, graph: str, coupling: Array, sizes: tuple[int, ...]) -> Circuit:
        rule = Replicas(SGD(), coupling=coupling, copies=self.copies, graph=graph)
        return wired(rule, sizes, activation="linear")

    def _modes(self, graph: str) -> np.ndarray:
        """Eigenvectors of the graph that the rule wires, in the order of `laplacian`: (copies, modes)."""
        links = couplings(graph, self.copies)
        return np.linalg.eigh(np.diag(links.sum(1)) - links)[1]

    def _rates(self, graph: str) -> Verdict:
        """log(before / after) / time of every mode of every curvature, against l + kappa mu, on a quadratic loss."""
        kappa, time = 1.3 * self.goal, 0.5 / max(self.curvatures)
        count = len(self.curvatures)
        x = f64(np.diag(np.sqrt(count * np.array(self.curvatures))))
        circuit = self._circuit(graph, f64(kappa), (count, 1))
        start = np.random.default_rng(self.seed).uniform(0.5, 1.5, (self.copies, 1, count))
        modes, mu = self._modes(graph), laplacian(graph, self.copies)
        steps = round(200 * (1 + kappa * mu[-1] * time))
        end = _ends(
            circuit, x, jnp.zeros((count, 1), jnp.float64), f64(time / steps), _named("W1", start), jnp.int32(steps)
        )
        before, after = (modes.T @ w[:, 0] for w in (start, _stacked("W1", end, self.copies)))
        found = np.log(np.abs(before / after)) / time
        expected = np.array(self.curvatures)[None] + kappa * mu[:, None]
        return all_close(f"rates, {graph}", "|rate / (l + kappa mu_k) - 1|", 0.0, found / expected - 1, 1e-6)

    def _parting(self, graph: str) -> Verdict:
        """Growth of every mode of small copies at the saddle w1 = w2 = 0, against a - kappa mu."""
        mu, modes = laplacian(graph, self.copies), self._modes(graph)
        kappa, time = 0.7 * self.goal / mu[1], 1.0 / self.goal
        start = SMALL * np.random.default_rng(self.seed).uniform(0.5, 1.5, (self.copies, 1, 1)) * np.ones((2, 1, 1, 1))
        weights = _named("W1", start[0]) | _named("W2", start[1])
        circuit, one = self._circuit(graph, f64(kappa), (1, 1, 1)), jnp.ones((1, 1), jnp.float64)
        steps = round(200 * (1 + kappa * mu[-1] * time))
        end = _ends(circuit, one, self.goal * one, f64(time / steps), weights, jnp.int32(steps))
        before, after = (modes.T @ w[:, 0, 0] for w in (start[0], _stacked("W1", end, self.copies)))
        found = np.log(np.abs(after / before)) / time
        note = f"kappa = 0.7 a / mu_2 = {kappa:.3g}: mode 1 parts, and from mu = {self.goal / kappa:.3g} on none does"
        quantity = "|growth rate - (a - kappa mu_k)| / a"
        return all_close(f"parting, {graph}", quantity, 0.0, (found - (self.goal - kappa * mu)) / self.goal, 1e-4, note)

    def _split(self) -> tuple[np.ndarray, np.ndarray]:
        """Half the difference of two halves of a complete graph, in sqrt(a), and the rate in units of a at which
        a common displacement of the split state grows; by coupling."""
        half = np.where(np.arange(self.copies) < self.copies // 2, 1.0, -1.0)[:, None, None]
        one, root, time = jnp.ones((1, 1), jnp.float64), self.goal**0.5, TIME / self.goal
        steps, short = 1500, 0.5 / self.goal
        split, growth = [], []
        for kappa in self.couplings:
            circuit = self._circuit("complete", f64(kappa * self.goal), (1, 1, 1))
            start = 0.3 * root * half
            weights = _named("W1", start) | _named("W2", start)
            end = _ends(circuit, one, self.goal * one, f64(time / steps), weights, jnp.int32(steps))
            split.append(float((half * _stacked("W1", end, self.copies)).mean()) / root)
            rest = root * max(1 - kappa, 0) ** 0.5 * half + SMALL * root
            weights = _named("W1", rest) | _named("W2", rest)
            end = _ends(circuit, one, self.goal * one, f64(short / 500), weights, jnp.int32(500))
            moved = _stacked("W1", end, self.copies).mean() / (SMALL * root)
            growth.append(float(np.log(moved)) / short / self.goal)
        return np.array(split), np.array(growth)

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, split: np.ndarray, growth: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        kappa, fine = np.array(self.couplings), np.linspace(0, max(*self.couplings, 1.2), 300)
        branch = self.branch(fine, TIME)
        stable = fine < 2 / 3
        left.plot(fine[stable], branch[stable], color="0.3", label="theory, stable")
        left.plot(fine[~stable], branch[~stable], color="0.3", linestyle="--", label="theory, unstable")
        left.plot(kappa, split, linestyle="", label="simulation", **look(0))
        left.set(xlabel="coupling $\\kappa$ / a", ylabel="half difference / $\\sqrt{a}$")
        left.set_title(f"after {TIME:g} / a")
        left.legend()
        there = fine < 1
        right.plot(fine[there], 3 * fine[there] - 2, color="0.3", label="theory, 3 $\\kappa$ - 2 a")
        right.plot(kappa[kappa < 1], growth[kappa < 1], linestyle="", label="simulation", **look(1))
        right.axhline(0, color="0.7", lw=0.6)
        right.set(xlabel="coupling $\\kappa$ / a", ylabel="growth of a common displacement / a")
        right.legend()


@eqx.filter_jit
def _ends(
    circuit: Circuit, x: Array, y: Array, step: Float[Array, ""], weights: Weights, count: Int[Array, ""]
) -> Weights:
    flow = weight_flow(circuit, x, y, step, integrator="dopri5")
    return weights_after(flow, weights, count)


def _of_copy(name: str, i: int) -> str:
    return f"{name}~{i}" if i else name


def _named(name: str, copies: np.ndarray) -> Weights:
    """The matrices of all copies, by name."""
    return {_of_copy(name, i): f64(w) for i, w in enumerate(copies)}


def _stacked(name: str, weights: Weights, copies: int) -> np.ndarray:
    return np.stack([np.asarray(jax.device_get(weights[_of_copy(name, i)])) for i in range(copies)])
