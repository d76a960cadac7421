"""What the predictions of all papers share: float64, runs, statistics over seeds, and verdicts.

Samples have one number per seed along their last axis.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key
from scipy.stats import ortho_group

from dynamics.circuit import Circuit, Weights
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.discrete import Discrete
from dynamics.flow import WeightFlow
from dynamics.integrators import FixedStep, Window
from dynamics.network import Network
from dynamics.regime import AbstractRegime
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from experiments.execution import runner
from experiments.results.verdicts import SHOWN, Verdict, close, mean_of
from experiments.spec.loading import make_spec
from rules.contract import AbstractRule

Numbers = Sequence[float] | Sequence[int] | np.ndarray
HEUN = FixedStep("heun")


def f64(value: object) -> Array:
    """A number or an array in float64: predictions compute in it whatever the default is."""
    return jnp.asarray(value, jnp.float64)


def keys_from(seed: int, count: int) -> Key[Array, " count"]:
    """The keys of `count` seeds, the first of which is `seed`."""
    return jax.vmap(jax.random.key)(jnp.arange(seed, seed + count))


def wired(rule: AbstractRule, sizes: tuple[int, ...], **more: Any) -> Circuit:
    """The circuit of a rule in a network of these sizes, which has no biases unless `more` says so."""
    return rule.wire(Network(sizes, **({"bias": False, "gain": f64(1.0)} | more)))


def weight_flow(
    circuit: Circuit,
    inputs: Float[Array, "n i"],
    targets: Float[Array, "n o"] | None,
    step: object,
    decay: object = None,
    plasticity: object = 1.0,
    integrator: str = "euler",
    parts: int = 1,
    **more: Any,
) -> WeightFlow:
    """The weight flow on samples, in presentations of `step` and so many `parts`; all times in seconds.

    tau_prop is any, as the flow has none.
    """
    clock = Clock(f64(step), f64(0.0), parts)
    return WeightFlow(circuit, _slow(decay, plasticity), inputs, targets, clock, FixedStep(integrator), **more)


def discrete(circuit: Circuit, stream: Stream, eta: object, decay: object = None, **more: Any) -> Discrete:
    """Updates of size eta, the time of a presentation: tau_plast is 1 s."""
    return Discrete(circuit, _slow(decay), stream, Clock(f64(eta), f64(0.0), 1), **more)


def _slow(decay: object, plasticity: object = 1.0) -> Timescales:
    """Those of regimes without neurons that lag, for which tau_prop is any."""
    return Timescales(f64(1.0), f64(plasticity), None if decay is None else f64(decay))


def coupled(
    circuit: Circuit,
    stream: Stream,
    propagation: object,
    plasticity: object,
    duration: object,
    steps: int,
    gap: object = 0.0,
    decay: object = None,
    trace: object = None,
    late: Float[Array, ""] | Delays | None = None,
    integrator: FixedStep | Window = HEUN,
    **more: Any,
) -> Coupled:
    """A coupled run whose errors are `late`, in so many steps per presentation and gap; all times in seconds."""
    times = Timescales(f64(propagation), f64(plasticity), *(None if t is None else f64(t) for t in (decay, trace)))
    clock, delays = Clock(f64(duration), f64(gap), steps), late if isinstance(late, Delays) else Delays(error=late)
    return Coupled(circuit, times, stream, clock, delays, integrator=integrator, **more)


def weights_after(run: AbstractRegime, start: Weights, count: Any) -> Weights:
    """The weights at the end of so many presentations."""
    return run.weights(run.advance(run.init(start), jnp.int32(0), count))


def records(
    run: AbstractRegime, progress: Any, count: int, every: Any, look: Callable[[Any], Any], start: bool = False
) -> Any:
    """`look` at the progress after each of `count` times `every` presentations, and before them if `start` says so."""
    every = jnp.asarray(every, jnp.int32)

    def block(progress: Any, r: Array) -> tuple[Any, Any]:
        progress = run.advance(progress, r * every, every)
        return progress, look(progress)

    found = jax.lax.scan(block, progress, jnp.arange(count, dtype=jnp.int32))[1]
    if not start:
        return found
    return jax.tree.map(lambda first, later: jnp.concatenate([first[None], later]), look(progress), found)


def drift_of(flow: WeightFlow, weights: Weights) -> Weights:
    """W' of every plastic matrix (1/s)."""
    state = flow.init(weights)
    return flow.system(state.fixed).drift((state.weights, state.slow, state.traces), None, None)[0]


def on_grid(run: Callable[[Any, Any], Any], rows: Any, columns: Any) -> Any:
    """What `run` makes of every pair, in one program: arrays (rows, columns, ...)."""
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(rows, columns))


def swept(table: Mapping[str, Any]) -> xr.Dataset:
    """The results of a spec without parts, given as the tables of its TOML file; in float64 if it says nothing."""
    return runner.run(make_spec({"dtype": "float64", **table})).datasets[""]


def intervals(samples: np.ndarray | Sequence[np.ndarray], level: float = SHOWN) -> tuple[np.ndarray, np.ndarray]:
    """Means over the last axis, seeds, and the half widths of their intervals at `level`."""
    samples = np.asarray(samples)
    each = [mean_of(row, level) for row in samples.reshape(-1, samples.shape[-1])]
    shape = samples.shape[:-1]
    return np.reshape([one.value for one in each], shape), np.reshape([one.half for one in each], shape)


def jackknifed(statistic: Callable[[np.ndarray], Any], seeds: int) -> np.ndarray:
    """The jackknife's pseudo-values n s - (n - 1) s_i of a statistic of seeds (an array of their positions).

    They count as independent samples, along the last axis, whose mean is the statistic without its bias of order 1/n
    (Tukey 1958).
    """
    every = np.arange(seeds)
    without = np.stack([statistic(np.delete(every, i)) for i in every], -1)
    return seeds * np.asarray(statistic(every))[..., None] - (seeds - 1) * without


def order(numbers: Numbers, errors: np.ndarray) -> np.ndarray:
    """The slope of log error against log number, by least squares along the first axis."""
    errors = np.asarray(errors)
    return np.polyfit(np.log(numbers), np.log(errors).reshape(len(errors), -1), 1)[0].reshape(errors.shape[1:])


def all_close(
    name: str, quantity: str, expected: float, values: np.ndarray, tolerance: float, note: str = ""
) -> Verdict:
    """Whether numbers that are not random all lie within `tolerance` of what is expected: the farthest is shown."""
    values = np.asarray(values)
    farthest = float(values.flat[np.abs(values - expected).argmax()])
    return close(name, quantity, expected, farthest, tolerance, note)


def rotations(seed: int, shape: tuple[int, ...], n: int) -> np.ndarray:
    """Random orthogonal matrices (*shape, n, n), uniformly.

    Not `jax.random.orthogonal`: jaxlib's decompositions of batches, two at once, can wait for each other's threads
    forever (`dynamics.integrators.collocation._solve`).
    """
    return ortho_group.rvs(n, size=math.prod(shape), random_state=seed).reshape(*shape, n, n)
