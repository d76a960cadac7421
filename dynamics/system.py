"""The contract of a differential equation, as integrators see it."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from dynamics.noise import brownian_increments


class Look(NamedTuple):
    """How a field looks at the past from inside a step; `time` is how far inside, in seconds.

    A call, look(name, current value, lag in seconds, stepwise=False, side=None), gives the late value.
    """

    time: Float[Array, ""]
    past: Callable[..., Array]

    def __call__(self, name: Any, current: Array, lag: Array, **how: Any) -> Array:
        return self.past(name, current, lag, **how)


class AbstractSystem(eqx.Module):
    """A differential equation y' = drift(y, inputs, delayed signals) + amplitude(y) dB, to be stepped by `dt` seconds.

    `drift` is per second and has the structure of y. `signals` are those that a delay looks back at ({}: no delays).
    `amplitude` is a pytree of noise amplitudes (None: none); `kick` turns amplitudes and Brownian increments into a
    change of y and is linear in both. Noise whose course is known exactly is no matter of a solver: `stir` gives it.
    """

    @property
    @abc.abstractmethod
    def dt(self) -> Float[Array, ""]:
        """The step in seconds."""

    @abc.abstractmethod
    def drift(self, y: PyTree, inputs: PyTree, look: Look | None) -> PyTree:
        """dy/dt without the noise."""

    @abc.abstractmethod
    def signals(self, y: PyTree, inputs: PyTree) -> dict[Any, Float[Array, " _n"]]:
        """The signals that delays look back at."""

    @abc.abstractmethod
    def brownian_shape(self, y: PyTree) -> PyTree[Array] | None:
        """Arrays of the shapes of a step's Brownian increments (their values do not matter); None without noise."""

    def increments(self, key: PRNGKeyArray, like: PyTree[Array], dt: Float[Array, ""]) -> PyTree[Array]:
        """Brownian increments over `dt` seconds of the shapes of `like`."""
        return brownian_increments(key, like, dt)

    @abc.abstractmethod
    def amplitude(self, y: PyTree) -> PyTree | None:
        """Amplitudes of the noise that a solver has to integrate, or None."""

    @abc.abstractmethod
    def kick(self, amplitude: PyTree, increments: PyTree, still: PyTree) -> PyTree:
        """The change of y made by the Brownian `increments`; `still` is no change at all, zeros with y's structure."""

    @abc.abstractmethod
    def stir(self, y: PyTree, increments: PyTree) -> PyTree | None:
        """The change of y over a step that noise makes beside the drift, exact in distribution; None without such.

        It has y's structure, with None where nothing changes.
        """
