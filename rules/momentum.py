"""Momentum: weights with inertia, on top of any rule's credit."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float

from dynamics.circuit import AbstractFactor, Circuit, Local, Outer, Projection, Trace
from dynamics.errors import PlasticodeError
from dynamics.laws import Term
from dynamics.network import Network
from rules.contract import AbstractRule, timescale, wired_inside, with_products
from rules.gradient import SGD


class Gated(AbstractFactor):
    """A factor times a gate, before the trace."""

    of: AbstractFactor
    gate: AbstractFactor

    def __call__(self, local: Local) -> Float[Array, " size"]:
        return self.gate(local) * self.of(local)


class Momentum(AbstractRule):
    """The heavy ball: weights follow a slow average E of the products that their law is made of.

    Equation        tau_plast W_l' = E_l - (tau_plast/tau_dec) W_l,  inertia E_l' = -E_l + e_l z_{l-1}^T; where the
                    credit is -grad L:  m W'' + mu W' + k W + grad L = 0,  k = tau_plast/tau_dec,
                    m = inertia * tau_plast,  mu = tau_plast + inertia * k
    Discrete limit  E_l <- beta E_l + (1 - beta) e_l z_{l-1}^T, W_l += eta E_l - (T/tau_dec) W_l, eta = T/tau_plast,
                    beta = 1 - T/inertia; as published, with the rate (1 - beta) eta. Decays have no inertia
    Invariants      the charge of a symmetry has inertia too: (m/2) Q'' + (mu/2) Q' + k Q = m Q[W', W'], Q[W, W] a
                    quadratic form whose symmetry leaves L alone (bibtex: tanaka2021noether)
    Locality        that of `credit`, the rule that brings the error to the layer
    Shapes          E_l that of W_l; inertia in seconds; updates are unstable from T/2 down, which a spec is refused
    Errors          those of `credit`; one none of whose laws is a product, or whose law has a trace with a timescale of
                    its own, or of its product, is refused. The run's eligibility trace has no place; specs refuse it
    Reference       bibtex: polyak1964some (doi:10.1016/0041-5553(64)90137-5)
    """

    reference: ClassVar[str] = (
        "@article{polyak1964some, title={Some methods of speeding up the convergence of iteration methods}, "
        "author={Polyak, Boris T.}, journal={USSR Computational Mathematics and Mathematical Physics}, volume={4}, "
        "number={5}, pages={1--17}, year={1964}, doi={10.1016/0041-5553(64)90137-5}}"
    )
    credit: AbstractRule = SGD()
    inertia: Float[Array, ""] = timescale(0.5, low=1e-9)

    def wire(self, network: Network) -> Circuit:
        circuit = with_products(wired_inside(self.credit, network), "momentum")
        projections = tuple(
            dataclasses.replace(p, law=tuple(self._heavy(term, p) for term in p.law)) for p in circuit.projections
        )
        return dataclasses.replace(circuit, projections=projections)

    def _heavy(self, term: Term, p: Projection) -> Term:
        if not isinstance(term, Outer):
            return term
        if term.dependence is not None:
            raise PlasticodeError(
                f"the law of '{p.name}' depends on what synapses have stored, of which momentum knows nothing: "
                "rule.credit must be a rule whose laws do not"
            )
        if term.trace.of == "product" or term.trace.timescale is not None:
            raise PlasticodeError(
                f"the law of '{p.name}' has a trace of its own, which leaves no place for momentum: rule.credit must "
                "be a rule without"
            )
        post = term.post if term.gate is None else Gated(term.post, term.gate)
        return Outer(post, term.pre, trace=Trace("product", self.inertia, slow=True))
