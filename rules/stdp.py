"""Spike-timing-dependent plasticity in rates: what follows is potentiated, what comes before is depressed."""

from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float

from dynamics.circuit import Activity, Circuit, Error, Outer, Times, Trace, TwoFactor
from dynamics.errors import unknown
from dynamics.network import Network
from rules.contract import AbstractRule, number, timescale

READOUTS = ("stdp", "delta")


class STDP(AbstractRule):
    """Pair-based STDP of rates: each activity meets a trace of the other's past.

    Equation        tau_plast W_l' = potentiation z_l F+[z_{l-1}]^T - depression F-[z_l] z_{l-1}^T,  F a filter of unit
                    gain: potentiation_time F+' = -F+ + z, depression_time F-' = -F- + z
    Kernel          tau_plast <W'> = int K(s) <z_l(t + s) z_{l-1}(t)> ds, K(s) = potentiation exp(-s/tau+) / tau+ for
                    s > 0, -depression exp(s/tau-) / tau- for s < 0; the numbers are the areas of its two sides
    Discrete limit  W_l += eta (potentiation - depression) z_l z_{l-1}^T, eta = T/tau_plast: what settles has no order
    Locality        local
    Shapes          W_l (n_l, n_{l-1}), z_l (n_l,); potentiation_time tau+ and depression_time tau- in seconds
    Errors          none; `readout = "delta"` teaches the output layer by its error e_L z_{L-1}^T and needs a target
    Reference       bibtex: kempter1999hebbian (doi:10.1103/PhysRevE.59.4498)
    """

    reference: ClassVar[str] = (
        "@article{kempter1999hebbian, title={Hebbian learning and spiking neurons}, author={Kempter, Richard and "
        "Gerstner, Wulfram and van Hemmen, J. Leo}, journal={Physical Review E}, volume={59}, number={4}, "
        "pages={4498--4514}, year={1999}, doi={10.1103/PhysRevE.59.4498}}"
    )
    potentiation: Float[Array, ""] = number(1.0, low=0.0)
    depression: Float[Array, ""] = number(1.05, low=0.0)
    potentiation_time: Float[Array, ""] = timescale(0.02, low=1e-6)
    depression_time: Float[Array, ""] = timescale(0.02, low=1e-6)
    readout: str = eqx.field(static=True, default="stdp")

    def wire(self, network: Network) -> Circuit:
        if self.readout not in READOUTS:
            raise unknown("rule.readout", self.readout, READOUTS)
        law = (
            Outer(Times(self.potentiation, Activity()), trace=Trace("pre", self.potentiation_time)),
            Outer(Times(-self.depression, Activity()), trace=Trace("post", self.depression_time)),
        )
        output_law = TwoFactor(Error()) if self.readout == "delta" else None
        return Circuit(network.layers(), network.forward(law, output_law))
