"""Hebbian rules: the law uses the activities at both ends and no error. Plain, anti-Hebbian, Oja and BCM."""

from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float

from dynamics.circuit import AbstractFactor, Activity, Circuit, Error, Law, Local, Negative, TwoFactor, Variable
from dynamics.errors import unknown
from dynamics.network import Network
from rules.contract import AbstractRule, timescale

READOUTS = ("hebbian", "delta")


class Hebbian(AbstractRule):
    """Plain Hebbian learning.

    Equation        tau_plast W_l' = z_l z_{l-1}^T - (tau_plast/tau_dec) W_l
    Discrete limit  W_l += eta z_l z_{l-1}^T, eta = T/tau_plast. Unstable without decay or a saturating activation
    Locality        local
    Shapes          W_l (n_l, n_{l-1}), z_l (n_l,); tau_plast in seconds
    Errors          none; `readout = "delta"` teaches the output layer by its error e_L z_{L-1}^T and needs a target
    Reference       bibtex: hebb1949organization
    """

    reference: ClassVar[str] = (
        "@book{hebb1949organization, title={The Organization of Behavior}, author={Hebb, Donald O.}, "
        "publisher={Wiley}, year={1949}}"
    )
    readout: str = eqx.field(static=True, default="hebbian")

    def wire(self, network: Network) -> Circuit:
        return _unsupervised(network, TwoFactor(Activity()), self.readout)


class AntiHebbian(AbstractRule):
    """Anti-Hebbian learning: the Hebbian law with the opposite sign.

    Equation        tau_plast W_l' = -z_l z_{l-1}^T - (tau_plast/tau_dec) W_l
    Discrete limit  W_l -= eta z_l z_{l-1}^T, eta = T/tau_plast
    Locality        local
    Shapes          W_l (n_l, n_{l-1}), z_l (n_l,); tau_plast in seconds
    Errors          none; `readout = "delta"` needs a target
    Reference       bibtex: foldiak1990forming (doi:10.1007/BF02331346)
    """

    reference: ClassVar[str] = (
        "@article{foldiak1990forming, title={Forming sparse representations by local anti-Hebbian learning}, "
        "author={F{\\\"o}ldi{\\'a}k, Peter}, journal={Biological Cybernetics}, volume={64}, pages={165--170}, "
        "year={1990}, doi={10.1007/BF02331346}}"
    )
    readout: str = eqx.field(static=True, default="hebbian")

    def wire(self, network: Network) -> Circuit:
        return _unsupervised(network, TwoFactor(Negative(Activity())), self.readout)


class Oja(AbstractRule):
    """Oja's rule: Hebbian learning with a decay z^2 of each row, which holds the row at unit norm.

    Equation        tau_plast W_l' = z_l z_{l-1}^T - diag(z_l^2) W_l
    Discrete limit  W_l += eta (z_l z_{l-1}^T - diag(z_l^2) W_l), eta = T/tau_plast
    Fixed point     linear units, no biases: every row is the leading unit eigenvector of <z_{l-1} z_{l-1}^T> up to sign
    Locality        local
    Shapes          W_l (n_l, n_{l-1}), z_l (n_l,); tau_plast in seconds
    Errors          none; `readout = "delta"` needs a target
    Reference       bibtex: oja1982simplified (doi:10.1007/BF00275687)
    """

    reference: ClassVar[str] = (
        "@article{oja1982simplified, title={A simplified neuron model as a principal component analyzer}, "
        "author={Oja, Erkki}, journal={Journal of Mathematical Biology}, volume={15}, pages={267--273}, year={1982}, "
        "doi={10.1007/BF00275687}}"
    )
    readout: str = eqx.field(static=True, default="hebbian")

    def wire(self, network: Network) -> Circuit:
        return _unsupervised(network, TwoFactor(Activity(), row_decay=SquaredActivity()), self.readout)


class BCM(AbstractRule):
    """Bienenstock-Cooper-Munro: potentiation above a sliding threshold theta, depression below it.

    Equation        tau_plast W_l' = z_l (z_l - theta_l) z_{l-1}^T - (tau_plast/tau_dec) W_l
                    threshold_timescale theta_l' = -theta_l + z_l^2
    Discrete limit  W_l += eta z_l (z_l - theta_l) z_{l-1}^T, eta = T/tau_plast; theta_l one Euler step per presentation
    Locality        local
    Shapes          W_l (n_l, n_{l-1}), z_l and theta_l (n_l,); threshold_timescale in seconds, well below tau_plast
    Errors          none; `readout = "delta"` needs a target
    Reference       bibtex: bienenstock1982theory (doi:10.1523/JNEUROSCI.02-01-00032.1982)
    """

    reference: ClassVar[str] = (
        "@article{bienenstock1982theory, title={Theory for the development of neuron selectivity}, "
        "author={Bienenstock, Elie L. and Cooper, Leon N. and Munro, Paul W.}, journal={Journal of Neuroscience}, "
        "volume={2}, pages={32--48}, year={1982}, doi={10.1523/JNEUROSCI.02-01-00032.1982}}"
    )
    threshold_timescale: Float[Array, ""] = timescale(0.5, low=1e-6)
    readout: str = eqx.field(static=True, default="hebbian")

    def wire(self, network: Network) -> Circuit:
        threshold = Variable("threshold", SquaredActivity(), self.threshold_timescale, slow=True)
        return _unsupervised(network, TwoFactor(AboveThreshold()), self.readout, (threshold,))


class SquaredActivity(AbstractFactor):
    """z^2."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.activity**2


class AboveThreshold(AbstractFactor):
    """m = z (z - theta)."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.activity * (local.activity - local.values["threshold"])


def _unsupervised(network: Network, law: Law, readout: str, variables: tuple[Variable, ...] = ()) -> Circuit:
    """A circuit without feedback: `law` on every forward projection, the output layer's by `readout`."""
    if readout not in READOUTS:
        raise unknown("rule.readout", readout, READOUTS)
    output_law = TwoFactor(Error()) if readout == "delta" else None
    return Circuit(network.layers(variables), network.forward(law, output_law))
