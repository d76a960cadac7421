"""Circuits: the layers, projections and laws that a learning rule wires and every compiler reads.

A **layer** is a population of neurons with two input ports. The *forward* port drives its activity z and the
*modulatory* port its error units e:

    tau_prop z' = -z + f(a),            a = sum of the forward inputs
    tau_prop e' = -e + f'(a) * c,       c = sum of the modulatory inputs (output layer: target - prediction)

A **projection** carries one variable (activity or error) of its source layer, after a lag, through a matrix to one
port of its target layer. A projection with a **law** is plastic; its matrix W (targets x sources) follows

    W' = (m p^T - diag(r) W) / tau_plast  -  W / tau_dec

where m (post) and r (row decay) are functions of the local variables of the target layer, and p (pre) of what the
projection itself carries. A bias is a projection from a layer of one unit whose activity is always 1.
"""

import abc
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dynamics.activations import activation
from dynamics.errors import PlasticodeError, unknown

if TYPE_CHECKING:  # to a type checker it is a plain ClassVar
    from typing import ClassVar as AbstractClassVar
else:
    from equinox import AbstractClassVar

Variable = Literal["activity", "error"]
Port = Literal["forward", "modulatory"]
Role = Literal["input", "constant", "hidden", "output"]
Weights = dict[str, Float[Array, "_targets _sources"]]  # "_": each matrix has its own sizes
# What compilers call the signals and lags of the task beside those of projections.
RESERVED = ("error", "hop", "input", "stimulus", "target")


class Local(eqx.Module):
    """What a synapse can see of the neuron that it sits on: the local variables of one layer, each of shape (size,).

    (Compilers stack moments or samples in front, and give factors one at a time.)
    """

    preactivation: Float[Array, "*stacked size"]
    activity: Float[Array, "*stacked size"]
    error: Float[Array, "*stacked size"]
    slow: dict[str, Float[Array, "*stacked size"]]


class AbstractFactor(eqx.Module):
    """A function of the local variables of one layer: the post-factor or the row decay of a law.

    `reads_error` says whether it uses `local.error`, so that a task without targets can be refused.
    """

    reads_error: AbstractClassVar[bool]

    @abc.abstractmethod
    def __call__(self, local: Local) -> Float[Array, " size"]:
        """The factor, one number per neuron of the layer."""


class Activity(AbstractFactor):
    """m = z."""

    reads_error: ClassVar[bool] = False

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.activity


class Error(AbstractFactor):
    """m = e."""

    reads_error: ClassVar[bool] = True

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.error


class TwoFactor(eqx.Module):
    """The law W' = (m p^T - diag(r) W) / tau_plast - W / tau_dec of a plastic projection.

    `post` gives m, `row_decay` r (absent: 0). The pre-factor p is what the projection carries, times `sign` (one
    number per presynaptic neuron) where there is one. An eligibility trace, where the run has one, filters p, or m if
    `traced` is "post": a feedback law puts it there, so that it filters the same activity as its forward partner.
    `decays` says whether W / tau_dec applies. `holds_norm` holds the Frobenius norm of W: the drift is projected on the
    tangent of the sphere |W| = const, and discrete updates rescale W as published (bibtex: ninou2025curl); synaptic
    noise is not projected.
    """

    post: AbstractFactor
    sign: Float[Array, " sources"] | None = None
    row_decay: AbstractFactor | None = None
    traced: Literal["pre", "post"] = eqx.field(static=True, default="pre")
    decays: bool = eqx.field(static=True, default=True)
    holds_norm: bool = eqx.field(static=True, default=False)

    def pre(self, carried: Float[Array, " sources"]) -> Float[Array, " sources"]:
        """The pre-factor p, from what the projection carries."""
        return carried if self.sign is None else self.sign * carried

    @property
    def reads_error(self) -> bool:
        """Whether the law uses the error of the layer that it sits on."""
        return self.post.reads_error or (self.row_decay is not None and self.row_decay.reads_error)


class SlowVariable(eqx.Module):
    """A slow local variable v of a layer, tau v' = -v + g(local), such as BCM's sliding threshold (tau in seconds).

    It changes on the timescale of the weights: the weight flow averages g over the data as it does the laws.
    """

    name: str = eqx.field(static=True)
    of: AbstractFactor
    timescale: Float[Array, ""]


