"""Runs a regime from start to end and records probes on the way: the engine's Python entry point."""

import functools
import inspect
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from dynamics.circuit import Weights
from dynamics.errors import NotOkWarning, PlasticodeError
from dynamics.history import check_next
from dynamics.kept import Kept
from dynamics.loop import UpTo
from dynamics.regime import REFINEMENTS, AbstractRegime, Quality, Slow
from dynamics.samples import check_key

Probe = Callable[[Weights, Slow], PyTree[Array]]
_PROGRAMS = Kept(32)


class Recording(NamedTuple):
    """What `simulate` returns: how many presentations had been shown at each record, the probes there, and the end.

    finite          whether all weights, slow variables and probes were finite at every record
    converged       whether the integrator's own estimate is within its tolerance; true where it makes none
    error_estimate  of the change of the weights, relative to the distance that they have moved; NaN where there is none
    """

    presentations: Int[Array, " records"]
    probes: PyTree[Array]
    weights: Weights
    finite: Bool[Array, ""]
    converged: Bool[Array, ""]
    error_estimate: Float[Array, ""]

    @property
    def status(self) -> str:
        """ "ok", "diverged" or "not-converged", as the results of a spec have it; of a single run."""
        if self.finite.ndim:
            raise PlasticodeError("the status is that of one run, and there are several: look at finite and converged")
        if not self.finite:
            return "diverged"
        return "ok" if self.converged else "not-converged"


def simulate(
    regime: AbstractRegime | Sequence[AbstractRegime],
    presentations: int | Sequence[int],
    probe: Probe,
    records: int = 10,
    weights: Weights | None = None,
    key: PRNGKeyArray | None = None,
) -> Recording:
    """Shows `presentations` presentations and evaluates `probe(weights, slow)` at the start and after each of `records`
    parts, as equal as integers allow.

    Several regimes, with as many presentations each, are the stages of one run: each takes over the state that the one
    before has ended in, and goes on with its own numbers and samples. There are `records` in each.

    Starts from `weights`, or from those that `key` draws. Programs do not grow with the length of a run; memory holds
    the records, never the presentations. Derivatives with respect to every number of `regime` and `weights` go through
    it, in forward mode at the same memory, in reverse mode with one state (all matrices, and the past that delays look
    back at) per presentation and all that one presentation computes; windows need a fixed number of `sweeps` for the
    latter, and adaptive steps know only forward mode.

    A second call with the same probe and counts, and regimes that differ in numbers alone, compiles nothing. As by
    `jax.jit`, objects that the probe reads must not change inside; a name in it may come to stand for another object.
    A lambda that is written in the call is another probe every time.

    A run that has not converged, or not ended finite, is tried again with finer windows or steps, twice at most. What
    is then not ok is warned of (`NotOkWarning`). Where the run is traced, as under `vmap`, nothing is tried again, and
    `finite` and `converged` of the recording are all there is to look at.
    """
    regimes = (regime,) if isinstance(regime, AbstractRegime) else tuple(regime)
    counts = tuple(presentations) if isinstance(presentations, Sequence) else (presentations,)
    if not regimes or len(counts) != len(regimes):
        raise PlasticodeError(
            f"simulate got {len(regimes)} regimes and presentations for {len(counts)}: there must be one or more, "
            "and presentations for each"
        )
    if not all(isinstance(count, int | np.integer) for count in (*counts, records)) or min(counts) < 0 or records < 1:
        raise PlasticodeError(
            f"simulate got presentations = {presentations} and records = {records}: there must be whole numbers, at "
            "least 0 presentations and 1 record"
        )
    if key is not None:
        check_key("key", key)
    if weights is None:
        weights = regimes[0].circuit.initial_weights(jax.random.key(0) if key is None else key)
    recording = _recorded(regimes, weights, counts, records, probe)
    if any(isinstance(known, Tracer) for known in (recording.finite, recording.converged)):
        return recording
    for _ in range(REFINEMENTS):
        finer = [one.refined() for one in regimes]
        if recording.status == "ok" or any(one is None for one in finer):
            break
        regimes = tuple(one for one in finer if one is not None)
        recording = _recorded(regimes, weights, counts, records, probe)
    if recording.status != "ok":
        warnings.warn(_told(recording), NotOkWarning, stacklevel=2)
    return recording


def _told(recording: Recording) -> str:
    if recording.status == "diverged":
        return "the run has diverged: a weight, a slow variable or a probe is not finite"
    return (
        "the run has not converged: the estimated error of the weights' change, "
        f"{float(recording.error_estimate):.2g} of it, is above the integrator's tolerance"
    )


