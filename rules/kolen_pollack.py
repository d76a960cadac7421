"""Kolen-Pollack: the feedback matrix learns by the mirrored law and aligns with the forward one."""

from typing import ClassVar

from jaxtyping import Array, Float

from dynamics.circuit import Activity, Circuit, Error, Gaussian, TwoFactor
from dynamics.network import Network
from rules.contract import AbstractRule, number


class KP(AbstractRule):
    """Kolen-Pollack learning: feedback weights get the transposed update of their forward partners.

    Equation        tau_plast W_l' = e_l z_{l-1}^T - (tau_plast/tau_dec) W_l
                    tau_plast V_{l+1}' = z_l e_{l+1}^T - (tau_plast/tau_dec) V_{l+1}
    Discrete limit  both matrices with eta = T/tau_plast and L2 coefficient tau_plast/tau_dec
    Invariant       |V_{l+1} - W_{l+1}^T| = const * exp(-t/tau_dec), exactly, where no lag separates the two synapses
    Locality        local
    Shapes          V_{l+1} (n_l, n_{l+1}) ~ N(0, feedback_scale^2 / n_l); tau_plast, tau_dec in seconds
    Errors          needs a target: an unsupervised task is refused
    Reference       bibtex: kolen1994backpropagation (doi:10.1109/ICNN.1994.374486), akrout2019deep (arXiv:1904.05391)
    """

    reference: ClassVar[str] = (
        "@inproceedings{kolen1994backpropagation, title={Backpropagation without weight transport}, "
        "author={Kolen, John F. and Pollack, Jordan B.}, booktitle={IEEE International Conference on Neural Networks}, "
        "volume={3}, pages={1375--1380}, year={1994}, doi={10.1109/ICNN.1994.374486}}"
    )
    feedback_scale: Float[Array, ""] = number(1.0)

    def wire(self, network: Network) -> Circuit:
        mirrored = TwoFactor(Activity(), traced="post")
        feedback = network.feedback(Gaussian(self.feedback_scale, fan="target"), mirrored)
        return Circuit(network.layers(), network.forward(TwoFactor(Error())) + feedback)
