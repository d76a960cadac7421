"""T2.19: the curl of Hebbian plasticity against the fraction of inhibitory neurons."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes

from dynamics.circuit import Activity, Circuit, Gaussian, Layer, OneToOne, Outer, Projection, Signed
from dynamics.jacobian import curl_index
from experiments.predictions.contract import AbstractPrediction, Finding, Fractions, Positive, Seeds, Size
from experiments.predictions.drawing import look, marked, plotted
from experiments.predictions.kit import all_close, drift_of, f64, weight_flow
from experiments.results.verdicts import close, exceeds

EXACT = 1e-9  # of numbers that are sums of products


class Field(NamedTuple):
    """Of one circuit: the Jacobian of dW/dt, (n n, n n); the work of dW/dt around a square loop; a slope's error."""

    jacobian: Array
    work: float
    off_gradient: float


class DaleRecurrent(AbstractPrediction):
    number = "T2.19"
    title = "Inhibitory neurons make Hebbian plasticity of recurrent networks a field with curl"
    source = "ninou2025curl, the motivation by networks of excitation and inhibition; closed forms derived"
    equation = """y = (I + W D) f, tau_plast W' = <y f^T>: J = I (x) C D, C = <f f^T>, so |J - J^T| / |J + J^T| =
        |C D - D C| / |C D + D C|; around a square of side a in (W_ij, W_il) the work is a^2 C_jl (D_j - D_l)"""
    claim = """To first order in recurrent weights, Hebbian plasticity climbs <|y|^2> / 2 where all neurons are
        excitatory (D = I), and has a curl where some are inhibitory. Its eigenvalues stay real all the same, those of
        C D, of which as many are negative as neurons are inhibitory: it is a gradient in the metric D, which is no
        metric. In the recurrent circuit itself, y = f + W D y and W' = <y y^T>, excitation climbs <f^T y> / 2 among
        symmetric weights, and with inhibition it does not."""
    method = """The weight flow of the circuits on random samples: its Jacobian by forward differentiation, the work by
        the trapezoid rule around the loop (exact for a linear field), and its angle to the gradient of the settled
        circuit's energy by reverse differentiation."""
    tolerance = "1e-9 for what is exact; 99.9 % intervals over seeds for what inhibition does to the angle."
    quick = {"seeds": 8}

    neurons: Size = 6
    samples: Size = 12
    inhibitory: Fractions = (0.0, 1 / 6, 1 / 3, 0.5)
    gain: Positive = 0.3  # of the recurrent weights
    side: Positive = 0.7  # of the loop
    seeds: Seeds = 10

    def misfit(self) -> str | None:
        if self.neurons < 3:
            return "neurons must be 3 or more"
        first, last = self.inhibitory[0], self.inhibitory[-1]
        if first != 0 or list(self.inhibitory) != sorted(set(self.inhibitory)) or self.signs(last)[0] > 0:
            return "inhibitory must rise from 0 to a share of one neuron or more"

    def signs(self, share: float) -> np.ndarray:
        """D: -1 for the first neurons, a `share` of them."""
        return np.where(np.arange(self.neurons) < round(share * self.neurons), -1.0, 1.0)

    def expected(self, share: float, x: np.ndarray) -> tuple[float, float, np.ndarray]:
        """The share of the antisymmetric part, the work around the loop, and the eigenvalues, for samples x (n, f)."""
        d, c = np.diag(self.signs(share)), x.T @ x / len(x)
        curl = np.linalg.norm(c @ d - d @ c) / np.linalg.norm(c @ d + d @ c)
        work = self.side**2 * c[0, -1] * (d[0, 0] - d[-1, -1])
        root = np.linalg.cholesky(c)
        return float(curl), float(work), np.linalg.eigvalsh(root.T @ d @ root)

    def measure(self) -> Finding:
        rng = np.random.default_rng(self.seed)
        x = rng.normal(size=(self.seeds, self.samples, self.neurons)) + 0.5
        w = self.gain * rng.normal(size=(self.seeds, self.neurons, self.neurons)) / self.neurons**0.5
        found = [[self._field(share, *each) for each in zip(x, w, strict=True)] for share in self.inhibitory]
        wanted = [[self.expected(share, each) for each in x] for share in self.inhibitory]
        curl = np.array([[float(curl_index(field.jacobian)) for field in row] for row in found])
        curls, works = (np.array([[want[i] for want in row] for row in wanted]) for i in (0, 1))
        work = np.array([[field.work for field in row] for row in found])
        off = np.array([[field.off_gradient for field in row] for row in found])
        spectra = [self._off_spectrum(row, want) for row, want in zip(found, wanted, strict=True)]
        verdicts = [
            close("a gradient without inhibition", "largest |J - J^T| / |J + J^T|", 0.0, float(curl[0].max()), EXACT),
            all_close("curl with inhibition", "|J - J^T| / |J + J^T|, off its closed form", 0.0, curl - curls, EXACT),
            all_close("work around a loop", "work, off its closed form", 0.0, work - works, EXACT),
            close("real eigenvalues", "eigenvalues of J, off those of C D", 0.0, max(spectra), EXACT**0.5),
            close("recurrent excitation", "1 - cos to the gradient", 0.0, float(off[0].max()), EXACT),
            exceeds("recurrent inhibition", "1 - cos to the gradient, most inhibitory", 0.1, off[-1]),
        ]
        return Finding(verdicts, self._drawn(curl, curls))

    @staticmethod
    def _off_spectrum(fields: list[Field], wanted: list[tuple[float, float, np.ndarray]]) -> float:
        """How far eigenvalues of J are from those that are expected, each once for every postsynaptic neuron."""
        worst = 0.0
        for field, (_, _, values) in zip(fields, wanted, strict=True):
            found = np.linalg.eigvals(np.asarray(field.jacobian))
            each = np.repeat(values, len(values))
            worst = max(worst, float(np.abs(np.sort(found.real) - each).max()), float(np.abs(found.imag).max()))
        return worst

    def _field(self, share: float, x: np.ndarray, w: np.ndarray) -> Field:
        jacobian, work, off = _field(f64(self.signs(share)), f64(x), f64(w), f64(self.side))
        return Field(jacobian, float(work), float(off))

    @plotted(3.4, 2.6)
    def _drawn(self, panel: Axes, curl: np.ndarray, curls: np.ndarray) -> None:
        panel.plot(self.inhibitory, curls.mean(-1), color=look(0)["color"], label="closed form")
        marked(panel, self.inhibitory, curl, **look(0), label="weight flow")
        panel.set(xlabel="fraction of inhibitory neurons", ylabel="$|J - J^T|$ / $|J + J^T|$")
        panel.legend()


