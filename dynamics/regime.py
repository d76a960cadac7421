"""The contract of a regime: what the three ways to run a circuit have in common."""

import abc
from typing import Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from dynamics.circuit import Circuit, Weights
from dynamics.errors import PlasticodeError, refused
from dynamics.layers import Wave
from dynamics.loop import Count
from dynamics.plasticity import Slow as Slow
from dynamics.samples import check_samples
from dynamics.timescales import Timescales, check_levels

Progress = TypeVar("Progress")


REFINEMENTS = 2  # how often a run that has not converged is tried again, finer


class Quality(NamedTuple):
    """What an integrator knows of the error of the weights' change: its relative size, whether it is small enough."""

    error: Float[Array, ""]
    converged: Bool[Array, ""]

    @classmethod
    def unknown(cls, dtype: DTypeLike) -> "Quality":
        """That of a run which nothing judges."""
        return cls(jnp.asarray(jnp.nan, dtype), jnp.asarray(True))


def check_wired(circuit: object) -> None:
    """Refuses what is no circuit, such as the rule that wires one."""
    if not isinstance(circuit, Circuit):
        raise refused("circuit", circuit, "it must be what a rule wires, FA().wire(Network(sizes=(64, 32, 10))) say")


def check_circuit(
    circuit: Circuit,
    timescales: Timescales,
    inputs: Float[Array, "_n _inputs"],
    targets: Float[Array, "_m _outputs"] | None,
    told: Float[Array, " _k"] | None = None,
) -> None:
    """Refuses time constants and samples that do not fit the circuit: their shapes are known even while tracing."""
    check_wired(circuit)
    check_levels(circuit, timescales)
    check_samples(circuit, inputs, targets)
    compares = next((layer.name for layer in circuit.layers if layer.role == "target"), None)
    if told is not None and compares is not None and circuit.plastic:
        raise PlasticodeError(
            f"this rule compares the target itself (layer '{compares}'), and where none is told it would learn to give "
            "0: every sample or frame must have a target, or the rule be one that learns from an error"
        )


def check_start(circuit: Circuit, dtype: DTypeLike, weights: Weights, inputs: Float[Array, "samples inputs"]) -> None:
    """Refuses weights that are not the circuit's, and matrices or inputs of another dtype than the clock's: a run has
    one, and JAX would promote silently."""
    circuit.check_weights(weights)
    given = {f"matrix '{name}'": w for name, w in weights.items()} | {"the inputs": inputs} | _drawn(circuit, dtype)
    for name, array in given.items():
        if array.dtype != dtype:
            raise PlasticodeError(
                f"{name}: dtype {array.dtype} is not allowed where the clock has {dtype}, as a run must have one dtype"
            )


def _drawn(circuit: Circuit, dtype: DTypeLike) -> dict[str, jax.ShapeDtypeStruct]:
    """What is drawn for layers and projections, and what waves are at a time of `dtype`."""
    drawn = jax.eval_shape(circuit.draws, jax.random.key(0), jnp.int32(0))
    found = {f"what is drawn for '{name}'": array for name, array in drawn.items()}
    with jax.numpy_dtype_promotion("standard"):
        for layer in circuit.layers:
            if isinstance(layer.source, Wave):
                found[f"the wave of layer '{layer.name}'"] = jax.eval_shape(layer.source.of, jnp.zeros((), dtype))
    return {name: array for name, array in found.items() if not array.weak_type}  # Python's numbers fit any dtype


class AbstractRegime(eqx.Module, Generic[Progress]):
    """A circuit with everything that it takes to run it: coupled, as a weight flow, or in discrete updates.

    How far a run has come is a pytree (`Progress`) and the integer number of presentations shown: nothing else, so that
    a run that is stopped and resumed equals one that is not. Numbers are array leaves, so a regime can be traced.
    """

    circuit: eqx.AbstractVar[Circuit]

    @abc.abstractmethod
    def init(self, weights: Weights) -> Progress:
        """The start, from given matrices (see `Circuit.initial_weights`)."""

    @abc.abstractmethod
    def advance(self, progress: Progress, first: Int[Array, ""], count: Count) -> Progress:
        """Goes on by presentations first .. first + count - 1."""

    @abc.abstractmethod
    def weights(self, progress: Progress) -> Weights:
        """All matrices, plastic and fixed."""

    @abc.abstractmethod
    def slow(self, progress: Progress) -> Slow:
        """All slow variables."""

    @abc.abstractmethod
    def quality(self, progress: Progress) -> Quality | None:
        """What the integrator's own estimates say of the run so far; None where it makes none."""

    @abc.abstractmethod
    def refined(self) -> "AbstractRegime[Progress] | None":
        """The same run, integrated finer, for one that has not converged; None where it cannot be."""
