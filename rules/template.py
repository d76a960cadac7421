"""A rule to copy: an error-driven rule with random feedback (it is FA), each part commented.

To write your own rule: copy this file, rename the class, change `wire`. Add it to rules/__init__.py, to `RULES` in
rules/registry.py and to `ALL_RULES` in tests/problems.py, and the tests of the matrix run on it. To use it without
touching this package, name it in a spec as `rule = "your_module:YourRule"`.
"""

from typing import ClassVar

from jaxtyping import Array, Float

from dynamics.circuit import Circuit, Error, Gaussian, TwoFactor
from dynamics.network import Network
from rules.contract import AbstractRule, number


class Template(AbstractRule):
    """One sentence that says what is special about the rule.

    Equation        tau_plast W_l' = e_l z_{l-1}^T,  tau_prop e_l' = -e_l + f'(a_l) * (V_{l+1} e_{l+1})
    Discrete limit  the published update that it becomes, with eta = T/tau_plast
    Locality        local, or what it is that a synapse would have to know
    Shapes          of the matrices that the rule adds, with their units
    Errors          what the rule needs of its task
    Reference       bibtex key and DOI
    """

    reference: ClassVar[str] = "@misc{template, title={A rule to copy}}"
    feedback_scale: Float[Array, ""] = number(1.0)  # a number: can be set and swept as rule.feedback_scale

    def wire(self, network: Network) -> Circuit:
        # 1. The forward projections, all with one law: post-factor e (the learning signal) times what they carry (z).
        forward = network.forward(TwoFactor(Error()))
        # 2. The feedback: one projection back over every matrix that starts in a hidden layer, each with fixed random
        #    numbers. (Written out, one is Projection("V2", "z2", "error", "z1", "modulatory", random, level=2).)
        random = Gaussian(self.feedback_scale, fan="target")
        feedback = network.feedback(random)
        # 3. The circuit. Every regime and integrator now knows the rule.
        return Circuit(network.layers(), forward + feedback)
