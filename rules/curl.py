"""Curl descent: some presynaptic neurons learn with the opposite sign, on top of any rule's credit."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Outer, Projection, Signed
from dynamics.errors import PlasticodeError
from dynamics.maps import AbstractMap
from dynamics.network import Network
from dynamics.timescales import at_level
from rules.contract import AbstractRule, number, wired_inside, with_products
from rules.gradient import SGD


def flipped(fraction: Float[Array, "*points"], neurons: int) -> Float[Array, "*points"]:
    """How many of the neurons are flipped: `fraction` of them, rounded, halves up (as exact as a float can tell)."""
    return jnp.floor(fraction * (neurons * (1 + 4 * jnp.finfo(fraction.dtype).eps)) + 0.5)


class Curl(AbstractRule):
    """Curl descent: the law of each forward matrix gets a diagonal D of signs on its presynaptic side.

    Equation        tau_plast W_l' = e_l (D_l z_{l-1})^T - (tau_plast/tau_dec) W_l, D_l = diag(+-1)
    Discrete limit  W_l += eta e_l (D_l z_{l-1})^T, eta = T/tau_plast, with `clamp` then rescaled to its initial
                    Frobenius norm; in continuous time `clamp` keeps the part of W' tangent to |W| = const
    Invariants      linear or relu, no clamp: Q_i = sum_j d1_j W1_ij^2 - d2_i w2_i^2 of every hidden unit i
    Locality        that of `credit`, the rule that brings the error to the layer
    Shapes          `flips`: fraction of presynaptic neurons with sign -1 (the first ones), one number or one per layer,
                    rounded to whole neurons, halves up: 0.05 of 10 flips 1 (`flipped`)
    Errors          those of `credit`
    Reference       bibtex: ninou2025curl (arXiv:2510.02765)
    """

    reference: ClassVar[str] = (
        "@inproceedings{ninou2025curl, title={Curl Descent: Non-Gradient Learning Dynamics with Sign-Diverse "
        "Plasticity}, author={Ninou, Hugo and Kadmon, Jonathan and Cayco-Gajic, N. Alex}, booktitle={Advances in "
        "Neural Information Processing Systems}, year={2025}, note={arXiv:2510.02765}}"
    )
    credit: AbstractRule = SGD()
    flips: Float[Array, "*layers"] = number(0.1, low=0.0, high=1.0)
    clamp: bool = eqx.field(static=True, default=False)

    def wire(self, network: Network) -> Circuit:
        if self.flips.shape not in ((), (network.depth,)):
            raise PlasticodeError(
                f"rule.flips has shape {self.flips.shape}: it must be one number, or a list of {network.depth}, one "
                "per layer after the input"
            )
        circuit = with_products(wired_inside(self.credit, network), "curl descent")
        return dataclasses.replace(circuit, projections=tuple(self._signed(p, circuit) for p in circuit.projections))

    @classmethod
    def remarks(cls, numbers: Mapping[str, np.ndarray], sizes: tuple[int, ...], dtype: str) -> list[str]:
        """Each fraction of a layer's neurons that is not the one that is flipped."""
        values, found = numbers["flips"], []
        columns = values if values.ndim == 2 else np.repeat(values[:, None], len(sizes) - 1, axis=1)
        for neurons, column in zip(sizes[:-1], columns.T, strict=True):
            for fraction in np.unique(column):
                count = int(flipped(jnp.asarray(fraction, dtype), neurons))
                if abs(count - fraction * neurons) > 1e-6 * neurons:
                    share = f"{count} of {neurons} neurons, {count / neurons:.3g} of them"
                    why = "as flips are whole neurons (halves are rounded up)"
                    found.append(f"rule.flips = {fraction:g} flips {share}, {why}")
        return found

    def _signed(self, p: Projection, circuit: Circuit) -> Projection:
        if not p.law or p.port != "forward" or circuit.layer(p.source).role == "constant":
            return p
        neurons = circuit.layer(p.source).size
        count = flipped(at_level(self.flips, p.level), neurons)
        sign = 1 - 2 * (jnp.arange(neurons, dtype=count.dtype) < count).astype(count.dtype)
        law = tuple(_with_sign(term, p, sign) if isinstance(term, Outer) else term for term in p.law)
        own = isinstance(p.matrix, AbstractMap)
        matrix = dataclasses.replace(p.matrix, holds_norm=self.clamp) if own else p.matrix
        return dataclasses.replace(p, law=law, matrix=matrix)


def _with_sign(term: Outer, p: Projection, sign: Float[Array, " sources"]) -> Outer:
    """The term with signs on its presynaptic side, on top of those that it may have (curl descent on curl descent)."""
    return dataclasses.replace(term, pre=Signed(p.carries if term.pre is None else term.pre, sign))
