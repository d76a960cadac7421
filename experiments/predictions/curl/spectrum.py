"""T2.1: the eigenvalues of A with flips among the inputs, among the hidden units, and among both."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynamics.jacobian import eigenvalues, flat_flow, jacobian
from experiments.predictions.contract import AbstractPrediction, Finding, Fraction, Positive, Seeds
from experiments.predictions.curl import theory
from experiments.predictions.curl.matrices import Inputs, error_matrix, hidden_units, solution_flow, teacher, teachers
from experiments.predictions.drawing import drawn
from experiments.predictions.kit import all_close
from experiments.report.figures import OKABE_ITO
from experiments.results.verdicts import Verdict, matches

SMALL = (10, 20)  # inputs and hidden units of the network whose whole Jacobian is taken
BINS = 40
POINTS = 800  # at which the density is evaluated


class Spectrum(AbstractPrediction):
    number = "T2.1"
    title = "The spectrum at the solution is a free convolution"
    source = "ninou2025curl, fig. 2; density and edges of mixed flips derived by free convolution"
    equation = """v' = -A Sigma v / tau_plast, A = |W2|^2 D1 + W1^T D2 W1; G(x) = G_D1(x - R(G)), R(G) = [(1 - alpha_r)
        / (1 - G) - alpha_r / (1 + G)] / c, density -Im G / pi; lambda_min = max_s z(s), and so on from above"""
    claim = """At a solution the weight flow has the eigenvalues of -A Sigma / tau_plast and zeros along the solutions.
        In a large network with random weights those of A have a closed-form density between two closed-form edges."""
    method = """The whole Jacobian of the engine's weight flow of a small student with correlated inputs; then
        eigenvalues of A at random teachers, with Gaussian W1 of variance 1 / inputs and |W2| = 1."""
    tolerance = """Jacobian: rounding. Edges: the 99.9 % interval of the mean over teachers, and gamma / M, the order
        after the shift 1.2065 gamma M^(-2/3) of the law of Tracy and Widom, which is expected. Density: eigenvalues
        repel, so that their number below any point has a bias of order 1 and varies by less than log(M); the cumulative
        distributions may differ by (1 + log(M) / sqrt(seeds)) / M."""
    quick = {"inputs": 200, "seeds": 20}

    inputs: Inputs = 600
    ratio: Positive = 0.4  # c = inputs per hidden unit
    alpha_h: Fraction = 0.3
    alpha_r: Fraction = 0.2
    seeds: Seeds = 10

    def measure(self) -> Finding:
        hidden = hidden_units(self.inputs, self.ratio)
        verdicts, panels = self._jacobian(), []
        both = round(self.alpha_h * self.inputs), round(self.alpha_r * hidden)
        for name, flips in (("inputs", (both[0], 0)), ("hidden units", (0, both[1])), ("both", both)):
            drawn = teachers(self.seed, self.seeds, self.inputs, hidden)
            values = np.array([np.linalg.eigvalsh(error_matrix(w1, w2, *flips)) for w1, w2 in drawn])  # (seeds, inputs)
            shape = self.inputs / hidden, flips[0] / self.inputs, flips[1] / hidden
            density = _density(*shape)
            verdicts += self._compared(f"flipped {name}", values, shape, density)
            panels.append((name, values, density))
        return Finding(verdicts, self._drawn(panels))

    def _jacobian(self) -> list[Verdict]:
        """The non-zero eigenvalues of J = -B E are those of -E B = -A Sigma, E being the derivative of the error."""
        inputs, hidden = SMALL
        rng = np.random.default_rng(self.seed)
        w1, w2 = teacher(rng, inputs, hidden)
        flips = round(self.alpha_h * inputs), round(self.alpha_r * hidden)
        root = rng.normal(size=(inputs, inputs)) / inputs**0.5
        covariance = root @ root.T + 0.2 * np.eye(inputs)
        flow, weights = solution_flow(w1, w2, *flips, covariance)
        field, point = flat_flow(flow, flow.init(weights))
        values = eigenvalues(jacobian(field, point))
        expected = np.linalg.eigvals(-error_matrix(w1, w2, *flips) @ covariance)
        order = np.argsort(-np.abs(values), kind="stable")
        moving, still = np.sort(np.real(values[order[:inputs]])), np.abs(values[order[inputs:]])
        quantity = f"largest difference ({inputs} inputs, {hidden} units, {len(values)} weights)"
        off = np.abs(moving - np.sort(np.real(expected)))
        return [
            all_close("the Jacobian has the eigenvalues of -A Sigma", quantity, 0.0, off, 1e-8),
            all_close("all others are zero", "largest modulus of the others", 0.0, still, 1e-8),
        ]

    def _compared(
        self, name: str, values: np.ndarray, shape: tuple[float, float, float], density: tuple[np.ndarray, np.ndarray]
    ) -> list[Verdict]:
        (c, alpha_h, alpha_r), size = shape, self.inputs
        opposite = c, 1 - alpha_h, 1 - alpha_r  # of -A
        lower, upper = theory.expected_smallest(size, *shape), -theory.expected_smallest(size, *opposite)
        at, rho = density
        below = np.concatenate([[0.0], np.cumsum((rho[1:] + rho[:-1]) / 2 * np.diff(at))])
        below = below + sum(weight * (at >= where) for where, weight in theory.atoms(c, alpha_h).items())
        counted = np.searchsorted(np.sort(values.ravel()), at, side="right") / values.size
        allowed = (1 + np.log(size) / self.seeds**0.5) / size
        verdicts = []
        for side, which, sign, expected, found, parameters in (
            ("lower", "smallest", 1, lower, values[:, 0], shape),
            ("upper", "largest", -1, upper, values[:, -1], opposite),
        ):
            claim, quantity = f"{name}: {side} edge", f"{which} eigenvalue of A"
            allowance = theory.edge_scale(*parameters) / size + 1e-9
            note = f"infinitely large: {sign * theory.lambda_min(*parameters):.4f}"
            verdicts.append(matches(claim, quantity, expected, found, allowance, note, scale=upper - lower))
        quantity, off = "largest difference of cumulative distributions", np.abs(counted - below)
        return [*verdicts, all_close(f"{name}: density", quantity, 0.0, off, allowed)]

    @drawn(7.0, 2.3)
    def _drawn(self, figure: Figure, cases: list[tuple[str, np.ndarray, tuple[np.ndarray, np.ndarray]]]) -> None:
        top = 1.35 * max(rho.max() for *_, (_, rho) in cases)
        panels = figure.subplots(1, 3, sharey=True)
        for panel, (name, values, (at, rho)) in zip(panels, cases, strict=True):
            _histogram(panel, values)
            panel.plot(at, rho, color="0.2", label="closed form")
            panel.plot(at[[0, -1]], [0, 0], "|", color="0.2", markersize=9, markeredgewidth=1.5, label="edges")
            panel.set(title=f"flipped {name}", xlabel="eigenvalue of A", ylim=(-0.02 * top, top))
        panels[0].set_ylabel("density")
        panels[2].legend(loc="upper right")


def _density(c: float, alpha_h: float, alpha_r: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues from edge to edge, dense at the edges where the density has roots, and the density there."""
    low, high = theory.lambda_min(c, alpha_h, alpha_r), theory.lambda_max(c, alpha_h, alpha_r)
    at = low + (high - low) * np.sin(np.linspace(0, np.pi / 2, POINTS)) ** 2
    for atom in theory.atoms(c, alpha_h):
        at = at[np.abs(at - atom) > 1e-6 * (high - low)]
    return at, theory.density(at, c, alpha_h, alpha_r)


def _histogram(panel: Axes, values: np.ndarray) -> None:
    """Means over teachers with their 95 % intervals."""
    edges = np.linspace(values.min(), values.max(), BINS + 1)
    counts = np.array([np.histogram(row, edges)[0] for row in values]) / (values.shape[1] * (edges[1] - edges[0]))
    error = 1.96 * counts.std(0, ddof=1) / len(values) ** 0.5
    middle = (edges[1:] + edges[:-1]) / 2
    panel.errorbar(middle, counts.mean(0), error, fmt="o", markersize=2.5, color=OKABE_ITO[0], label="sampled")
