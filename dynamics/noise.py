"""Noise of the coupled regime, one class a kind, and Brownian increments keyed by the integer step.

To add a kind: a subclass of `AbstractSynapticNoise`, and a line in `Noise`, which is the list of all kinds.
"""

import abc
import dataclasses
import zlib
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics.errors import PlasticodeError, unknown
from dynamics.kinks import root

Level = Float[Array, ""]
Matrix = Float[Array, "targets sources"]


class Fluctuation(NamedTuple):
    """tau_prop dz = (..) dt + s sqrt(2 tau_prop) dB of a `variable` of every layer: s is its standard deviation."""

    variable: Literal["activity", "error"]
    multiplied: bool = False


class Half(NamedTuple):
    """Half of a window: windows have noise of weights before and after them.

    length    of the whole window, in seconds
    spread    the standard deviation of additive noise of unit size: the root of half the length where nothing decays
    calculus  the one that noise is meant in
    """

    length: Float[Array, ""]
    spread: Float[Array, ""]
    calculus: str


class AbstractSynapticNoise(eqx.Module):
    """dW = (..) dt + s g(W) dB with a Brownian motion per weight.

    multiplied  whether g depends on W, so that calculi differ
    draws       what steps, and windows, call its random numbers: they depend on that
    """

    multiplied: ClassVar[bool]
    draws: ClassVar[tuple[str, str]]

    @abc.abstractmethod
    def amplitude(self, level: Level, w: Matrix) -> Matrix:
        """s g(W), in weight per square root of a second."""

    @abc.abstractmethod
    def change(self, level: Level, w: Matrix, draw: Matrix, half: Half) -> Matrix:
        """How half a window changes a matrix; `draw` is normal, of variance 1."""


class Additive(AbstractSynapticNoise):
    """g = 1."""

    multiplied: ClassVar[bool] = False
    draws: ClassVar[tuple[str, str]] = ("synaptic", "add")

    def amplitude(self, level: Level, w: Matrix) -> Matrix:
        return jnp.full_like(w, level)

    def change(self, level: Level, w: Matrix, draw: Matrix, half: Half) -> Matrix:
        return level * half.spread * draw


class Multiplicative(AbstractSynapticNoise):
    """g = W. Half a window multiplies W by exp(s B - s^2 t / 2) in the sense of Ito, by exp(s B) in the other."""

    multiplied: ClassVar[bool] = True
    draws: ClassVar[tuple[str, str]] = ("multiplicative", "multiply")

    def amplitude(self, level: Level, w: Matrix) -> Matrix:
        return level * w

    def change(self, level: Level, w: Matrix, draw: Matrix, half: Half) -> Matrix:
        mean = -level * level / 2 if half.calculus == "ito" else jnp.zeros_like(level)
        return jnp.expm1(mean * half.length / 2 + level * root(half.length / 2) * draw) * w


def _of(kind: Fluctuation | AbstractSynapticNoise) -> Any:
    return eqx.field(default=None, metadata={"kind": kind})


class Noise(eqx.Module):
    """White noise, None where absent. Without feedback through the network, activities and errors are then
    Ornstein-Uhlenbeck processes.

    activity                  tau_prop dz = (..) dt + s sqrt(2 tau_prop) dB; s is the stationary standard deviation of z
    error                     the same for e
    synaptic                  dW = (..) dt + s dB, in weight per square root of a second
    synaptic_multiplicative   dW = (..) dt + s W dB, in 1 per square root of a second
    `calculus` says which calculus the multiplicative term is meant in; it decides which solvers are allowed.
    """

    activity: Level | None = _of(Fluctuation("activity"))
    error: Level | None = _of(Fluctuation("error"))
    synaptic: Level | None = _of(Additive())
    synaptic_multiplicative: Level | None = _of(Multiplicative())
    calculus: Literal["ito", "stratonovich"] = eqx.field(static=True, default="ito")

    def __check_init__(self):
        if self.calculus not in ("ito", "stratonovich"):
            raise unknown("noise.calculus", self.calculus, ("ito", "stratonovich"))

    @property
    def levels(self) -> dict[str, Level]:
        """Of the kinds that are there, by name."""
        found = {name: getattr(self, name) for name in KINDS}
        return {name: level for name, level in found.items() if level is not None}

    @property
    def fluctuations(self) -> dict[str, Level]:
        """The standard deviations of noisy variables, by variable."""
        kinds = [(KINDS[name], level) for name, level in self.levels.items()]
        return {kind.variable: level for kind, level in kinds if isinstance(kind, Fluctuation)}

    @property
    def on_synapses(self) -> dict[str, tuple[AbstractSynapticNoise, Level]]:
        """The noise of the weights themselves, by name."""
        kinds = {name: (KINDS[name], level) for name, level in self.levels.items()}
        return {n: (kind, level) for n, (kind, level) in kinds.items() if isinstance(kind, AbstractSynapticNoise)}

    @property
    def present(self) -> bool:
        """Whether there is any noise to draw."""
        return bool(self.levels)

    @property
    def multiplied(self) -> bool:
        """Whether some of it is multiplied by what it drives, so that its calculus matters."""
        return any(KINDS[name].multiplied for name in self.levels)

    def of_weights(self) -> "Noise":
        """The noise of the weights alone."""
        without = {name: None for name in self.levels if name not in self.on_synapses}
        return dataclasses.replace(self, **without)


KINDS: dict[str, Fluctuation | AbstractSynapticNoise] = {
    field.name: field.metadata["kind"] for field in dataclasses.fields(Noise) if "kind" in field.metadata
}


def required_key(key: PRNGKeyArray | None) -> PRNGKeyArray:
    """The key of a noisy run, which must have one."""
    if key is None:
        raise PlasticodeError("noise is drawn from a random key, but the run has none: give it key")
    return key


def brownian_increments(key: PRNGKeyArray, like: PyTree[Array], dt: Float[Array, ""]) -> PyTree[Array]:
    """Independent N(0, dt) draws with the shapes of `like` (dt in seconds). A leaf's key depends on its path."""

    def draw(path: tuple, leaf: Array) -> Array:
        leaf_key = jax.random.fold_in(key, zlib.crc32(jax.tree_util.keystr(path).encode()))
        return jnp.sqrt(dt) * jax.random.normal(leaf_key, leaf.shape, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, like)
