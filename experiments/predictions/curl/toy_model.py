"""T2.6: invariants, eigenvalues and ends of the model y = w2 w1 x with goal a."""

from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from dynamics.flow import WeightFlow
from dynamics.jacobian import eigenvalues, flat_flow, jacobian
from experiments.predictions.contract import AbstractPrediction, Finding
from experiments.predictions.curl.learning import curl_flow
from experiments.predictions.drawing import drawn, look
from experiments.predictions.kit import all_close, f64, records
from experiments.report.figures import MARKERS, OKABE_ITO
from experiments.results.verdicts import Verdict, close
from rules.curl import Curl

KINDS = {"none": (1, 1), "W1": (-1, 1), "W2": (1, -1)}  # which weight is flipped, and the signs (d1, d2)
TURNS, SETTLED = 3, 30.0  # periods, and time constants, that a run lasts
RECORDS, STEPS = 200, 20  # of each run, and steps of tsit5 between two of them
EXACT = 1e-6
Scaled = Annotated[float, Field(strict=True, ge=0.05, le=0.97)]


class ToyModel(AbstractPrediction):
    number = "T2.6"
    title = "One flipped sign of two turns a saddle into a centre"
    source = "ninou2025curl, sign-diverse learning; the model of two weights and its ends are derived"
    equation = """w1' = d1 (a - w1 w2) w2, w2' = d2 (a - w1 w2) w1 (tau_plast = 1 s): d = (+, +) keeps w1^2 - w2^2, one
        flip keeps r^2 = w1^2 + w2^2; at the origin eigenvalues +-a and +-i a"""
    claim = """Gradient descent leaves the saddle at the origin along hyperbolas and ends at w1 w2 = a. With one flipped
        weight the origin is a centre and motion is on circles: with r^2 < 2a the weights rotate for ever, with the
        period 2 pi / sqrt(a^2 - r^4 / 4); with r^2 > 2a they end where w1 w2 = a and the flipped weight is the larger,
        at w^2 = (r^2 +- sqrt(r^4 - 4 a^2)) / 2."""
    method = """A linear 1-1-1 network in the weight flow, by tsit5, from random angles on circles of given radii,
        inside and outside: for three periods, or for thirty time constants, 1 / sqrt(r^4 - 4 a^2) with one flip."""
    tolerance = """1e-6 of the scale, sqrt(2a): nothing in the solution is random, the integrator is of fifth order and
        has more than 20 steps in every time constant. The boundary lies between the nearest radii inside and
        outside."""
    quick = {"starts": 6}

    goal: Annotated[float, Field(strict=True, ge=0.001, le=1000)] = 1.0
    inside: Annotated[tuple[Scaled, ...], Field(min_length=1)] = (0.2, 0.5, 0.8, 0.95)  # r^2 / (2a), < 1
    starts: Annotated[int, Field(strict=True, ge=1, le=1000)] = 24  # of each radius

    def measure(self) -> Finding:
        runs = {kind: self._runs(kind) for kind in KINDS}
        verdicts = [self._origin(kind) for kind in ("none", "W2")]
        verdicts += [self._invariant(kind, runs[kind]) for kind in KINDS]
        verdicts += [self._ends(kind, runs[kind]) for kind in KINDS]
        verdicts += [self._period(kind, runs[kind]) for kind in ("W1", "W2")]
        verdicts.append(self._boundary(runs["W2"]))
        return Finding(verdicts, self._drawn(runs))

    def circles(self, kind: str) -> np.ndarray:
        """r^2 / (2a) of the circles that runs start on; with a flip each inside has one outside, at the inverse."""
        inside = np.sort(self.inside)
        return inside if kind == "none" else np.concatenate([inside, 1 / inside[::-1]])

    def time(self, kind: str) -> np.ndarray:
        """How long the runs from each circle last, in seconds."""
        ratios = self.circles(kind)
        if kind == "none":  # they leave the saddle at the rate a, and settle at 2a or faster
            return np.full(ratios.shape, 2 * SETTLED / self.goal)
        rate = self.goal * np.sqrt(np.abs(1 - ratios**2))
        return np.where(ratios < 1, TURNS * 2 * np.pi, SETTLED / 2) / rate

    def end(self, kind: str, starts: np.ndarray) -> np.ndarray:
        """(w1, w2) where runs end that end anywhere: the closed form, for `starts` (..., 2)."""
        w1, w2 = starts[..., 0], starts[..., 1]
        if kind == "none":  # w1^2 - w2^2 stays, and so does the sign of w1 + w2
            half = (w1**2 - w2**2) / 2
            root, side = np.sqrt(half**2 + self.goal**2), np.sign(w1 + w2)
            return np.stack([side * np.sqrt(root + half), side * np.sqrt(root - half)], -1)
        # The angle moves as r^2 sin(2 angle) / 2 - a, to where w1 w2 = a with a falling slope, or as the opposite.
        square = w1**2 + w2**2
        small = np.arcsin(2 * self.goal / square) / 2
        stable, unstable = (np.pi / 2 - small, small) if kind == "W2" else (small, np.pi / 2 - small)
        turns = np.floor((np.arctan2(w2, w1) - unstable) / np.pi)
        angle = stable + np.pi * (turns if kind == "W2" else turns + 1)
        return np.sqrt(square)[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)

    def _runs(self, kind: str) -> np.ndarray:
        """(w1, w2) of every circle and start, at every record: (circles, starts, records + 1, 2)."""
        ratios = self.circles(kind)
        rng = np.random.default_rng([self.seed, *map(ord, kind)])
        angles = rng.uniform(0, 2 * np.pi, (len(ratios), self.starts))
        radii = np.sqrt(2 * self.goal * ratios)[:, None]
        starts = np.stack([radii * np.cos(angles), radii * np.sin(angles)], -1)
        steps = self.time(kind) / (RECORDS * STEPS)
        return np.asarray(_tracks(f64(starts), f64(steps), _flips(kind), f64(self.goal)))

    def _origin(self, kind: str) -> Verdict:
        flow = _flow(_flips(kind), f64(self.goal), f64(1.0))
        field, origin = flat_flow(flow, flow.init({"W1": f64([[0.0]]), "W2": f64([[0.0]])}))
        found = np.sort_complex(eigenvalues(jacobian(field, origin)))
        expected = np.array([-1, 1]) * self.goal * (1 if kind == "none" else 1j)
        name, said = ("saddle", "+-a") if kind == "none" else ("centre", "+-i a")
        quantity = f"largest distance of the eigenvalues from {said}, over a"
        return all_close(f"{name} at the origin", quantity, 0.0, np.abs(found - expected) / self.goal, 1e-12)

    def _invariant(self, kind: str, runs: np.ndarray) -> Verdict:
        squares = runs**2
        kept = squares[..., 0] - squares[..., 1] if kind == "none" else squares.sum(-1)
        change = np.abs(kept - kept[..., :1]) / (2 * self.goal * self.circles(kind).max())
        name = "w1^2 - w2^2" if kind == "none" else "r^2"
        return all_close(f"{name} is kept, {_said(kind)}", "largest relative change", 0.0, change, EXACT)

    def _ends(self, kind: str, runs: np.ndarray) -> Verdict:
        ending = runs if kind == "none" else runs[self.circles(kind) > 1]
        expected = self.end(kind, ending[:, :, 0])
        quantity, off = "largest distance from the closed form, over sqrt(2a)", np.abs(ending[:, :, -1] - expected)
        return all_close(f"ends, {_said(kind)}", quantity, 0.0, off / np.sqrt(2 * self.goal), EXACT)

    def _period(self, kind: str, runs: np.ndarray) -> Verdict:
        off = np.abs(_turns(runs[self.circles(kind) < 1]) / TURNS - 1)
        quantity = f"largest relative error of the turns in {TURNS} periods"
        return all_close(f"rotation, {_said(kind)}", quantity, 0.0, off, EXACT)

    def _boundary(self, runs: np.ndarray) -> Verdict:
        """Whether circles with full turns and circles without meet at r^2 = 2a."""
        ratios, turning = self.circles("W2"), (_turns(runs) > 1).all(1)
        inner, outer = ratios[turning].max(initial=0), ratios[~turning].min(initial=np.inf)
        quantity = "r^2 / (2a) at which rotation stops"
        note = f"between {inner:.4g} and {outer:.4g}"
        return close("boundary of rotation", quantity, 1.0, (inner + outer) / 2, (outer - inner) / 2, note)

    @drawn(7.0, 5.4)
    def _drawn(self, figure: Figure, runs: dict[str, np.ndarray]) -> None:
        (saddle, centre), (period, ends) = figure.subplots(2, 2)
        self._draw_plane(saddle, "gradient descent: saddle", "none", runs["none"][0])
        last = len(self.inside) - 1  # the circle before the boundary, and one behind it
        shown = runs["W2"][[last, min(last + 2, 2 * last + 1)], 0]
        self._draw_plane(centre, "$w_2$ flipped: centre", "W2", shown)
        self._draw_period(period, runs)
        self._draw_ends(ends, runs["W2"])

    def _draw_plane(self, panel: Axes, title: str, kind: str, tracks: np.ndarray) -> None:
        reach = 2.2 * np.sqrt(self.goal)
        fine = np.geomspace(self.goal / reach, reach, 100)
        panel.plot(fine, self.goal / fine, "--", color="0.3", label="$w_1 w_2 = a$")
        panel.plot(-fine, -self.goal / fine, "--", color="0.3")
        turn = np.linspace(0, 2 * np.pi, 200)
        for track, color in zip(tracks[:6], OKABE_ITO, strict=False):
            if kind == "none":
                half, u = (track[0, 0] ** 2 - track[0, 1] ** 2) / 2, np.linspace(track[0].sum(), track[-1].sum(), 99)
                line = u / 2 + half / u, u / 2 - half / u  # (w1 + w2) (w1 - w2) = 2 half
            else:
                radius = np.linalg.norm(track[0])
                line = radius * np.cos(turn), radius * np.sin(turn)
            panel.plot(*line, color=color, lw=0.8)
            panel.plot(*track[:: 1 if kind == "none" else 4].T, MARKERS[0], color=color, ms=2.5, mew=0)
        panel.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", title=title)
        panel.set(xlabel="weight $w_1$", ylabel="weight $w_2$")
        panel.legend(loc="upper left")

    def _draw_period(self, panel: Axes, runs: dict[str, np.ndarray]) -> None:
        fine = np.linspace(0, max(self.inside), 200)
        panel.plot(fine, 2 * np.pi / self.goal / np.sqrt(1 - fine**2), color="0.3", label="theory")
        for i, kind in enumerate(("W1", "W2")):
            ratios = self.circles(kind)
            inner = ratios < 1
            periods = self.time(kind)[inner, None] / _turns(runs[kind][inner])
            rings = look(i, linestyle="", fillstyle="none", markersize=4 + 3 * i, label=_said(kind))
            panel.plot(ratios[inner], periods.mean(1), **rings)
        panel.set(xlabel="squared radius $r^2 / 2a$", ylabel="period of rotation (s)", title="inside: rotation")
        panel.legend(loc="upper left")

    def _draw_ends(self, panel: Axes, runs: np.ndarray) -> None:
        ratios = self.circles("W2")
        fine = np.geomspace(1, ratios.max(), 200)
        for sign, dashes, label in ((1, "-", "stable: theory"), (-1, "--", "unstable: theory")):
            panel.plot(fine, 0.5 + sign * np.sqrt(1 - fine**-2) / 2, dashes, color="0.3", label=label)
        outer = ratios > 1
        last = runs[outer][:, :, -1] ** 2
        share = (last[..., 1] / last.sum(-1)).mean(1)
        panel.plot(ratios[outer], share, MARKERS[1], color=OKABE_ITO[1], label="end, $w_2$ flipped")
        panel.set(xlabel="squared radius $r^2 / 2a$", ylabel="share $w_2^2 / r^2$ at the end", title="outside: an end")
        panel.legend(loc="center right")


