"""Probes: what is recorded of a run, by name; each a function of the weights, the data and the circuit."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dynamics import curvature, instruments, representations
from dynamics.circuit import Circuit, Weights
from dynamics.errors import PlasticodeError, printable, refused, unknown
from dynamics.overlap import overlap_of_one
from dynamics.plugins import blamed, imported, is_own, modules_of
from dynamics.regime import Slow
from experiments.tasks.contract import Kind

PROBE_SAMPLES = 256  # alignments are means over this many training samples: their cost is that of a gradient
KERNEL_SAMPLES = 64  # a tangent kernel needs a direction in weight space for every sample
SAMPLES = 10  # whose activities are recorded
# What looks at one presentation, or at the mean of all, as if they lasted equally long.
TIMED_ALIKE = "jacobian_symmetric", "jacobian_antisymmetric", "lyapunov_exponent", "temporal_overlap"
FISHER = "fisher"

# What else a result has under a name of its own.
TAKEN = (
    "status", "record", "phase", "presentation", "time", "matrix", "error_estimate", "arrays", "sample", "converged",
    "finite", "part", "seed", "inside",
)  # fmt: skip

Measure = Callable[[Circuit, Weights, Slow, dict[str, Array]], Array | dict[str, Array]]


class Probe(NamedTuple):
    """`measure(circuit, weights, slow, data)` gives a number, or one per matrix; units and a name for figures. `of` is
    the instrument behind it, which has the equation.

    `data` has train_inputs, train_targets, test_inputs and test_targets, (samples, width) each; no targets where the
    task is unsupervised, which a `supervised` probe is refused with, as one of `classes` is without classes. Of
    sequences rows are frames; train_told and test_told, where they are given, are 1 where a frame has a target, and
    test_outputs is what the network answers at the end of each; a `settled` probe is refused. NaN or infinity marks a
    point as diverged. On tasks of the kinds in `standard` it is recorded where a spec names no probes,
    and on those in `compared` by `plasticode compare`. `bounds` is where its values lie, which intervals may leave.

    data["start"] are the weights that the run began with, data["run"] is its regime, which a `stepped` probe needs to
    be coupled, with steps of equal size; data["samples"] are the test inputs of `record.samples`. A probe `by_layer`
    gives a value for each layer, which results call "NAME_LAYER": numbers, or with `arrays` arrays with these
    dimensions, of which "units" stands for the layer itself. Arrays of a user's own probe need no `arrays`: those of a
    table are called by its keys too, and dimensions NAME_0, NAME_1, ...

    A probe of `whole` runs is not measured on weights: what it is follows from a run from its start to its end, and is
    computed beside it (`Job.beside_runs`).
    """

    measure: Measure
    long_name: str
    units: str = "1"
    of: Callable | None = None
    supervised: bool = True
    classes: bool = False
    standard: tuple[Kind, ...] = ()
    compared: tuple[Kind, ...] = ()
    bounds: tuple[float, float] | None = None
    settled: bool = False
    stepped: bool = False
    by_layer: bool = False
    arrays: tuple[str, ...] = ()
    whole: bool = False


def _train(data: dict[str, Array], samples: int = PROBE_SAMPLES) -> tuple[Array, Array]:
    """The first training samples, of those whose target is told."""
    rows = data["taught"][:samples] if "taught" in data else slice(samples)
    inputs = data["train_inputs"][rows]
    return inputs, data["train_targets"][rows] if "train_targets" in data else jnp.zeros_like(inputs[:, :1])


def _activities(circuit: Circuit, weights: Weights, slow: Slow, data: dict[str, Array]) -> representations.Activities:
    return representations.activities(circuit, weights, slow, _train(data)[0])


def _since_start(circuit: Circuit, weights: Weights, slow: Slow, data: dict[str, Any]) -> dict[str, Array]:
    before = _activities(circuit, data["start"], circuit.initial_slow(data["train_inputs"].dtype), data)
    now = _activities(circuit, weights, slow, data)
    return {layer: representations.cka(before[layer], activity) for layer, activity in now.items()}


def _field(weights: Weights, slow: Slow, data: dict[str, Any]) -> tuple[Any, Array]:
    targets = data.get("train_targets")
    few = (None if rows is None else rows[:KERNEL_SAMPLES] for rows in (targets, data.get("train_told")))
    return curvature.averaged_field(data["run"], weights, slow, data["train_inputs"][:KERNEL_SAMPLES], *few)


def _answers(circuit: Circuit, weights: Weights, data: dict[str, Array]) -> tuple[Array, Array, Array | None]:
    """Outputs for the test samples, targets, and where they are told."""
    outputs = data.get("test_outputs")
    if outputs is None:
        outputs = instruments.predict(circuit, weights, data["test_inputs"])
    return outputs, data["test_targets"], data.get("test_told")


def expected_errors(circuit: Circuit, weights: Weights, slow: Slow, data: dict[str, Any]) -> dict[str, Array]:
    """The standard errors that a fit of the free numbers of [fit] to a recording of this very run would have at best:
    by the bound of Cramer and Rao the square roots of the diagonal of the inverse Fisher information, a sum over
    all presentations. They are relative for numbers on a log scale, infinite where the recording would say nothing, and
    NaN where the run diverges. Initial weights are taken for known. Results have them over `free`, the paths of these
    numbers, once for a whole run."""
    return {}  # see `Probe.whole`


def samples_of(chosen: Sequence[int] | None, there: int) -> list[int]:
    """Which test samples are recorded one by one, of so many; by default the first of them."""
    numbers = list(range(min(SAMPLES, there))) if chosen is None else list(chosen)
    if max(numbers) >= there:
        raise refused("record.samples", numbers, f"the task has the test samples 0 to {there - 1}")
    return numbers


PROBES: dict[str, Probe] = {
    "accuracy": Probe(
        lambda c, w, s, d: instruments.fraction_right(*_answers(c, w, d)),
        "test accuracy",
        of=instruments.accuracy,
        classes=True,
        standard=("classification",),
        compared=("classification",),
        bounds=(0, 1),
    ),
    "loss": Probe(
        lambda c, w, s, d: instruments.mean_loss(c, *_answers(c, w, d)),
        "test loss",
        of=instruments.loss,
        standard=("classification", "regression"),
        compared=("classification", "regression"),
    ),
    "alignment": Probe(
        lambda c, w, s, d: instruments.alignment(c, w, s, *_train(d)),
        "cosine of weight drift and negative gradient",
        of=instruments.alignment,
        settled=True,
        compared=("classification", "regression"),
    ),
    "weight_norm": Probe(
        lambda c, w, s, d: instruments.weight_norms(w),
        "Frobenius norm",
        of=instruments.weight_norms,
        supervised=False,
        standard=("unsupervised",),
        compared=("unsupervised",),
    ),
    "hebbian_alignment": Probe(
        lambda c, w, s, d: instruments.hebbian_alignment(c, w, s, *_train(d)),
        "cosine of weight drift and Hebbian update",
        of=instruments.hebbian_alignment,
        settled=True,
        supervised=False,
        compared=("unsupervised",),
    ),
    "feedback_mismatch": Probe(
        lambda c, w, s, d: instruments.feedback_mismatch(c, w),
        "distance of feedback from transposed forward weights",
        of=instruments.feedback_mismatch,
        supervised=False,
    ),
    "tangent_kernel": Probe(
        lambda c, w, s, d: jnp.median(instruments.tangent_kernel(c, w, s, *_train(d, KERNEL_SAMPLES))),
        "median tangent kernel K",
        of=instruments.tangent_kernel,
        settled=True,
    ),
    "effective_rank": Probe(
        lambda c, w, s, d: representations.effective_ranks(c, w),
        "effective rank",
        of=representations.effective_rank,
        supervised=False,
    ),
    "participation_ratio": Probe(
        lambda c, w, s, d: {k: representations.participation_ratio(z) for k, z in _activities(c, w, s, d).items()},
        "participation ratio of activities",
        of=representations.participation_ratio,
        supervised=False,
        settled=True,
        by_layer=True,
    ),
    "cka_start": Probe(
        _since_start,
        "linear CKA of activities now and at the start",
        of=representations.cka,
        supervised=False,
        bounds=(0, 1),
        settled=True,
        by_layer=True,
    ),
    "cka": Probe(
        lambda c, w, s, d: representations.cka_between(_activities(c, w, s, d)),
        "linear CKA of activities of two layers",
        of=representations.cka,
        supervised=False,
        bounds=(0, 1),
        settled=True,
        by_layer=True,
    ),
    "activities": Probe(
        lambda c, w, s, d: representations.activities(c, w, s, d["samples"]),
        "settled activity",
        of=representations.activities,
        supervised=False,
        settled=True,
        by_layer=True,
        arrays=("sample", "units"),
    ),
    "charges": Probe(
        lambda c, w, s, d: instruments.charges(c, w),
        "charge of each unit",
        of=instruments.charges,
        supervised=False,
        by_layer=True,
        arrays=("units",),
    ),
    "sharpness": Probe(
        lambda c, w, s, d: curvature.sharpness(c, w, *_train(d)),
        "largest eigenvalue of the Hessian of the training loss",
        of=curvature.sharpness,
        settled=True,
    ),
    "jacobian_symmetric": Probe(
        lambda c, w, s, d: curvature.jacobian_parts(*_field(w, s, d))[0],
        "norm of the symmetric part of the Jacobian of learning",
        units="1/s",
        of=curvature.jacobian_parts,
        supervised=False,
        settled=True,
    ),
    "jacobian_antisymmetric": Probe(
        lambda c, w, s, d: curvature.jacobian_parts(*_field(w, s, d))[1],
        "norm of the antisymmetric part of the Jacobian of learning",
        units="1/s",
        of=curvature.jacobian_parts,
        supervised=False,
        settled=True,
    ),
    "lyapunov_exponent": Probe(
        lambda c, w, s, d: curvature.lyapunov_exponent(*_field(w, s, d), d["run"].clock.period),
        "largest Lyapunov exponent of learning",
        units="1/s",
        of=curvature.lyapunov_exponent,
        supervised=False,
        settled=True,
    ),
    "temporal_overlap": Probe(
        lambda c, w, s, d: overlap_of_one(d["run"], w),
        "temporal overlap of post- and presynaptic factors",
        of=overlap_of_one,
        supervised=False,
        bounds=(0, 1),
        stepped=True,
    ),
    FISHER: Probe(expected_errors, "standard error", of=expected_errors, supervised=False, whole=True),
}


def probe_named(name: str) -> Probe:
    """The probe called `name`, or the one that "module:name" names: a `Probe`, or its function alone.

    Of a function alone the first line of its docstring is the long name, and it may be used on any task.
    """
    if not is_own(name):
        if name not in PROBES:
            raise unknown("probe", printable(name), PROBES)
        return PROBES[name]
    found = imported("probe", name, "a function")
    if callable(found) and not isinstance(found, type):
        measure: Any = found
        said = (inspect.getdoc(measure) or "").partition("\n")[0]
        found = Probe(measure, said or variable(name), supervised=False)
    if not (isinstance(found, Probe) and callable(found.measure)):
        what = "a function of circuit, weights, slow and data, or a plasticode.Probe"
        raise PlasticodeError(f"probe '{name}' is not a probe: it must be {what}")
    for key, text in (("long_name", found.long_name), ("units", found.units)):
        if not (isinstance(text, str) and text.isprintable()):
            raise PlasticodeError(f"probe '{name}' has {key} = {printable(repr(text))}: it must be a text of one line")
    return found._replace(measure=_checked(name, found.measure, found.arrays))


def variable(name: str) -> str:
    """What a probe is called in results: of "module:name" the name."""
    return name.rpartition(":")[2]


def check_variables(names: Iterable[str]) -> None:
    """Refuse probes that are named twice, and those of a user's own that results would call like something else."""
    names = list(names)
    for name in names:
        if names.count(name) > 1:
            raise PlasticodeError(f"record.probes has '{name}' more than once: name it once")
    taken = {name: name for name in (*PROBES, *TAKEN)}
    for name in filter(is_own, names):
        if variable(name) in taken:
            raise PlasticodeError(
                f"record.probes has '{name}', which results would call '{variable(name)}' as they do "
                f"'{taken[variable(name)]}': it must have another name"
            )
        taken[variable(name)] = name


