"""4.2: one Hebbian neuron, |w| held at 1, a fresh normal matrix in every update, and a slow copy of its synapse."""

from typing import Annotated, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from pydantic import Field
from scipy.integrate import quad, solve_ivp
from scipy.special import ive, roots_genlaguerre

from dynamics.circuit import (
    AbstractFactor,
    Activity,
    Circuit,
    Constant,
    Dense,
    Gaussian,
    Given,
    Layer,
    Local,
    Outer,
    Projection,
    Redrawn,
    Scaled,
    Variable,
)
from dynamics.discrete import Discrete
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Seeds
from experiments.predictions.drawing import drawn, look, marked
from experiments.predictions.kit import all_close, f64, keys_from
from experiments.results.verdicts import Verdict, close, matches

RECORDS, SPAN = 60, 3.0  # of weights; how long a run is, in times of the slow synapse
SETTLED = RECORDS // 10  # records before the fast weights are in their stationary law
PATTERNS, APART = 6, 0.5  # of the cubic drive, and how far they are from their mean
RESPONSE = 0.35  # of the mean weight to the cubic drive, to first order
BEGUN = 0.6  # the slow synapse that is asked to forget or remember
UNIFORM = 200_000  # points on the sphere for moments of the cubic drive's law


class Polynomial(AbstractFactor):
    """c_0 + c_1 a + c_2 a^2."""

    c: Float[Array, "3"]

    def __call__(self, local: Local) -> Float[Array, " size"]:
        a = local.preactivation
        return self.c[0] + self.c[1] * a + self.c[2] * a * a


class Case(NamedTuple):
    """A drive of the neuron, its patterns (PATTERNS, d), how far the slow synapse pulls the fast one, its start."""

    drive: np.ndarray
    patterns: np.ndarray
    pull: float
    memory: np.ndarray


