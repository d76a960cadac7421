"""The samples of a task as a caller gives them: made into arrays where that is plain, refused where they do not fit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Shaped

from dynamics.circuit import Circuit
from dynamics.errors import PlasticodeError, refused
from dynamics.layers import Layer

Rows = Shaped[Array | np.ndarray, "..."]  # what `rows` takes: (samples, numbers), or (samples,) for one target each


def rows(name: str) -> Callable[[Any], Float[Array, "samples _n"]]:
    """What makes an array (samples, numbers) of `name` ("inputs" or "targets") of anything that NumPy understands.

    Integers become floats, and targets of shape (samples,) become (samples, 1). Other shapes are refused, and so are
    numbers that are not finite, where they are known and not traced.
    """

    def convert(value: Any) -> Array:
        array = jnp.asarray(value if isinstance(value, Tracer) else _known(name, value))
        if not jnp.issubdtype(array.dtype, jnp.floating):
            array = array.astype(float)
        array = array[:, None] if array.ndim == 1 and name == "targets" else array
        if array.ndim != 2 or 0 in array.shape:
            raise PlasticodeError(
                f"the {name} have shape {array.shape}: it must be (samples, {name}), with at least one of both"
            )
        return array

    return convert


def rows_or_none(name: str) -> Callable[[Any], Float[Array, "samples _n"] | None]:
    """As `rows`; None stays None."""
    convert = rows(name)
    return lambda value: None if value is None else convert(value)


def _known(name: str, value: Any) -> Any:
    numbers = np.asarray(value)
    if not (jnp.issubdtype(numbers.dtype, jnp.floating) or numbers.dtype.kind in "biu"):
        raise PlasticodeError(f"the {name} have dtype {numbers.dtype}: they must be real numbers")
    if not np.isfinite(numbers).all():
        bad = int(np.argwhere(~np.isfinite(numbers))[0][0]) if numbers.ndim else 0
        raise PlasticodeError(f"the {name} have a number that is not finite in sample {bad}: all must be finite")
    return value if isinstance(value, Array) else numbers


def lessons(
    inputs: Float[Array, "n _inputs"], targets: Float[Array, "n outputs"] | None, told: Float[Array, " n"] | None
) -> Float[Array, "n _columns"]:
    """The targets, zeros where none are told; a column of zeros where there are none."""
    if targets is None:
        return jnp.zeros((inputs.shape[0], 1), inputs.dtype)
    return targets if told is None else targets * told[:, None].astype(targets.dtype)


def marks(value: Any) -> Float[Array, " samples"] | None:
    """0 or 1 for every sample, of anything that NumPy understands; None stays None."""
    if value is None or isinstance(value, Tracer):
        return value
    return _each(
        value, lambda x: np.isin(x, (0, 1)), "told must be 1 or 0 for each sample: whether its target is given"
    )


def _each(value: Any, allowed: Callable[[np.ndarray], np.ndarray], sentence: str) -> Float[Array, " samples"]:
    """A number for every sample, each of which is allowed; what is no such array is refused with a sentence."""
    try:
        numbers = np.asarray(value, float)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.ndim != 1 or not numbers.size or not allowed(numbers).all():
        raise PlasticodeError(sentence)
    return jnp.asarray(value if hasattr(value, "dtype") and np.issubdtype(value.dtype, np.floating) else numbers)


def integers(value: Any) -> Int[Array, " presentations"] | None:
    """A whole number for every presentation, of anything that NumPy understands; None stays None."""
    if value is None or isinstance(value, Tracer):
        return value
    numbers = np.asarray(value)
    if numbers.ndim != 1 or not numbers.size or not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0:
        raise PlasticodeError("shown must be the number of a sample, from 0 on, for each presentation")
    return jnp.asarray(value if hasattr(value, "dtype") else numbers, jnp.int32)


def spans(name: str) -> Callable[[Any], Float[Array, " samples"] | None]:
    """Seconds for every sample, of anything that NumPy understands; None stays None."""

    def converted(value: Any) -> Any:
        if value is None or isinstance(value, Tracer):
            return value
        least, kind = (0, "not negative") if name == "gaps" else (np.finfo(float).tiny, "positive")
        sentence = f"{name} must be a number of seconds for each sample, finite and {kind}"
        return _each(value, lambda x: (x >= least) & np.isfinite(x), sentence)

    return converted


def check_each(samples: int, **given: Array | None) -> None:
    """Refuses other than one number for each sample, where there are any."""
    for name, numbers in given.items():
        if numbers is not None and numbers.shape != (samples,):
            raise PlasticodeError(f"{name} has shape {numbers.shape}: it must have one number for each of {samples}")


def check_shown(shown: Int[Array, " presentations"] | None, samples: int) -> None:
    """Refuses numbers of samples that there are not, where they are known."""
    if shown is not None and not isinstance(shown, Tracer) and int(shown.max()) >= samples:
        raise PlasticodeError(f"shown has {int(shown.max())}: there are {samples} samples, numbered from 0")


def check_key(name: str, key: Any) -> None:
    """Refuses what is no random key, a plain seed say."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32):
        raise refused(name, key, "it must be a random key, such as jax.random.key(0)")


def check_pairs(inputs: Float[Array, "_n _inputs"], targets: Float[Array, "_m _outputs"] | None) -> None:
    """Refuses other than one row of targets, where there are any, for each of the inputs."""
    if targets is not None and targets.shape[0] != inputs.shape[0]:
        raise PlasticodeError(
            f"there are {inputs.shape[0]} inputs and {targets.shape[0]} targets: every sample must have one of each"
        )


def check_inputs(circuit: Circuit, inputs: Float[Array, "_n _inputs"]) -> None:
    """Refuses inputs that have not one number per neuron of the input layer."""
    for layer in circuit.layers:
        if layer.role == "input" and inputs.shape[1] != layer.size:
            raise PlasticodeError(
                f"the inputs have {inputs.shape[1]} numbers per sample: the input layer '{layer.name}' has "
                f"{layer.size} neurons, so there must be as many"
            )


def check_samples(
    circuit: Circuit, inputs: Float[Array, "_n _inputs"], targets: Float[Array, "_m _outputs"] | None
) -> None:
    """Refuses samples that do not fit a circuit's input layers, and its output layers where it has any."""
    check_pairs(inputs, targets)
    check_inputs(circuit, inputs)
    for layer in circuit.layers:
        if layer.role in ("output", "target"):
            if targets is None:
                why = "learns from an error" if layer.role == "output" else "is given them"
                raise PlasticodeError(f"there are no targets: the {layer.role} layer '{layer.name}' {why}")
            check_width(layer, targets)


def check_width(layer: Layer, targets: Float[Array, "_n _outputs"]) -> None:
    """Refuses targets that have not one number per neuron of a layer."""
    width, size = targets.shape[1], layer.size
    what = layer.role if layer.role == "target" else "output"
    if width != size:
        hint = f"; labels become targets by one-hot encoding, jax.nn.one_hot(labels, {size})" if width == 1 else ""
        raise PlasticodeError(
            f"the targets have {width} numbers per sample: the {what} layer '{layer.name}' has {size} neurons, so "
            f"there must be as many{hint}"
        )
