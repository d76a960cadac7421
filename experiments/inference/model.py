"""What a spec says that a recording would show: the model that is fitted, and what simulates recordings."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import Weights
from dynamics.coupled import Coupled
from dynamics.errors import PlasticodeError, refused, unknown
from dynamics.information import Scored, answers, information, presented
from dynamics.instruments import output_layer
from dynamics.regime import AbstractRegime, Quality, Slow
from experiments.inference.coordinates import OBSERVE, Coordinate, coordinates, numbers
from experiments.inference.initial import WIDTH, Initial, initial_of
from experiments.inference.likelihoods import LIKELIHOODS, Eta
from experiments.inference.recordings import Recording, check_shapes, check_shown, chosen
from experiments.inference.signals import check_times, signal, signals
from experiments.inference.signals import timed as seen_in_time
from experiments.inference.table import Fit, Observation
from experiments.points.assemble import Plan, build
from experiments.points.jobs import Job, prepare
from experiments.points.probing import looked_at
from experiments.points.weights import start_of
from experiments.spec.grid import expand
from experiments.spec.loading import make_spec
from experiments.spec.probes import PROBES, probe_named
from experiments.spec.spec import Spec
from experiments.spec.units import Time
from experiments.tasks.recorded import Recorded

Values = dict[str, Float[Array, "*layers"]]
Places = Any  # (free,), an array of NumPy or JAX
Arrays = Mapping[str, Any]  # of a job, by name
# By all presentations: the run, what is made once, numbers, the weights at the start where probes look at them.
Shared = tuple[AbstractRegime, Any, Mapping[str, Array], Weights]


class Rows(NamedTuple):
    """What presentations have been: their numbers (presentations,), and what was observed in each, by name, NaN where
    nothing was, (presentations, data): arrays of NumPy or JAX."""

    k: Any
    seen: Mapping[str, Any]


@dataclass(frozen=True)
class Model:
    """A plan with free numbers, and what is observed of it.

    values    all traced numbers of the spec, by path
    data      the arrays of the job; "shown", where the recording says which samples were
    initial   the initial weights, where they are not those of the spec: places of free ones follow those of `free`
    """

    plan: Plan
    free: tuple[Coordinate, ...]
    observe: tuple[Observation, ...]
    values: dict[str, np.ndarray]
    seed: int
    data: dict[str, np.ndarray]
    initial: Initial | None = None

    @property
    def coordinates(self) -> int:
        """How many numbers are free, initial weights among them."""
        return len(self.free) + (self.initial.size if self.initial else 0)

    def started(self, weights: Weights, places: Places) -> Weights:
        """The initial weights: those of the spec, but for what places or the recording say."""
        return weights | self.initial.at(places[len(self.free) :]) if self.initial else weights

    def regime(self, found: Mapping[str, Array], data: Arrays) -> tuple[AbstractRegime, Weights]:
        """The run with these free numbers, by path, and its initial weights."""
        values = {path: jnp.asarray(value) for path, value in self.values.items()}
        layers = (self.plan.spec.network.layers,)
        for path, number in found.items():
            whole, _, item = path.rpartition(".")
            if path in values or whole not in values:
                values[path] = jnp.broadcast_to(number, values[path].shape if path in values else ())
            else:
                values[whole] = jnp.broadcast_to(values[whole], values[whole].shape or layers).at[int(item)].set(number)
        regime, key = build(self.plan, values, jnp.asarray(self.seed, jnp.uint32), dict(data))
        return regime, start_of(regime.circuit, key, data)

    def shown(self, shared: Shared, weights: Weights, slow: Slow, k: Array, data: Arrays) -> dict[str, Array]:
        """What there is to observe as presentation k begins, without noise, but for what is seen later."""
        found, answer, regime, known = {}, None, shared[0], None
        for one in self.observe:
            if one.times is not None:
                continue
            if one.of in weights:
                numbers = weights[one.of].ravel()
            elif one.is_probe:
                known = known or looked_at(self.plan, regime, weights, shared[3], data)
                measured = probe_named(one.of).measure(regime.circuit, weights, slow, known)
                numbers = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(measured)])
            else:
                answer = answer or answers(regime, regime.stream, weights, slow, k)  # pyright: ignore[reportAttributeAccessIssue]
                numbers = answer(*signal(regime, one.of))
            found[one.name] = numbers if one.neurons is None else numbers[jnp.asarray(one.neurons)]
        return found

    def natural(self, found: Mapping[str, Array], shown: Mapping[str, Array]) -> dict[str, Eta]:
        """The distributions of what is observed."""
        etas = {}
        for one in self.observe:
            kind = LIKELIHOODS[one.noise]
            given = {name: one.number(name) for name in kind.numbers}
            dtype = shown[one.name].dtype
            own = {n: found.get(f"{OBSERVE}.{one.name}.{n}", v) for n, v in given.items()}
            etas[one.name] = kind.natural(shown[one.name], {n: jnp.asarray(v, dtype) for n, v in own.items()})
        return etas

    def unjudged(self) -> "Model":
        """The model of runs that nothing judges."""
        plan = dataclasses.replace(self.plan, integrator=self.plan.integrator.unjudged())
        return dataclasses.replace(self, plan=plan)

    def scored(self, places: Places, rows: Rows, data: Arrays) -> Scored:
        """What the rows say of the free numbers, without their priors."""
        start = functools.partial(self.unjudged().begun, data=data)

        def show(shared: Shared, progress: Any, row: Rows) -> tuple[Any, dict[str, Eta]]:
            return self.step(shared, data, progress, row.k)

        return information(start, show, functools.partial(_score, self.observe), places, rows)

    def predicted(self, places: Places, presentations: int, data: Arrays) -> tuple[dict[str, Eta], Quality | None]:
        """The distributions of what is observed in each presentation, and what the integrator knows of its error."""
        shared, progress = self.begun(places, data)
        end, etas = presented(progress, functools.partial(self.step, shared, data), presentations)
        return etas, shared[0].quality(end)

    def begun(self, places: Places, data: Arrays, of: Callable = lambda regime: regime) -> tuple[Shared, Any]:
        """What is the same in all presentations of the regime, or of another one made `of` it, and the progress before
        the first."""
        found = numbers(self.free, places)
        regime, weights = self.regime(found, data)
        regime = of(regime)
        start = self.started(weights, places)
        progress = regime.init(start)
        ready = regime.ready(progress) if isinstance(regime, Coupled) else None
        return (regime, ready, found, start if any(one.is_probe for one in self.observe) else {}), progress

    def step(self, shared: Shared, data: Arrays, progress: Any, k: Array) -> tuple[Any, dict[str, Eta]]:
        """The progress after presentation k, and the distributions of what is observed in it."""
        regime, ready, found, _ = shared
        shown = self.shown(shared, regime.weights(progress), regime.slow(progress), k, data)
        timed = [one for one in self.observe if one.times is not None]
        if not isinstance(regime, Coupled):
            return regime.advance(progress, k, 1), self.natural(found, shown)
        if not timed:
            return regime.advance(progress, k, 1, ready), self.natural(found, shown)
        every, shares = self.shares(regime.stream.run_at(regime, k))
        names = {one.name: output_layer(regime.circuit) if one.of == "output" else one.of for one in timed}
        sight = regime.sight(list(dict.fromkeys(names.values())), {}, "fit.observe")
        progress, seen = regime.watch(progress, k, shares, sight, ready)
        for one in timed:
            numbers = seen[names[one.name]][np.array([every.index(time) for time in one.times or ()])]
            numbers = numbers.reshape(numbers.shape[0], -1)
            shown[one.name] = (numbers if one.neurons is None else numbers[:, np.array(one.neurons)]).ravel()
        return progress, self.natural(found, shown)

    def shares(self, regime: Coupled) -> tuple[list[Time], Any]:
        """All times at which something is observed, in their order, and as shares of the period of a presentation, or
        its end where it is over by then."""
        times = {time for one in self.observe for time in one.times or ()}
        duration, gap = self.values["stimulus.duration"], self.values["stimulus.gap"]
        base = float(duration) if isinstance(duration, np.floating) else self.plan.spec.stimulus.duration.value
        every = sorted(times, key=lambda time: time.seconds(base))
        if isinstance(duration, np.floating) and not regime.stream.timed:
            return every, np.array([time.seconds(base) for time in every]) / float(duration + gap)
        seconds = [jnp.asarray(time.seconds(cast(Any, duration)), duration.dtype) for time in every]
        return every, jnp.minimum(jnp.stack(seconds) / regime.clock.period, 1)

    def lasting(self, presentations: int) -> np.ndarray:
        """How many seconds each presentation lasts, with its gap."""
        both = []
        for name, path in (("durations", "stimulus.duration"), ("gaps", "stimulus.gap")):
            own = self.data.get(name)
            shown = slice(presentations) if "shown" not in self.data else self.data["shown"][:presentations]
            both.append(np.full(presentations, self.values[path]) if own is None else np.asarray(own)[shown])
        return both[0] + both[1]

    def over(self, presentations: int) -> dict[str, np.ndarray]:
        """Of each observation the data, (presentations, data), that would lie beyond the end of their presentation."""
        lasting, base, found = self.lasting(presentations), float(self.values["stimulus.duration"]), {}
        shown = sizes(self)
        for one in self.observe:
            times = np.array([time.seconds(base) for time in one.times or (Time(0.0),)])
            late = times > lasting[:, None] * (1 + 1e-9)
            found[one.name] = np.repeat(late, LIKELIHOODS[one.noise].width(shown[one.name]) // len(times), axis=1)
        return found

    def prior_loss(self, places: Places) -> Any:
        """The negative logarithm of the priors, up to a constant: (starts, free) places at once."""
        loss = ((WIDTH * (places[..., len(self.free) :] - 0.5)) ** 2).sum(axis=-1) / 2  # of free initial weights
        for i, one in enumerate(self.free):
            if one.prior is not None:
                loss = loss + one.surprise(places[..., i]) ** 2 / 2
        return loss

    def prior(self, places: np.ndarray) -> Scored:
        """What the priors say: (starts, free) places at once, with NumPy."""
        slopes = np.zeros(places.shape[-1])
        slopes[len(self.free) :] = WIDTH
        z = WIDTH * (places - 0.5)
        for i, one in enumerate(self.free):
            if one.prior is not None:
                z[..., i], slopes[i] = one.surprise(places[..., i]), one.width / one.prior[1]
        information = np.broadcast_to(np.diag(slopes**2), (*places.shape, places.shape[-1]))
        return Scored(self.prior_loss(places), z * slopes, information)  # pyright: ignore[reportArgumentType]


def _score(of: tuple[Observation, ...], eta: dict[str, Eta], slopes: dict[str, Eta], row: Rows) -> Scored:
    """What a presentation says."""
    total = None
    for one in of:
        kind, mine, along, y = LIKELIHOODS[one.noise], eta[one.name], slopes[one.name], row.seen[one.name]
        seen = ~jnp.isnan(y)
        y = jnp.where(seen, y, 0)
        loss, by_eta = jax.value_and_grad(lambda eta, kind=kind, y=y, seen=seen: kind.loss(eta, y, seen))(mine)
        moved = jax.vmap(lambda s, by=by_eta: jnp.stack([jnp.vdot(by[n], s[n]) for n in by]).sum())(along)
        white = jax.vmap(lambda s, kind=kind, mine=mine, seen=seen: kind.white(mine, s, seen))(along)
        said = Scored(loss, moved, white @ white.T)
        total = said if total is None else jax.tree.map(jnp.add, total, said)
    assert total is not None
    return total


def truth_of(made: Model) -> np.ndarray:
    """The places of the spec's own numbers in the ranges, and of its weights, where they are free."""
    for one in made.free:
        if one.value is None or not one.low <= one.value <= one.high:
            head, _, number = one.path.rpartition(".")
            at = next((i for i, seen in enumerate(made.observe) if f"{OBSERVE}.{seen.name}" == head), None)
            key = one.path if at is None else f"fit.observe.{at}.{number}"
            told = "has no value" if one.value is None else f"= {one.value:g} is outside of its range"
            raise PlasticodeError(f"{key} {told}: what is simulated needs one from {one.low:g} to {one.high:g}")
    numbers = np.array([one.place(one.value) for one in made.free if one.value is not None])
    return np.concatenate([numbers, made.initial.places()]) if made.initial else numbers


