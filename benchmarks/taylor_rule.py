"""A rule whose law is a Taylor series, for benchmarks.published_task."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import (
    AbstractFactor,
    Activity,
    Circuit,
    Gaussian,
    Given,
    Layer,
    Local,
    Outer,
    Projection,
    Scaled,
    Shared,
)
from dynamics.network import Network
from rules.contract import AbstractRule, number

ORDER = 3  # powers 0, 1 and 2


def coefficient(x: int, r: int, w: int) -> str:
    """What the coefficient of x^x r^r w^w is called."""
    return f"x{x}r{r}w{w}"


class Taylor(AbstractRule):
    """The first matrix learns by a polynomial of what its synapses know, and a global reward; the second is fixed.

    Equation        tau_plast W1_ij' = g sum_abc theta_abc x_j^a r^b W1_ij^c, a and b up to 2, c up to 1
    Discrete limit  W1_ij += eta times the sum, eta = T/tau_plast
    Locality        local, but for g and r, which are the same everywhere
    Shapes          targets (2,): g, 1 where the presentation teaches and else 0, and r. The first output is `gain`
                    times the mean of the hidden layer, the second is 0
    Errors          of targets other than two, as matrices do not fit
    Reference       bibtex: mehta2024model
    """

    reference: ClassVar[str] = (
        "@inproceedings{mehta2024model, title={Model-based inference of synaptic plasticity rules}, "
        "author={Mehta, Yash and others}, booktitle={Advances in Neural Information Processing Systems}, year={2024}}"
    )
    gain: Float[Array, ""] = number(5.0)
    x0r0w0: Float[Array, ""] = number(0.0)
    x0r0w1: Float[Array, ""] = number(0.0)
    x0r1w0: Float[Array, ""] = number(0.0)
    x0r1w1: Float[Array, ""] = number(0.0)
    x0r2w0: Float[Array, ""] = number(0.0)
    x0r2w1: Float[Array, ""] = number(0.0)
    x1r0w0: Float[Array, ""] = number(0.0)
    x1r0w1: Float[Array, ""] = number(0.0)
    x1r1w0: Float[Array, ""] = number(1.0)
    x1r1w1: Float[Array, ""] = number(0.0)
    x1r2w0: Float[Array, ""] = number(0.0)
    x1r2w1: Float[Array, ""] = number(0.0)
    x2r0w0: Float[Array, ""] = number(0.0)
    x2r0w1: Float[Array, ""] = number(0.0)
    x2r1w0: Float[Array, ""] = number(0.0)
    x2r1w1: Float[Array, ""] = number(0.0)
    x2r2w0: Float[Array, ""] = number(0.0)
    x2r2w1: Float[Array, ""] = number(0.0)

    def wire(self, network: Network) -> Circuit:
        n, hidden, _ = network.sizes
        table = [[[getattr(self, coefficient(x, r, w)) for r in range(ORDER)] for x in range(ORDER)] for w in range(2)]
        theta = jnp.stack([jnp.stack([jnp.stack(row) for row in plane]) for plane in table])  # w, x, r
        dtype = network.gain.dtype
        constant = tuple(Outer(Rewarded(theta[0, x]), pre=Power(x)) for x in range(ORDER))
        readout = jnp.zeros((2, hidden), dtype).at[0].set(self.gain / hidden)
        wires = [
            Projection("W1", "z0", "activity", "z1", "forward", Gaussian(network.gain), constant),
            Projection("W2", "z1", "activity", "z2", "forward", Given(readout), level=2),
            # The law of the same synapses seen from below, where x is local: their columns grow by what is linear in w.
            Projection("back", "z1", "activity", "z0", "unused", Shared("W1", True), (Scaled(Series(theta[1])),)),
        ]
        for target, size in (("z0", n), ("z1", hidden)):
            for port, column in (("gate", 0), ("reward", 1)):
                everywhere = Given(jnp.zeros((size, 2), dtype).at[:, column].set(1))
                wires.append(Projection(f"{port}_{target}", "told", "activity", target, port, everywhere))
        layers = (*(one for one in network.layers() if one.name != "one"), Layer("told", 2, role="target", level=0))
        return Circuit(layers, tuple(wires))


class Power(AbstractFactor):
    """x to a power."""

    exponent: int = eqx.field(static=True)

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return Activity()(local) ** self.exponent


class Rewarded(AbstractFactor):
    """g times a polynomial of the reward."""

    theta: Float[Array, " 3"]

    def __call__(self, local: Local) -> Float[Array, " size"]:
        r = local.inputs["reward"]
        return local.inputs["gate"] * sum(self.theta[i] * r**i for i in range(ORDER))


class Series(AbstractFactor):
    """g times a polynomial of the activity and the reward."""

    theta: Float[Array, "3 3"]

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return jnp.stack([Rewarded(self.theta[i])(local) * local.activity**i for i in range(ORDER)]).sum(0)
