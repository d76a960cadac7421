"""What rules share that perturb a network: a copy of it, with the same matrices, and how much better it does."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import AbstractFactor, Draw, Given, Layer, Local, OneToOne, Projection, Shared, Variable
from dynamics.network import Network


class Loss(AbstractFactor):
    """What each output neuron adds to the loss, as long as a target is shown: (y - z)^2 / 2, or -y ln softmax(z)."""

    loss: str = eqx.field(static=True)

    def __call__(self, local: Local) -> Float[Array, " size"]:
        target, z = local.inputs["target"], local.activity
        if self.loss == "softmax":
            return -target * jax.nn.log_softmax(z)  # the target is 0 in a gap
        return local.inputs["shown"] * 0.5 * (target - z) ** 2


def compared(
    network: Network, forward: tuple[Projection, ...], apart: Float[Array, ""]
) -> tuple[tuple[Layer, ...], tuple[Projection, ...]]:
    """The layers and projections of two copies of the network and of a reward that compares them.

    The first copy, z1 .. zL, has the projections `forward`; the second, z1' .. zL', shares their maps. The reward, one
    neuron, is (loss of the second - loss of the first) / `apart`, and arrives at the port "reward" of every layer of
    the first. In a gap there is no loss, as other rules have no error there: a neuron that is 1 as long as a sample is
    shown says so to a squared loss.
    """
    network.check_supervised()
    top, size, one = network.depth, network.sizes[-1], jnp.ones((), network.gain.dtype)
    last = Layer(
        f"z{top}",
        size,
        network.output_activation,
        level=top,
        loss=network.loss,
        variables=(Variable("loss", Loss(network.loss)),),
    )
    own = tuple(last if layer.name == last.name else layer for layer in network.layers())
    copies = tuple(dataclasses.replace(layer, name=f"{layer.name}'") for layer in own if not layer.given)
    reward = Layer("reward", 1, level=top), Layer("y", size, role="target", level=0)
    if network.loss == "squared":
        reward += (Layer("shown", 1, source=Draw(0 * one, one), level=0),)
    wires = [*forward, *(_again(p) for p in forward)]
    for end, sign in (("", -1), ("'", 1)):
        share = Given(jnp.full((1, size), sign / apart))
        wires += [
            Projection(f"Y{end}", "y", "activity", f"z{top}{end}", "target", OneToOne(one), level=top),
            Projection(f"L{end}", f"z{top}{end}", "loss", "reward", "forward", share, level=top),
        ]
        if network.loss == "squared":
            to_all = Given(jnp.ones((size, 1), network.gain.dtype))
            wires.append(Projection(f"S{end}", "shown", "activity", f"z{top}{end}", "shown", to_all, level=top))
    for i in range(1, top + 1):
        to_all = Given(jnp.ones((network.sizes[i], 1), network.gain.dtype))
        wires.append(Projection(f"R{i}", "reward", "activity", f"z{i}", "reward", to_all, level=i))
    return (*own, *copies, *reward), tuple(wires)


def _again(p: Projection) -> Projection:
    """The projection of the second copy that shares the map of `p`; stimulus and biases come from the same layers."""
    source = p.source if p.source in ("z0", "one") else f"{p.source}'"
    return dataclasses.replace(
        p, name=f"{p.name}'", source=source, target=f"{p.target}'", matrix=Shared(p.name), law=()
    )
