"""e-prop: recurrent layers that learn online from traces at each synapse and a learning signal from the output."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import (
    AbstractFactor,
    Circuit,
    Gaussian,
    Input,
    Layer,
    Local,
    Masked,
    Outer,
    Projection,
    Shared,
    Trace,
    Value,
    Variable,
)
from dynamics.errors import unknown
from dynamics.network import Network
from rules.contract import AbstractRule, number, timescale

FEEDBACKS = ("random", "symmetric")


class EProp(AbstractRule):
    """Eligibility propagation: the part of backpropagation through time that each synapse can compute online.

    Equation        tau_plast W_l' = diag(L_l) E_l, and so for R_l with z_l in place of z_{l-1};
                    L_l = B_l (f'(a_L) * (y - z_L)),
                    trace E_l' = -E_l + f'(u_l) F[z_{l-1}]^T,  trace F' = -F + z
                    tau_prop u_l' = -u_l + W_l z_{l-1} + R_l z_l + b_l,  z_l = f(u_l): neurons filter before they fire
                    tau_plast W_L' = f'(a_L) * (y - z_L) F[z_{L-1}]^T,  tau_prop z_L' = -z_L + f(W_L z_{L-1} + b_L)
    Discrete limit  W_l += eta (f'(u_l) * L_l) z_{l-1}^T, R_l += eta (f'(u_l) * L_l) z_l^T at the fixed point of the
                    recurrent layer, eta = T/tau_plast: direct feedback alignment, without what goes round the loop
    Gradient        with trace = tau_prop, symmetric feedback, a linear output, one hidden layer and R = 0 it is that of
                    int |y - z_L|^2 dt / 2 through time; R leaves out what goes through other neurons
    Locality        local; with `feedback` "symmetric" not
    Shapes          R_l (n_l, n_l) ~ N(0, recurrent_scale^2 / n_l), no neuron drives itself; E as its matrix; trace in
                    seconds; B_l (n_l, n_L) ~ N(0, feedback_scale^2 / n_l), or "symmetric": W_L^T where W_L starts
    Errors          needs a target; `delays.error` is the delay of the learning signal; a constant `delays.hop` is
                    refused
    Reference       bibtex: bellec2020solution (doi:10.1038/s41467-020-17236-y)
    """

    reference: ClassVar[str] = (
        "@article{bellec2020solution, title={A solution to the learning dilemma for recurrent networks of spiking "
        "neurons}, author={Bellec, Guillaume and Scherr, Franz and Subramoney, Anand and Hajek, Elias and Salaj, "
        "Darjan and Legenstein, Robert and Maass, Wolfgang}, journal={Nature Communications}, volume={11}, "
        "pages={3625}, year={2020}, doi={10.1038/s41467-020-17236-y}}"
    )
    trace: Float[Array, ""] = timescale(0.002, low=1e-6)
    recurrent_scale: Float[Array, ""] = number(0.5)
    feedback_scale: Float[Array, ""] = number(1.0)
    feedback: str = eqx.field(static=True, default="random")

    def wire(self, network: Network) -> Circuit:
        if self.feedback not in FEEDBACKS:
            raise unknown("rule.feedback", self.feedback, FEEDBACKS)
        product = Trace("product", self.trace)
        law = Outer(Slope(), pre=Value("trace"), gate=Input("learning"), trace=product)
        forward = network.forward((law,), (Outer(Drive(), pre=Value("trace")),))
        hidden = {f"z{i}" for i in range(1, network.depth)}
        wires = [dataclasses.replace(p, carries=Fired()) if p.source in hidden else p for p in forward]
        for i in range(1, network.depth):
            z, n = f"z{i}", network.sizes[i]
            apart = Masked(Gaussian(self.recurrent_scale), ~np.eye(n, dtype=bool))
            wires.append(Projection(f"R{i}", z, Fired(), z, "forward", apart, (law,), level=i))
            wires.append(self._signal(i, network))
        return Circuit(tuple(self._layer(layer, network.depth) for layer in network.layers()), tuple(wires))

    def _layer(self, layer: Layer, depth: int) -> Layer:
        """With a trace of what it passes on; hidden neurons filter first."""
        own = (Variable("trace", Fired(), self.trace),)
        if layer.level in range(1, depth):
            own += (Variable("activity", Input("forward")),)
        return layer if layer.level == depth else dataclasses.replace(layer, variables=own)

    def _signal(self, level: int, network: Network) -> Projection:
        """L_l: through the transpose of the matrix to the output, where there is one, or a random one."""
        last = network.depth
        direct = {source: name for source, target, name in network.edges() if target == last}
        tied = self.feedback == "symmetric" and level in direct
        matrix = Shared(direct[level], transposed=True) if tied else Gaussian(self.feedback_scale, fan="target")
        return Projection(f"B{level}", f"z{last}", Drive(), f"z{level}", "learning", matrix, level=level)


class Fired(AbstractFactor):
    """f(u): the rate of a neuron that filters before it fires; of what is given, itself."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.f(local.activity)


class Slope(AbstractFactor):
    """f'(u)."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.f.pulled_back(local.activity, jnp.ones_like(local.activity))


class Drive(AbstractFactor):
    """f'(a) * (target - prediction) of the output, as it is now."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.drives["error"]
