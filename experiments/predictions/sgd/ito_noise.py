"""A1.3: the noise of samples is one of Ito, and depends on where the weights are."""

from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.flow import FlowState, WeightFlow
from dynamics.integrators import FixedStep
from dynamics.noise import Noise
from dynamics.regime import AbstractRegime
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size
from experiments.predictions.kit import f64, keys_from, legend_outside, look, marked, plotted
from experiments.predictions.sgd.setting import balance, chain, chain_weights, charge, of_updates, sample_flow, updates
from experiments.results.verdicts import matches

Records = Annotated[int, Field(strict=True, ge=2, le=100)]
Substeps = Annotated[int, Field(strict=True, ge=2, le=1000)]


def of_steps(a: np.ndarray, steps: int) -> np.ndarray:
    """What fluctuations of u w add to the decay of C by Euler's steps, which straighten paths, by that of the noise."""
    return of_updates(a / steps)


def of_modified_steps(a: np.ndarray, steps: int) -> np.ndarray:
    """As `of_steps`, with the modified drift: the fluctuations relax 1 + a / 2 times faster, and it decays C itself."""
    b = 1 + a / 2
    return (1 + b**2 / steps) * a / (2 * b - a * b**2 / steps)


# By a = eta (u^2 + w^2) and the steps in an update: 0 to first order in eta. None: C is kept.
CURVES: dict[str, Callable | None] = {
    "Ito": of_steps,
    "Ito, modified": of_modified_steps,
    "updates": lambda a, steps: of_updates(a),
    "Stratonovich": None,
    "isotropic": None,
}
MORE_SEEDS, MORE_STEPS = 12, 4  # for isotropic noise, with which C wanders; for curved paths


