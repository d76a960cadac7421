"""What a projection applies to a signal: a linear map with parameters theta, most often a matrix.

A map is linear in theta and in the signal. Its transpose and the direction in which a law m p^T moves theta follow from
`apply` by transposition, so that a map of one's own is `initial` and `apply`:

    apply(theta, p)  (targets,)    back(theta, m) = (d apply / d p)^T m    outer(theta, m, p) = (d apply / d theta)^T m
"""

import abc
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, PRNGKeyArray

from dynamics.errors import PlasticodeError, shown
from dynamics.local import as_numbers

Theta = Float[Array, "..."]


class Gaussian(eqx.Module):
    """Entries drawn from N(0, scale^2 / fan); fan is the number of source or of target neurons."""

    scale: Float[Array, ""] = eqx.field(converter=as_numbers)
    fan: Literal["source", "target"] = eqx.field(static=True, default="source")

    def __call__(self, key: PRNGKeyArray, targets: int, sources: int) -> Float[Array, "targets sources"]:
        width = sources if self.fan == "source" else targets
        return self.scale / width**0.5 * jax.random.normal(key, (targets, sources), self.scale.dtype)


class Given(eqx.Module):
    """The matrix itself, of shape (targets, sources)."""

    matrix: Float[Array, "targets sources"] = eqx.field(converter=as_numbers)

    def __call__(self, key: PRNGKeyArray, targets: int, sources: int) -> Float[Array, "targets sources"]:
        if self.matrix.shape != (targets, sources):
            raise PlasticodeError(f"a given matrix has shape {self.matrix.shape}: it must be ({targets}, {sources})")
        return self.matrix


Start = Gaussian | Given


class AbstractMirror(eqx.Module):
    """A geometry: psi(theta)' is what the law says, so that theta' = metric(theta) * law."""

    @abc.abstractmethod
    def metric(self, theta: Theta) -> Theta:
        """d theta / d psi."""

    @abc.abstractmethod
    def step(self, theta: Theta, change: Theta) -> Theta:
        """How far theta moves as psi grows by `change`: the discrete update, and what a window does to a matrix."""


class Multiplicative(AbstractMirror):
    """psi = sign(theta) log |theta|: exponentiated gradient, theta' = |theta| * law. Signs never flip.

    bibtex: kivinen1997exponentiated (doi:10.1006/inco.1996.2612)
    """

    def metric(self, theta: Theta) -> Theta:
        return jnp.abs(theta)

    def step(self, theta: Theta, change: Theta) -> Theta:
        return theta * jnp.expm1(jnp.sign(theta) * change)


