"""Behavioural-timescale plasticity: an input and a plateau potential seconds apart are enough to change a synapse."""

from typing import ClassVar

import jax
from jaxtyping import Array, Float

from dynamics.circuit import AbstractFactor, Circuit, Gaussian, Local, Outer, Projection, Scaled, Trace, Value, Variable
from dynamics.network import Network
from rules.contract import AbstractRule, number, timescale


class BehaviouralTimescale(AbstractRule):
    """Plateaus, which errors that ask for more activity set off, write what the synapse remembers of its input.

    Equation        tau_plast W_l' = P_l F[z_{l-1}]^T - depression diag(P_l) W_l,  eligibility F' = -F + z
                    instruction P_l' = -P_l + max(0, e_l),  tau_prop e_l' = -e_l + f'(a_l) * (B_l e_L),  B' = 0
    Kernel          of an input that is s seconds before the plateau: exp(-s/eligibility), and exp(s/instruction) after
                    it, over (eligibility + instruction); the defaults are those that were measured in CA1
    Weights         a plateau moves W to F / depression: weak synapses that were active near it grow, strong ones
                    shrink. Simpler than published, where depression needs an eligibility too, and weights have a limit
    Discrete limit  W_l += eta (max(0, e_l) z_{l-1}^T - depression diag(max(0, e_l)) W_l), eta = T/tau_plast
    Locality        local
    Shapes          P_l (n_l,), B_l (n_l, n_L) ~ N(0, feedback_scale^2 / n_l); times in seconds
    Errors          needs a target: an unsupervised task is refused. `delays.error` is the delay of the plateau
    Reference       bibtex: milstein2021bidirectional (doi:10.7554/eLife.73046); kernel: bittner2017behavioral
                    (doi:10.1126/science.aan3846)
    """

    reference: ClassVar[str] = (
        "@article{milstein2021bidirectional, title={Bidirectional synaptic plasticity rapidly modifies hippocampal "
        "representations}, author={Milstein, Aaron D. and Li, Yiding and Bittner, Katie C. and Grienberger, Christine "
        "and Soltesz, Ivan and Magee, Jeffrey C. and Romani, Sandro}, journal={eLife}, volume={10}, pages={e73046}, "
        "year={2021}, doi={10.7554/eLife.73046}}"
    )
    eligibility: Float[Array, ""] = timescale(1.31, low=1e-6)
    instruction: Float[Array, ""] = timescale(0.69, low=1e-6)
    depression: Float[Array, ""] = number(0.1, low=0.0)
    feedback_scale: Float[Array, ""] = number(1.0)

    def wire(self, network: Network) -> Circuit:
        plateau = Variable("plateau", Plateau(), self.instruction)
        law = (Outer(Value("plateau"), trace=Trace("pre", self.eligibility)), Scaled(Depressing(self.depression)))
        random, last = Gaussian(self.feedback_scale, fan="target"), f"z{network.depth}"
        feedback = tuple(
            Projection(f"B{level}", last, "error", f"z{level}", "modulatory", random, level=level)
            for level in range(1, network.depth)
        )
        return Circuit(network.layers((plateau,)), network.forward(law) + feedback)


class Plateau(AbstractFactor):
    """max(0, e): a plateau potential where an error asks for more activity."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return jax.nn.relu(local.error)


class Depressing(AbstractFactor):
    """Minus a number times the trace of plateaus."""

    by: Float[Array, ""]

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return -self.by * local.values["plateau"]
