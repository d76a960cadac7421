"""Weight perturbation: noise at the synapses, and one reward for all of them."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import AbstractFactor, Circuit, Gaussian, Local, Redrawn, Scaled, Shared
from dynamics.network import Network
from rules.contract import AbstractRule, number
from rules.perturbed import compared


class Rewarded(AbstractFactor):
    """The reward over the size of the noise."""

    size: Float[Array, ""]

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.inputs["reward"] / self.size


class WeightPerturbation(AbstractRule):
    """Weight perturbation: each synapse correlates its own noise with a reward that is the same for all.

    Equation        tau_plast W_l' = r Xi_l, a_l = (W_l + size Xi_l) z_{l-1} + b_l + size xi_l, entries ~ N(0, 1) drawn
                    anew for each presentation; r = (loss of a copy with the opposite noise - loss) / (2 size), or with
                    `symmetric` = false (loss of a copy without noise - loss) / size
    Discrete limit  W_l += eta r Xi_l, b_l += eta r xi_l, eta = T/tau_plast: on average -eta dLoss/dW_l + O(size^2)
    Locality        not local: the copy of the network, which says what to expect, uses the same matrices
    Shapes          W_l, Xi_l (n_l, n_{l-1}), r one number; `size` in units of W_l
    Errors          needs a target: an unsupervised task is refused; there is no weight flow of what is drawn
    Reference       bibtex: jabri1992weight (doi:10.1109/72.105429); werfel2005learning
                    (doi:10.1162/089976605774320539)
    """

    reference: ClassVar[str] = (
        "@article{jabri1992weight, title={Weight perturbation: an optimal architecture and learning technique for "
        "analog {VLSI} feedforward and recurrent multilayer networks}, author={Jabri, Marwan and Flower, Barry}, "
        "journal={IEEE Transactions on Neural Networks}, volume={3}, number={1}, pages={154--157}, year={1992}, "
        "doi={10.1109/72.105429}}"
    )
    size: Float[Array, ""] = number(0.1, low=1e-6)
    symmetric: bool = eqx.field(static=True, default=True)

    def wire(self, network: Network) -> Circuit:
        forward = tuple(
            dataclasses.replace(p, law=(Scaled(Rewarded(self.size), f"X{p.name}"),)) for p in network.forward(())
        )
        apart, one = (2 if self.symmetric else 1) * self.size, jnp.ones((), network.gain.dtype)
        layers, wires = compared(network, forward, apart)
        for p in forward:
            sources = 1 if p.source == "one" else network.sizes[int(p.source[1:])]
            drawn = Redrawn(Gaussian(self.size * sources**0.5))  # entries of standard deviation `size`
            wires += (dataclasses.replace(p, name=f"X{p.name}", matrix=drawn, law=()),)
            if self.symmetric:
                copy = next(q for q in wires if q.name == f"{p.name}'")
                wires += (dataclasses.replace(copy, name=f"X{p.name}'", matrix=Shared(f"X{p.name}", gain=-one)),)
        return Circuit(layers, wires, readout=f"z{network.depth}")
