"""Presentations side by side: copies of a network that share its weights, each shown a sample of its own.

Weights and slow variables move by the mean of what the sides drive; activities, errors, traces, pasts and noise of them
belong to a side. A run with sides is one side under `jax.vmap`, along an axis that has a name: what is shared is a mean
along it, and so the same on all sides, which `vmap` itself makes sure of (its outputs without an axis must be).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

AXIS = "side"


def side(sides: int) -> Int[Array, ""] | None:
    """Which side this is; None where there is one alone."""
    return None if sides == 1 else jnp.asarray(jax.lax.axis_index(AXIS), jnp.int32)


def own_key(key: PRNGKeyArray | None, sides: int) -> PRNGKeyArray | None:
    """The key of what is drawn on every side for itself; with one side it is `key`."""
    number = side(sides)
    return key if number is None or key is None else jax.random.fold_in(key, number)


def mean(numbers: PyTree[Array], sides: int) -> PyTree[Array]:
    """The mean over sides."""
    return numbers if sides == 1 else jax.tree.map(lambda x: jax.lax.pmean(x, AXIS), numbers)


def all_of(numbers: PyTree[Array], sides: int) -> PyTree[Array]:
    """Those of all sides, along a first axis."""
    return jax.tree.map(lambda x: x[None] if sides == 1 else jax.lax.all_gather(x, AXIS), numbers)


def together(function: Callable, sides: int, inputs: Any, outputs: Any) -> Callable:
    """`function` of one side, made one of all: `inputs` and `outputs` say where sides lie, as `jax.vmap` has it."""
    return function if sides == 1 else jax.vmap(function, inputs, outputs, axis_name=AXIS, axis_size=sides)