def _recorded(
    regimes: tuple[AbstractRegime, ...], weights: Weights, counts: tuple[int, ...], records: int, probe: Probe
) -> Recording:
    """The run as it is, once."""
    _check_stages(regimes, weights)
    begun, parts = 0, []
    progress: PyTree = None
    for regime, count in zip(regimes, counts, strict=True):
        ends = [begun + mark for mark in _marks(count, records)]
        lengths, begun = {after - before for before, after in itertools.pairwise(ends)}, ends[-1]
        static, marks = (probe, max(lengths), len(lengths) == 1), jnp.asarray(ends, jnp.int32)
        if parts:
            last = jax.tree.map(lambda leaf: leaf[-1], parts[-1].probes), parts[-1].finite
            progress, part = _compiled(_stage, static, regime, progress, last, marks)
        else:
            progress, part = _compiled(_first, static, regime, weights, marks)
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    found = [(parts[0].presentations, parts[0].probes)]
    found += [jax.tree.map(lambda leaf: leaf[1:], (part.presentations, part.probes)) for part in parts[1:]]
    shown, probes = jax.tree.map(lambda *pieces: jnp.concatenate(pieces), *found)
    return parts[-1]._replace(presentations=shown, probes=probes)


def _first(
    probe: Probe, most: int, even: bool, regime: AbstractRegime, weights: Weights, marks: Int[Array, " marks"]
) -> tuple[PyTree, Recording]:
    start = regime.init(weights)
    return _stage(probe, most, even, regime, start, _record(probe, regime, start), marks)


def _stage(
    probe: Probe,
    most: int,
    even: bool,
    regime: AbstractRegime,
    progress: PyTree,
    first: tuple[PyTree, Bool[Array, ""]],
    marks: Int[Array, " marks"],
) -> tuple[PyTree, Recording]:
    """From mark to mark, at most so many presentations (`even`: always so many), after the record `first`."""

    def block(progress: PyTree, ends: tuple) -> tuple:
        # An integer and a bound, unlike a number that is computed, let derivatives in reverse mode through.
        progress = regime.advance(progress, ends[0], most if even else UpTo(ends[1] - ends[0], most))
        return progress, _record(probe, regime, progress)

    end, rest = jax.lax.scan(block, progress, (marks[:-1], marks[1:]))
    probes, finite = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)
    final, quality = regime.weights(end), regime.quality(end)
    dtype = jnp.result_type(*final.values()) if final else jnp.result_type(float)
    known = Quality.unknown(dtype) if quality is None else quality
    return end, Recording(marks, probes, final, finite.all(), known.converged, known.error)


def _record(probe: Probe, regime: AbstractRegime, progress: PyTree) -> tuple[PyTree, Bool[Array, ""]]:
    now = regime.weights(progress), regime.slow(progress)
    found = probe(*now)
    return found, all_finite((now, found))


def _check_stages(regimes: Sequence[AbstractRegime], weights: Weights) -> None:
    """Refuses stages that cannot go on with the state of the one before."""

    def shaped(tree: PyTree) -> tuple:
        leaves, structure = jax.tree.flatten(tree)
        return structure, *((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)

    for number, (before, after) in enumerate(itertools.pairwise(regimes), 1):
        check_next(before, after, f"stage {number} (counted from 0)")
        if shaped(before) != shaped(after):
            states = [shaped(jax.eval_shape(regime.init, weights)) for regime in (before, after)]
            if states[0] != states[1]:
                raise PlasticodeError(
                    f"stage {number} (counted from 0) cannot go on with the state of the one before, which has other "
                    "parts: all stages must have the same kind of regime, circuit, delays and integrator"
                )


def _compiled(function: Callable, static: tuple, *arguments: PyTree) -> Any:
    """function(*static, *arguments), the first of which is a probe, by a program that is kept for others of the kind.

    Not where it is traced: what a probe reads may then be known for the moment only.
    """
    leaves, structure = jax.tree.flatten(arguments)
    key = function, static, _read_by(static[0]), structure, tuple(map(jax.typeof, leaves))
    try:
        program = _PROGRAMS.get(key)
    except TypeError:  # a probe that cannot be told from others
        key, program = None, None
    program = jax.jit(functools.partial(function, *static)) if program is None else program
    found = program(*arguments)
    if key is not None and not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(found)):
        _PROGRAMS.keep(key, program)
    return found


def _read_by(probe: Probe) -> tuple:
    """What the names in a function stand for now."""
    try:
        names = inspect.getclosurevars(probe)
    except TypeError:  # no function of Python's
        return ()
    return tuple((name, _Same(value)) for known in names[:2] for name, value in known.items())


class _Same:
    """A value that equals itself alone, or an equal number or text."""

    def __init__(self, value: Any):
        self.value = value
        self.known = (type(value), value) if isinstance(value, int | float | str) else id(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.known == other.known

    def __hash__(self) -> int:
        return hash(self.known)


def record_marks(presentations: int, records: int) -> Int[Array, " marks"]:
    """After how many presentations each record is made: 0, then `records` nearly equal parts."""
    return jnp.asarray(_marks(presentations, records), jnp.int32)


def _marks(presentations: int, records: int) -> list[int]:
    return [round(i * presentations / records) for i in range(records + 1)]


def all_finite(tree: PyTree[Array]) -> Array:
    """Whether every number in `tree` is finite."""
    numbers = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    finite = [jnp.isfinite(x).all() for x in numbers if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.stack([jnp.asarray(True), *finite]).all()
