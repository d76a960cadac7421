"""A7.2, B4: weight decay and symmetries: it restores those of weak modes, and holds norms against noise."""

from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.activations import Activation
from dynamics.circuit import Weights
from dynamics.discrete import Discrete, DiscreteState
from dynamics.stimulus import Stream
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Seeds, Size
from experiments.predictions.drawing import against, drawn, look, marked, plotted
from experiments.predictions.kit import all_close, discrete, f64, keys_from, weight_flow, weights_after, wired
from experiments.results.verdicts import Verdict, all_match, close, matches
from rules.contract import AbstractRule
from rules.gradient import SGD
from rules.momentum import Momentum

SMALL = 1e-5  # weights at the symmetric point
CLEAR = 0.02  # of a mode's strength: closer to its threshold it takes too long to come to rest


def strength(time: np.ndarray, start: float, excess: np.ndarray) -> np.ndarray:
    """sigma(t) of sigma' = 2 sigma (c - sigma), c = s - gamma of any sign; sigma0 / (1 + 2 sigma0 t) at c = 0."""
    grown = np.where(excess == 0, 2 * time, np.expm1(2 * excess * time) / np.where(excess == 0, 1, excess))
    return start * np.exp(2 * excess * time) / (1 + start * grown)


class SymmetryRestoration(AbstractPrediction):
    """A two-layer linear network on whitened inputs, under weight decay of increasing strength."""

    number = "B4"
    title = "Weight decay gamma keeps as many modes as there are singular values above it"
    source = "ziyin2025parameter, breaking and restoration of parameter symmetries; the instance and its rates derived"
    equation = """L = |S - W2 W1|^2 / 2 + (gamma/2)(|W1|^2 + |W2|^2): singular values max(s_j - gamma, 0), rank = #{s_j
        > gamma}; at the symmetric point |theta_j|^2, theta_j = W1 v_j + W2^T u_j, grows at 2 (s_j - gamma)"""
    claim = """Training ends with every singular value lowered by gamma, and those below it gone: the rank counts the
        modes above. Close to the symmetric point |theta_j|^2 grows or dies at twice s_j - gamma, so that learning slows
        down critically where the two meet, and follows there a power of time."""
    method = """The weight flow by steps of the fifth order with tau_plast / tau_dec = gamma. Random small weights, for
        the end and for the rates at the symmetric point; balanced aligned weights for the whole course."""
    tolerance = """1e-3 for singular values at the end, where gamma is 2 % or more away from each of them; the rank
        counts those above 0.01; 1e-3 for rates, by weights of 1e-5, whose squares count for less; 1e-6 for the
        course."""
    quick = {"decays": (0.1, 0.8, 1.5, 2.5)}

    strengths: Positives = (3.0, 2.0, 1.0, 0.5, 0.2)  # s
    decays: Positives = (0.1, 0.3, 0.4, 0.8, 1.2, 1.5, 2.5, 3.5)  # gamma
    inputs: Size = 6
    hidden: Size = 7
    outputs: Size = 5
    time: Positive = 12.0  # of the slowest clear mode, 1 / |s - gamma|

    def misfit(self) -> str | None:
        modes = len(self.strengths)
        if min(self.inputs, self.hidden, self.outputs) < modes:
            return f"inputs, hidden and outputs must be at least {modes}, one per mode"

    def measure(self) -> Finding:
        s, gamma = np.array(self.strengths), np.array(self.decays)
        u, v = self._bases()
        x, y = self._data(u, v)
        end, rates, course = self._simulated(x, y, u, v)
        expected = -np.sort(-np.maximum(s[None] - gamma[:, None], 0), axis=1)
        clear = (np.abs(s[None] / gamma[:, None] - 1) > CLEAR).all(1)
        found = np.linalg.svd(end, compute_uv=False)[:, : len(s)]
        off = (found - expected)[clear]
        verdicts = [all_close("singular values", "|sigma_j - max(s_j - gamma, 0)|", 0.0, off, 1e-3)]
        ranks, counts = (found > 0.01).sum(1), ((s[None] - gamma[:, None]) > 0.01).sum(1)
        wrong = float(abs(ranks - counts)[clear].max())
        verdicts.append(close("rank", "largest |rank - #{s_j > gamma}|", 0.0, wrong, 0.0))
        law = 2 * (s[None] - gamma[:, None])
        verdicts.append(all_close("escape", "|rate of |theta_j|^2 - 2 (s_j - gamma)|", 0.0, rates - law, 1e-3))
        off = self._off(course) / s.max()
        verdicts.append(all_close("course", "largest |sigma(t) - theory| / s_1", 0.0, off, 1e-6))
        return Finding(verdicts, self._drawn(found, rates))

    def _bases(self) -> tuple[np.ndarray, np.ndarray]:
        """Left and right singular vectors of the task, random: (outputs, modes), (inputs, modes)."""
        rng, modes = np.random.default_rng(self.seed), len(self.strengths)
        u, v = (np.linalg.qr(rng.standard_normal((n, n)))[0][:, :modes] for n in (self.outputs, self.inputs))
        return u, v

    def _data(self, u: np.ndarray, v: np.ndarray) -> tuple[Array, Array]:
        x = np.sqrt(self.inputs) * np.eye(self.inputs)  # whitened
        return f64(x), f64(x @ (u * np.array(self.strengths) @ v.T).T)

    def _starts(self, u: np.ndarray, v: np.ndarray) -> tuple[Weights, Weights]:
        """Random small weights, and balanced aligned ones of strength `SMALL` ** 0.5 each."""
        rng, shape = np.random.default_rng([self.seed, 1]), (self.hidden, self.inputs)
        random = {
            "W1": SMALL * rng.standard_normal(shape),
            "W2": SMALL * rng.standard_normal((self.outputs, self.hidden)),
        }
        basis = np.linalg.qr(rng.standard_normal((self.hidden, self.hidden)))[0][:, : len(self.strengths)]
        aligned = {"W1": SMALL**0.25 * basis @ v.T, "W2": SMALL**0.25 * u @ basis.T}
        return jax.tree.map(f64, random), jax.tree.map(f64, aligned)

    def _simulated(self, x: Array, y: Array, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """W2 W1 at the end, rates at the symmetric point and strengths after a short time, by gamma."""
        random, aligned = self._starts(u, v)
        s, gamma = np.array(self.strengths), np.array(self.decays)
        gaps = np.abs(s[None] - gamma[:, None])
        gaps = np.where(gaps / s[None] > CLEAR, gaps, np.inf).min(1)
        step = 0.2 / (max(self.strengths) + max(self.decays))
        long = np.ceil((self.time / 2 + np.log(1 / SMALL)) / gaps / step).astype(int)
        short = round(0.5 / step)
        run = lambda weights, count: _ends(x, y, weights, f64(gamma), f64(step), count)  # noqa: E731
        ends = run(random, jnp.asarray(long, jnp.int32))
        product = np.asarray(ends["W2"] @ ends["W1"])
        near = run(random, jnp.full(len(gamma), short, jnp.int32))

        def size(w: Weights) -> np.ndarray:
            """|W1 v_j + W2^T u_j|^2, which is 0 at the symmetric point: (..., modes)."""
            return np.sum((np.asarray(w["W1"]) @ v + np.swapaxes(np.asarray(w["W2"]), -1, -2) @ u) ** 2, axis=-2)

        rates = np.log(size(near) / size(random)) / (short * step)
        self_ = run(aligned, jnp.full(len(gamma), 4 * short, jnp.int32))
        strengths = np.einsum("oj,goi,ij->gj", u, np.asarray(self_["W2"] @ self_["W1"]), v)
        return product, rates, np.stack([strengths, np.full_like(strengths, 4 * short * step)])

    def _off(self, course: np.ndarray) -> np.ndarray:
        """How far the strengths of aligned weights are from the closed form."""
        excess = np.array(self.strengths)[None] - np.array(self.decays)[:, None]
        return course[0] - strength(course[1], SMALL**0.5, excess)

    @drawn(7.0, 2.6)
    def _drawn(self, figure: Figure, found: np.ndarray, rates: np.ndarray) -> None:
        left, right = figure.subplots(1, 2)
        s, gamma = np.array(self.strengths), np.array(self.decays)
        fine = np.linspace(0, gamma.max() * 1.05, 300)
        for j, one in enumerate(s):
            left.plot(fine, np.maximum(one - fine, 0), color=look(j)["color"])
            left.plot(gamma, found[:, np.argsort(np.argsort(-s))[j]], linestyle="", label=f"s = {one:g}", **look(j))
            against(right, j, (fine, 2 * (one - fine)), (gamma, rates[:, j]))
        right.axhline(0, color="0.7", lw=0.6)
        left.set(xlabel="weight decay $\\gamma$", ylabel="singular value of W$_2$W$_1$")
        left.legend(title="lines: theory")
        right.set(xlabel="weight decay $\\gamma$", ylabel="growth of |$\\theta_j$|$^2$ at the symmetric point")


@eqx.filter_jit
def _ends(x: Array, y: Array, weights: Weights, gammas: Array, step: Array, counts: Int[Array, " decays"]) -> Weights:
    """The weights after so many steps, by decay."""
    circuit = wired(SGD(), (x.shape[1], weights["W1"].shape[0], y.shape[1]), activation="linear")

    def one(gamma: Array, count: Array) -> Weights:
        flow = weight_flow(circuit, x, y, step, 1 / gamma, integrator="dopri5")
        return weights_after(flow, weights, count)

    return jax.vmap(one)(gammas, counts)


def _unit(a: Float[Array, " size"]) -> Float[Array, " size"]:
    """a / |a|, and 0 where nothing arrives."""
    square = jnp.sum(a * a)
    return jnp.where(square > 0, a / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


unit = Activation(_unit)  # the size of what arrives has no effect
RECORDS = 40
SETTLED = 4  # relaxation times, 1 / (4 eta k) presentations each, before averages are taken


class NoetherEquilibrium(AbstractPrediction):
    """One scale-invariant layer on labels that are pure noise, in discrete updates with weight decay."""

    number = "A7.2"
    title = "Scale-invariant weights come to a norm and to a rate of rotation that the task does not know"
    source = """tanaka2021noether, learning dynamics of scale-invariant weights; the updates' exact identity, and the
        effect of momentum on norm and rotation, derived"""
    equation = """|w_k+1|^2 = (1 - eta k)^2 |w_k|^2 + eta^2 |g_k|^2; E|w|^4 = eta (d - 1) / (2 k); angle per update
        sqrt(2 eta k (1 - beta) / (1 + beta)); |w|^4 -> e^(-4kt) |w_0|^4 + eta (d - 1) (1 - e^(-4kt)) / (2k)"""
    claim = """The gradient is orthogonal to the weights, so noise makes them grow and decay alone shrinks them: they
        meet at a norm that the fourth power law gives, after 1 / (4 k) whatever the start. There weights turn by
        sqrt(2 eta k) per update. Momentum of the same total step leaves the norm where it is and turns weights more
        slowly."""
    method = """Discrete updates of one layer with outputs of unit length, from targets +-sqrt(d) times an axis, whose
        part orthogonal to any w has the mean square d - 1. Independent orders of the samples; averages over time after
        4 relaxation times, with momentum by the rule of that name."""
    tolerance = """1e-12 for the identity, update by update. 99.9 % intervals over seeds against the exact recursion of
        E|w|^4; with momentum 2 eta k / (1 - beta) more, the next order of what is derived there."""
    quick = {"seeds": 16, "decay": 0.05, "starts": (0.5, 2.0)}

    dimension: Annotated[Size, Field(ge=3)] = 20  # d
    rate: Positive = 0.02  # eta
    decay: Positive = 0.02  # k
    beta: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.8
    starts: Positives = (0.5, 1.0, 2.0)  # |w_0|^4 over that of the equilibrium
    averaged: Positive = 30.0  # relaxation times
    seeds: Seeds = 40

    def misfit(self) -> str | None:
        return "rate times decay must be below 0.01" if self.rate * self.decay > 0.01 else None

    @property
    def relaxation(self) -> float:
        """1 / (4 eta k), in presentations."""
        return 1 / (4 * self.rate * self.decay)

    def recursion(self, count: int, start: float) -> np.ndarray:
        """E|w|^4 after 0 .. count updates. (The mean of 1/|w|^2 is taken at the mean: of the order eta k of a term that
        is itself of that order.)"""
        shrink, power = (1 - self.rate * self.decay) ** 2, self.rate**2 * (self.dimension - 1)
        values = np.empty(count + 1)
        values[0] = start
        for i in range(count):
            values[i + 1] = shrink**2 * values[i] + 2 * shrink * power + power**2 / values[i]
        return values

    @property
    def equilibrium(self) -> float:
        """E|w|^4 of the recursion at rest; eta (d - 1) / (2 k) up to the order eta k."""
        shrink, power = (1 - self.rate * self.decay) ** 2, self.rate**2 * (self.dimension - 1)
        return power / (1 - shrink)

    def measure(self) -> Finding:
        every = max(1, round(SETTLED * self.relaxation / RECORDS))
        course = [self._run(SGD(), s * self.equilibrium, RECORDS, every) for s in self.starts]
        expected = np.stack([self.recursion(RECORDS * every, s * self.equilibrium)[::every] for s in self.starts])
        slope = max(float(one[2].max()) for one in course)
        quantity = "largest |w . g| / (|w| |g|) of any update"
        verdicts = [close("orthogonal", quantity, 0.0, slope, 1e-12)]
        fourth = np.stack([one[0] for one in course], 1)  # (seeds, starts, records)
        picked = [RECORDS // 8, RECORDS // 4, RECORDS // 2, RECORDS]
        quantity = "E|w|^4 along the way, over that of rest"
        scaled = fourth[:, :, picked] / self.equilibrium
        verdicts.append(all_match("relaxation", quantity, expected[:, picked] / self.equilibrium, scaled))
        verdicts += self._rest()
        return Finding(verdicts, self._drawn(fourth, every))

    def _rest(self) -> list[Verdict]:
        """Norm and rotation at rest, without and with momentum."""
        heavy = Momentum(SGD(), inertia=f64(self.rate / (1 - self.beta)))
        every, found = max(1, round(self.averaged * self.relaxation / RECORDS)), []
        law = self.equilibrium
        turn = 2 * self.rate * self.decay
        for name, rule, factor in (("plain", SGD(), 1.0), ("momentum", heavy, (1 - self.beta) / (1 + self.beta))):
            more = 0.0 if name == "plain" else turn / (1 - self.beta)
            fourth, angle, _ = self._run(rule, self.equilibrium, RECORDS, every, mean=True)
            found.append(matches(f"norm, {name}", "E|w|^4 over that of rest", 1.0, fourth.mean(1) / law, more))
            ratio = angle.mean(1) / (factor * turn)
            allowed = more + turn  # the angle's own next order
            note = f"the angle is {np.sqrt(factor * turn):.4g} per update"
            quantity = "mean square angle per update over its law"
            found.append(matches(f"rotation, {name}", quantity, 1.0, ratio, allowed, note))
        return found

    def _run(
        self, rule: AbstractRule, fourth: float, records: int, every: int, mean: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """|w|^4 (at every record with the start, or means between records), mean squares of the angle between records,
        (seeds, records) each; the largest |cos(w, g)| of updates without momentum (seeds,)."""
        circuit = wired(rule, (1, self.dimension), output_activation=f"{__name__}:unit")
        axes = np.sqrt(self.dimension) * np.eye(self.dimension)
        x, y = jnp.ones((2 * self.dimension, 1), jnp.float64), f64(np.concatenate([axes, -axes]))
        run = discrete(circuit, Stream(x, y, jax.random.key(0)), self.rate, 1 / self.decay)
        start = {"W1": f64(np.full((self.dimension, 1), (fourth / self.dimension**2) ** 0.25))}
        keys = keys_from(self.seed, self.seeds)
        first, ends, angles, slopes = _tracked(run, start, keys, records, jnp.int32(every))
        if mean:
            return np.asarray(first), np.asarray(angles), np.asarray(slopes)
        return np.asarray(ends), np.asarray(angles), np.asarray(slopes)

    @plotted(3.8, 2.8)
    def _drawn(self, panel: Axes, fourth: np.ndarray, every: int) -> None:
        times = np.arange(RECORDS + 1) * every / self.relaxation
        fine = np.linspace(0, times[-1], 200)
        for i, start in enumerate(self.starts):
            panel.plot(fine, 1 + (start - 1) * np.exp(-fine), color=look(i)["color"])
            label = f"|w$_0$|$^4$ = {start:g} of it"
            marked(panel, times[::4], fourth[:, i, ::4].T / self.equilibrium, label=label, **look(i))
        panel.axhline(1, color="0.7", lw=0.6)
        panel.set(xlabel="time (1 / (4 k))", ylabel="E|w|$^4$ / ($\\eta$ (d - 1) / 2k)")
        panel.legend(title="lines: closed form")


@eqx.filter_jit
def _tracked(
    run: Discrete, start: dict, keys: Array, records: int, every: Array
) -> tuple[
    Float[Array, "seeds records"], Float[Array, "seeds _more"], Float[Array, "seeds records"], Float[Array, " seeds"]
]:
    """Means of |w|^4 between records, |w|^4 at the start and at each, mean squared angles, the largest |cos(w, g)|."""
    decay = run.timescales.decay
    assert decay is not None
    shrink = 1 - run.clock.duration / decay

    def one(key: Array) -> tuple[Array, Array, Array, Array]:
        own = eqx.tree_at(lambda r: r.stream.key, run, key)

        def update(i: Array, carry: tuple) -> tuple[DiscreteState, Array, Array, Array]:
            state, powers, angles, slope = carry
            k = jnp.asarray(i, jnp.int32)
            after = own.advance(state, k, 1)
            w, moved = state.weights["W1"], after.weights["W1"]
            g = moved - shrink * w
            size = jnp.sum(w * w)
            turned = jnp.sum((moved - w * (jnp.sum(w * moved) / size)) ** 2) / size
            cosine = jnp.abs(jnp.sum(w * g)) / jnp.sqrt(size * jnp.sum(g * g))
            return after, powers + size**2, angles + turned, jnp.maximum(slope, cosine)

        def more(carry: tuple, j: Array) -> tuple:
            zero = jnp.zeros_like(shrink)
            begun = (carry[0], zero, zero, carry[1])
            state, powers, angles, slope = jax.lax.fori_loop(j * every, (j + 1) * every, update, begun)
            count = every.astype(zero.dtype)
            return (state, slope), (powers / count, jnp.sum(state.weights["W1"] ** 2) ** 2, angles / count)

        zero = (own.init(start), jnp.zeros_like(shrink))
        (_, slope), (means, ends, angles) = jax.lax.scan(more, zero, jnp.arange(records, dtype=jnp.int32))
        return means, jnp.concatenate([jnp.sum(start["W1"] ** 2)[None] ** 2, ends]), angles, slope

    return jax.vmap(one)(keys)
