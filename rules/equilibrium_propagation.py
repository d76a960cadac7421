"""Equilibrium propagation: what nudging the outputs does to a settled network is the gradient of its loss.

The network is recurrent: every matrix also carries activities back, V_l = gamma W_l^T, and it settles at a minimum of

    E = sum_l gamma^l [Phi_l(z_l) - z_l^T (W_l z_{l-1} + b_l)],  Phi_l' = the inverse of f_l

that is z_l = f(a_l + V_{l+1} z_{l+1})

(a skip from s to t carries back gamma^(t-s) of its transpose). The output is nudged by beta times minus the slope of
the loss: z_L = f(a_L + beta c), c = target - prediction.
"""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import (
    AbstractFactor,
    Activity,
    Circuit,
    Given,
    Input,
    Layer,
    Local,
    Outer,
    Projection,
    Shared,
    Times,
    Variable,
    Wave,
)
from dynamics.network import Network
from rules.contract import AbstractRule, number, timescale

Copy = tuple[tuple[Layer, ...], tuple[Projection, ...]]


class EquilibriumPropagation(AbstractRule):
    """Two copies of a recurrent network with one set of weights, one of them nudged: their contrast is the gradient.

    Equation        tau_plast W_l' = gamma^(l-L) / beta * (z_l' z_{l-1}'^T - z_l z_{l-1}^T), primes: nudged by beta, the
                    others free; `symmetric`: the others nudged by -beta, and over 2 beta
    Fixed point     of the neurons: W' = -dLoss/dW of the settled network + O(beta), O(beta^2) where symmetric
    Discrete limit  W_l += eta times the same contrast of settled activities, eta = T/tau_plast
    Locality        not local: the copies share their weights, and feedback is the transpose; one copy would need two
                    phases
    Shapes          z_l, z_l' (n_l,); `nudge` beta and `feedback` gamma, numbers; gamma is 1 as published, for weights
                    that are small: a network settles well, at one point, where gamma |W_{l+1}|^2 is below 1
    Errors          needs a target, of either loss; `delays.error` makes the nudge late (where
                    `symmetric`, by steps only: two outputs have an error)
    Reference       bibtex: scellier2017equilibrium (doi:10.3389/fncom.2017.00024); symmetric: laborieux2021scaling
                    (doi:10.3389/fnins.2021.633674)
    """

    reference: ClassVar[str] = (
        "@article{scellier2017equilibrium, title={Equilibrium Propagation: Bridging the Gap between Energy-Based "
        "Models and Backpropagation}, author={Scellier, Benjamin and Bengio, Yoshua}, journal={Frontiers in "
        "Computational Neuroscience}, volume={11}, pages={24}, year={2017}, doi={10.3389/fncom.2017.00024}}"
    )
    nudge: Float[Array, ""] = number(0.1, low=1e-6)
    feedback: Float[Array, ""] = number(0.2, low=1e-6)
    symmetric: bool = eqx.field(static=True, default=False)

    def wire(self, network: Network) -> Circuit:
        network.check_supervised()
        rate = 1 / (2 * self.nudge if self.symmetric else self.nudge)
        other: dict[str, Any] = {"variables": nudged(-self.nudge)} if self.symmetric else {"role": "hidden"}
        first = copy_of(network, self.feedback, -rate, **other)
        second = copy_of(network, self.feedback, rate, "'", variables=nudged(self.nudge))
        return Circuit(first[0] + second[0], first[1] + second[1], readout=f"z{network.depth}")