def _said(kind: str) -> str:
    return "no flip" if kind == "none" else f"{kind} flipped"


def _flips(kind: str) -> Float[Array, "2"]:
    return f64([float(sign < 0) for sign in KINDS[kind]])


def _turns(tracks: np.ndarray) -> np.ndarray:
    """How often the weights went round the origin between the first record and the last: (circles, starts)."""
    angles = np.unwrap(np.arctan2(tracks[..., 1], tracks[..., 0]), axis=-1)
    return np.abs(angles[..., -1] - angles[..., 0]) / (2 * np.pi)


def _flow(flips: Float[Array, "2"], goal: Float[Array, ""], step: Float[Array, ""]) -> WeightFlow:
    """The toy: one sample, x = 1 with target a."""
    return curl_flow(Curl(flips=flips), (1, 1, 1), f64([[1.0]]), goal[None, None], step)


@jax.jit
def _tracks(
    starts: Float[Array, "circles starts 2"],
    steps: Float[Array, " circles"],
    flips: Float[Array, "2"],
    goal: Float[Array, ""],
) -> Float[Array, "circles starts records 2"]:
    """The weights at every record, in steps of `steps` seconds."""

    def run(start: Float[Array, "2"], step: Float[Array, ""]) -> Float[Array, "records 2"]:
        flow = _flow(flips, goal, step)
        both = lambda state: jnp.stack([state.weights["W1"][0, 0], state.weights["W2"][0, 0]])  # noqa: E731
        begun = flow.init({"W1": start[:1, None], "W2": start[1:, None]})
        return records(flow, begun, RECORDS, STEPS, both, start=True)

    return jax.vmap(jax.vmap(run, (0, None)))(starts, steps)