def doubled(spec: Spec) -> dict[str, Any]:
    """The tables of a spec in float64, in which the small eigenvalues of an information are none of rounding."""
    noises = [key for key, value in spec.noise if isinstance(value, float) or f"noise.{key}" in spec.sweep]
    if noises or spec.noise.sampling:
        which = ", ".join(f"noise.{name}" for name in noises or ["sampling"])
        raise PlasticodeError(f"{which} is not allowed here: no noise of the process is integrated; leave [noise] out")
    if spec.stimulus.batch > 1 and spec.regime != "flow":
        raise refused("stimulus.batch", spec.stimulus.batch, "a recording is of one sample after the other")
    return spec.values() | {"dtype": "float64"}


def job_of_fit(spec: Spec, fit: Fit) -> tuple[Job, tuple[Coordinate, ...], dict[str, np.ndarray]]:
    """The job whose program suits all of the ranges, the free numbers, and the values of the spec.

    The ranges are the axis of a sweep: the past that lags need, nodes and steps follow from it as for any other.
    """
    double = doubled(spec)
    (group,) = expand(make_spec(double)).groups
    free = coordinates(spec, fit, group.values)
    if spec.sweep or fit.sweep:
        raise PlasticodeError("sweep is not allowed in a fit, which has one protocol: `plasticode design` has many")
    (job,) = prepare(make_spec(widened(make_spec(double), free)))[""]
    return job, free, {path: value[0] for path, value in group.values.items()}


