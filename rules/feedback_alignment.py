"""Feedback alignment: fixed random feedback, layer by layer (FA) or from the output to every layer (DFA)."""

from typing import ClassVar

from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Error, Gaussian, Projection, TwoFactor
from dynamics.network import Network
from rules.contract import AbstractRule, number


class FA(AbstractRule):
    """Feedback alignment: the error goes back through a fixed random matrix.

    Equation        tau_plast W_l' = e_l z_{l-1}^T,  tau_prop e_l' = -e_l + f'(a_l) * (V_{l+1} e_{l+1}),  V' = 0
    Discrete limit  W_l += eta e_l z_{l-1}^T, eta = T/tau_plast; with V = W^T it is SGD
    Locality        local
    Shapes          V_{l+1} (n_l, n_{l+1}) ~ N(0, feedback_scale^2 / n_l); tau_plast in seconds
    Errors          needs a target: an unsupervised task is refused
    Reference       bibtex: lillicrap2016random (doi:10.1038/ncomms13276)
    """

    reference: ClassVar[str] = (
        "@article{lillicrap2016random, title={Random synaptic feedback weights support error backpropagation for deep "
        "learning}, author={Lillicrap, Timothy P. and Cownden, Daniel and Tweed, Douglas B. and Akerman, Colin J.}, "
        "journal={Nature Communications}, volume={7}, pages={13276}, year={2016}, doi={10.1038/ncomms13276}}"
    )
    feedback_scale: Float[Array, ""] = number(1.0)

    def wire(self, network: Network) -> Circuit:
        feedback = network.feedback(Gaussian(self.feedback_scale, fan="target"))
        return Circuit(network.layers(), network.forward(TwoFactor(Error())) + feedback)


class DFA(AbstractRule):
    """Direct feedback alignment: the output error goes straight to every hidden layer through a fixed random matrix.

    Equation        tau_plast W_l' = e_l z_{l-1}^T,  tau_prop e_l' = -e_l + f'(a_l) * (B_l e_L),  B' = 0
    Discrete limit  W_l += eta e_l z_{l-1}^T, eta = T/tau_plast
    Locality        local
    Shapes          B_l (n_l, n_L) ~ N(0, feedback_scale^2 / n_l); tau_plast in seconds
    Errors          needs a target: an unsupervised task is refused
    Reference       bibtex: nokland2016direct (arXiv:1609.01596)
    """

    reference: ClassVar[str] = (
        "@inproceedings{nokland2016direct, title={Direct Feedback Alignment Provides Learning in Deep Neural "
        "Networks}, author={N{\\o}kland, Arild}, booktitle={Advances in Neural Information Processing Systems}, "
        "year={2016}}"
    )
    feedback_scale: Float[Array, ""] = number(1.0)

    def wire(self, network: Network) -> Circuit:
        random, last = Gaussian(self.feedback_scale, fan="target"), f"z{network.depth}"
        credit = tuple(
            Projection(f"B{level}", last, "error", f"z{level}", "modulatory", random, level=level)
            for level in range(1, network.depth)
        )
        return Circuit(network.layers(), network.forward(TwoFactor(Error())) + credit)