class AbstractMap(eqx.Module):
    """A linear map with parameters of its own.

    mirror      the geometry that its law works in; None: the Euclidean one, theta' = law
    decays      whether theta / tau_dec applies
    holds_norm  whether the Frobenius norm of theta is held: the drift is projected on the tangent of the sphere
                |theta| = const, and discrete updates rescale theta as published (bibtex: ninou2025curl); synaptic noise
                is not projected
    """

    is_matrix: ClassVar[bool] = False  # whether theta is the matrix (targets, sources) itself, and nothing else
    is_drawn: ClassVar[bool] = False  # whether theta is drawn anew for each presentation

    mirror: AbstractMirror | None = eqx.field(default=None, kw_only=True)
    decays: bool = eqx.field(static=True, default=True, kw_only=True)
    holds_norm: bool = eqx.field(static=True, default=False, kw_only=True)

    @property
    def is_curved(self) -> bool:
        """Whether a step of it is not a straight one."""
        return self.mirror is not None or self.holds_norm

    @abc.abstractmethod
    def initial(self, key: PRNGKeyArray, targets: int, sources: int) -> Theta:
        """theta at the start. Sizes that do not fit are refused."""

    @abc.abstractmethod
    def apply(self, theta: Theta, signal: Float[Array, " sources"]) -> Float[Array, " targets"]:
        """The map of a signal."""

    def within(self, theta: Theta) -> Theta:
        """theta with zeros where it always has them."""
        return theta

    def back(self, theta: Theta, signal: Float[Array, " targets"], sources: int) -> Float[Array, " sources"]:
        """The transposed map of a signal."""
        return jax.linear_transpose(lambda p: self.apply(theta, p), jnp.zeros(sources, signal.dtype))(signal)[0]

    def outer(self, theta: Theta, post: Float[Array, " targets"], pre: Float[Array, " sources"]) -> Theta:
        """m p^T, as far as theta can follow it."""
        return jax.linear_transpose(lambda t: self.apply(t, pre), theta)(post)[0]

    def mean_outer(self, theta: Theta, post: Float[Array, "n targets"], pre: Float[Array, "n sources"]) -> Theta:
        """The mean of m p^T over a batch."""
        return jax.vmap(self.outer, (None, 0, 0))(theta, post, pre).mean(0)

    def scaled_rows(self, theta: Theta, rate: Float[Array, " targets"]) -> Theta:
        """diag(rate) theta."""
        raise PlasticodeError(f"a law scales the rows of {type(self).__name__}, which has none: it must be a matrix")

    def scaled_columns(self, theta: Theta, rate: Float[Array, " sources"]) -> Theta:
        """theta diag(rate)."""
        raise PlasticodeError(f"a law scales the columns of {type(self).__name__}, which has none: it must be a matrix")

    def matrix(self, theta: Theta, sources: int) -> Float[Array, "targets sources"]:
        """The whole matrix."""
        return jax.vmap(self.apply, (None, 1), 1)(theta, jnp.eye(sources, dtype=theta.dtype))


class AbstractMatrix(AbstractMap):
    """A map whose parameters are the matrix (targets, sources) itself."""

    is_matrix: ClassVar[bool] = True

    start: eqx.AbstractVar[Start]

    def initial(self, key: PRNGKeyArray, targets: int, sources: int) -> Float[Array, "targets sources"]:
        return self.start(key, targets, sources)

    def apply(self, theta: Theta, signal: Float[Array, " sources"]) -> Float[Array, " targets"]:
        return theta @ signal

    def back(self, theta: Theta, signal: Float[Array, " targets"], sources: int) -> Float[Array, " sources"]:
        return theta.T @ signal

    def outer(self, theta: Theta, post: Float[Array, " targets"], pre: Float[Array, " sources"]) -> Theta:
        return jnp.outer(post, pre)

    def mean_outer(self, theta: Theta, post: Float[Array, "n targets"], pre: Float[Array, "n sources"]) -> Theta:
        return post.T @ pre / post.shape[0]

    def scaled_rows(self, theta: Theta, rate: Float[Array, " targets"]) -> Theta:
        return rate[:, None] * theta

    def scaled_columns(self, theta: Theta, rate: Float[Array, " sources"]) -> Theta:
        return theta * rate[None]

    def matrix(self, theta: Theta, sources: int) -> Float[Array, "targets sources"]:
        return theta


class Dense(AbstractMatrix):
    """A matrix (targets, sources)."""

    start: Start


class Redrawn(AbstractMatrix):
    """A matrix that is drawn from `start` anew for each presentation, and so has no law."""

    is_drawn: ClassVar[bool] = True

    start: Start