class SphericalLangevin(AbstractPrediction):
    number = "4.2"
    title = "Noise on a sphere of weights: averages find the direction, and remember it above a coupling of d / 2"
    source = """wei2026improved, spherical Langevin dynamics and the average of its iterates, which are known here from
        summaries of the paper alone; the laws, the response of updates and the memory derived"""
    equation = """dw = P (b(w) + g M) dt + P o dB, tau M' = w - M; b = eps <(w x)^(k-1) x>, g = 0: density exp(2 eps <(w
        x)^k> / k); k = 1: E w = A(2 eps) v, A(s) = I_(d/2)(s) / I_(d/2-1)(s); k = 3: E w = 2 eps <|x|^2 x> / (d (d +
        2)) + O(eps^3); no drive: E|M|^2 = 1 / (1 + tau (d - 1) / 2); averaged: tau |M|' = A(2 g |M|) - |M|, which
        remembers for g > d / 2"""
    claim = """A norm that is held and isotropic noise make weights sample a Gibbs law on the sphere, with the mean of
        von Mises and Fisher for a constant drive and that of Watson for a linear neuron. A weight vector of a quadratic
        neuron says little about its patterns, but the average points along <|x|^2 x>. A slow synapse takes that
        average: its variance falls with its timescale. If it pulls the fast one in turn, the averaged equation has a
        threshold: below g = d / 2 both forget the direction that the slow synapse had, above it they keep one for good,
        of the length where A(2 g |M|) = |M|."""
    method = """Discrete updates of a circuit by hand: the law of the fast synapse has a Hebbian term, a matrix drawn
        anew for each presentation, and the slow synapse's matrix; updates hold its norm. (The engine's synaptic noise
        is not projected on a sphere, so it is not used.) Patterns are one direction v, or several for the cubic drive.
        Moments over times and seeds, against integrals over the sphere."""
    tolerance = """99.9 % intervals over seeds. Updates of eta answer a constant and a cubic drive by what is computed
        for them to first order in the drive, a linear one within eta (d - 1) / 4; the cubic within that too, for higher
        orders. Averages of a synapse that is tau slow are left 1 / (tau (d - 1) / 2)."""
    quick = {"eta": 0.02, "timescale": 20.0, "seeds": 64}

    dimension: Annotated[int, Field(strict=True, ge=4, le=30)] = 5  # d
    eta: Annotated[float, Field(strict=True, gt=0, le=0.05)] = 0.01  # T / tau_plast; the noise has unit strength
    strength: Positive = 1.0  # eps
    timescale: Positive = 40.0  # tau / tau_plast
    pulls: tuple[Positive, Positive] = (0.5, 4.0)  # g over d / 2
    seeds: Seeds = 128

    def misfit(self) -> str | None:
        if not self.pulls[0] < 1 < self.pulls[1]:
            return "spherical-langevin.pulls must be one number below 1 and one above"
        if self.timescale < 10:
            return "spherical-langevin.timescale must be at least 10, as the synapse is to be slow"

    @property
    def rate(self) -> float:
        """(d - 1) / 2, at which the fast weights forget."""
        return (self.dimension - 1) / 2

    @property
    def every(self) -> int:
        """Updates between records."""
        return max(1, round(SPAN * self.timescale / self.eta / RECORDS))

    def patterns(self) -> np.ndarray:
        """Of the cubic drive: one direction, and differences."""
        rng = np.random.default_rng(self.seed)
        return np.eye(self.dimension)[0] + APART * rng.standard_normal((PATTERNS, self.dimension))

    def cases(self) -> dict[str, Case]:
        """What is run, by name; v is the first axis."""
        v, d = np.eye(self.dimension)[0], self.dimension
        one, several, drives = np.tile(v, (PATTERNS, 1)), self.patterns(), self.strength * np.eye(3)
        cubic = RESPONSE / np.linalg.norm(2 * third(several) / (d * (d + 2))) * np.eye(3)[2]
        fields = {"none": (np.zeros(3), one), "constant": (drives[0], one), "linear": (2 * drives[1], one)}
        runs = {name: Case(c, x, 0.0, 0 * v) for name, (c, x) in fields.items()}
        runs["cubic"] = Case(cubic, several, 0.0, 0 * v)
        forgets, keeps = (Case(np.zeros(3), one, share * d / 2, BEGUN * v) for share in self.pulls)
        return runs | {"forgets": forgets, "remembers": keeps}

    def measure(self) -> Finding:
        cases = self.cases()
        w, m = self._simulated(list(cases.values()))
        fast, slow = dict(zip(cases, w, strict=True)), dict(zip(cases, m, strict=True))
        norms = np.linalg.norm(w, axis=-1)
        verdicts = [all_close("norm", "|w|, the farthest of all runs and records", 1.0, norms, 1e-12)]
        verdicts += self._laws({name: each[:, SETTLED:] for name, each in fast.items()}, cases["cubic"])
        verdicts += self._memories(slow)
        return Finding(verdicts, self._drawn(fast, slow))

    def _laws(self, fast: dict[str, np.ndarray], cubic: Case) -> list[Verdict]:
        """Moments of the stationary laws."""
        d, first = self.dimension, {name: each[..., 0] for name, each in fast.items()}
        allowed, (_, constant, answer) = self.eta * self.rate / 2, updates(self.eta, d)
        mean = constant * bessel_ratio(2 * self.strength, d)
        square = overlap(2 * self.strength, d, 2)
        expected = answer * cubic_mean(cubic.drive[2], cubic.patterns, self.seed)
        found = fast["cubic"].mean(1)
        size = np.linalg.norm(expected)
        cosine = found.mean(0) @ expected / size / np.linalg.norm(found.mean(0))
        single = float((np.abs(fast["cubic"] @ expected) / size).mean())
        quantity, note = "E w along the expected one, over it", f"single weights: mean |cos| {single:.2f}"
        return [
            matches("no drive", "E (w v)^2", 1 / d, (first["none"] ** 2).mean(1)),
            matches("constant drive", "E w v", mean, first["constant"].mean(1), 0.002),
            matches("linear neuron", "E (w v)^2", square, (first["linear"] ** 2).mean(1), allowed * square),
            matches("quadratic neuron", quantity, 1.0, found @ expected / size**2, allowed),
            close("direction of the average", "cos to the expected mean", 1.0, float(cosine), 0.02, note),
        ]

    def _memories(self, slow: dict[str, np.ndarray]) -> list[Verdict]:
        """The slow synapse: what noise leaves in it, and what it does to itself through the fast one."""
        late, left = RECORDS // 3, 1 / (self.rate * self.timescale)
        expected = self.variances()[self.every :: self.every][late:].mean()
        noise = (slow["none"][:, late:] ** 2).sum(-1).mean(1)
        below, above = self.courses()
        quantity = f"M v, mean over {SPAN:g} tau, from {BEGUN:g}"
        return [
            matches("variance of the average", "E|M|^2 without a drive", float(expected), noise),
            matches("forgets", quantity, float(below.mean()), slow["forgets"][..., 0].mean(1), left),
            matches("remembers", "|M| at the end", above[-1], np.linalg.norm(slow["remembers"][:, -1], axis=-1), left),
        ]

    def variances(self) -> np.ndarray:
        """E|M|^2 after 0, 1, .. updates without a drive, from 0 and the stationary law of w, exactly."""
        kept, taken = updates(self.eta, self.dimension)[0], self.eta / self.timescale
        found, cross = [0.0], 0.0  # cross: E M w
        for _ in range(RECORDS * self.every):
            found.append((1 - taken) ** 2 * found[-1] + 2 * taken * (1 - taken) * cross + taken**2)
            cross = kept * ((1 - taken) * cross + taken)
        return np.array(found)

    def courses(self) -> np.ndarray:
        """The averaged |M| at every record for both pulls, (2, RECORDS)."""
        d, times = self.dimension, np.arange(1, RECORDS + 1) * self.every * self.eta / self.timescale
        answer = updates(self.eta, d)[1]
        return np.stack([averaged(answer * share * d / 2, d, times) for share in self.pulls])

    def _simulated(self, cases: list[Case]) -> tuple[np.ndarray, np.ndarray]:
        """Fast and slow weights at every record: (cases, seeds, records, d) each."""
        numbers = f64(self.eta), f64(self.timescale), keys_from(self.seed, self.seeds)
        drives, patterns, pulls, starts = (f64(np.stack(column)) for column in zip(*cases, strict=True))
        w, m = _recorded(*numbers, drives, patterns, pulls, starts, jnp.int32(self.every))
        return np.asarray(w), np.asarray(m)

    @drawn(7.0, 2.5)
    def _drawn(self, figure: Figure, fast: dict[str, np.ndarray], slow: dict[str, np.ndarray]) -> None:
        left, middle, right = figure.subplots(1, 3)
        d, fine = self.dimension, np.linspace(-1, 1, 201)
        for i, (name, k) in enumerate((("none", 1), ("constant", 1), ("linear", 2))):
            scale = 0.0 if name == "none" else 2 * self.strength
            left.plot(fine, gibbs(fine, scale, d, k) / overlap(scale, d, k, 0), color=look(i)["color"])
            counts, edges = np.histogram(fast[name][:, SETTLED:, 0], bins=16, range=(-1, 1), density=True)
            left.plot((edges[1:] + edges[:-1]) / 2, counts, **look(i, linestyle=""), label=name)
        left.set(xlabel="overlap w v", ylabel="density", ylim=(0, None))
        left.legend(title="drive", fontsize="small")
        cubic = self.cases()["cubic"]
        expected = cubic_mean(cubic.drive[2], cubic.patterns, self.seed)
        ends = np.array([min(expected.min(), 0), expected.max()]) * 1.1
        middle.plot(ends, ends, color="0.3", label="theory: equal")
        marked(middle, expected, fast["cubic"][:, SETTLED:].mean(1).T, **look(3), label="components")
        middle.set(xlabel="expected mean weight", ylabel="mean weight, quadratic neuron")
        middle.legend(fontsize="small")
        times = np.arange(1, RECORDS + 1) * self.every * self.eta / self.timescale
        lines = self.courses()
        sizes = slow["forgets"][..., 0], np.linalg.norm(slow["remembers"], axis=-1)
        for i, (share, line, each) in enumerate(zip(self.pulls, lines, sizes, strict=True)):
            right.plot(times, line, color=look(i)["color"])
            label = f"g = {share:g} d/2"
            marked(right, times[::6], each[:, ::6].T, **look(i), label=label)
        right.set(xlabel="time (tau)", ylabel="slow synapse |M|", ylim=(0, 1))
        right.legend(fontsize="small")