class ItoNoise(AbstractPrediction):
    """C = u^2 - w^2 of the chain z = w u with labels +-s, in the modes that SGD is compiled to."""

    number = "A1.3"
    title = "The noise of samples is Ito's"
    source = "ziyin2025neural, symmetry broken by noise; the closed form derived"
    equation = """d theta = -grad L dt + (eta / B)^(1/2) Sigma(theta)^(1/2) dW in the sense of Ito: E C = C0 exp(-eta
        s^2 t / B); in that of Stratonovich C is constant"""
    claim = """The noise of labels moves the weights along level sets of C, so that a calculus that keeps to curves
        conserves C, while updates lose it, and the Ito SDE as fast as they do. Additive noise of the same strength is
        not SGD: it keeps the mean of C."""
    method = """Weight flows with the noise of samples, by Euler's steps, plain and with the modified drift; by Heun's
        steps, which the flow refuses and which are taken here behind its back; with additive noise whose variance is
        that of the noise of samples at the start; and updates by batches themselves."""
    tolerance = """99.9 % intervals of the mean over seeds, and 3 % of what is expected, in which eta is small, for
        finite eta and steps; 1e-3 where C is kept path by path."""
    quick = {"seeds": 24, "eta": 0.1}

    eta: Positive = 0.05
    noise: Positive = 0.5  # s
    batch: Size = 1
    decays: Positive = 2.0  # eta s^2 t / B at the end
    start: tuple[Positive, Positive] = (2.0, 0.5)
    substeps: Substeps = 4
    records: Records = 8
    seeds: Seeds = 96

    def misfit(self) -> str | None:
        if self.start[0] <= self.start[1]:
            return "ito-noise.start must be two weights of which the first is larger"
        if self.updates < self.records:
            return f"ito-noise has {self.updates} updates: there must be at least one for each record"
        return None

    @property
    def updates(self) -> int:
        """How many updates it takes until the end."""
        return round(self.decays * self.batch / (self.eta * self.noise) ** 2)

    @property
    def marks(self) -> np.ndarray:
        """After how many updates C is recorded."""
        return np.rint(np.linspace(0, self.updates, self.records + 1)).astype(int)

    def expected(self, name: str, marks: np.ndarray) -> np.ndarray:
        """C over C at the start after so many updates."""
        more = CURVES[name]
        if more is None:
            return np.ones(len(marks))
        rate = (self.eta * self.noise) ** 2 / self.batch
        return balance(self.start, rate, self.eta, 0.0, lambda a: more(a, self.substeps), marks)

    def measure(self) -> Finding:
        ratios, verdicts = self._simulated(), []
        for name, each in ratios.items():
            expected = float(self.expected(name, self.marks)[-1])
            allowed = 1e-3 if name == "Stratonovich" else 0.0 if name == "isotropic" else 0.03 * expected
            verdicts.append(matches(name, "C at the end over C at the start", expected, each[:, -1], allowed))
        return Finding(verdicts, self._drawn(ratios))

    def _simulated(self) -> dict[str, np.ndarray]:
        """C over C at the start, by (seeds, marks)."""
        labels, keys = f64([[self.noise], [-self.noise]]), keys_from(self.seed, self.seeds)
        ones, circuit, weights = jnp.ones_like(labels), chain(), chain_weights(*self.start)
        marks = jnp.asarray(self.marks, jnp.int32)

        def recorded(run: AbstractRegime, advance: Callable) -> Array:
            def record(state: object, ends: tuple[Array, Array]) -> tuple:
                state = advance(state, ends[0], ends[1] - ends[0])
                return state, charge(run.weights(state))

            found = jax.lax.scan(record, run.init(weights), (marks[:-1], marks[1:]))[1]
            return jnp.concatenate([jnp.ones(1), found / charge(weights)])

        def flow(
            key: Array, steps: int = self.substeps, batch: object = float(self.batch), **kinds: object
        ) -> WeightFlow:
            kinds |= {"sampling_noise": True, "batch": f64(batch), "key": key}
            return sample_flow(circuit, ones, labels, self.eta, steps, "euler", **kinds)

        def noisy(key: Array, batch: Array, synaptic: Array) -> Array:
            run = flow(key, batch=batch, noise=Noise(synaptic=synaptic))
            return recorded(run, run.advance)

        def modified(key: Array) -> Array:
            run = flow(key, entropic=True)
            return recorded(run, run.advance)

        def by_heun(key: Array) -> Array:
            run = flow(key, MORE_STEPS * self.substeps)
            return recorded(run, _by_heun(run))

        def updated(key: Array) -> Array:
            run = updates(circuit, Stream(ones, labels, key), self.eta, self.batch)
            return recorded(run, run.advance)

        many = keys_from(self.seed, self.seeds * (1 + MORE_SEEDS))  # Ito's noise first, then isotropic
        isotropic = np.arange(len(many)) >= self.seeds
        strength = self.eta**0.5 * self.noise / self.batch**0.5 * np.hypot(*self.start) / 2**0.5
        batches = f64(np.where(isotropic, np.inf, self.batch))
        both = np.asarray(jax.jit(jax.vmap(noisy))(many, batches, f64(strength * isotropic)))
        rest = {"Ito, modified": modified, "updates": updated, "Stratonovich": by_heun}
        found = {name: np.asarray(jax.jit(jax.vmap(one))(keys)) for name, one in rest.items()}
        return {"Ito": both[: self.seeds]} | found | {"isotropic": both[self.seeds :]}

    @plotted(3.6, 3.0)
    def _drawn(self, panel: Axes, ratios: dict[str, np.ndarray]) -> None:
        fine = np.linspace(0, self.updates, 200)
        for i, (name, each) in enumerate(ratios.items()):
            shift = (i - 2) * 0.006 * self.updates
            panel.plot(fine, self.expected(name, fine), color=look(i)["color"])
            marked(panel, self.marks[1:] + shift, each[:, 1:].T, label=name, **look(i))
        panel.set(xlabel="updates", ylabel="C / C at the start")
        panel.plot([], [], color="0.3", label="theory")
        legend_outside(panel, 2)


def _by_heun(flow: WeightFlow) -> Callable:
    """What takes a flow further in Heun's steps, past the check that refuses them."""

    def advance(state: FlowState, first: Array, count: Array) -> FlowState:
        integrator = FixedStep("heun")
        steps, start = flow.clock.steps, integrator.begin(state[:3])
        run = flow.system(state.fixed), start, lambda j: None, first * steps, count * steps, flow.key
        return state._replace(weights=integrator.run(*run).y[0])

    return advance