def widened(spec: Spec, free: Sequence[Coordinate]) -> dict[str, Any]:
    """The tables of a spec whose sweep has a further axis, the ends of the ranges."""
    table = spec.table()
    ends = {
        one.path: [f"{end!r} s" if one.is_time else end for end in (one.low, one.high)]
        for one in free
        if not one.path.startswith(f"{OBSERVE}.")  # which is no number of the spec
    }
    tied = [*table["sweep"].get("zip", []), *([list(ends)] if len(ends) > 1 else [])]
    return table | {"sweep": table["sweep"] | ends | ({"zip": tied} if tied else {})}


def model(spec: Spec, fit: Fit, recording: Recording | None = None) -> Model:
    """The model of a spec; what it cannot observe is refused."""
    job, free, values = job_of_fit(spec, fit)
    data = dict(job.data) | in_order(spec, len(job.data["train_inputs"]))
    if recording is not None:
        if "shown" in data and recording.presentations > len(data["shown"]):
            shown, rows = recording.presentations, len(data["shown"])
            told = "there may be no more; stimulus.presentations is how many a synthetic recording has"
            raise PlasticodeError(f"the recording has {shown} presentations, and the task {rows}: {told}")
        if recording.sample is not None:
            data["shown"] = chosen(recording.sample, len(data["train_inputs"]))
        elif isinstance(spec.task, Recorded):
            check_shown(spec.task, recording, data)
    made = Model(job.plan, free, fit.observe, values, spec.seed, data)
    maps = check(made, job.group.values)
    _check_lags(made, spec.stimulus.presentations if recording is None else recording.presentations)
    if recording is not None:
        check_shapes(recording, fit, maps)
        _check_over(made, recording)
    return dataclasses.replace(made, initial=initial_of(made, fit, recording))


