"""What the predictions of all papers share: float64, runs, statistics over seeds, verdicts, and figures.

Samples have one number per seed along their last axis.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Key
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import ortho_group

from dynamics.circuit import Circuit
from dynamics.coupled import Coupled
from dynamics.delays import Delays
from dynamics.flow import WeightFlow
from dynamics.integrators import FixedStep, Window
from dynamics.network import Network
from dynamics.stimulus import Clock, Stream
from dynamics.timescales import Timescales
from experiments.execution import runner
from experiments.report.figures import MARKERS, OKABE_ITO, style
from experiments.results.verdicts import SHOWN, Verdict, close, mean_of
from experiments.spec.loading import make_spec
from rules.contract import AbstractRule

Numbers = Sequence[float] | Sequence[int] | np.ndarray
P = ParamSpec("P")
Owner = TypeVar("Owner")
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
) -> WeightFlow:
    """The weight flow on samples, in steps of `step`; all times in seconds. tau_prop is any, as the flow has none."""
    times = Timescales(f64(1.0), f64(plasticity), None if decay is None else f64(decay))
    return WeightFlow(circuit, times, inputs, targets, Clock(f64(step), f64(0.0), 1), FixedStep(integrator))


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
    late: Float[Array, ""] | None = None,
    integrator: FixedStep | Window = HEUN,
    **more: Any,
) -> Coupled:
    """A coupled run whose errors are `late`, in so many steps per presentation and gap; all times in seconds."""
    times = Timescales(f64(propagation), f64(plasticity), *(None if t is None else f64(t) for t in (decay, trace)))
    clock = Clock(f64(duration), f64(gap), steps)
    return Coupled(circuit, times, stream, clock, Delays(error=late), integrator=integrator, **more)


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


def look(i: int, **more: Any) -> dict[str, Any]:
    """Colour and marker of the i-th of several curves, and what else is said of it."""
    return {"color": OKABE_ITO[i % len(OKABE_ITO)], "marker": MARKERS[i % len(MARKERS)]} | more


def drawn(
    width: float, height: float
) -> Callable[[Callable[Concatenate[Owner, Figure, P], None]], Callable[Concatenate[Owner, P], Figure]]:
    """Gives a method the figure to draw on, in the style that all share and of a size in inches, and returns it."""

    def decorate(draw: Callable[Concatenate[Owner, Figure, P], None]) -> Callable[Concatenate[Owner, P], Figure]:
        @functools.wraps(draw)
        def whole(self: Owner, *args: P.args, **kwargs: P.kwargs) -> Figure:
            with style():
                figure = Figure((width, height), layout="constrained")
                draw(self, figure, *args, **kwargs)
            return figure

        return whole

    return decorate


def plotted(
    width: float, height: float
) -> Callable[[Callable[Concatenate[Owner, Axes, P], None]], Callable[Concatenate[Owner, P], Figure]]:
    """As `drawn`, of one panel, which is what the method is given."""

    def decorate(draw: Callable[Concatenate[Owner, Axes, P], None]) -> Callable[Concatenate[Owner, P], Figure]:
        @drawn(width, height)
        @functools.wraps(draw)
        def whole(self: Owner, figure: Figure, *args: P.args, **kwargs: P.kwargs) -> None:
            draw(self, figure.subplots(), *args, **kwargs)

        return whole

    return decorate


def marked(panel: Axes, x: Numbers, samples: np.ndarray | Sequence[np.ndarray], **look: Any) -> None:
    """Means over the last axis, seeds, as markers with their 95 % intervals."""
    means, half = intervals(samples)
    look = {"linestyle": "", "elinewidth": 0.8, "capsize": 1.5} | look
    panel.errorbar(np.asarray(x), means, np.nan_to_num(half), **look)


def marked_across(panel: Axes, samples: np.ndarray, height: float, **look: Any) -> None:
    """The mean of samples as a marker at a height, with its 95 % interval along the horizontal axis."""
    mean = mean_of(samples)
    panel.errorbar(mean.value, height, xerr=mean.half, linestyle="", elinewidth=0.8, capsize=1.5, **look)


def band(panel: Axes, x: np.ndarray, samples: np.ndarray, **look: Any) -> None:
    """The mean over the last axis, seeds, as a line with its 95 % interval as a band."""
    means, half = intervals(samples)
    panel.plot(x, means, **look)
    panel.fill_between(x, means - half, means + half, color=look["color"], alpha=0.2, linewidth=0)


def legend_outside(panel: Axes, columns: int = 1, loc: str = "upper center", **look: Any) -> None:
    """The legend of one panel outside of all, where it covers no data."""
    look |= {"ncols": columns, "loc": f"outside {loc}"}
    panel.figure.legend(*panel.get_legend_handles_labels(), **look)


def rotations(seed: int, shape: tuple[int, ...], n: int) -> np.ndarray:
    """Random orthogonal matrices (*shape, n, n), uniformly.

    Not `jax.random.orthogonal`: jaxlib's decompositions of batches, two at once, can wait for each other's threads
    forever (`dynamics.integrators.collocation._solve`).
    """
    return ortho_group.rvs(n, size=math.prod(shape), random_state=seed).reshape(*shape, n, n)