class Layer(eqx.Module):
    """A population of `size` neurons. `level` (1 = first after the input) picks its entry of per-layer time constants.

    An `input` layer's activity is the stimulus, a `constant` layer's is 1. An `output` layer gets the error of `loss`:
    y - z ("squared") or y - softmax(z) ("softmax").
    """

    name: str = eqx.field(static=True)
    size: int = eqx.field(static=True)
    activation: str = eqx.field(static=True, default="linear")
    role: Role = eqx.field(static=True, default="hidden")
    level: int = eqx.field(static=True, default=1)
    loss: str = eqx.field(static=True, default="squared")
    slow: tuple[SlowVariable, ...] = ()

    @property
    def clamped(self) -> bool:
        """Whether the activity is given from outside instead of integrated."""
        return self.role in ("input", "constant")


class Gaussian(eqx.Module):
    """Entries drawn from N(0, scale^2 / fan); fan is the number of source or of target neurons."""

    scale: Float[Array, ""]
    fan: Literal["source", "target"] = eqx.field(static=True, default="source")

    def __call__(self, key: PRNGKeyArray, targets: int, sources: int) -> Float[Array, "targets sources"]:
        width = sources if self.fan == "source" else targets
        return self.scale / width**0.5 * jax.random.normal(key, (targets, sources), self.scale.dtype)


class Given(eqx.Module):
    """The matrix itself, of shape (targets, sources)."""

    matrix: Float[Array, "targets sources"]

    def __call__(self, key: PRNGKeyArray, targets: int, sources: int) -> Float[Array, "targets sources"]:
        if self.matrix.shape != (targets, sources):
            raise PlasticodeError(f"a given matrix has shape {self.matrix.shape}: it must be ({targets}, {sources})")
        return self.matrix


class Projection(eqx.Module):
    """Carries `variable` of `source`, after `lag` seconds, through a matrix to `port` of `target`.

    The matrix is its own, drawn from `init`, or that of projection `transpose_of`, transposed (then there is neither
    `init` nor `law`). Without a `lag` of its own it has the run's `delays.hop`, except from a constant layer.
    """

    name: str = eqx.field(static=True)
    source: str = eqx.field(static=True)
    variable: Variable = eqx.field(static=True)
    target: str = eqx.field(static=True)
    port: Port = eqx.field(static=True)
    init: Gaussian | Given | None = None
    law: TwoFactor | None = None
    transpose_of: str | None = eqx.field(static=True, default=None)
    level: int = eqx.field(static=True, default=1)
    lag: Float[Array, ""] | None = None


def _draw(name: str) -> int:
    """The number that a matrix's random key is made of."""
    return zlib.crc32(name.encode())


class Circuit(eqx.Module):
    """Layers and projections: all that a compiler sees of a learning rule. A wrong wiring is told in a sentence."""

    layers: tuple[Layer, ...]
    projections: tuple[Projection, ...]

    def __check_init__(self):
        _check(self.layers, self.projections)

    def layer(self, name: str) -> Layer:
        """The layer called `name`."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise unknown("layer", name, [layer.name for layer in self.layers])

    def projection(self, name: str) -> Projection:
        """The projection called `name`."""
        for p in self.projections:
            if p.name == name:
                return p
        raise unknown("projection", name, [p.name for p in self.projections])

    def shape(self, p: Projection) -> tuple[int, int]:
        """(targets, sources) of the matrix that `p` applies."""
        return self.layer(p.target).size, self.layer(p.source).size

    def into(self, layer: Layer, port: Port) -> tuple[Projection, ...]:
        """The projections that end at `port` of `layer`."""
        return tuple(p for p in self.projections if p.target == layer.name and p.port == port)

    @property
    def with_errors(self) -> frozenset[str]:
        """Names of the layers that have error units: the output, and those that something modulates."""
        return _with_errors(self.layers, self.projections)

    @property
    def plastic(self) -> tuple[Projection, ...]:
        """The projections whose matrix changes."""
        return tuple(p for p in self.projections if p.law is not None)

    @property
    def is_local(self) -> bool:
        """Whether every synapse uses only what is at its own two ends: no matrix is read by a second projection."""
        return all(p.transpose_of is None for p in self.projections)

    @property
    def has_kinks(self) -> bool:
        """Whether an activation has a kink, where errors of integration are larger, and of any sign."""
        return not all(activation(layer.activation).smooth for layer in self.layers if not layer.clamped)

    def initial_weights(self, key: PRNGKeyArray) -> Weights:
        """Draws every matrix. A matrix's key depends on its name, so W1 is the same under every rule for one seed."""
        return {
            p.name: p.init(jax.random.fold_in(key, _draw(p.name)), *self.shape(p))
            for p in self.projections
            if p.init is not None
        }

    def initial_slow(self) -> dict[str, dict[str, Float[Array, " _size"]]]:
        """The slow variables of every layer at the start: zero."""
        return {
            layer.name: {v.name: jnp.zeros(layer.size, v.timescale.dtype) for v in layer.slow}
            for layer in self.layers
            if layer.slow
        }

    def describe(self) -> str:
        """One line per projection: what it carries from where to where, and how its matrix changes."""
        return "\n".join(
            f"{p.name:>8}: {p.variable} of {p.source} -> {p.port} port of {p.target}, "
            + (f"transpose of {p.transpose_of}" if p.transpose_of else "plastic" if p.law else "fixed")
            for p in self.projections
        )