def gibbs(t: float | np.ndarray, scale: float, d: int, k: int) -> float | np.ndarray:
    """The law of t = w v for the density exp(scale t^k), not normalised."""
    return (1 - t**2) ** ((d - 3) / 2) * np.exp(scale * t**k)


def overlap(scale: float, d: int, k: int, power: int = 2) -> float:
    """E t^power under it; the constant that normalises it where `power` is 0."""
    whole = quad(lambda t: gibbs(t, scale, d, k), -1, 1)[0]
    return whole if power == 0 else quad(lambda t: t**power * gibbs(t, scale, d, k), -1, 1)[0] / whole


def bessel_ratio(s: float, d: int) -> float:
    """A(s): the mean of von Mises' and Fisher's law of concentration s."""
    return float(ive(d / 2, s) / ive(d / 2 - 1, s))


def third(x: np.ndarray) -> np.ndarray:
    """<|x|^2 x>, the trace of the third moment over two of its indices."""
    return ((x**2).sum(1, keepdims=True) * x).mean(0)


def cubic_mean(strength: float, x: np.ndarray, seed: int) -> np.ndarray:
    """E w under the density exp(2 phi), phi = strength <(w x)^3> / 3, which is odd.

    E w = <w sinh 2 phi> / <cosh 2 phi> over the whole sphere. What is linear in phi is known; the rest, by points.
    """
    d = x.shape[1]
    w = np.random.default_rng([seed, 1]).standard_normal((UNIFORM, d))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    phi = 2 * strength * ((w @ x.T) ** 3).mean(1) / 3
    beyond = (w * (np.sinh(phi) - phi)[:, None]).mean(0)
    return (2 * strength * third(x) / (d * (d + 2)) + beyond) / np.cosh(phi).mean()


