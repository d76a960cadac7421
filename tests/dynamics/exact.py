"""Linear regression by one matrix, in continuous time and solved exactly: a matrix exponential per presentation."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import expm

from dynamics.coupled import Coupled
from dynamics.integrators import Window
from dynamics.network import Network
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from rules import SGD
from tests.dynamics.windows import moved_apart

DURATION = 0.05


def order_of(stream: Stream, presentations: int) -> np.ndarray:
    """Which samples are shown."""
    return np.asarray(jax.vmap(stream.index)(jnp.arange(presentations, dtype=jnp.int32)))


def regression(inputs, targets, key, window=None, propagation=1e-3, plasticity=1.0, dtype=jnp.float64) -> Coupled:
    """One linear layer that learns by gradient descent; time constants in presentations."""
    network = Network((inputs.shape[1], targets.shape[1]), "linear", bias=False, gain=jnp.asarray(1.0, dtype))
    times = Timescales(*(jnp.asarray(DURATION * t, dtype) for t in (propagation, plasticity)))
    data = Stream(jnp.asarray(inputs, dtype), jnp.asarray(targets, dtype), key)
    clock = Clock(jnp.asarray(DURATION, dtype), jnp.asarray(0.0, dtype), 1)
    return Coupled(SGD().wire(network), times, data, clock, integrator=window or Window())


def learned(run: Coupled, w: np.ndarray, presentations: int) -> np.ndarray:
    """W after some presentations, exactly. While x is held all that W does is u = W x:

    tau z' = u - z,  tau e' = y - z - e,  tau_plast u' = |x|^2 e,  and W moves along x.
    """
    x, y = (np.asarray(a, float) for a in (run.stream.inputs, run.stream.targets))
    tau, slow = float(run.timescales.propagation), float(run.timescales.plasticity)
    z = e = np.zeros(y.shape[1])
    for i in order_of(run.stream, presentations):
        square = x[i] @ x[i]
        rates = [[-1 / tau, 0, 1 / tau, 0], [-1 / tau, -1 / tau, 0, 1 / tau], [0, square / slow, 0, 0], [0, 0, 0, 0]]
        before = w @ x[i]
        z, e, u, _ = expm(np.array(rates) * float(run.clock.duration)) @ np.stack([z, e, before, y[i]])
        w = w + np.outer(u - before, x[i]) / square
    return w


def error(run: Coupled, start: dict, end: dict, presentations: int) -> float:
    """The relative error of the change of the weights."""
    exact = {"W1": learned(run, np.asarray(start["W1"], float), presentations)}
    start, end = ({"W1": np.asarray(w["W1"], float)} for w in (start, end))
    return moved_apart(start, end, exact)