def _check(layers: Sequence[Layer], projections: Sequence[Projection]) -> None:
    """Refuses what does not fit together.

    Outside of the class: while a module is made, equinox inspects the whole of it at every method that is looked up.
    """
    _check_names(layers, projections)
    for layer in layers:
        activation(layer.activation)
        if layer.size < 1:
            raise PlasticodeError(f"layer '{layer.name}' has {layer.size} neurons: it must have at least 1")
    reads = any(p.variable == "error" for p in projections) or any(
        p.law is not None and p.law.reads_error for p in projections
    )
    if reads and not any(layer.role == "output" for layer in layers):
        raise PlasticodeError(
            "this rule learns from an error, but the task is unsupervised and gives no target: "
            "the rule must be one that needs no error, such as hebbian, oja or bcm"
        )
    by_name, with_errors = {p.name: p for p in projections}, _with_errors(layers, projections)
    sizes = {layer.name: layer.size for layer in layers}
    for name in (end for p in projections for end in (p.source, p.target)):
        if name not in sizes:
            raise unknown("layer", name, sizes)
    for p in projections:
        _check_projection(p, sizes, by_name, with_errors)


def _check_names(layers: Sequence[Layer], projections: Sequence[Projection]) -> None:
    """Refuses names that would meet in one place: of two things, of the task's signals, or with equal draws."""
    names = [layer.name for layer in layers] + [p.name for p in projections]
    for name, count in Counter(names).items():
        if count > 1:
            raise PlasticodeError(f"the name '{name}' is used twice in a circuit: names must be unique")
    for layer in layers:
        for name, count in Counter(v.name for v in layer.slow).items():
            if count > 1:
                raise PlasticodeError(f"layer '{layer.name}' has two slow variables '{name}': one is allowed")
    for p in projections:
        if p.name in RESERVED:
            raise PlasticodeError(
                f"a projection is called '{p.name}', which is a name of the task's own signals and lags: any name "
                f"but {', '.join(RESERVED)} is allowed"
            )
    draws: dict[int, str] = {}
    for name in names:
        other = draws.setdefault(_draw(name), name)
        if other != name:
            raise PlasticodeError(
                f"'{other}' and '{name}' would draw the same random numbers, as these names have the same "
                "checksum: one of them must be another"
            )


def _check_projection(
    p: Projection, sizes: Mapping[str, int], projections: Mapping[str, Projection], with_errors: frozenset[str]
) -> None:
    if p.port not in ("forward", "modulatory"):
        raise unknown(f"port of projection '{p.name}'", p.port, ("forward", "modulatory"))
    if p.variable not in ("activity", "error"):
        raise unknown(f"variable of projection '{p.name}'", p.variable, ("activity", "error"))
    if p.transpose_of is not None:
        if p.transpose_of not in projections:
            raise unknown("projection", p.transpose_of, projections)
        tied = projections[p.transpose_of]
        if p.init is not None or p.law is not None:
            raise PlasticodeError(f"projection '{p.name}' is tied to '{tied.name}': it has no init and no law")
        if tied.transpose_of is not None:
            raise PlasticodeError(
                f"projection '{p.name}' is tied to '{tied.name}', which has no matrix of its own: transpose_of "
                "must name a projection with init"
            )
        shape, other = (sizes[p.target], sizes[p.source]), (sizes[tied.source], sizes[tied.target])
        if shape != other:
            raise PlasticodeError(
                f"projection '{p.name}' needs a matrix of shape {shape}, but the transpose of '{tied.name}' has {other}"
            )
    elif p.init is None:
        raise PlasticodeError(f"projection '{p.name}' has no matrix: give it init or transpose_of")
    if p.law is not None and p.law.reads_error and p.target not in with_errors:
        raise PlasticodeError(f"the law of '{p.name}' reads an error, but nothing modulates layer '{p.target}'")
    if p.variable == "error" and p.source not in with_errors:
        raise PlasticodeError(f"projection '{p.name}' carries the error of '{p.source}', which nothing modulates")


def _with_errors(layers: Sequence[Layer], projections: Sequence[Projection]) -> frozenset[str]:
    modulated = {p.target for p in projections if p.port == "modulatory"}
    return frozenset(modulated | {layer.name for layer in layers if layer.role == "output"})
