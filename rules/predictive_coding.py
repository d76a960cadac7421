"""Predictive coding: neurons settle where they explain the target and are explained from below, then synapses learn."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float

from dynamics.circuit import AbstractFactor, Circuit, Local, Projection, Shared, TwoFactor, Variable
from dynamics.local import Modulated
from dynamics.network import Network
from rules.contract import AbstractRule


class PredictiveCoding(AbstractRule):
    """Activities and weights both descend one energy, F = sum of |z_l - f(a_l)|^2 / 2 over hidden l, plus the loss.

    Equation        tau_prop z_l' = -z_l + f(a_l) + W_{l+1}^T e_{l+1} = -dF/dz_l for hidden l
                    tau_plast W_l' = e_l z_{l-1}^T = -dF/dW_l
                    e_l = f'(a_l)^T (z_l - f(a_l)), e_L = f'(a_L)^T c, c = target - prediction; at once, no filters
                    but that of z_L
    Fixed point     of the neurons: e_l = f'(a_l)^T W_{l+1}^T e_{l+1}, that of backpropagation but for activities that
                    themselves give in to errors
    Discrete limit  W_l += eta e_l z_{l-1}^T of the settled network, eta = T/tau_plast
    Locality        not local: the feedback matrix is the transpose of the forward one
    Shapes          W_l (n_l, n_{l-1}), e_l and z_l (n_l,); tau_plast in seconds
    Errors          needs a target, of either loss; `delays.error` makes the output's error late: a loop of gain |W|^2,
                    unstable where that is above 1 and the delay long. A constant `delays.hop` is refused
    Reference       bibtex: whittington2017approximation (doi:10.1162/NECO_a_00949)
    """

    reference: ClassVar[str] = (
        "@article{whittington2017approximation, title={An Approximation of the Error Backpropagation Algorithm in a "
        "Predictive Coding Network with Local Hebbian Synaptic Plasticity}, author={Whittington, James C. R. and "
        "Bogacz, Rafal}, journal={Neural Computation}, volume={29}, pages={1229--1262}, year={2017}, "
        "doi={10.1162/NECO_a_00949}}"
    )

    def wire(self, network: Network) -> Circuit:
        network.check_supervised()
        inferred, last = (Variable("activity", Inferred()),), network.depth
        layers = tuple(
            dataclasses.replace(layer, variables=inferred) if layer.role == "hidden" else layer
            for layer in network.layers()
        )
        forward = network.forward(TwoFactor(Residual()), output_law=TwoFactor(Modulated()))
        back = tuple(
            Projection(
                f"V{name[1:]}",
                f"z{t}",
                Modulated() if t == last else Residual(),
                f"z{s}",
                "above",
                Shared(name, transposed=True),
                level=t,
            )
            for s, t, name in network.backward_edges()
        )
        return Circuit(layers, forward + back)


class Residual(AbstractFactor):
    """f'(a)^T (z - f(a)): how far the activity is from what the layer below predicts, in the units of a."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.f.pulled_back(local.preactivation, local.activity - local.f(local.preactivation))


class Inferred(AbstractFactor):
    """f(a) + W^T e of the layers above."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.f(local.preactivation) + local.inputs["above"]
