"""The network that a rule trains: sizes, activation, loss, and its forward half as layers and projections."""

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from dynamics.circuit import Dense, Gaussian, Given, Layer, Projection, Variable
from dynamics.errors import PlasticodeError, unknown
from dynamics.laws import Law, Term
from dynamics.maps import AbstractMap, Shared, Start
from dynamics.wiring import untaught

LOSSES = ("softmax", "squared")


class Network(eqx.Module):
    """A fully connected network z_l = f(W_l z_{l-1} + b_l), l = 1..L, with optional skip connections.

    `sizes` = (inputs, hidden..., outputs); `skips` are extra forward connections (source layer, target layer), 0 being
    the input. Matrices start as W ~ N(0, gain^2 / sources), biases at 0. The output layer has `output_activation` and
    the error of `loss`; where the task gives no targets, `supervised` is false and the output layer has no error.
    """

    sizes: tuple[int, ...] = eqx.field(static=True)
    activation: str = eqx.field(static=True, default="tanh")
    output_activation: str = eqx.field(static=True, default="linear")
    loss: str = eqx.field(static=True, default="squared")
    bias: bool = eqx.field(static=True, default=True)
    skips: tuple[tuple[int, int], ...] = eqx.field(static=True, default=())
    supervised: bool = eqx.field(static=True, default=True)
    gain: Float[Array, ""] = eqx.field(converter=jnp.asarray, default=1.0)

    def __check_init__(self):
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise PlasticodeError(
                f"network sizes {list(self.sizes)} are not allowed: give at least inputs and outputs, each >= 1"
            )
        if self.loss not in LOSSES:
            raise unknown("network.loss", self.loss, LOSSES)
        for source, target in self.skips:
            if not (0 <= source and source + 2 <= target <= self.depth):
                raise PlasticodeError(
                    f"network.skips has [{source}, {target}]: a skip must pass over at least one layer and "
                    f"end at layer {self.depth} or before"
                )

    @property
    def depth(self) -> int:
        """The number of layers after the input."""
        return len(self.sizes) - 1

    def check_supervised(self) -> None:
        """Refuses a network whose task gives no target, for a rule that needs one."""
        if not self.supervised:
            raise untaught()

    def layers(self, variables: tuple[Variable, ...] = ()) -> tuple[Layer, ...]:
        """The layers z0 (input), z1 .. zL with `variables`, and the constant layer that biases come from."""
        last = self.depth
        hidden = tuple(
            Layer(f"z{i}", self.sizes[i], self.activation, level=i, variables=variables) for i in range(1, last)
        )
        output = Layer(
            f"z{last}",
            self.sizes[last],
            self.output_activation,
            role="output" if self.supervised else "hidden",
            level=last,
            loss=self.loss,
            variables=variables,
        )
        ends = (Layer("one", 1, role="constant", level=0),) if self.bias else ()
        return (Layer("z0", self.sizes[0], role="input", level=0), *hidden, output, *ends)

    def edges(self) -> tuple[tuple[int, int, str], ...]:
        """(source layer, target layer, name) of every matrix between layers: W1 .. WL, then skips such as S0_2."""
        chain = tuple((i - 1, i, f"W{i}") for i in range(1, self.depth + 1))
        return chain + tuple((s, t, f"S{s}_{t}") for s, t in self.skips)

    def forward(
        self,
        law: Law | Term,
        output_law: Law | Term | None = None,
        maps: Mapping[str, AbstractMap | Start] | None = None,
    ) -> tuple[Projection, ...]:
        """The forward projections, biases included, all with `law` (the output layer's with `output_law` if given).

        `maps` has other maps than a dense matrix from N(0, gain^2 / sources), by name: masks, convolutions.
        """
        own, names = maps or {}, [name for _, _, name in self.edges()]
        for name in own:
            if name not in names:
                raise unknown("matrix of the network", name, names)

        def law_at(level: int) -> Law | Term:
            return output_law if output_law is not None and level == self.depth else law

        start = Gaussian(self.gain)
        matrices = tuple(
            Projection(name, f"z{s}", "activity", f"z{t}", "forward", own.get(name, start), law_at(t), level=t)
            for s, t, name in self.edges()
        )
        biases = tuple(self._bias(i, law_at(i)) for i in range(1, self.depth + 1)) if self.bias else ()
        return matrices + biases

    def _bias(self, level: int, law: Law | Term) -> Projection:
        start = Dense(Given(jnp.zeros((self.sizes[level], 1), self.gain.dtype)), decays=False)
        return Projection(f"b{level}", "one", "activity", f"z{level}", "forward", start, law, level=level)

    def backward_edges(self) -> tuple[tuple[int, int, str], ...]:
        """(source, target, name) of the matrices that start in a hidden layer: those an error has to pass back over."""
        return tuple(edge for edge in self.edges() if edge[0] > 0)

    def feedback(self, matrix: AbstractMap | Start | None = None, law: Law | Term = ()) -> tuple[Projection, ...]:
        """The projections V2 .. VL (V1_3 of the skip S1_3) that carry errors back over them to the modulatory port.

        Each has the map `matrix`, with `law`; None: the transpose of the forward matrix.
        """
        return tuple(
            Projection(
                f"V{name[1:]}",
                f"z{t}",
                "error",
                f"z{s}",
                "modulatory",
                Shared(name, transposed=True) if matrix is None else matrix,
                law,
                level=t,
            )
            for s, t, name in self.backward_edges()
        )