class OscillatingEP(AbstractRule):
    """One copy, nudged by a sine of time, which also multiplies its Hebbian law: no phases, and no second copy.

    Equation        tau_plast W_l' = 2 gamma^(l-L) / b * s(t) z_l z_{l-1}^T,  z_L nudged by b s(t)
                    s = sin(2 pi t / period), t from the start of a presentation
    Fixed point     neurons quick against the period, averaged over whole periods: W' = -dLoss/dW + O(b^2)
    Discrete limit  none, nor a weight flow: waves are functions of time, which only the coupled regime has
    Locality        not local: feedback is the transpose
    Shapes          z_l (n_l,), s one number for all; `nudge` b and `feedback` gamma numbers, `period` in seconds: T
                    must be a whole number of periods, else a Hebbian term of the order (2 / b) period / T is left
    Errors          needs a target, of either loss; `delays.error` makes the nudge late
    Reference       bibtex: laborieux2022holomorphic (arXiv:2209.00530), whose complex oscillation is exact at any b
    """

    reference: ClassVar[str] = (
        "@inproceedings{laborieux2022holomorphic, title={Holomorphic Equilibrium Propagation Computes Exact Gradients "
        "Through Finite Size Oscillations}, author={Laborieux, Axel and Zenke, Friedemann}, booktitle={Advances in "
        "Neural Information Processing Systems}, year={2022}, note={arXiv:2209.00530}}"
    )
    nudge: Float[Array, ""] = number(0.2, low=1e-6)
    feedback: Float[Array, ""] = number(0.2, low=1e-6)
    period: Float[Array, ""] = timescale(0.05, low=1e-9)

    def wire(self, network: Network) -> Circuit:
        network.check_supervised()
        output = Variable("activity", Nudged(self.nudge, by="phase"))
        layers, wires = copy_of(network, self.feedback, 2 / self.nudge, gate=Input("phase"), variables=(output,))
        phase = Layer("phase", 1, source=Wave(Sine(self.period)), level=0)
        dtype = network.gain.dtype
        shown = tuple(
            Projection(
                f"P{i}", "phase", "activity", f"z{i}", "phase", Given(jnp.ones((network.sizes[i], 1), dtype)), level=i
            )
            for i in range(1, network.depth + 1)
        )
        return Circuit((*layers, phase), wires + shown)


class Nudged(AbstractFactor):
    """f(a + beta c), times what arrives at the port `by` where there is one; c = target - prediction."""

    beta: Float[Array, ""]
    by: str = eqx.field(static=True, default="")

    def __call__(self, local: Local) -> Float[Array, " size"]:
        beta = self.beta * local.inputs[self.by] if self.by else self.beta
        return local.f(local.preactivation + beta * local.inputs["modulatory"])


class Sine(eqx.Module):
    """sin(2 pi t / period), for one neuron."""

    period: Float[Array, ""]

    def __call__(self, t: Float[Array, ""]) -> Float[Array, " 1"]:
        return jnp.sin(2 * jnp.pi * t / self.period)[None]


def nudged(beta: Float[Array, ""]) -> tuple[Variable, ...]:
    """What the output neurons of a copy have."""
    return (Variable("activity", Nudged(beta)),)


def copy_of(
    network: Network,
    feedback: Float[Array, ""],
    rate: Float[Array, ""],
    mark: str = "",
    gate: AbstractFactor | None = None,
    **output: Any,
) -> Copy:
    """Layers and projections of a recurrent copy, whose law is rate * gamma^(l-L) * gate * z_l z_{l-1}^T.

    Names end in `mark`; a marked copy shares inputs and weights with the one that is not. `output` replaces fields of
    the output layer.
    """
    layers, wires, last = [], [], network.depth
    for layer in network.layers():
        layer = dataclasses.replace(layer, **output) if layer.name == f"z{last}" else layer
        if not (layer.given and mark and layer.name in ("z0", "one")):
            layers.append(dataclasses.replace(layer, name=layer.name + mark))
    for p in network.forward(()):
        source = p.source if p.source in ("z0", "one") else p.source + mark
        law = Outer(Times(rate * feedback ** (p.level - last), Activity()), gate=gate)
        own = {"name": p.name + mark, "source": source, "target": p.target + mark, "law": law}
        wires.append(dataclasses.replace(p, **own, matrix=Shared(p.name) if mark else p.matrix))
    for s, t, name in network.backward_edges():
        back = Shared(name, transposed=True, gain=feedback ** (t - s))
        ends = f"z{t}{mark}", "activity", f"z{s}{mark}"
        wires.append(Projection(f"V{name[1:]}{mark}", *ends, "forward", back, level=t))
    return tuple(layers), tuple(wires)
