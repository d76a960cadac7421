"""Heterosynaptic learning: each pathway is modified by the other pathway's signal, through a feedback population."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import Activity, Circuit, Error, Gaussian, Given, Layer, Projection, TwoFactor
from dynamics.errors import PlasticodeError, unknown
from dynamics.network import Network
from rules.contract import AbstractRule, number


class Heterosynaptic(AbstractRule):
    """Heterosynaptic circuits: a population h_{l+1} = M e_{l+1} of any fixed wiring M carries the learning signal down.

    Equation        tau_plast W_l' = e_l z_{l-1}^T - (tau_plast/tau_dec) W_l
                    tau_plast V_{l+1}' = z_l h_{l+1}^T - (tau_plast/tau_dec) V_{l+1}
                    tau_prop e_l' = -e_l + f'(a_l) * (V_{l+1} h_{l+1}),  tau_prop h_{l+1}' = -h_{l+1} + M e_{l+1}
    Invariant       |V - W^T M^T| = const * exp(-t/tau_dec) where h is settled; M = I is KP
    Stationary      V = W^T M^T: the learning signal f' * W^T M^T M e is that of the error measured as |M e|^2
    Discrete limit  both matrices with eta = T/tau_plast and L2 coefficient tau_plast/tau_dec
    Locality        local
    Shapes          M (feedback_units, n_{l+1}): `wiring` "identity", or "random" ~ N(0, 1/feedback_units), so that
                    <M^T M> = I; V_{l+1} (n_l, feedback_units) ~ N(0, feedback_scale^2 / n_l); taus in seconds.
                    `feedback_units` = 0 takes n_{l+1}. Any other M: replace M2 .. ML in `Circuit.initial_weights`.
    Errors          needs a target; "identity" with other than n_{l+1} feedback units is refused
    Reference       bibtex: ziyin2025heterosynaptic (arXiv:2505.02248)
    """

    reference: ClassVar[str] = (
        "@article{ziyin2025heterosynaptic, title={Heterosynaptic Circuits Are Universal Gradient Machines}, "
        "author={Ziyin, Liu and Chuang, Isaac and Poggio, Tomaso}, journal={arXiv:2505.02248}, year={2025}}"
    )
    feedback_scale: Float[Array, ""] = number(1.0)
    wiring: str = eqx.field(static=True, default="random")
    feedback_units: int = eqx.field(static=True, default=0)

    def wire(self, network: Network) -> Circuit:
        if self.feedback_units < 0:
            raise PlasticodeError(f"rule.feedback_units = {self.feedback_units} is not allowed: it must be >= 0")
        layers, projections = network.layers(), network.forward(TwoFactor(Error()))
        for level in sorted({t for _, t, _ in network.backward_edges()}):
            units = self.feedback_units or network.sizes[level]
            layers += (Layer(f"h{level}", units, level=level),)
            wiring = self._wiring(units, network.sizes[level])
            projections += (Projection(f"M{level}", f"z{level}", "error", f"h{level}", "forward", wiring, level=level),)
        random, law = Gaussian(self.feedback_scale, fan="target"), TwoFactor(Activity(), traced="post")
        return Circuit(
            layers,
            projections
            + tuple(
                Projection(f"V{name[1:]}", f"h{t}", "activity", f"z{s}", "modulatory", random, law, level=t)
                for s, t, name in network.backward_edges()
            ),
        )

    def _wiring(self, units: int, size: int) -> Gaussian | Given:
        dtype = self.feedback_scale.dtype
        if self.wiring == "random":
            return Gaussian(jnp.ones((), dtype), fan="target")
        if self.wiring != "identity":
            raise unknown("rule.wiring", self.wiring, ("identity", "random"))
        if units != size:
            raise PlasticodeError(f"rule.feedback_units = {units} is not allowed: identity wiring needs {size} here")
        return Given(jnp.eye(size, dtype=dtype))