def _checked(name: str, measure: Measure, arrays: tuple[str, ...]) -> Measure:
    """A user's own probe, whose mistakes are told in a sentence; its numbers have the dtype of the weights."""

    def measured(circuit: Circuit, weights: Weights, slow: Slow, data: dict[str, Array]) -> Any:
        with blamed(f"probe '{name}' cannot be measured", modules_of([name])):
            value = measure(circuit, weights, slow, data)
            numbers = value if isinstance(value, dict) else {"": value}
            numbers = {key: jnp.asarray(number) for key, number in numbers.items()}
        dtype = jax.tree.leaves(weights)[0].dtype
        dims = {number.ndim for number in numbers.values()}
        for key, number in numbers.items():
            misfits = len(dims) > 1 or (arrays and number.ndim != len(arrays))
            if misfits or jnp.iscomplexobj(number) or not isinstance(key, str) or (number.ndim and "/" in key):
                what = f"{number.dtype} of shape {list(number.shape)}"
                raise PlasticodeError(
                    f"probe '{name}' gives {what}{f' for {key!r}' if key else ''}: it must give one real number or "
                    f"array{f' over {list(arrays)}' if arrays else ''}, or a table of these by matrix, all with as "
                    "many dimensions"
                )
        numbers = {key: number.astype(dtype) for key, number in numbers.items()}
        return numbers if isinstance(value, dict) else numbers[""]

    return measured