def updates(eta: float, d: int) -> tuple[float, float, float]:
    """What updates w <- (w + eta b + sqrt(eta) xi) / |..| do: the share of E w that one of them keeps without b, and
    the mean weight under a constant and a cubic drive over that of the diffusion, to first order in b.

    An update moves the new w by eta (b - its part along w) / r, r being the length before it is rescaled. By Gauss'
    quadrature over r and the cosine c between both weights.
    """
    a, wa = np.polynomial.hermite_e.hermegauss(40)
    q, wq = roots_genlaguerre(40, (d - 1) / 2 - 1)
    along = 1 + eta**0.5 * a[:, None]
    r, weights = np.sqrt(along**2 + 2 * eta * q), wa[:, None] * wq / (wa.sum() * wq.sum())
    cosine = along / r
    kept, inverse = (weights * cosine).sum(), (weights / r).sum()
    radial = (weights * (1 - cosine**2) / r).sum()  # what is left of a drive along the old w
    across = inverse - radial / (d - 1)
    relaxed = eta * (d - 1) / 2 / (1 - kept)
    return float(kept), float(relaxed * inverse), float(relaxed * (across + radial * 3 / (d - 1)))


def averaged(pull: float, d: int, times: np.ndarray) -> np.ndarray:
    """|M| of tau |M|' = A(2 pull |M|) - |M| at `times`, in tau, from BEGUN."""
    span = 0.0, float(times[-1])
    return solve_ivp(
        lambda _, r: bessel_ratio(2 * pull * r[0], d) - r, span, [BEGUN], t_eval=times, rtol=1e-8, atol=1e-10
    ).y[0]


def circuit(drive: Array, pull: Array, eta: Array, d: int) -> Circuit:
    """z = drive(w x); w' = z x + N + pull M with |w| held, N drawn anew; M' = w - M, of another level."""
    one, own = Constant(f64(1.0)), Variable("activity", Polynomial(drive))
    layers = Layer("x", d, role="input", level=0), Layer("z", 1, variables=own)
    law = Outer(Activity()), Scaled(one, "N"), Scaled(Constant(pull), "M")
    taken = Scaled(one, "W"), Scaled(Constant(f64(-1.0)))
    fast, noise = Dense(Gaussian(f64(1.0)), holds_norm=True), Redrawn(Gaussian((d / eta) ** 0.5))
    wires = (
        Projection("W", "x", "activity", "z", "forward", fast, law, level=1),
        Projection("N", "x", "activity", "z", "noise", noise),
        Projection("M", "x", "activity", "z", "memory", Given(jnp.zeros((1, d), jnp.float64)), taken, level=2),
    )
    return Circuit(layers, wires)


@eqx.filter_jit
def _recorded(
    eta: Array,
    timescale: Array,
    keys: Array,
    drives: Array,
    patterns: Array,
    pulls: Array,
    memories: Array,
    every: Array,
) -> tuple[Float[Array, "cases seeds records d"], Float[Array, "cases seeds records d"]]:
    """w and M at every record. Different cases see the same noise."""
    d = patterns.shape[-1]

    def one(key: Array, drive: Array, x: Array, pull: Array, memory: Array) -> tuple[Array, Array]:
        for_order, for_start = jax.random.split(key)
        wired = circuit(drive, pull, eta, d)
        times = Timescales(f64(1.0), jnp.stack([f64(1.0), timescale]))
        run = Discrete(wired, times, Stream(x, None, for_order), Clock(eta, f64(0.0), 1))
        w = jax.random.normal(for_start, (1, d), jnp.float64)
        start = wired.initial_weights(for_start) | {"W": w / jnp.linalg.norm(w), "M": memory[None]}

        def record(state: object, k: Array) -> tuple:
            state = run.advance(state, k * every, every)  # pyright: ignore[reportArgumentType]
            return state, (state.weights["W"][0], state.weights["M"][0])

        return jax.lax.scan(record, run.init(start), jnp.arange(RECORDS, dtype=jnp.int32))[1]

    return jax.vmap(jax.vmap(one, (0, None, None, None, None)), (None, 0, 0, 0, 0))(
        keys, drives, patterns, pulls, memories
    )
