"""Structured knowledge accumulation: every layer lowers the entropy of its own units, forward only, without labels."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import AbstractFactor, Activity, Circuit, Local, TwoFactor, Value, Variable
from dynamics.errors import PlasticodeError
from dynamics.network import Network
from rules.contract import AbstractRule


class SKA(AbstractRule):
    """Structured knowledge accumulation: each layer descends the entropy of its own units.

    Equation        tau_plast W_l' = (a_l z_l (1 - z_l) + z_l - u_l) u_{l-1}^T / ln 2,  tau_prop u_l' = -u_l + z_l
                    z = sigmoid(a), a_l = W_l u_{l-1} + b_l; u_0 = z_0 is the input
    Discrete limit  W_l += eta a_l z_l (1 - z_l) z_{l-1}^T / ln 2, eta = T/tau_plast: -eta times the gradient of the
                    summed Shannon entropy of the layer's units, in bits, as u settles at z. The published update, in
                    which u is the activity one update ago, is `repeated`
    Locality        local
    Shapes          W_l (n_l, n_{l-1}), z_l and u_l (n_l,); tau_plast in seconds
    Errors          none, and no labels: accuracy says nothing about it. Activations other than sigmoid are refused
    Reference       bibtex: mahi2025structured (arXiv:2504.03214)
    """

    reference: ClassVar[str] = (
        "@article{mahi2025structured, title={Structured Knowledge Accumulation: The Principle of Entropic Least Action "
        "in Forward-Only Neural Learning}, author={Mahi, Bouarfa}, journal={arXiv:2504.03214}, year={2025}}"
    )
    activation: ClassVar[str] = "sigmoid"  # that it needs

    def wire(self, network: Network) -> Circuit:
        for key in ("activation", "output_activation"):
            if getattr(network, key) != self.activation and (network.depth > 1 or key == "output_activation"):
                raise PlasticodeError(
                    f"network.{key} = '{getattr(network, key)}' is not allowed for rule 'ska', which lowers the "
                    f"entropy of probabilities: it must be {self.activation}"
                )
        layers = network.layers((Variable("before", Activity()),))
        forward = network.forward(TwoFactor(Knowledge()))
        given = {layer.name for layer in layers if layer.given}
        return Circuit(
            layers, tuple(p if p.source in given else dataclasses.replace(p, carries=Value("before")) for p in forward)
        )


class Knowledge(AbstractFactor):
    """(a z (1 - z) + z - z before) / ln 2."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        z = local.activity
        return (local.preactivation * z * (1 - z) + z - local.values["before"]) / math.log(2)


def repeated(circuit: Circuit, duration: Float[Array, ""]) -> Circuit:
    """SKA as published, where each presentation, T = `duration` seconds, shows the same: u is the activity one
    presentation ago, and the difference z - u one of the same sample. Where samples change it is not."""

    def kept(v: Variable) -> Variable:
        return dataclasses.replace(v, timescale=jnp.asarray(duration), slow=True) if v.name == "before" else v

    layers = [dataclasses.replace(layer, variables=tuple(map(kept, layer.variables))) for layer in circuit.layers]
    return dataclasses.replace(circuit, layers=tuple(layers))