def _check_lags(made: Model, presentations: int) -> None:
    """Refuses a constant lag that may be longer than the recording, in which nothing of it would arrive."""
    lasts = made.lasting(presentations).sum()
    for one in made.free if not made.plan.spec.delays.stages else ():
        if one.path.startswith("delays.") and one.high >= lasts:
            told = f"the recording lasts {lasts:g} s, and nothing arrives in it after a lag of that"
            raise refused(f"fit.free.{one.path}", [f"{end:g} s" for end in (one.low, one.high)], told)


def _check_over(made: Model, recording: Recording) -> None:
    """Refuses data of times at which their presentation was over."""
    for name, over in made.over(recording.presentations).items():
        seen = ~np.isnan(recording.seen[name])
        rows = np.flatnonzero((over & seen).any(axis=1)) if over.shape == seen.shape else np.empty(0, int)
        if len(rows):
            told = f"presentation {rows[0]} lasts {made.lasting(recording.presentations)[rows[0]]:g} s"
            raise PlasticodeError(f"the recording has values of '{name}' at times when {told}: they must be NaN there")


def in_order(spec: Spec, samples: int, presentations: int = 0) -> dict[str, np.ndarray]:
    """Which samples are shown, where they are recorded ones: each once, or again from the first, as in a run of so many
    presentations."""
    if not isinstance(spec.task, Recorded):
        return {}
    return {"shown": np.arange(max(samples, presentations), dtype=np.int32) % samples}


