"""Contrastive Hebbian learning: a free and a clamped copy of a network with weak feedback."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Input, OneToOne, Projection, Variable
from dynamics.network import Network
from rules.contract import AbstractRule, number
from rules.equilibrium_propagation import copy_of


class ContrastiveHebbian(AbstractRule):
    """Two copies of a recurrent network with feedback gamma W^T: one is free, the output of the other is at the target.

    Equation        tau_plast W_l' = gamma^(l-L) (z_l' z_{l-1}'^T - z_l z_{l-1}^T), primes: clamped
                    z_l = f(a_l + gamma W_{l+1}^T z_{l+1}) in both, z_L' = z_L + e_L,  tau_prop e_L' = -e_L + c
                    c = target - prediction: with the squared loss z_L' settles at the target
    Fixed point     of the neurons: W' is the update of backpropagation whose output error is c, + O(gamma)
    Discrete limit  W_l += eta times the same contrast of settled activities, eta = T/tau_plast
    Locality        not local: the copies share their weights, and feedback is the transpose; one copy would need two
                    phases
    Shapes          z_l, z_l' (n_l,), e_L (n_L,); `feedback` gamma, a number
    Errors          needs a target, of either loss; `delays.error` makes the clamp late
    Reference       bibtex: xie2003equivalence (doi:10.1162/089976603762552988)
    """

    reference: ClassVar[str] = (
        "@article{xie2003equivalence, title={Equivalence of Backpropagation and Contrastive Hebbian Learning in a "
        "Layered Network}, author={Xie, Xiaohui and Seung, H. Sebastian}, journal={Neural Computation}, volume={15}, "
        "pages={441--454}, year={2003}, doi={10.1162/089976603762552988}}"
    )
    feedback: Float[Array, ""] = number(0.1, low=1e-6)

    def wire(self, network: Network) -> Circuit:
        network.check_supervised()
        last, one = network.depth, jnp.ones((), network.gain.dtype)
        error = (Variable("error", Input("modulatory")),)
        free = copy_of(network, self.feedback, -one, variables=error)
        clamp = (Variable("activity", Input("clamp")),)
        clamped = copy_of(network, self.feedback, one, "'", role="hidden", variables=clamp)
        relays = tuple(
            Projection(name, f"z{last}", carries, f"z{last}'", "clamp", OneToOne(one), level=last)
            for name, carries in (("C", "activity"), ("D", "error"))
        )
        return Circuit(free[0] + clamped[0], (*free[1], *clamped[1], *relays), readout=f"z{last}")
