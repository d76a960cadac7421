"""B4: weight decay restores the symmetry of every mode that is weaker than it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from matplotlib.figure import Figure

from dynamics.circuit import Weights
from experiments.predictions.contract import AbstractPrediction, Finding, Positive, Positives, Size
from experiments.predictions.kit import all_close, drawn, f64, look, weight_flow, wired
from experiments.results.verdicts import close
from rules.gradient import SGD

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
        return None

    def measure(self) -> Finding:
        s, gamma = np.array(self.strengths), np.array(self.decays)
        u, v = self._bases()
        x, y = self._data(u, v)
        end, rates, course = self._simulated(x, y, u, v)
        expected = -np.sort(-np.maximum(s[None] - gamma[:, None], 0), axis=1)
        clear = (np.abs(s[None] / gamma[:, None] - 1) > CLEAR).all(1)
        found = np.linalg.svd(end, compute_uv=False)[:, : len(s)]
        verdicts = [
            all_close("singular values", "|sigma_j - max(s_j - gamma, 0)|", 0.0, (found - expected)[clear], 1e-3)
        ]
        ranks, counts = (found > 0.01).sum(1), ((s[None] - gamma[:, None]) > 0.01).sum(1)
        verdicts.append(
            close("rank", "largest |rank - #{s_j > gamma}|", 0.0, float(abs(ranks - counts)[clear].max()), 0.0)
        )
        law = 2 * (s[None] - gamma[:, None])
        verdicts.append(all_close("escape", "|rate of |theta_j|^2 - 2 (s_j - gamma)|", 0.0, rates - law, 1e-3))
        verdicts.append(
            all_close("course", "largest |sigma(t) - theory| / s_1", 0.0, self._off(course) / s.max(), 1e-6)
        )
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
            right.plot(fine, 2 * (one - fine), color=look(j)["color"])
            right.plot(gamma, rates[:, j], linestyle="", **look(j))
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
        return flow.weights(flow.advance(flow.init(weights), jnp.int32(0), count))

    return jax.vmap(one)(gammas, counts)
