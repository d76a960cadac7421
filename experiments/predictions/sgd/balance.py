"""A1.2, A1.3: what adjacent layers keep under the flow they lose by updates of samples, whose noise is one of Ito."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from pydantic import Field

from dynamics.circuit import Weights
from dynamics.discrete import DiscreteState
from dynamics.flow import FlowState, WeightFlow
from dynamics.instruments import gradient
from dynamics.integrators import FixedStep
from dynamics.noise import Noise
from dynamics.regime import AbstractRegime
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds, Size, Sizes
from experiments.predictions.drawing import against, legend_outside, look, marked, plotted
from experiments.predictions.kit import discrete, f64, keys_from, records, weight_flow, wired
from experiments.predictions.sgd.setting import (
    balance,
    chain,
    chain_weights,
    charge,
    of_updates,
)
from experiments.results.verdicts import Verdict, close, exceeds, matches, stays_below
from rules import SGD

Records = Annotated[int, Field(strict=True, ge=4, le=1000)]
NETWORK = (3, 4, 2)  # of the identity with matrices
STEPS = 40  # of it
Looks = Annotated[int, Field(strict=True, ge=2, le=100)]
Substeps = Annotated[int, Field(strict=True, ge=2, le=1000)]


class LawOfBalance(AbstractPrediction):
    """C = u^2 - w^2 of the chain z = w u x along updates, and the matrices of a linear network."""

    number = "A1.2"
    title = "Updates by samples balance adjacent layers"
    source = "ziyin2025neural, gradient balance; the identity for each update derived"
    equation = """W2^T W2 - W1 W1^T grows by eta^2 (g2^T g2 - g1 g1^T) in an update with gradients g; u^2 - w^2 shrinks
        by the factor 1 - eta^2 <r x>_B^2, and E <r x>_B^2 = (s^2 / B) (1 + m eta a / (2 - m eta a)), a = u^2 + w^2, m =
        E <x^2>_B^2"""
    claim = """Two adjacent linear layers have a charge that the flow conserves. Every update by any batch changes it by
        the difference of the squared gradients, so that the noise of samples, s, brings it to zero, slower by the size
        of the batch; updates by all samples stop with the charge that they have where they have learned."""
    method = """The discrete regime, labels with noise. Along the chain z = w u x, C after each update against the
        identity, and the mean C over runs against the equation for the residuals of weights that fluctuate about the
        minimum. A linear network, updates by 3 samples, with gradients by automatic differentiation."""
    tolerance = """Identities: 1e-12 of the largest number. Rates: the 99.9 % interval, and 3 % as fluctuations are
        taken to be small; 2 % for that of log E C against the mean of eta^2 <r x>_B^2 on the same runs. The
        end: below 1e-3 of the start; 1e-6 for the change with all samples."""
    quick = {"seeds": 12, "updates": 9000, "eta": 0.06, "batches": (1, 3)}

    eta: Positive = 0.04
    noise: Positive = 0.5  # of the labels
    start: tuple[Positive, Positive] = (2.0, 0.5)
    batches: Sizes = (1, 4)
    samples: Size = 64
    updates: Annotated[int, Field(strict=True, ge=100, le=1_000_000)] = 20_000
    records: Records = 50
    seeds: Seeds = 64

    def misfit(self) -> str | None:
        if self.start[0] == self.start[1]:
            return "law-of-balance.start must be two different weights: equal ones have no charge to lose"

    def measure(self) -> Finding:
        runs = {batch: self._simulated(batch) for batch in self.batches}
        largest = max(float(np.max(error)) for _, _, error in runs.values())
        verdicts = [
            close("charge of the chain", "largest |change of C - identity| / C at the start", 0.0, largest, 1e-12),
            close("charge of matrices", "largest |change of Q - identity| / largest |Q|", 0.0, self._matrices(), 1e-12),
        ]
        for batch, (charges, _, _) in runs.items():
            expected = -np.log(self.expected(batch)[-1]) / self.updates
            slopes = np.log(charges[:, 0] / charges[:, -1]) / self.updates
            name, quantity = f"rate, batches of {batch}", "decay of C per update"
            verdicts.append(matches(name, quantity, expected, slopes, 0.03 * expected))
            verdicts.append(self._own_rate(batch, *runs[batch][:2]))
        first, left = self.batches[0], runs[self.batches[0]][0]
        naive = self.eta**2 * self.noise**2 / first
        quantity = "decay of C over that by the noise of labels alone"
        verdicts.append(exceeds("fluctuations add to the noise", quantity, 1.0, runs[first][1] / naive))
        quantity = f"C at the end over C at the start, batches of {first}"
        verdicts.append(stays_below("balance", quantity, 1e-3, left[:, -1] / left[:, 0]))
        frozen = self._whole()
        change = abs(float(frozen[-1] / frozen[len(frozen) // 2]) - 1)
        verdicts.append(close("all samples", "change of C in the second half", 0.0, change, 1e-6))
        return Finding(verdicts, self._drawn({k: run[0] for k, run in runs.items()}, frozen))

    def _own_rate(self, batch: int, charges: np.ndarray, rates: np.ndarray) -> Verdict:
        """The slope of log E C against the rate of the same runs, whose noise is the same and drops out."""
        done = self.updates // self.records * self.records
        slope = float(np.log(charges[:, 0].mean() / charges[:, -1].mean())) / done
        quantity = "decay of log E C over the mean of eta^2 <r x>^2 on the same runs"
        return close(f"measured rate, batches of {batch}", quantity, 1.0, slope / float(rates.mean()), 0.02)

    def expected(self, batch: int) -> np.ndarray:
        """C over C at the start, at the records: the means of the fluctuations, of which C is a slow function."""
        x = np.asarray(self._data()[0])[:, 0]
        m = 1 + (np.mean(x**4) - 1) / batch
        rate = (self.eta * self.noise) ** 2 / batch
        times = np.linspace(0, self.updates, self.records + 1)
        return balance(self.start, rate, self.eta * float(m), 1.0, of_updates, times)

    def _data(self) -> tuple[Array, Array]:
        """Inputs of variance 1 and the labels x + noise, exactly without correlation of input and noise."""
        rng = np.random.default_rng(self.seed)
        x, noise = rng.standard_normal((2, self.samples))
        x /= np.sqrt(np.mean(x**2))
        noise -= x * np.mean(x * noise)
        noise *= self.noise / np.sqrt(np.mean((x * noise) ** 2))
        return f64(x[:, None]), f64((x + noise)[:, None])

    def _start(self) -> Weights:
        return chain_weights(*self.start)

    def _simulated(self, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """C at the records, (seeds, records); the mean of eta^2 <r x>^2 and the largest violation of the identity
        over C at the start, by seed."""
        (x, y), circuit, each = self._data(), chain(), self.updates // self.records

        def one(key: Array) -> tuple[Array, ...]:
            run = discrete(circuit, Stream(x, y, key), self.eta, batch=batch)

            def update(state: DiscreteState, k: Array) -> tuple:
                weights, c = run.weights(state), charge(run.weights(state))
                shown = jax.vmap(run.stream.index)(k * batch + jnp.arange(batch, dtype=jnp.int32))
                residual = y[shown, 0] - (weights["W2"] * weights["W1"])[0, 0] * x[shown, 0]
                factor = (self.eta * jnp.mean(residual * x[shown, 0])) ** 2
                state = run.advance(state, k, 1)
                return state, (factor, jnp.abs(charge(run.weights(state)) - c * (1 - factor)))

            def record(state: DiscreteState, i: Array) -> tuple:
                state, (factor, wrong) = jax.lax.scan(update, state, i * each + jnp.arange(each, dtype=jnp.int32))
                return state, (charge(run.weights(state)), factor.mean(), wrong.max())

            start = run.init(self._start())
            charges, factors, wrong = jax.lax.scan(record, start, jnp.arange(self.records, dtype=jnp.int32))[1]
            first = charge(run.weights(start))
            return jnp.concatenate([first[None], charges]), factors.mean(), wrong.max() / jnp.abs(first)

        charges, rates, wrong = jax.jit(jax.vmap(one))(keys_from(self.seed, self.seeds))
        return np.asarray(charges), np.asarray(rates), np.asarray(wrong)

    def _whole(self) -> np.ndarray:
        """C along updates by all samples."""
        run = weight_flow(chain(), *self._data(), self.eta)
        each = max(1, min(200, self.updates // self.records))
        look = lambda state: charge(run.weights(state))  # noqa: E731
        return np.asarray(jax.jit(lambda s: records(run, s, self.records, each, look, True))(run.init(self._start())))

    def _matrices(self) -> float:
        """The largest violation of the identity in a linear network, over the largest entry of Q."""
        circuit, rng = wired(SGD(), NETWORK, activation="linear"), np.random.default_rng(self.seed)
        x, y = (f64(rng.standard_normal((8, width))) for width in (NETWORK[0], NETWORK[-1]))
        run = discrete(circuit, Stream(x, y, jax.random.key(self.seed)), self.eta, batch=3)

        def q(w: Weights) -> Array:
            return w["W2"].T @ w["W2"] - w["W1"] @ w["W1"].T

        def update(state: DiscreteState, k: Array) -> tuple:
            end, before = run.advance(state, k, 1), run.weights(state)
            shown = jax.vmap(run.stream.index)(k * 3 + jnp.arange(3, dtype=jnp.int32))
            g = gradient(circuit, before, x[shown], y[shown])
            grown = self.eta**2 * (g["W2"].T @ g["W2"] - g["W1"] @ g["W1"].T)
            return end, (jnp.abs(q(run.weights(end)) - q(before) - grown).max(), jnp.abs(q(before)).max())

        start = run.init(circuit.initial_weights(jax.random.key(self.seed)))
        wrong, size = jax.jit(lambda s: jax.lax.scan(update, s, jnp.arange(STEPS, dtype=jnp.int32))[1])(start)
        return float(wrong.max() / size.max())

    @plotted(3.6, 3.0)
    def _drawn(self, panel: Axes, charges: dict[int, np.ndarray], frozen: np.ndarray) -> None:
        time = np.linspace(0, self.updates, self.records + 1)
        few = slice(None, None, max(1, self.records // 12))
        for i, (batch, each) in enumerate(charges.items()):
            marked(panel, time[few], (each / each[:, :1]).T[few], label=f"batches of {batch}", **look(i))
            panel.plot(time, self.expected(batch), color=look(i)["color"])
            panel.plot(
                time, np.exp(-((self.eta * self.noise) ** 2) / batch * time), "--", color=look(i)["color"], lw=0.7
            )
        panel.plot(time[few], (frozen / frozen[0])[few], linestyle="", label="all samples", **look(len(charges)))
        panel.axhline(frozen[-1] / frozen[0], color=look(len(charges))["color"])
        panel.plot([], [], color="0.3", label="theory")
        panel.plot([], [], "--", color="0.3", lw=0.7, label="noise of labels alone")
        panel.set(yscale="log", xlabel="updates", ylabel="C / C at the start")
        legend_outside(panel, 2)


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
    records: Looks = 8
    seeds: Seeds = 96

    def misfit(self) -> str | None:
        if self.start[0] <= self.start[1]:
            return "ito-noise.start must be two weights of which the first is larger"
        if self.updates < self.records:
            return f"ito-noise has {self.updates} updates: there must be at least one for each record"

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

        def flow(key: Array, steps: int = self.substeps, batch: object = float(self.batch), **kinds: Any) -> WeightFlow:
            kinds |= {"sampling_noise": True, "batch": f64(batch), "key": key}
            return weight_flow(circuit, ones, labels, self.eta, parts=steps, **kinds)

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
            run = discrete(circuit, Stream(ones, labels, key), self.eta, batch=self.batch)
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
            against(panel, i, (fine, self.expected(name, fine)), (self.marks[1:] + shift, each[:, 1:].T), name)
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
