"""SGD: the credit goes back through the transposed forward weights."""

from typing import ClassVar

from dynamics.circuit import Circuit, Error, TwoFactor
from dynamics.network import Network
from rules.contract import AbstractRule


class SGD(AbstractRule):
    """Stochastic gradient descent (backpropagation) as a circuit.

    Equation        tau_plast W_l' = e_l z_{l-1}^T,  tau_prop e_l' = -e_l + f'(a_l) * (W_{l+1}^T e_{l+1})
    Discrete limit  W_l += eta e_l z_{l-1}^T = -eta dLoss/dW_l, eta = T/tau_plast
    Locality        not local: the feedback matrix is the transpose of the forward one
    Shapes          W_l (n_l, n_{l-1}), e_l (n_l,), z_l (n_l,); tau_plast in seconds
    Errors          needs a target: an unsupervised task is refused
    Reference       bibtex: rumelhart1986learning (doi:10.1038/323533a0)
    """

    reference: ClassVar[str] = (
        "@article{rumelhart1986learning, title={Learning representations by back-propagating errors}, "
        "author={Rumelhart, David E. and Hinton, Geoffrey E. and Williams, Ronald J.}, journal={Nature}, "
        "volume={323}, pages={533--536}, year={1986}, doi={10.1038/323533a0}}"
    )

    def wire(self, network: Network) -> Circuit:
        return Circuit(network.layers(), network.forward(TwoFactor(Error())) + network.feedback())
