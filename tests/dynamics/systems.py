"""Small systems that the tests of the engine share: scalar equations with known solutions, and a two-layer network."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from dynamics.coupled import Coupled
from dynamics.delays import History, chain_drift, chain_output
from dynamics.integrators import FixedStep
from dynamics.network import Network
from dynamics.stimulus import Clock, Stream
from dynamics.system import AbstractSystem
from rules import FA
from tests.problems import Problem, clock, f64, random_weights, stream, timescales
from tests.unjudged import PlainSteps


class DelayedDecay(AbstractSystem):
    """dw = -rate w(t - lag) dt + sigma dB, elementwise; `gamma` > 0: the lag is a chain of so many filters."""

    rate: Array
    lag: Array
    step: Array
    sigma: Array | None = None
    gamma: int = eqx.field(static=True, default=0)

    @property
    def dt(self):
        return self.step

    def start(self, w):
        """The state in which w has always had its present value."""
        return w, jnp.tile(w[None], (self.gamma, 1))

    def drift(self, y, inputs, look: Any):
        w, stages = y
        if self.gamma:
            return -self.rate * chain_output(stages, w, self.lag), chain_drift(stages, w, self.lag)
        return -self.rate * look("w", w, self.lag), stages

    def signals(self, y, inputs):
        return {"w": y[0]}

    def amplitude(self, y):
        return None if self.sigma is None else self.sigma * jnp.ones_like(y[0])

    def brownian_shape(self, y):
        return None if self.sigma is None else y[0]

    def kick(self, amplitude, increments, still):
        return amplitude * increments, still[1]

    def stir(self, y, increments):
        return None


class Pulse(AbstractSystem):
    """A filter chain that a pulse of the inputs goes through; accumulates moments 0, 1, 2 of when it comes out."""

    lag: Array
    step: Array

    @property
    def dt(self):
        return self.step

    def drift(self, y, inputs, look):
        pulse, time = inputs
        out = chain_output(y[0], pulse, self.lag)[0]
        return chain_drift(y[0], pulse, self.lag), out * jnp.stack([jnp.ones_like(time), time, time**2])

    def signals(self, y, inputs):
        return {}

    def amplitude(self, y):
        return None

    def brownian_shape(self, y):
        return None

    def kick(self, amplitude, increments, still):
        return still

    def stir(self, y, increments):
        return None


class Ramp(AbstractSystem):
    """w' = 1, and v' = w(t - lag): from w = v = 0, which w always was before."""

    lag: Array
    step: Array

    @property
    def dt(self):
        return self.step

    def drift(self, y, inputs, look: Any):
        return jnp.ones_like(y[0]), look("w", y[0], self.lag)

    def signals(self, y, inputs):
        return {"w": y[0]}

    def amplitude(self, y):
        return None

    def brownian_shape(self, y):
        return None

    def kick(self, amplitude, increments, still):
        return still

    def stir(self, y, increments):
        return None


class GeometricBrownian(AbstractSystem):
    """dx = growth x dt + sigma x dB."""

    growth: Array
    sigma: Array
    step: Array

    @property
    def dt(self):
        return self.step

    def drift(self, y, inputs, look):
        return self.growth * y

    def signals(self, y, inputs):
        return {}

    def amplitude(self, y):
        return self.sigma * y

    def brownian_shape(self, y):
        return y

    def kick(self, amplitude, increments, still):
        return amplitude * increments

    def stir(self, y, increments):
        return None


def advance(system, y, steps, solver="euler", inputs_at=lambda j: None, history=0, key=None):
    """The state after `steps` steps of the system from absolute step 0."""
    past = History.of(system.signals(y, inputs_at(f64(0))), history) if history else None
    integrator = FixedStep(solver)
    return integrator.run(system, integrator.begin(y, past), inputs_at, jnp.int32(0), steps, key).y


def two_layers(samples=5, **network) -> Problem:
    """A tanh network with two hidden units' worth of nonlinearity, and random data."""
    keys = jax.random.split(jax.random.key(11))
    inputs = jax.random.normal(keys[0], (samples, 2), jnp.float64)
    targets = jax.random.normal(keys[1], (samples, 2), jnp.float64)
    return Problem(Network((2, 3, 2), gain=f64(1.0), **network), inputs, targets)


def coupled(problem: Problem, time: Clock, times=None, rule=None, solver="euler", **options) -> Coupled:
    """A coupled run of `rule` (feedback alignment) on the problem; of its error steps tell nothing."""
    circuit = (rule or FA(f64(1.0))).wire(problem.network)
    integrator = options.pop("integrator", PlainSteps(solver))
    times = times or timescales(propagation=0.02, plasticity=0.3, decay=5.0)
    return Coupled(circuit, times, stream(problem), time, integrator=integrator, **options)


@eqx.filter_jit
def show(run: Coupled, weights, first, count, progress=None):
    """The progress of a run after presentations first .. first + count - 1."""
    return run.advance(run.init(weights) if progress is None else progress, first, count)


def single_synapse(duration=1.0, gap=3.0, steps=800, tau_prop=0.02, trace=None, solver="heun", **options) -> Coupled:
    """One linear synapse that sees x = 1 and the target y = 1, and hardly learns: its own output does not disturb it.

    Its weight after one presentation is the overlap time of error and stimulus, over tau_plast = 1e6 s.
    """
    network = Network((1, 1), activation="linear", bias=False, gain=f64(1.0))
    data = Stream(jnp.ones((1, 1), jnp.float64), jnp.ones((1, 1), jnp.float64), jax.random.key(0))
    times = timescales(propagation=tau_prop, plasticity=1e6, trace=trace)
    circuit = FA(f64(1.0)).wire(network)
    return Coupled(circuit, times, data, clock(duration, gap, steps), integrator=PlainSteps(solver), **options)


@eqx.filter_jit
def learned(run: Coupled) -> Array:
    """The overlap time that a single synapse has seen in one presentation, in seconds."""
    end = run.advance(run.init({"W1": jnp.zeros((1, 1), jnp.float64)}), jnp.int32(0), 1)
    return end.state.weights["W1"][0, 0] * 1e6


def assert_resumes(run: Coupled) -> None:
    """A noisy run in two pieces is the run in one, bit for bit; and the noise of other presentations is another."""
    more = jax.jit(lambda *arguments: run.advance(*arguments))
    start = run.init(random_weights(run.circuit))
    straight = more(start, jnp.int32(0), jnp.int32(7))
    middle = more(start, jnp.int32(0), jnp.int32(3))
    resumed = more(middle, jnp.int32(3), jnp.int32(4))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), straight, resumed))
    other = more(middle, jnp.int32(4), jnp.int32(4))
    assert (other.state.weights["W1"] != straight.state.weights["W1"]).all()
