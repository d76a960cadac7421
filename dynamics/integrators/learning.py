"""How maps change within a window: few waveforms in place of a matrix for every moment.

Inside the window a plastic matrix is its value at the start plus products of waveforms, so none is formed before the
window closes:

    W(t) = E(t) (W(t0) + int_t0^t m(s)/E(s) p(s)^T ds / tau_plast),   E = exp(-F), F = int r/tau_plast + 1/tau_dec
    W(t_j) c_j = E_j (W(t0) c_j + sum_i H A_ji (m_i/E_i) (p_i . c_j) / tau_plast)

A trace X of the product, tau X' = -X + m p^T with the filter K, k = 1 - K 1, and a gate g adds one more matrix,

    W(t_j) c_j += gamma_j X(t0) c_j + sum_i B_ji m_i (p_i . c_j),  gamma = H A (g k),  B_ji = H sum_l A_jl g_l K_li,

and so does a pull to another matrix that stands still. Where a matrix is not the parameters themselves, or moves in a
mirror's geometry, the parameters at every node are formed ("at nodes").

Of presentations side by side (dynamics.sides) the products are means over sides: B s waveforms change a matrix. Where
that is more than it costs to form the matrix at every node, it is formed.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dynamics.circuit import LawTerm, Weights
from dynamics.field import CoupledSystem, State
from dynamics.integrators.collocation import times, weighted
from dynamics.integrators.drives import Drive, Drives, Waveform, fades, largest, root_mean_square, sizes, strengths
from dynamics.integrators.owed import Factors, Owed
from dynamics.laws import Outer, Scaled
from dynamics.maps import AbstractMap, Shared, Theta
from dynamics.norms import norm
from dynamics.projections import Projection
from dynamics.sides import all_of, mean


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["system", "start", "length", "still", "traced", "drawn", "turned", "owed", "integrals", "still_fades"],
    meta_fields=["nodes"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Learning:
    """How the maps of a system change in one window of `length` seconds.

    still   p of terms where it is constant during the window, by term
    traced  the filters (s, s) of traces, by term
    drawn   maps that are drawn for the presentation
    turned  matrices at the start, transposed (`turned`), without what they are `owed`
    integrals    H A: integrals from the start to the nodes
    still_fades  F of maps that do nothing besides learning but decay with tau_dec (`still_fades`)
    """

    system: CoupledSystem
    start: State
    length: Float[Array, ""]
    still: dict[str, Waveform]
    traced: dict[str, Float[Array, "s s"]]
    drawn: Weights
    turned: Weights
    owed: Owed
    nodes: int
    integrals: Float[Array, "s s"]
    still_fades: dict[str, Waveform]

    @property
    def weights(self) -> Weights:
        """All maps at the start."""
        return {**self.system.weights(self.start), **self.drawn}

    def _terms(self, name: str) -> tuple[LawTerm, ...]:
        """The terms of a map that are not part of its fade."""
        return tuple(term for term in self.system.circuit.terms_of(name) if not fades(term))

    def at_nodes(self, name: str) -> bool:
        """Whether the parameters of a map are formed at every node."""
        own, terms = self.system.circuit.map_of(name), self.system.circuit.terms_of(name)
        return not own.is_matrix or own.mirror is not None or any(map(self._read_by, terms))

    def _read_by(self, term: LawTerm) -> list[str]:
        """The maps that learn and that a term pulls its own to, or depends on."""
        return [name for name in self.system.circuit.maps_read(term) if self.system.circuit.terms_of(name)]

    def moving(self, drives: Drives) -> dict[str, Theta]:
        """The maps at every node that learn and that laws read."""
        names = {name for term in self.system.circuit.terms for name in self._read_by(term)}
        return {p.name: self._thetas(p, drives) for p in self.system.circuit.plastic if p.name in names}

    def formed(self, name: str) -> bool:
        """Whether the parameters of a map at every node are formed to be applied: those `at_nodes`, and matrices that
        the waveforms of all sides change at a lower price than they take to multiply by."""
        sides = self.system.sides
        if sides == 1 or self.at_nodes(name):
            return self.at_nodes(name)
        products = [term for term in self._terms(name) if isinstance(term.term, Outer)]
        if any(term.name in self.traced for term in products):
            return True
        still = all(term.name in self.still for term in products)
        targets, sources = self.start.weights[name].shape
        formed = targets * sources * (1 + still + self.nodes / sides)  # operations for each row of a waveform
        return formed < sides * (1 if still else self.nodes) * (targets + sources)

    def pre(self, name: str, drive: Drive) -> Waveform:
        """p of a term."""
        pre = self.still[name] if drive.pre is None else drive.pre
        assert pre is not None
        return pre

    def rows(self, wave: Waveform) -> Waveform:
        """A waveform with a row for every node, also where it is constant."""
        return jnp.broadcast_to(wave, (self.nodes, wave.shape[1]))

    def fade(self, p: Projection, drives: Drives) -> Waveform | None:
        """F of a map."""
        return drives.fade[p.name] if p.name in drives.fade else self.still_fades.get(p.name)

    def product(self, p: Projection, carried: Waveform, drives: Drives) -> Waveform:
        """W(t_j) c_j at all nodes, W the map of `p`: its own, or a shared one with its gain."""
        result, shared = self.ungained(p, carried, drives), p.matrix
        return shared.gain * result if isinstance(shared, Shared) and shared.gain is not None else result

    def ungained(self, p: Projection, carried: Waveform, drives: Drives) -> Waveform:
        """W(t_j) c_j without the gain, which laws do not know."""
        circuit = self.system.circuit
        owner, back = circuit.owner(p), isinstance(p.matrix, Shared) and p.matrix.transposed
        moving = [term for term in self._terms(owner.name) if term.name in drives.of]
        own, size = circuit.map_of(owner.name), circuit.shape(owner)[1]
        if own.is_matrix and not (moving and self.formed(owner.name)):
            return self._low_rank(owner, moving, carried, back, drives)

        def one(theta: Theta, c: Float[Array, " n"]) -> Float[Array, " m"]:
            return own.back(theta, c, size) if back else own.apply(theta, c)

        if not moving:
            return jax.vmap(one, (None, 0))(self.weights[owner.name], carried)
        rows = self.rows(carried)
        return jax.vmap(one)(self._thetas(owner, drives), rows)

    def _low_rank(
        self, owner: Projection, moving: list[LawTerm], carried: Waveform, back: bool, drives: Drives
    ) -> Waveform:
        fade = self.fade(owner, drives) if drives.of or drives.fade else None
        shrink, adds = None if fade is None else jnp.exp(-fade), self._backward if back else self._forward
        carried = shrink * carried if back and shrink is not None else carried
        parts = (adds(term, drives.of[term.name], carried) for term in moving)
        total = sum(parts, self._at_start(owner.name, carried, back))
        return total if back or shrink is None else shrink * total

    def _at_start(self, name: str, carried: Waveform, back: bool) -> Waveform:
        """W(t0) c, or W(t0)^T c."""
        w = self.weights[name]
        if back:
            result = times(carried, w)
        elif name in self.turned and carried.shape[0] > 1:
            result = times(carried, self.turned[name])
        else:
            result = times(w, carried.T).T
        return result + self.owed.added(name, carried, back) if name in self.owed.post else result

    def _forward(self, term: LawTerm, drive: Drive, carried: Waveform) -> Waveform:
        """What a term adds to W c, without E."""
        if isinstance(term.term, Scaled):
            return weighted(self.integrals, drive.post) * (carried @ self._pulled_to(term).T)
        if self.system.sides > 1:
            post, pre = all_of((drive.post, self.pre(term.name, drive)), self.system.sides)
            if pre.shape[1] == 1:
                seen = carried @ pre[:, 0].T / self.system.sides
                return jnp.einsum("jb,bjm->jm", self.rows(seen), self.integrals @ post)
            return jnp.einsum("jbi,bim->jm", self._seen(carried, pre), post)
        seen = times(carried, self.pre(term.name, drive).T)
        if term.name not in self.traced or drive.gate is None:
            return weighted(self.integrals * seen, drive.post)
        gamma, b = self._open(term, drive.gate)
        return gamma * (carried @ self.start.trace[term.name].T) + jnp.einsum("jin,in,ji->jn", b, drive.post, seen)

    def _backward(self, term: LawTerm, drive: Drive, carried: Waveform) -> Waveform:
        """What a term adds to W^T c, E being in c."""
        if isinstance(term.term, Scaled):
            return (weighted(self.integrals, drive.post) * carried) @ self._pulled_to(term)
        pre = self.pre(term.name, drive)
        if self.system.sides > 1:
            post, pre = all_of((drive.post, pre), self.system.sides)
            seen = self._seen(carried, post)
            return jnp.einsum("jbi,bin->jn", seen if pre.shape[1] > 1 else seen.sum(2, keepdims=True), pre)
        if term.name not in self.traced or drive.gate is None:
            return weighted(self.integrals * times(carried, drive.post.T), pre)
        gamma, b = self._open(term, drive.gate)
        rows = self.rows(carried)
        return (gamma * rows) @ self.start.trace[term.name] + weighted(
            jnp.einsum("jn,jin,in->ji", rows, b, drive.post), pre
        )

    def _seen(self, carried: Waveform, factors: Float[Array, "sides _rows n"]) -> Float[Array, "s sides s"]:
        """H A_ji (f_bi . c_j), over the number of sides b."""
        seen = jnp.einsum("jn,bin->jbi", carried, factors)
        return self.integrals[:, None] * seen / self.system.sides

    def _open(self, term: LawTerm, gate: Waveform) -> tuple[Waveform, Float[Array, "s s n"]]:
        """gamma and B of a trace of a product."""
        k = self.traced[term.name]
        gamma = weighted(self.integrals, gate * (1 - k.sum(1))[:, None])
        return gamma, jnp.einsum("jl,ln,li->jin", self.integrals, gate, k)

    def _pulled_to(self, term: LawTerm) -> Theta:
        """The matrix of another projection that a term scales."""
        assert isinstance(term.term, Scaled) and term.term.matrix is not None
        return self.weights[term.term.matrix]

    def _outers(self, own: AbstractMap, term: LawTerm, drive: Drive) -> Theta:
        """m p^T as the map can follow it, at every node; of a trace of the product that of this side."""
        pre, sides = self.rows(self.pre(term.name, drive)), self.system.sides
        if sides > 1 and drive.gate is None and own.is_matrix:
            return jnp.einsum("bim,bin->imn", *all_of((drive.post / sides, pre), sides))
        outers = jax.vmap(own.outer, (None, 0, 0))(self.weights[term.owner.name], drive.post, pre)
        return mean(outers, sides) if drive.gate is None else outers

    def _thetas(self, owner: Projection, drives: Drives) -> Theta:
        """The parameters of a map at every node."""
        grown = jax.vmap(lambda share: self._grown(owner, drives, share))(self.integrals)
        changes = jax.vmap(lambda change, i: self._faded(owner, change, drives, i))
        return self.start.weights[owner.name][None] + changes(grown, jnp.arange(self.nodes, dtype=jnp.int32))

    def _grown(self, owner: Projection, drives: Drives, share: Float[Array, " s"]) -> Theta:
        """What all terms have added to a map at a node, without E, from what they do at every node."""
        own, change = self.system.circuit.map_of(owner.name), jnp.zeros_like(self.start.weights[owner.name])
        for term in self._terms(owner.name):
            drive = drives.of[term.name]
            if isinstance(term.term, Scaled):
                to = drives.moving.get(str(term.term.matrix), self._pulled_to(term)[None])
                change += jnp.tensordot(share, drive.post[:, :, None] * to, 1)
                continue
            outers = self._outers(own, term, drive)
            if drive.gate is not None:
                k = self.traced[term.name]
                held = jnp.tensordot(1 - k.sum(1), self.start.trace[term.name], 0) + jnp.tensordot(k, outers, 1)
                outers = mean(jax.vmap(own.scaled_rows)(held, drive.gate), self.system.sides)
            change += jnp.tensordot(
                share, strengths(self.system.circuit, term, drives, self.weights, self.nodes) * outers, 1
            )
        return change

    def changes_at(self, drives: Drives, node: int | Int[Array, ""] = -1) -> Weights:
        """How far the plastic maps that do not wait have moved at a node of the window, by default at its end: beside
        the maps themselves a small change would be rounded away."""
        now = [p for p in self.system.circuit.plastic if p.name not in self.owed.post]
        return {p.name: self._change(p, drives, node) for p in now}

    def factors(self, drives: Drives) -> dict[str, Factors]:
        """How far the maps that wait have moved at the end of the window, as products."""
        found, share = {}, self.integrals[-1]
        for name in self.owed.post:
            term = self._terms(name)[0].name
            post, pre = drives.of[term].post, self.pre(term, drives.of[term])
            found[name] = ((share @ post)[None] if pre.shape[0] == 1 else share[:, None] * post, pre)
        return found

    def _change(self, p: Projection, drives: Drives, node: int | Int[Array, ""]) -> Theta:
        own, w, share = self.system.circuit.map_of(p.name), self.start.weights[p.name], self.integrals[node]
        if self.at_nodes(p.name):
            change = self._grown(p, drives, share)
        else:
            parts = [self._moved_by(term, drives.of[term.name], share, node) for term in self._terms(p.name)]
            change = sum(parts[1:], parts[0]) if parts else jnp.zeros_like(w)
        change = self._faded(p, change, drives, node)
        if own.holds_norm:  # the product form keeps the norm up to the error of the nodes: keep it exactly
            longer = jnp.sum(change * (2 * w + change)) / jnp.sum(w * w)  # |W + change|^2 = (1 + longer) |W|^2
            root = jnp.sqrt(1 + longer)
            change = change / root - (longer / (root * (1 + root))) * w
        return change

    def _faded(self, p: Projection, change: Theta, drives: Drives, node: int | Int[Array, ""]) -> Theta:
        """How far a map has moved at a node: by what terms have added, without E, in its geometry, and by its fade."""
        own, w, fade = self.system.circuit.map_of(p.name), self.start.weights[p.name], self.fade(p, drives)
        if fade is None:
            return change if own.mirror is None else own.mirror.step(w, change)
        faded = -fade[node][:, None] if own.is_matrix else -fade[node][0]
        gone = jnp.expm1(faded) * w
        return gone + (jnp.exp(faded) * change if own.mirror is None else own.mirror.step(w + gone, change))

    def _moved_by(self, term: LawTerm, drive: Drive, share: Float[Array, " s"], node: int | Int[Array, ""]) -> Theta:
        """What one term has added to its matrix at a node, without E."""
        if isinstance(term.term, Scaled):
            return (share @ drive.post)[:, None] * self._pulled_to(term)
        pre, sides = self.pre(term.name, drive), self.system.sides
        if drive.gate is None and sides > 1:
            post, pre = all_of((drive.post if pre.shape[0] > 1 else (share @ drive.post)[None], pre), sides)
            post = post * share[None, :, None] if pre.shape[1] > 1 else post
            return jnp.einsum("bim,bin->mn", post, pre) / sides
        if drive.gate is None:
            if pre.shape[0] == 1:
                return (share @ drive.post)[:, None] * pre
            return times((share[:, None] * drive.post).T, pre)
        gamma, b = self._open(term, drive.gate)
        rows = self.rows(pre)
        moved = gamma[node][:, None] * self.start.trace[term.name] + (b[node] * drive.post).T @ rows
        return mean(moved, sides)

    def traces_at(self, drives: Drives, node: int | Int[Array, ""] = -1) -> Weights:
        """Traces of products at a node of the window; by default at its end."""
        ends = {}
        for term in self.system.circuit.terms:
            drive = drives.of.get(term.name)
            if drive is not None and drive.gate is not None:
                k, own = self.traced[term.name][node], self.system.circuit.map_of(term.owner.name)
                held = (1 - k.sum()) * self.start.trace[term.name]
                end = held + jnp.tensordot(k, self._outers(own, term, drive), 1)
                ends[term.name] = mean(end, self.system.sides) if term.trace and term.trace.slow else end
        return ends

    def moved(self, drives: Drives, size: Float[Array, ""]) -> Float[Array, ""]:
        """The norm of the change of the plastic maps in the window; `size` is that of their drives.

        From products of the few waveforms that make up a change where nothing else changes the matrix: a pass over all
        weights costs as much as a sweep. They are scaled, as squares of small numbers would vanish.
        """
        b, unit, squares = self.integrals[-1], jnp.where(size > 0, size, 1), []
        for p in self.system.circuit.plastic:
            terms = self._terms(p.name)
            plain = len(terms) == 1 and isinstance(terms[0].term, Outer) and drives.of[terms[0].name].gate is None
            held = self.system.circuit.map_of(p.name).holds_norm or self.at_nodes(p.name)
            if plain and self.fade(p, drives) is None and not held and self.system.sides == 1:
                post, pre = drives.of[terms[0].name].post, self.pre(terms[0].name, drives.of[terms[0].name])
                squares.append((((post @ post.T / unit) * (pre @ pre.T / unit)) @ b) @ b)
            else:
                squares.append((norm(self._change(p, drives, -1)) / unit) ** 2)
        return unit * jnp.sqrt(jnp.maximum(sum(squares, jnp.zeros_like(unit)), 0))

    def _contrast(self, drives: Drives, size: Float[Array, ""]) -> Float[Array, ""]:
        """How much is left of the drives where terms of a map nearly cancel, such as a nudged product and a free one,
        or a pull to another matrix and the fade that goes with it, or where sides do; 1 where every map has one product
        at most."""
        laws = [self._terms(p.name) for p in self.system.circuit.plastic]
        if all(len(terms) < 2 and isinstance(t.term, Outer) and t.dependence is None for terms in laws for t in terms):
            alone = [term for terms in laws for term in terms]
            if self.system.sides == 1:
                return jnp.ones_like(size)
            if all(drives.of[term.name].gate is None for term in alone):
                return self._contrast_of_sides(alone, drives, size)
        net = self.moved(drives, size) / jnp.where(self.length > 0, self.length, 1)
        return jnp.minimum(net / jnp.maximum(size, jnp.finfo(size.dtype).tiny), 1)

    def _contrast_of_sides(self, terms: list[LawTerm], drives: Drives, size: Float[Array, ""]) -> Float[Array, ""]:
        """How much the mean over sides leaves of the products of waveforms, at three nodes: from products of all sides'
        factors with each other, as forming the mean costs as much as a sweep."""
        at = np.array([0, self.nodes // 2, self.nodes - 1])
        unit, squares = jnp.where(size > 0, size, 1), []
        for term in terms:
            drive = drives.of[term.name]
            post, pre = all_of((drive.post[at], self.rows(self.pre(term.name, drive))[at]), self.system.sides)
            alike = jnp.einsum("bim,cim->ibc", post, post) / unit, jnp.einsum("bin,cin->ibc", pre, pre) / unit
            squares.append(jnp.sum(alike[0] * alike[1]) / (at.size * self.system.sides**2))
        return jnp.where(size > 0, jnp.minimum(jnp.sqrt(sum(squares[1:], squares[0])), 1), 1)

    def difference(self, new: Drives, old: Drives) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
        """How far apart two sweeps' drives are, and their size: products of the factors' roots of mean squares over the
        window, summed over all terms, in weight per second; and what `_contrast` says of them.

        Both factors count: where an error is the pre-factor, as in feedback that learns, m alone hardly moves.
        """
        change = size = jnp.zeros_like(self.length)
        terms = [term for term in self.system.circuit.terms if term.name in new.of]
        waves = {(term.name, "post"): (new.of[term.name].post, old.of[term.name].post) for term in terms}
        for term in terms:
            pre, earlier = new.of[term.name].pre, old.of[term.name].pre
            if pre is not None and earlier is not None:
                waves[term.name, "pre"] = pre, earlier
        found = sizes(waves, self.system.sides)
        size_of = functools.partial(root_mean_square, sides=self.system.sides)
        for term in terms:
            drive, (post, moved) = new.of[term.name], found[term.name, "post"]
            if isinstance(term.term, Scaled):
                reach, name = norm(self._pulled_to(term)), str(term.term.matrix)
                change += moved * reach
                size += post * reach
                if name in new.moving:
                    apart = new.moving[name] - old.moving[name]
                    change += post * norm(apart) / self.nodes**0.5
                continue
            scale = 1.0 if drive.gate is None else largest(drive.gate, self.system.sides)
            if term.dependence is not None:
                h, before = (strengths(self.system.circuit, term, d, self.weights, self.nodes) for d in (new, old))
                change += scale * post * size_of(self.pre(term.name, drive)) * jnp.max(jnp.abs(h - before))
                scale *= jnp.max(jnp.abs(h))
            if drive.pre is None:
                pre = size_of(self.still[term.name])
            else:
                pre, shifted = found[term.name, "pre"]
                change += scale * post * shifted
            change += scale * moved * pre
            size += scale * post * pre
        for name, fade in new.fade.items():
            if not self._terms(name):  # it does nothing but fade, of which no drive tells
                reach = norm(self.start.weights[name]) / jnp.where(self.length > 0, self.length, 1)
                change += size_of(fade - old.fade[name]) * reach
                size += size_of(fade) * reach
        return change, size, self._contrast(new, size)