def check(model: Model, values: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Refuses what is no layer, matrix or probe, neurons that there are not, and times that are not within a
    presentation at all of the `values` of the points of a job; the shapes of all maps, by name."""
    data = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in model.data.items()}
    at = {one.path: jax.ShapeDtypeStruct((), np.float64) for one in model.free}
    there: dict[str, dict[str, int]] = {}

    def look(at: Any, data: Any) -> Any:
        regime, weights = model.regime(at, data)
        there["settled"] = signals(regime) | {name: w.size for name, w in weights.items()}
        there["timed"] = seen_in_time(regime) if isinstance(regime, Coupled) else {}
        return weights

    weights = jax.eval_shape(look, at, data)
    for number, one in enumerate(model.observe):
        _check_observation(model, f"fit.observe.{number}", one, there, weights)
    duration, period = values["stimulus.duration"], values["stimulus.duration"] + values["stimulus.gap"]
    if "durations" in model.data or "gaps" in model.data:
        period = np.full_like(period, model.lasting(len(model.data["train_inputs"])).max())
    check_times(model.observe, duration, period)
    return {name: w.shape for name, w in weights.items()}


def _check_observation(
    model: Model, key: str, one: Observation, there: Mapping[str, Mapping[str, int]], weights: Weights
) -> None:
    regime = model.plan.spec.regime
    if one.times is not None and regime != "coupled":
        raise refused(f"{key}.times", list(map(str, one.times)), f"regime = '{regime}' has no time in presentations")
    named = there["settled" if one.times is None else "timed"]
    probes = [name for name, probe in PROBES.items() if not probe.whole and one.times is None]
    if one.of not in named and not one.is_probe:
        raise unknown(f"{key}.of", one.of, [*named, *probes])
    if regime == "flow" and one.of in named and one.of not in weights:
        raise refused(f"{key}.of", one.of, "a weight flow shows no single sample: it must be a matrix or a probe")
    own = f"{OBSERVE}.{one.name}.sd"
    if one.noise == "gaussian" and one.sd is None and own not in {free.path for free in model.free}:
        raise PlasticodeError(f"{key}.sd is missing: it must be given, or '{own}' be one of fit.free")
    if one.of in named and one.neurons is not None and max(one.neurons) >= named[one.of]:
        raise refused(f"{key}.neurons", list(one.neurons), f"'{one.of}' has {named[one.of]}, numbered from 0")
    if one.noise == "categorical" and one.times is not None and len(one.times) > 1:
        raise refused(f"{key}.times", list(map(str, one.times)), "a choice is made once: it must be one time")


def sizes(model: Model) -> dict[str, int]:
    """How many numbers each observation shows in a presentation."""
    data = {name: jax.ShapeDtypeStruct(a.shape, a.dtype) for name, a in model.data.items()}
    places = jax.ShapeDtypeStruct((model.coordinates,), np.float64)
    etas, _ = jax.eval_shape(lambda p, d: model.predicted(p, 1, d), places, data)
    return {one.name: max(eta.size for eta in etas[one.name].values()) for one in model.observe}
