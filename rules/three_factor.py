"""Three factors: noise times input leaves a trace at the synapse, and a reward that comes later decides what it is."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import (
    AbstractFactor,
    Activity,
    Circuit,
    Draw,
    Error,
    Given,
    Input,
    Layer,
    Local,
    OneToOne,
    Outer,
    Projection,
    Trace,
    TwoFactor,
    Variable,
)
from dynamics.errors import unknown
from dynamics.network import Network
from rules.contract import AbstractRule, number, timescale

READOUTS = ("reward", "delta")


class ThreeFactor(AbstractRule):
    """Reward-modulated learning with eligibility traces: one number for the whole network says how well it did.

    Equation        tau_plast W_l' = (r - rbar) E_l,  eligibility E_l' = -E_l + xi_l z_{l-1}^T / noise,  xi_l ~ N(0, 1)
                    tau_prop z_l' = -z_l + f(a_l + noise xi_l),
                    tau_prop r' = -r - |c|^2 / 2,  tau_prop c' = -c + y - z_L,  baseline rbar' = -rbar + r
                    xi_l is drawn anew for each presentation; r and rbar reach the synapses `reward_delay` late
    Discrete limit  W_l += eta (r - rbar) xi_l z_{l-1}^T / noise, eta = T/tau_plast, where on average over xi and for
                    weak noise it is gradient descent on |c|^2 / 2; rbar one Euler step per presentation
    Closed form     of the strength against the delay: experiments.predictions.traces.overlaps.traced_box
    Locality        local, but for r, which is the same everywhere
    Shapes          xi_l (n_l,), E_l as W_l; r, rbar one number; noise in the units of a_l; times in seconds.
                    `readout` "reward" learns all layers so, "delta" the output by its error e_L z_{L-1}^T
    Errors          needs a target: c is y - z, or y - softmax(z); `delays.error` makes it late too
    Reference       bibtex: fremaux2016neuromodulated (doi:10.3389/fncir.2015.00085)
    """

    reference: ClassVar[str] = (
        "@article{fremaux2016neuromodulated, title={Neuromodulated Spike-Timing-Dependent Plasticity, and Theory of "
        "Three-Factor Learning Rules}, author={Fr{\\'e}maux, Nicolas and Gerstner, Wulfram}, journal={Frontiers in "
        "Neural Circuits}, volume={9}, pages={85}, year={2016}, doi={10.3389/fncir.2015.00085}}"
    )
    noise: Float[Array, ""] = number(0.1, low=1e-9)
    eligibility: Float[Array, ""] = timescale(0.05, low=1e-6)
    reward_delay: Float[Array, ""] = timescale(0.0)
    baseline: Float[Array, ""] = timescale(1.0, low=1e-6)
    readout: str = eqx.field(static=True, default="reward")

    def wire(self, network: Network) -> Circuit:
        network.check_supervised()
        if self.readout not in READOUTS:
            raise unknown("rule.readout", self.readout, READOUTS)
        top, dtype = network.depth, network.gain.dtype
        law = Outer(Input("noise"), gate=Input("reward"), trace=Trace("product", self.eligibility))
        expected = Variable("expected", Activity(), self.baseline, slow=True)
        missed = (Variable("missed", Input("modulatory")),)
        layers = tuple(
            dataclasses.replace(layer, variables=missed) if layer.name == f"z{top}" else layer
            for layer in network.layers()
        )
        layers += (Layer("reward", 1, level=top, variables=expected),)
        to_reward = Given(jnp.ones((1, network.sizes[top]), dtype))
        wires = network.forward((law,), TwoFactor(Error()) if self.readout == "delta" else None)
        wires += (Projection("R", f"z{top}", Reward(), "reward", "forward", to_reward, level=top),)
        for i in range(1, top + (self.readout == "reward")):
            n, xi = network.sizes[i], f"xi{i}"
            layers += (Layer(xi, n, source=Draw(jnp.ones((), dtype)), level=0),)
            everywhere = Given(jnp.ones((n, 1), dtype))
            wires += (
                Projection(f"N{i}", xi, "activity", f"z{i}", "forward", OneToOne(self.noise), level=i),
                Projection(f"P{i}", xi, "activity", f"z{i}", "noise", OneToOne(1 / self.noise), level=i),
                Projection(
                    f"R{i}", "reward", Surprise(), f"z{i}", "reward", everywhere, level=i, lag=self.reward_delay
                ),
            )
        return Circuit(layers, wires)


class Reward(AbstractFactor):
    """-c^2 / 2, which the reward sums over the outputs."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return -0.5 * local.values["missed"] ** 2


class Surprise(AbstractFactor):
    """The reward less its running mean."""

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return local.activity - local.values["expected"]
