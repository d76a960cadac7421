"""Coupled replicas: several copies of a network learn at once and pull each other's weights together."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Constant, Layer, Projection, Scaled, Shared
from dynamics.errors import PlasticodeError, unknown
from dynamics.instruments import output_layer
from dynamics.laws import Term
from dynamics.network import Network
from rules.contract import AbstractRule, number, wired_inside
from rules.gradient import SGD

GRAPHS = ("complete", "ring", "star")


def couplings(graph: str, copies: int) -> np.ndarray:
    """A_ij: 1/n in the complete graph, where every copy is pulled to the mean; 1 between neighbours otherwise."""
    if graph == "complete":
        return (np.ones((copies, copies)) - np.eye(copies)) / copies
    linked = np.zeros((copies, copies))
    for i in range(1, copies):
        linked[i, 0 if graph == "star" else i - 1] = 1
    if graph == "ring":
        linked[0, -1] = 1
    return np.maximum(linked, linked.T)


class Replicas(AbstractRule):
    """n copies of a network with other initial weights, fed the same samples; all weights are coupled.

    Equation        tau_plast W_i' = (law of `credit` in copy i) + coupling * sum_j A_ij (W_j - W_i), and so for every
                    plastic matrix
    Discrete limit  W_i += eta (...), eta = T/tau_plast. Copies go on pulling in gaps, which updates do not have
    Invariants      on a quadratic loss of Hessian eigenvalues lambda the mean of all copies learns as one alone, with
                    noise of its own in every copy of 1/n its variance; disagreements, modes of the graph with Laplacian
                    eigenvalues mu_k, die at the rates (lambda + coupling mu_k) / tau_plast
    Locality        not local: a synapse knows the same synapse of other copies
    Shapes          copy 0 has the names of a network alone, copy i those with a mark (z1~1, W1~1); inputs are common.
                    graph "complete": A = 1/n, mu_k = 1; "ring": mu_k = 2 - 2 cos(2 pi k/n); "star", round copy 0:
                    mu_k = 1 (n - 2 times) and n
    Errors          those of `credit`; one whose plastic maps are no plain matrices, or keep signs (exponentiated
                    gradient) or norms (curl with `clamp`), is refused: such a rule goes on top, and then its law has
                    the pulls too: under exponentiated gradient copies pull to their geometric mean, and to zero where
                    their signs differ. `delays.error` by steps only, as every copy has an output
    Reference       bibtex: bouvrie2011synchronization (arXiv:1010.4517)
    """

    reference: ClassVar[str] = (
        "@article{bouvrie2011synchronization, title={Synchronization and Redundancy: Implications for Robustness of "
        "Neural Learning and Decision Making}, author={Bouvrie, Jake and Slotine, Jean-Jacques}, journal={Neural "
        "Computation}, volume={23}, number={11}, pages={2915--2941}, year={2011}, note={arXiv:1010.4517}}"
    )
    credit: AbstractRule = SGD()
    coupling: Float[Array, ""] = number(1.0, low=0.0)
    copies: int = eqx.field(static=True, default=3)
    graph: str = eqx.field(static=True, default="complete")

    def wire(self, network: Network) -> Circuit:
        if self.graph not in GRAPHS:
            raise unknown("rule.graph", self.graph, GRAPHS)
        least = 3 if self.graph == "ring" else 2
        if self.copies < least:
            raise PlasticodeError(
                f"rule.copies = {self.copies} is not allowed: rule.graph = '{self.graph}' needs at least {least}"
            )
        one, links = wired_inside(self.credit, network), couplings(self.graph, self.copies)
        _check_straight(one)
        layers, projections = one.layers, []
        for i in range(self.copies):
            projections += [self._copied(p, one, i, links[i]) for p in one.projections]
            layers += tuple(dataclasses.replace(x, name=_of(x, i)) for x in one.layers if i and not _common(x))
        return Circuit(layers, tuple(projections), output_layer(one))

    def _copied(self, p: Projection, one: Circuit, i: int, links: np.ndarray) -> Projection:
        """A projection of copy i, its own matrix pulled to those of others."""
        law: tuple[Term, ...] = tuple(_renamed(term, i) for term in p.law)
        if not isinstance(p.matrix, Shared) and one.terms_of(p.name):
            pulls = [(self.coupling * float(link), j) for j, link in enumerate(links) if link]
            law += tuple(Scaled(Constant(pull), _marked(p.name, j)) for pull, j in pulls)
            law += (Scaled(Constant(-self.coupling * float(links.sum()))),)
        ends = {"source": _of(one.layer(p.source), i), "target": _of(one.layer(p.target), i)}
        own = p.matrix
        own = dataclasses.replace(own, name=_marked(own.name, i)) if isinstance(own, Shared) else own
        return dataclasses.replace(p, name=_marked(p.name, i), matrix=own, law=law, **ends)


def _check_straight(one: Circuit) -> None:
    """Refuses maps that are no flat space, in which a pull is no straight line, and laws that name other maps."""
    naming = [t.of.name for t in one.terms if t.dependence is not None and len(one.maps_read(t)) > 1]
    if naming:
        raise PlasticodeError(
            f"the law of '{naming[0]}' depends on other maps by name, of which every copy has its own: rule.credit "
            "must be a rule whose laws depend on their own weights at most"
        )
    curved = [p.name for p in one.plastic if one.map_of(p.name).is_curved]
    if curved:
        raise PlasticodeError(
            f"rule.credit keeps the signs or the norm of '{curved[0]}', which pulls to other copies do not: it "
            "must be the other way round, replicas as the credit of that rule"
        )


def _marked(name: str, i: int) -> str:
    return f"{name}~{i}" if i else name


def _common(layer: Layer) -> bool:
    """Whether all copies share a layer: what is given from outside, but for what is drawn."""
    return layer.given and layer.source is None


def _of(layer: Layer, i: int) -> str:
    return layer.name if _common(layer) else _marked(layer.name, i)


def _renamed(term: Term, i: int) -> Term:
    if isinstance(term, Scaled) and term.matrix is not None:
        return dataclasses.replace(term, matrix=_marked(term.matrix, i))
    return term
