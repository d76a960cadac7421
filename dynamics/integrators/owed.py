"""What large matrices are owed: changes that they take along once in several presentations.

What a presentation adds to a matrix is a product of few waveforms (integrators.learning). To add it there takes passes
over all weights, also for sums that lose nothing to rounding and for a transpose, and in large matrices these last
longer than sweeps. So the products of a few presentations are kept beside the matrix as it was before them,

    W(t0) c = W c + sum_k m_k (p_k . c).

Outside of a loop over presentations nothing is owed (`Window.opened`, `Window.closed`).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dynamics.circuit import Weights
from dynamics.coupled_run import AbstractCoupled
from dynamics.field import CoupledSystem
from dynamics.integrators.collocation import times
from dynamics.integrators.drives import transposes, turned
from dynamics.laws import Outer
from dynamics.norms import scale
from dynamics.projections import Projection
from dynamics.rounding import nothing

# From how many weights on it pays: with 4096 a run takes 0.98 of the time, and half a second more to compile. Which
# part of a side of a matrix the rows may be at most; half of it for two presentations. (Networks of 64-64-10,
# 64-128-128-10 and 784-256-256-10, and the second with lags, where presentations have three windows.)
LARGE, PART = 8192, 4
MOST = 64  # presentations that a matrix waits for at most: after so many sums settle (window_parts.SETTLED)

Factors = tuple[Float[Array, "_rows _targets"], Float[Array, "_rows _sources"]]


class Owed(eqx.Module):
    """What matrices are owed, by name: rows m_k, in weights, and p_k; 0 where nothing is owed yet.

    turned   transposes of the matrices that waveforms of several rows multiply, without what these are owed
    waits    how many presentations fill the rows      windows   how many windows each of them has
    """

    post: dict[str, Float[Array, "_rows _targets"]]
    pre: dict[str, Float[Array, "_rows _sources"]]
    turned: Weights
    waits: int = eqx.field(static=True)
    windows: int = eqx.field(static=True)

    @classmethod
    def begin(cls, run: AbstractCoupled, system: CoupledSystem, weights: Weights, nodes: int, windows: int) -> "Owed":
        """Nothing yet; no rows at all where no matrix may wait, or for a single presentation only."""
        rows, waits = {}, MOST
        for p in system.circuit.plastic:
            if weights[p.name].size >= LARGE and _may_wait(system, p):
                count = windows * (1 if _is_held(run, system, p) else nodes)
                share = min(weights[p.name].shape) / count
                most = 2 if 4 <= share < 2 * PART else int(share / PART)
                if most > 1:
                    rows[p.name], waits = count, min(waits, 1 << (most.bit_length() - 1))
        if not rows:
            return NOTHING
        post, pre = (
            {name: jnp.zeros((waits * n, weights[name].shape[side]), weights[name].dtype) for name, n in rows.items()}
            for side in (0, 1)
        )
        several = {name: weights[name] for name, count in rows.items() if count > windows}
        return cls(post, pre, turned(system.circuit, several), waits, windows)

    def added(self, name: str, carried: Float[Array, "rows _n"], back: bool) -> Float[Array, "rows _m"]:
        """What it adds to W c, or to W^T c, c a row of `carried`."""
        first, then = (self.post, self.pre) if back else (self.pre, self.post)
        return times(times(carried, first[name].T), then[name])

    def followed_by(self, factors: dict[str, Factors], k: Int[Array, ""], window: Int[Array, ""]) -> "Owed":
        """It, and what a window of presentation k adds."""
        post, pre = dict(self.post), dict(self.pre)
        for name, added in factors.items():
            at = self._row(name, k) + window * self._rows(name)
            post[name], pre[name] = (
                jax.lax.dynamic_update_slice_in_dim(rows[name], new, at, 0)
                for rows, new in zip((post, pre), added, strict=True)
            )
        return Owed(post, pre, self.turned, self.waits, self.windows)

    def moved(self, k: Int[Array, ""]) -> list[Float[Array, ""]]:
        """The norms of what presentation k adds to each matrix."""
        norms = []
        for name, post in self.post.items():
            at, count = self._row(name, k), self._rows(name) * self.windows
            m, p = (jax.lax.dynamic_slice_in_dim(rows, at, count) for rows in (post, self.pre[name]))
            large = scale(m), scale(p)
            m, p = m / large[0], p / large[1]
            norms.append(large[0] * large[1] * jnp.sqrt(jnp.maximum(jnp.sum(times(m, m.T) * times(p, p.T)), 0)))
        return norms

    def changes(self) -> Weights:
        """All of it, as matrices."""
        return {name: times(post.T, self.pre[name]) for name, post in self.post.items()}

    def paid(self, weights: Weights) -> "Owed":
        """Nothing: `weights` have taken it along."""
        now = transposes({name: weights[name] for name in self.turned})
        return Owed(nothing(self.post), nothing(self.pre), now, self.waits, self.windows)

    def _rows(self, name: str) -> int:
        """The rows of a window."""
        return self.post[name].shape[0] // (self.waits * self.windows)

    def _row(self, name: str, k: Int[Array, ""]) -> Int[Array, ""]:
        """The first row of presentation k."""
        return k % self.waits * (self._rows(name) * self.windows)


NOTHING = Owed({}, {}, {}, 1, 1)


def _may_wait(system: CoupledSystem, p: Projection) -> bool:
    """Whether a matrix changes by one product of what there is now, and nothing else reads or changes it."""
    circuit, own, terms = system.circuit, system.circuit.map_of(p.name), system.circuit.terms_of(p.name)
    if system.sides > 1 or system.noise.present or len(terms) != 1 or not isinstance(terms[0].term, Outer):
        return False
    (term,) = terms
    plain = term.dependence is None and not term.transposed and term.name not in system.products
    straight = own.is_matrix and own.mirror is None and not own.holds_norm
    decays = own.decays and system.timescales.decay is not None
    read = any(p.name in circuit.maps_read(other) for other in circuit.terms)
    return plain and straight and not decays and not read


def _is_held(run: AbstractCoupled, system: CoupledSystem, p: Projection) -> bool:
    """Whether what the one term of a matrix sees of its source is the same throughout each window."""
    (term,), layer = system.circuit.terms_of(p.name), system.circuit.layer(p.source)
    assert isinstance(term.term, Outer)
    factor = term.of.carries if term.term.pre is None else term.term.pre
    traced = system.traced(term) is not None and term.term.trace.of == "pre"
    still = layer.held and system.circuit.reads(factor, layer).activity_alone
    return still and not traced and not system.gamma and not run.stream.moves
