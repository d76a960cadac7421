"""What a network answers to sequences: its outputs frame by frame, with weights that no longer change."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dynamics.circuit import Circuit, Weights
from dynamics.coupled import Coupled
from dynamics.coupled_run import CoupledProgress
from dynamics.errors import PlasticodeError
from dynamics.instruments import output_layer
from dynamics.noise import Noise
from dynamics.samples import rows
from dynamics.stimulus import Stream


def responses(
    run: Coupled, weights: Weights, inputs: Float[Array, "sequences frames inputs"]
) -> Float[Array, "sequences frames outputs"]:
    """The activity of the output layer at the end of every frame, by the coupled field of `run`.

    Each sequence starts in silence; frames last as long as the presentations of `run`, with its lags and time constants
    but without noise, targets and plasticity. Dimensionless, as activities are.
    """
    if not isinstance(run, Coupled):
        raise PlasticodeError(
            f"responses are those of a Coupled run, in which activity lasts, not of {type(run).__name__}"
        )
    if np.ndim(inputs) != 3:
        raise PlasticodeError(f"the sequences have shape {np.shape(inputs)}: it must be (sequences, frames, inputs)")
    shape = np.shape(inputs)
    inputs = rows("inputs")(jnp.reshape(jnp.asarray(inputs), (shape[0] * shape[1], shape[2]))).reshape(shape)
    output, targets = output_layer(run.circuit), run.stream.targets
    circuit = unlearning(run.circuit)
    silent = None if targets is None else jnp.zeros((inputs.shape[1], targets.shape[1]), targets.dtype)

    def one(frames: Float[Array, "frames inputs"]) -> Float[Array, "frames outputs"]:
        untold, kind = jnp.zeros_like(frames[:, 0]), run.stream.interpolation
        order = run.stream.key, "sequential", frames.shape[0]
        stream = Stream(frames, silent, *order, untold, interpolation=kind)
        alone = dataclasses.replace(run, circuit=circuit, stream=stream, noise=Noise(), key=None, batch=1)

        def show(progress: CoupledProgress, k: Int[Array, ""]) -> tuple[CoupledProgress, Array]:
            progress = alone.advance(progress, k, 1)
            return progress, progress.state.activity[output]

        return jax.lax.scan(show, alone.init(weights), jnp.arange(frames.shape[0], dtype=jnp.int32))[1]

    return jax.vmap(one)(inputs)


def unlearning(circuit: Circuit) -> Circuit:
    """The circuit with all of its maps fixed."""
    still = tuple(dataclasses.replace(p, law=()) for p in circuit.projections)
    return Circuit(circuit.layers, still, circuit.readout)
