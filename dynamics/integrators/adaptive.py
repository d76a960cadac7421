"""Steps chosen by an error estimate, through `diffrax.diffeqsolve`: no delays, no noise."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from dynamics.errors import PlasticodeError
from dynamics.integrators.solvers import SOLVERS, solver_named
from dynamics.integrators.terms import Base, Drift, Moment
from dynamics.system import AbstractSystem


class Adaptive(eqx.Module):
    """Steps chosen by an error estimate (rtol, atol) with the embedded diffrax solver `name`. No delays, no noise.

    A presentation, or a gap, takes at most `max_steps`. Runs are judged by one with 10 times the rtol and atol, against
    the `tolerance` of the weights' change.
    """

    rtol: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=1e-6)
    atol: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=1e-8)
    name: str = eqx.field(static=True, default="tsit5")
    max_steps: int = eqx.field(static=True, default=4096)
    tolerance: float = eqx.field(static=True, default=1e-3)

    def __check_init__(self):
        fit = sorted(name for name, solver in SOLVERS.items() if solver.adaptive)
        if self.name not in fit:
            raise PlasticodeError(
                f"integrator '{self.name}' has no error estimate: with adaptive steps it must be one of "
                f"{', '.join(fit)}"
            )

    def run(
        self, system: AbstractSystem, y: PyTree, inputs: PyTree, steps: Float[Array, ""], base: PyTree | None = None
    ) -> tuple[PyTree, Bool[Array, ""]]:
        """Integrates over `steps` steps of `system.dt` with constant `inputs`: the end, and whether it was reached.

        Where it was not, the end is NaN. The state is `base` + y: a slow variable whose y starts from zero is not
        rounded to its own size, and its errors are measured by its change.
        """
        base = jax.tree.map(jnp.zeros_like, y) if base is None else base
        zero = jnp.zeros_like(system.dt)
        moment = Moment(inputs, None, jnp.int32(0), zero)
        solution = diffrax.diffeqsolve(
            Drift(system, Base(base)),
            solver_named(self.name),
            t0=zero,
            t1=steps.astype(zero.dtype),
            dt0=jnp.minimum(jnp.ones_like(zero), jnp.maximum(steps.astype(zero.dtype), jnp.finfo(zero.dtype).eps)),
            y0=y,
            args=moment,
            stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol),
            adjoint=diffrax.ForwardMode(),
            max_steps=self.max_steps,
            throw=False,
        )
        failed = solution.result != diffrax.RESULTS.successful
        assert solution.ys is not None
        return jax.tree.map(lambda leaf: jnp.where(failed, jnp.nan, leaf[-1]), solution.ys), ~failed