class Pattern:
    """Where a matrix has entries: a boolean array (targets, sources), hashable, and the indices that follow from it.

    Entries are kept row by row, (targets, most), `most` being the largest number in a row; rows with fewer end in zeros
    that stay.

    column   (targets, most) the source of each entry            there   (targets, most) whether there is one
    entry    (sources, tall) the entries of each column, as indices into the raveled rows; row, in_column: as above
    """

    def __init__(self, mask: ArrayLike):
        mask = np.asarray(mask)
        if mask.ndim != 2:
            raise PlasticodeError(f"a mask has shape {list(mask.shape)}: it must be (targets, sources)")
        if not np.isin(mask, (0, 1)).all():
            raise PlasticodeError("a mask has entries that are neither 0 nor 1: it must be boolean")
        self.mask = mask.astype(bool)
        self.column, self.there = _packed(self.mask)
        self.row, self.in_column = _packed(self.mask.T)
        place = np.cumsum(self.mask, axis=1) - 1  # the place of an entry in its row
        across = np.arange(mask.shape[1])[:, None]
        self.entry = self.row * self.column.shape[1] + np.where(self.in_column, place[self.row, across], 0)

    def __hash__(self) -> int:
        return hash((self.mask.shape, self.mask.tobytes()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and np.array_equal(self.mask, other.mask)


def _packed(mask: Bool[np.ndarray, "n m"]) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the true entries of each row, packed to the left, and which of the places are taken."""
    counts = mask.sum(1)
    most = max(int(counts.max(initial=0)), 1)
    order = np.argsort(~mask, axis=1, kind="stable")[:, :most].astype(np.int32)
    there = np.arange(most)[None] < counts[:, None]
    return np.where(there, order, 0).astype(np.int32), there


class Masked(AbstractMap):
    """A matrix with entries where `mask` (targets, sources) is true, and exact zeros elsewhere.

    theta has the entries alone, row by row (`Pattern`): `matrix` makes the whole of it, `entries` takes them from one.
    """

    start: Start
    mask: Pattern = eqx.field(static=True, converter=lambda m: m if isinstance(m, Pattern) else Pattern(m))

    def initial(self, key: PRNGKeyArray, targets: int, sources: int) -> Float[Array, "targets most"]:
        if self.mask.mask.shape != (targets, sources):
            shape = list(self.mask.mask.shape)
            raise PlasticodeError(f"a mask has shape {shape}: it must be [{targets}, {sources}], targets and sources")
        return self.entries(self.start(key, targets, sources))

    def entries(self, matrix: Float[Array, "targets sources"]) -> Float[Array, "targets most"]:
        """theta of a whole matrix; what lies off the mask is left out."""
        return self.within(jnp.take_along_axis(matrix, jnp.asarray(self.mask.column), axis=1))

    def within(self, theta: Theta) -> Theta:
        return jnp.where(self.mask.there, theta, 0)

    def apply(self, theta: Theta, signal: Float[Array, " sources"]) -> Float[Array, " targets"]:
        return jnp.sum(self.within(theta * signal[self.mask.column]), axis=1)

    def back(self, theta: Theta, signal: Float[Array, " targets"], sources: int) -> Float[Array, " sources"]:
        terms = theta.ravel()[self.mask.entry] * signal[self.mask.row]
        return jnp.sum(jnp.where(self.mask.in_column, terms, 0), axis=1)

    def outer(self, theta: Theta, post: Float[Array, " targets"], pre: Float[Array, " sources"]) -> Theta:
        return self.within(post[:, None] * pre[self.mask.column])

    def scaled_rows(self, theta: Theta, rate: Float[Array, " targets"]) -> Theta:
        return rate[:, None] * theta

    def scaled_columns(self, theta: Theta, rate: Float[Array, " sources"]) -> Theta:
        return theta * rate[self.mask.column]


class OneToOne(AbstractMap):
    """A diagonal matrix: each neuron to the one of the same number, with `gain` at the start; theta is (size,)."""

    gain: Float[Array, ""] = eqx.field(converter=as_numbers)

    def initial(self, key: PRNGKeyArray, targets: int, sources: int) -> Float[Array, " targets"]:
        if targets != sources:
            raise PlasticodeError(
                f"a one-to-one projection goes from {sources} to {targets} neurons: it must be as many"
            )
        return jnp.full(targets, self.gain)

    def apply(self, theta: Theta, signal: Float[Array, " sources"]) -> Float[Array, " targets"]:
        return theta * signal

    def scaled_rows(self, theta: Theta, rate: Float[Array, " targets"]) -> Theta:
        return rate * theta

    def scaled_columns(self, theta: Theta, rate: Float[Array, " sources"]) -> Theta:
        return rate * theta


def _whole(numbers: Any) -> Any:
    """Whole numbers, one for each dimension."""
    return tuple(numbers) if isinstance(numbers, Sequence) else (numbers,)


class Convolution(AbstractMap):
    """A convolution in one or two dimensions (a cross-correlation, as networks have it); theta (out, in, *kernel).

    Layers are flattened (channels, *space): `space` is that of the source, such as (28, 28). With `padding` "same" the
    target has ceil(space / stride), with "valid" floor((space - kernel) / stride) + 1 in each dimension.
    """

    start: Start
    channels: tuple[int, ...] = eqx.field(static=True, converter=_whole)  # of the source and of the target
    space: tuple[int, ...] = eqx.field(static=True, converter=_whole)
    kernel: tuple[int, ...] = eqx.field(static=True, converter=_whole)
    stride: int = eqx.field(static=True, default=1)
    padding: Literal["same", "valid"] = eqx.field(static=True, default="same")

    def __check_init__(self):
        if len(self.space) not in (1, 2) or len(self.kernel) != len(self.space):
            raise PlasticodeError(
                f"a convolution has space {list(self.space)} and kernel {list(self.kernel)}: both must have the same "
                "number of dimensions, 1 or 2"
            )
        least = min(*self.channels, *self.space, *self.kernel, self.stride)
        if len(self.channels) != 2 or least < 1:
            raise PlasticodeError(
                f"a convolution has channels {list(self.channels)}, space {list(self.space)}, kernel "
                f"{list(self.kernel)} and stride {self.stride}: they must be at least 1, and the channels two"
            )
        if self.padding not in ("same", "valid"):
            raise PlasticodeError(f"a convolution has padding '{self.padding}': it must be same or valid")

    @property
    def target_space(self) -> tuple[int, ...]:
        """The space of the target."""
        if self.padding == "same":
            return tuple(-(-n // self.stride) for n in self.space)
        return tuple((n - k) // self.stride + 1 for n, k in zip(self.space, self.kernel, strict=True))

    def initial(self, key: PRNGKeyArray, targets: int, sources: int) -> Float[Array, "out in *kernel"]:
        shape = self.channels[0] * math.prod(self.space), self.channels[1] * math.prod(self.target_space)
        if (sources, targets) != shape:
            raise PlasticodeError(
                f"a convolution of {self.channels[0]} channels of {list(self.space)} goes from {sources} to {targets} "
                f"neurons: it must be from {shape[0]} to {shape[1]}"
            )
        fan = self.channels[0] * math.prod(self.kernel)
        return self.start(key, self.channels[1], fan).reshape(self.channels[1], self.channels[0], *self.kernel)

    def apply(self, theta: Theta, signal: Float[Array, " sources"]) -> Float[Array, " targets"]:
        image = signal.reshape(1, self.channels[0], *self.space)
        stride = (self.stride,) * len(self.space)
        return jax.lax.conv_general_dilated(image, theta, stride, self.padding.upper()).ravel()


class Shared(eqx.Module):
    """The parameters of projection `name`, as they are or transposed, times `gain`; the laws of all projections that
    use them add up."""

    name: str = eqx.field(static=True)
    transposed: bool = eqx.field(static=True, default=False)
    gain: Float[Array, ""] | None = eqx.field(converter=as_numbers, default=None)


def as_map(matrix: AbstractMap | Shared | Start) -> AbstractMap | Shared:
    """What a projection is given as its matrix: a start alone means a dense one."""
    matrix = Dense(matrix) if isinstance(matrix, Gaussian | Given) else matrix
    start, mirror = getattr(matrix, "start", None), getattr(matrix, "mirror", None)
    if not isinstance(matrix, AbstractMap | Shared):
        raise PlasticodeError(
            f"a projection has {shown(matrix)} for its matrix: it must be a map, such as Gaussian or Given"
        )
    if not (start is None or callable(start)) or isinstance(start, AbstractMap):
        raise PlasticodeError(f"a map starts from {shown(start)}: it must be Gaussian or Given")
    if not (mirror is None or isinstance(mirror, AbstractMirror)):
        raise PlasticodeError(f"a map has the mirror {shown(mirror)}: it must be one, such as Multiplicative()")
    return matrix
