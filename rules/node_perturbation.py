"""Node perturbation: noise at the neurons, and one reward for all of them."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Draw, Input, Layer, OneToOne, Outer, Projection, Shared, Trace
from dynamics.network import Network
from rules.contract import AbstractRule, number
from rules.perturbed import compared


class NodePerturbation(AbstractRule):
    """Node perturbation: each neuron correlates its own noise with a reward that is the same for all.

    Equation        tau_plast W_l' = r F(xi_l z_{l-1}^T), a_l = W_l z_{l-1} + b_l + size xi_l, xi_l ~ N(0, 1) drawn anew
                    for each presentation; r = (loss of a copy with noise -size xi - loss) / (2 size), or with
                    `symmetric` = false (loss of a copy without noise - loss) / size
    Discrete limit  W_l += eta r xi_l z_{l-1}^T, eta = T/tau_plast: on average -eta dLoss/dW_l + O(size^2)
    Trace           F is the eligibility trace of the product, where the run has one
    Locality        not local: the copy of the network, which says what to expect, uses the same matrices
    Shapes          W_l (n_l, n_{l-1}), xi_l (n_l,), r one number; `size` in units of a_l
    Errors          needs a target: an unsupervised task is refused; there is no weight flow of what is drawn
    Reference       bibtex: werfel2005learning (doi:10.1162/089976605774320539)
    """

    reference: ClassVar[str] = (
        "@article{werfel2005learning, title={Learning curves for stochastic gradient descent in linear feedforward "
        "networks}, author={Werfel, Justin and Xie, Xiaohui and Seung, H. Sebastian}, journal={Neural Computation}, "
        "volume={17}, number={12}, pages={2699--2718}, year={2005}, doi={10.1162/089976605774320539}}"
    )
    size: Float[Array, ""] = number(0.1, low=1e-6)
    symmetric: bool = eqx.field(static=True, default=True)

    def wire(self, network: Network) -> Circuit:
        law = (Outer(Input("noise"), gate=Input("reward"), trace=Trace("product")),)
        apart = (2 if self.symmetric else 1) * self.size
        layers, wires = compared(network, network.forward(law), apart)
        for i in range(1, network.depth + 1):
            xi, one = f"xi{i}", jnp.ones((), network.gain.dtype)
            layers += (Layer(xi, network.sizes[i], source=Draw(one), level=0),)
            wires += (
                Projection(f"N{i}", xi, "activity", f"z{i}", "forward", OneToOne(self.size), level=i),
                Projection(f"P{i}", xi, "activity", f"z{i}", "noise", OneToOne(one), level=i),
            )
            if self.symmetric:
                opposite = Shared(f"N{i}", gain=-one)
                wires += (Projection(f"N{i}'", xi, "activity", f"z{i}'", "forward", opposite, level=i),)
        return Circuit(layers, wires, readout=f"z{network.depth}")