def _circuit(signs: Float[Array, " n"], recurrent: bool) -> Circuit:
    """Neurons y that are driven one by one, and by W from the drive (first order), or from themselves."""
    n = signs.shape[0]
    layers = Layer("f", n, role="input", level=0), Layer("y", n)
    law = (Outer(Activity(), pre=Activity()),)
    source = "y" if recurrent else "f"
    lateral = Projection("W", source, Signed(Activity(), signs), "y", "forward", Gaussian(jnp.ones_like(signs[0])), law)
    drive = Projection("F", "f", "activity", "y", "forward", OneToOne(jnp.ones_like(signs[0])))
    return Circuit(layers, (drive, lateral))


@jax.jit
def _field(
    signs: Float[Array, " n"], x: Float[Array, "samples n"], w: Float[Array, "n n"], side: Float[Array, ""]
) -> tuple[Array, Array, Array]:
    def drift(w: Array, recurrent: bool) -> Array:
        flow = weight_flow(_circuit(signs, recurrent), x, None, 1.0)
        return drift_of(flow, {"W": w, "F": jnp.ones_like(signs)})["W"]

    n = signs.shape[0]
    jacobian = jax.jacfwd(lambda v: drift(v, False))(w).reshape(n * n, n * n)
    along, across = jnp.zeros_like(w).at[0, 0].set(side), jnp.zeros_like(w).at[0, -1].set(side)
    corners = [w, w + along, w + along + across, w + across, w]
    work = jnp.zeros_like(side)
    for start, end in zip(corners[:-1], corners[1:], strict=True):
        work += jnp.sum((drift(start, False) + drift(end, False)) / 2 * (end - start))

    def energy(w: Array) -> Array:
        y = jnp.linalg.solve(jnp.eye(n) - w * signs[None], x.T)
        return jnp.mean(jnp.sum(x.T * y, 0)) / 2

    w = (w + w.T) / 2
    moved, uphill = drift(w, True), jax.grad(energy)(w)
    uphill = (uphill + uphill.T) / 2
    cosine = jnp.sum(moved * uphill) / jnp.linalg.norm(moved) / jnp.linalg.norm(uphill)
    return jacobian, work, 1 - cosine
