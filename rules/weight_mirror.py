"""Weight mirror: noise shows the feedback matrices what the forward ones are."""

import dataclasses
from typing import ClassVar

from jaxtyping import Array, Float

from dynamics.circuit import (
    Activity,
    Circuit,
    Constant,
    Draw,
    Error,
    Gaussian,
    Layer,
    Outer,
    Projection,
    Scaled,
    Shared,
    TwoFactor,
)
from dynamics.network import Network
from rules.contract import AbstractRule, number


class WeightMirror(AbstractRule):
    """Weight mirror: feedback matrices learn the transpose of the forward ones from noise, and carry errors meanwhile.

    Equation        tau_plast W_l' = e_l z_{l-1}^T,  tau_prop e_l' = -e_l + f'(a_l) * (V_{l+1} e_{l+1})
                    tau_plast V_{l+1}' = x_l m_{l+1}^T - decay V_{l+1},  tau_prop m_{l+1}' = -m_{l+1} + f(W_{l+1} x_l),
                    x_l ~ N(0, noise^2) drawn anew for each presentation
    Two modes       the paper alternates between engaged and mirror mode. Here each presentation has both: the second
                    runs in a copy of the network, m_l = z_l', without biases, where every layer meets noise in place
                    of the layer below. That is the limit of quick alternation, and exact in discrete updates.
    Stationary      V = W^T noise^2 <f'> / decay on average, at the rate decay / tau_plast; linear units: <f'> = 1. In
                    coupled runs times (T - tau_prop (1 - exp(-T/tau_prop))) / (T + g): m lags, and V decays in gaps
    Discrete limit  W_l += eta e_l z_{l-1}^T, V_{l+1} += eta (x_l m_{l+1}^T - decay V_{l+1}), eta = T/tau_plast
    Locality        not local as it is wired: the copy uses the matrices of the network
    Shapes          V_{l+1} (n_l, n_{l+1}) ~ N(0, feedback_scale^2 / n_l); `noise` in units of z, `decay` a number
    Errors          needs a target: an unsupervised task is refused; there is no weight flow of what is drawn
    Reference       bibtex: akrout2019deep (arXiv:1904.05391)
    """

    reference: ClassVar[str] = (
        "@inproceedings{akrout2019deep, title={Deep Learning without Weight Transport}, author={Akrout, Mohamed and "
        "Wilson, Collin and Humphreys, Peter C. and Lillicrap, Timothy and Tweed, Douglas B.}, booktitle={Advances in "
        "Neural Information Processing Systems}, year={2019}, note={arXiv:1904.05391}}"
    )
    noise: Float[Array, ""] = number(1.0, low=0.0)
    decay: Float[Array, ""] = number(1.0, low=0.0)
    feedback_scale: Float[Array, ""] = number(1.0)

    def wire(self, network: Network) -> Circuit:
        layers, wires = network.layers(), network.forward(TwoFactor(Error()))
        wires += network.feedback(Gaussian(self.feedback_scale, fan="target"))
        edges = network.backward_edges()
        for i in sorted({s for s, _, _ in edges}):
            layers += (Layer(f"x{i}", network.sizes[i], source=Draw(self.noise), level=i),)
        for i in sorted({t for _, t, _ in edges}):
            copied = next(layer for layer in network.layers() if layer.name == f"z{i}")
            layers += (dataclasses.replace(copied, name=f"z{i}'", role="hidden"),)
        law = Outer(Activity(), pre=Activity()), Scaled(Constant(-self.decay))
        for s, t, name in edges:
            x, m, back = f"x{s}", f"z{t}'", f"V{name[1:]}"
            wires += (
                Projection(f"{name}'", x, "activity", m, "forward", Shared(name), level=t),
                Projection(f"{back}'", m, "activity", x, "mirror", Shared(back), law, level=t),
            )
        return Circuit(layers, wires)
