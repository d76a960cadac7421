"""How a stimulus goes on from frame to frame of a sequence: held, or along a smooth curve through the frames."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class Interpolation(NamedTuple):
    """The frames that the stimulus is made of, relative to the one that is shown, and the weight of each when a share u
    of that frame is over. Beyond the ends of a sequence come its first frame and its last one again."""

    frames: tuple[int, ...]
    weights: Callable[[Float[Array, " rows"]], list[Float[Array, " rows"]]]


INTERPOLATIONS: dict[str, Interpolation] = {
    "held": Interpolation((0,), lambda u: [jnp.ones_like(u)]),
    "linear": Interpolation((0, 1), lambda u: [1 - u, u]),
    # Hermite's cubic; its slope at a frame is half of what lies between the neighbours of that (Catmull and Rom).
    "cubic": Interpolation(
        (-1, 0, 1, 2),
        lambda u: [
            -u * (1 - u) ** 2 / 2,
            1 + u * u * (1.5 * u - 2.5),
            u * (1 + u * (4 - 3 * u)) / 2,
            u * u * (u - 1) / 2,
        ],
    ),
}


class Moving(eqx.Module):
    """Rows that move: each begins at `start`, and comes to the next frame after `length`, in any one unit of time."""

    frames: Float[Array, "rows frames n"]
    start: Float[Array, " rows"]
    length: Float[Array, ""]
    kind: str = eqx.field(static=True)

    def at(self, time: Float[Array, "*rows"]) -> Float[Array, "rows n"]:
        """The rows at a time, the same for all or one of each."""
        weights = INTERPOLATIONS[self.kind].weights((time - self.start) / self.length)
        parts = [w[:, None] * self.frames[:, i] for i, w in enumerate(weights)]
        return sum(parts[1:], parts[0])

    def over(self, first: Float[Array, " rows"], last: Float[Array, " rows"]) -> Float[Array, "rows n"]:
        """The mean of each row between two times, exact for a cubic: by Gauss's two points."""
        middle, apart = (first + last) / 2, (last - first) / 12**0.5
        return (self.at(middle - apart) + self.at(middle + apart)) / 2
