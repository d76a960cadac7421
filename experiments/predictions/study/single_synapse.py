"""One plastic synapse between a chain of activity stages and a chain of error stages: the overlap law in isolation; and
the one sample that shows it best."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from dynamics.circuit import Circuit, Error, Given, Layer, Projection, TwoFactor
from dynamics.errors import PlasticodeError
from dynamics.network import Network
from experiments.predictions.references import REFERENCES
from experiments.tasks.contract import AbstractTask, Data, Kind
from rules.contract import AbstractRule


class One(AbstractTask):
    """One sample: the input is 1, and so is the target."""

    kind: ClassVar[Kind] = "regression"

    def load(self) -> Data:
        one = np.ones((1, 1), np.float32)
        return Data(one, one, one, one, self.kind)


class SingleSynapse(AbstractRule):
    """A synapse whose presynaptic signal has passed `pre_stages` and whose error `error_stages` filters of tau_prop.

    Equation        tau_plast W' = e_m r_k
                    tau_prop r_i' = -r_i + r_{i-1}, r_0 = x;  tau_prop e_i' = -e_i + e_{i-1}, e_0 = y - W r_k
    Discrete limit  W += eta (y - W x) x, the delta rule
    Closed form     for weak plasticity, box signals and a delay d: dynamics.theory.lagged_overlap
    Locality        local
    Shapes          a 1-1 network; tau_plast, tau_prop in seconds
    Errors          needs a target; only a network with one input, no hidden layer and one output fits
    Reference       bibtex: bacvanski2025continuous (arXiv:2510.18808)
    """

    reference: ClassVar[str] = REFERENCES["bacvanski2025continuous"]
    pre_stages: int = eqx.field(static=True, default=0)
    error_stages: int = eqx.field(static=True, default=1)

    def wire(self, network: Network) -> Circuit:
        if network.sizes != (1, 1) or self.pre_stages < 0 or self.error_stages < 1:
            raise PlasticodeError(
                f"rule 'SingleSynapse' with {self.pre_stages} and {self.error_stages} stages does not fit sizes "
                f"{list(network.sizes)}: it needs [1, 1], pre_stages >= 0, error_stages >= 1"
            )
        one = Given(jnp.ones((1, 1), network.gain.dtype))
        before = [f"r{i}" for i in range(1, self.pre_stages + 1)]
        after = [f"q{i}" for i in range(2, self.error_stages + 1)]
        chain, errors = ["z0", *before], ["z1", *after]
        relays = tuple(
            Projection(f"R{t}", s, "activity", t, "forward", one) for s, t in zip(chain[:-1], before, strict=True)
        ) + tuple(
            Projection(f"Q{t}", s, "error", t, "modulatory", one) for s, t in zip(errors[:-1], after, strict=True)
        )
        start = Given(jnp.zeros((1, 1), network.gain.dtype))
        synapse = Projection("W1", chain[-1], "activity", errors[-1], "forward", start, TwoFactor(Error()))
        stages = tuple(Layer(name, 1) for name in (*before, *after))
        layers = tuple(layer for layer in network.layers() if layer.role != "constant")
        return Circuit(layers + stages, (*relays, synapse))
