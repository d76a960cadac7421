"""Milstein's method as a diffrax solver."""

from typing import Any, ClassVar

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import PyTree


class Milstein(diffrax.AbstractItoSolver):
    """Milstein's method in the Ito sense (strong order 1) for noise in which each Brownian motion drives one component.

        y1 = y0 + f dt + g dW + (1/2) g' g (dW^2 - dt)

    diffrax's own ItoMilstein wants an array for a diffusion; this one takes any term, by derivatives along directions.
    """

    term_structure: ClassVar = diffrax.MultiTerm
    interpolation_cls: ClassVar = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        return 1

    def strong_order(self, terms: Any) -> int:
        return 1

    def init(self, terms: Any, t0: Any, t1: Any, y0: PyTree, args: Any) -> None:
        return None

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: PyTree, args: Any, solver_state: None, made_jump: Any
    ) -> tuple[PyTree, None, dict[str, PyTree], None, diffrax.RESULTS]:
        drift, diffusion = terms.terms
        dt, dw = drift.contr(t0, t1), diffusion.contr(t0, t1)

        def along(increments: PyTree) -> tuple[PyTree, PyTree]:
            """g dW, and its derivative along itself."""
            kick = diffusion.vf_prod(t0, y0, args, increments)
            return kick, jax.jvp(lambda y: diffusion.vf_prod(t0, y, args, increments), (y0,), (kick,))[1]

        kick, squared = along(dw)
        _, mean = along(jax.tree.map(jnp.ones_like, dw))
        change = drift.vf_prod(t0, y0, args, dt)
        y1 = jax.tree.map(lambda y, f, g, s, m: y + f + g + (s - dt * m) / 2, y0, change, kick, squared, mean)
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: PyTree, args: Any) -> PyTree:
        return terms.vf(t0, y0, args)
