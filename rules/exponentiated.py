"""Exponentiated gradient: synapses whose signs never flip, on top of any rule's credit."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dynamics.circuit import Circuit, Dense, Multiplicative, Projection, Shared
from dynamics.errors import PlasticodeError
from dynamics.maps import AbstractMatrix, Start
from dynamics.network import Network
from dynamics.timescales import at_level
from rules.contract import AbstractRule, number, wired_inside
from rules.curl import flipped
from rules.gradient import SGD


class OneSign(AbstractMatrix):
    """A matrix whose columns, at the start, have one sign each: those of the presynaptic neurons."""

    start: Start
    sign: Float[Array, " sources"]

    def initial(self, key: PRNGKeyArray, targets: int, sources: int) -> Float[Array, "targets sources"]:
        return jnp.abs(self.start(key, targets, sources)) * self.sign[None]


class Exponentiated(AbstractRule):
    """Exponentiated gradient: each weight learns in proportion to its own size, so that it keeps its sign.

    Equation        tau_plast W_l' = |W_l| * (e_l z_{l-1}^T) - (tau_plast/tau_dec) W_l, elementwise, and so for all
                    terms of a law, decays and pulls too; biases and feedback learn as `credit` has it
    Discrete limit  W_l <- W_l * exp(eta sign(W_l) * e_l z_{l-1}^T), eta = T/tau_plast: no step is too large for a sign
    Invariants      the sign of every weight; with `dale` that of all weights that leave a neuron. Zero stays zero. A
                    flow of W = u^2 / 4 that follows the Euclidean gradient in u
    Locality        that of `credit`, the rule that brings the error to the layer
    Shapes          `excitatory`: with `dale`, the fraction of presynaptic neurons whose weights are positive (the first
                    ones), one number or one per layer, rounded to whole neurons, halves up; the others are inhibitory.
                    The sizes of weights are those that the network draws
    Errors          those of `credit`
    Reference       bibtex: kivinen1997exponentiated (doi:10.1006/inco.1996.2612); with Dale's law:
                    cornford2024brain (doi:10.1101/2024.10.25.620272)
    """

    reference: ClassVar[str] = (
        "@article{kivinen1997exponentiated, title={Exponentiated Gradient versus Gradient Descent for Linear "
        "Predictors}, author={Kivinen, Jyrki and Warmuth, Manfred K.}, journal={Information and Computation}, "
        "volume={132}, number={1}, pages={1--63}, year={1997}, doi={10.1006/inco.1996.2612}}"
    )
    credit: AbstractRule = SGD()
    dale: bool = eqx.field(static=True, default=False)
    excitatory: Float[Array, "*layers"] = number(0.8, low=0.0, high=1.0)

    def wire(self, network: Network) -> Circuit:
        if self.excitatory.shape not in ((), (network.depth,)):
            raise PlasticodeError(
                f"rule.excitatory has shape {self.excitatory.shape}: it must be one number, or a list of "
                f"{network.depth}, one per layer before the output"
            )
        circuit = wired_inside(self.credit, network)
        projections = tuple(self._mirrored(p, circuit) for p in circuit.projections)
        return dataclasses.replace(circuit, projections=projections)

    def _mirrored(self, p: Projection, circuit: Circuit) -> Projection:
        source, own = circuit.layer(p.source), p.matrix
        if p.port != "forward" or source.role == "constant" or isinstance(own, Shared) or not circuit.terms_of(p.name):
            return p
        if not self.dale:
            return dataclasses.replace(p, matrix=dataclasses.replace(own, mirror=Multiplicative()))
        if not isinstance(own, Dense | OneSign):
            raise PlasticodeError(
                f"rule.dale gives the weights that leave a neuron one sign, but '{p.name}' has a {type(own).__name__}: "
                "it must be a dense matrix"
            )
        count = flipped(at_level(self.excitatory, source.level + 1), source.size)
        sign = 2 * (jnp.arange(source.size, dtype=count.dtype) < count).astype(count.dtype) - 1
        how = {"mirror": Multiplicative(), "decays": own.decays, "holds_norm": own.holds_norm}
        return dataclasses.replace(p, matrix=OneSign(own.start, sign, **how))
