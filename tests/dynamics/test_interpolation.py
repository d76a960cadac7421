"""Inputs that move while a frame is shown, against SciPy's splines and a simulation of its own in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline

from dynamics.errors import PlasticodeError
from plasticode import SGD, Adaptive, Clock, Coupled, Delays, Discrete, FixedStep, Network, Stream, Timescales, Window
from tests.unjudged import unjudged

T, TAU, PLASTICITY, FRAMES, SEQUENCES = 0.01, 0.004, 0.05, 4, 3
RNG = np.random.default_rng(7)
X = RNG.standard_normal((SEQUENCES, FRAMES, 2))
Y = RNG.standard_normal((SEQUENCES * FRAMES, 2))
LAGS = {"hop": 0.013, "input": 0.003, "error": 0.021}  # all that is late comes from other frames


@functools.cache
def shown(kind: str, lag: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets a lag ago in the middle of every step, and zeros before the first."""
    t = (np.arange(SEQUENCES * FRAMES * steps) + 0.5) * (T / steps) - lag
    frame = np.floor(t / T).astype(int)
    x, knots = np.zeros((len(t), 2)), np.arange(FRAMES + 1)
    for sequence in range(SEQUENCES):
        points = np.concatenate([X[sequence], X[sequence, -1:]])
        padded = np.concatenate([points[:1], points, points[-1:]])
        here = frame // FRAMES == sequence
        at = t[here] / T - sequence * FRAMES
        if kind == "linear":
            x[here] = np.stack([np.interp(at, knots, column) for column in points.T], axis=1)
        else:
            x[here] = CubicHermiteSpline(knots, points, (padded[2:] - padded[:-2]) / 2)(at)
    return x, np.where(t[:, None] < 0, 0, Y[np.maximum(frame, 0)])


def simulated(kind: str, lags: dict[str, float], first: dict[str, np.ndarray], steps: int = 800) -> dict:
    """The weights at the end, by the midpoint rule: inputs are looked at in the middle of steps, where none jumps."""
    hop, late, error = (lags.get(name, 0.0) for name in ("hop", "input", "error"))
    dt = T / steps
    x, y = shown(kind, hop + late, steps)[0], shown(kind, error, steps)[1]
    w1, w2 = first["W1"], first["W2"]
    z1, z2, e1, e2 = past = np.zeros((4, len(x) + 1, 3))

    def slopes(i: int, half: int, state: tuple) -> tuple:
        z1, z2, e1, e2, w1, w2 = state

        def ago(lag: float, number: int, now: np.ndarray) -> np.ndarray:
            at = i + half / 2 - lag / dt
            if lag == 0 or at <= 0:
                return now if lag == 0 else np.zeros_like(now)
            low = int(at)
            return (past[number, low] * (1 - at + low) + past[number, low + 1] * (at - low))[: len(now)]

        u = w1 @ x[i]
        z, back = ago(hop, 0, z1), ago(hop, 3, e2)
        told = i * dt >= error - 1e-12
        return (
            (-z1 + np.tanh(u)) / TAU,
            (-z2 + w2 @ z) / TAU,
            (-e1 + (1 - np.tanh(u) ** 2) * (w2.T @ back)) / TAU,
            (-e2 + told * (y[i] - ago(error, 1, z2))) / TAU,
            np.outer(e1, x[i]) / PLASTICITY,
            np.outer(e2, z) / PLASTICITY,
        )

    state = np.zeros(3), np.zeros(2), np.zeros(3), np.zeros(2), w1, w2
    for i in range(len(x)):
        k = slopes(i, 0, state)
        middle = tuple(s + dt / 2 * d for s, d in zip(state, k, strict=True))
        state = tuple(s + dt * d for s, d in zip(state, slopes(i, 1, middle), strict=True))
        for number, value in enumerate(state[:4]):
            past[number, i + 1, : len(value)] = value
    return {"W1": state[4], "W2": state[5]}


def coupled(kind: str, lags: dict[str, float], integrator, steps: int = 1) -> Coupled:
    circuit = SGD().wire(Network((2, 3, 2), "tanh", bias=False))
    stream = Stream(X.reshape(-1, 2), Y, jax.random.key(0), "sequential", FRAMES, interpolation=kind)
    numbers = {name: jnp.asarray(lag) for name, lag in lags.items()}
    late = Delays(error=numbers.get("error"), hop=numbers.get("hop"), input=numbers.get("input"))
    clock, times = Clock(jnp.asarray(T), jnp.asarray(0.0), steps), Timescales(jnp.asarray(TAU), jnp.asarray(PLASTICITY))
    return Coupled(circuit, times, stream, clock, late, integrator=integrator)


@unjudged()
@pytest.mark.parametrize(
    ("kind", "lags", "integrator", "steps", "tolerance"),
    [
        ("cubic", LAGS, Window(1e-6), 1, 1e-5),
        ("linear", LAGS, FixedStep("heun"), 100, 1e-3),
        ("cubic", {}, Adaptive(1e-8, 1e-10), 1, 1e-5),
    ],
)
def test_the_weights_are_those_of_an_independent_simulation(kind, lags, integrator, steps, tolerance):
    with jax.enable_x64(True):
        run = coupled(kind, lags, integrator, steps)
        first = {name: jnp.asarray(w, float) for name, w in run.circuit.initial_weights(jax.random.key(1)).items()}
        end = run.weights(jax.jit(lambda w: run.advance(run.init(w), jnp.int32(0), SEQUENCES * FRAMES))(first))
        expected = simulated(kind, lags, {name: np.asarray(w) for name, w in first.items()})
    for name, w in expected.items():
        moved = np.linalg.norm(w - np.asarray(first[name]))
        assert moved > 0.03 and np.linalg.norm(np.asarray(end[name]) - w) < tolerance * moved


def test_what_cannot_move_is_refused():
    x, y, key = np.ones((6, 2)), np.ones((6, 1)), jax.random.key(0)
    with pytest.raises(
        PlasticodeError,
        match="'cubc' is not known: it must be one of cubic, held, linear; did you mean 'cubic'",
    ):
        Stream(x, y, key, frames=3, interpolation="cubc")
    with pytest.raises(PlasticodeError, match="interpolation = 'linear' is not allowed: it goes from frame to frame"):
        Stream(x, y, key, interpolation="linear")
    moving = Stream(x, y, key, frames=3, interpolation="linear")
    times, clock = Timescales(jnp.asarray(0.01), jnp.asarray(1.0)), Clock(jnp.asarray(0.1), jnp.asarray(0.0), 1)
    with pytest.raises(PlasticodeError, match="a stimulus that moves needs a Coupled run"):
        Discrete(SGD().wire(Network((2, 1))), times, moving, clock)
