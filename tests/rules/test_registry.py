"""Rules by name: what a spec may say, and the sentence that it is told otherwise."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dynamics.circuit import Circuit
from dynamics.errors import PlasticodeError
from dynamics.network import Network
from rules import FA, KP, SGD, AbstractRule, Curl, Heterosynaptic, Momentum
from rules.registry import RULES, check_numbers, make_rule, rule_class, rule_fields
from rules.template import Template
from tests.problems import TINY


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_made_from_its_name_alone(name):
    assert type(make_rule(name, {})) is RULES[name]
    assert jax.tree.all(jax.tree.map(jnp.array_equal, make_rule(name, rule_fields(name)), make_rule(name, {})))


def test_parameters_are_set():
    rule = make_rule("heterosynaptic", {"feedback_scale": 2, "wiring": "identity", "feedback_units": 3})
    assert isinstance(rule, Heterosynaptic)
    assert (float(rule.feedback_scale), rule.wiring, rule.feedback_units) == (2.0, "identity", 3)
    assert jnp.issubdtype(rule.feedback_scale.dtype, jnp.floating)  # although the spec had an integer


def test_a_wrapped_rule_is_given_by_name_or_as_a_table():
    plain = make_rule("curl", {"credit": "fa"})
    assert isinstance(plain, Curl) and isinstance(plain.credit, FA)
    rule = make_rule("curl", {"credit": {"name": "fa", "feedback_scale": 2.0}, "flips": [0.1, 0.2], "clamp": True})
    assert isinstance(rule, Curl) and isinstance(rule.credit, FA) and rule.clamp
    assert float(rule.credit.feedback_scale) == 2.0 and rule.flips.tolist() == [0.1, 0.2]


def test_a_rule_of_ones_own_is_named_by_module_and_class():
    assert rule_class("rules.template:Template") is Template
    rule = make_rule("rules.template:Template", {"feedback_scale": 0.5})
    assert isinstance(rule, Template) and float(rule.feedback_scale) == 0.5


def test_numbers_of_a_rule_are_floating_point_arrays():
    """An integer would make the random matrices that it scales integers too."""
    two: Any = 2
    assert jnp.issubdtype(FA(feedback_scale=two).feedback_scale.dtype, jnp.floating)
    assert FA(feedback_scale=jnp.float32(2)).feedback_scale.dtype == jnp.float32


def test_fields_of_a_rule_and_their_defaults():
    assert rule_fields("curl") == {"credit": "sgd", "flips": 0.1, "clamp": False}
    assert rule_fields("sgd") == {}
    assert isinstance(SGD(), rule_class("sgd")) and isinstance(KP(), rule_class("kp"))


REFUSED = {
    "unknown rule": ("hebian", {}, "rule 'hebian' is not known: it must be one of .*did you mean 'hebbian'"),
    "unknown module": ("no_module:Rule", {}, "rule 'no_module:Rule' cannot be imported.*module and a class"),
    "no module": (":Rule", {}, "rule ':Rule' cannot be imported"),
    "unknown class": ("rules.template:Tmplate", {}, "'rules.template:Tmplate' does not exist.*did you mean 'Template'"),
    "no class": ("rules.template:", {}, "does not exist"),
    "not a rule": ("dynamics.network:Network", {}, "is not a rule.*must derive from plasticode.AbstractRule"),
    "not a class": ("rules.registry:make_rule", {}, "is not a rule"),
    "abstract": ("rules.contract:AbstractRule", {}, "is not a rule"),
    "unknown parameter": ("fa", {"feedback_scal": 1.0}, "parameter of rule 'fa' 'feedback_scal'.*'feedback_scale'"),
    "parameter of a rule without": ("sgd", {"flips": 1.0}, "'flips' is not known"),
    "text for a number": ("fa", {"feedback_scale": "big"}, "rule.feedback_scale = 'big' is not allowed.*a number"),
    "truth value for a number": ("curl", {"flips": True}, "rule.flips = True is not allowed.*a number"),
    "texts for numbers": ("curl", {"flips": ["a"]}, r"rule.flips = \['a'\] is not allowed"),
    "ragged list": ("curl", {"flips": [0.1, [0.2]]}, "rule.flips = .* is not allowed"),
    "list for one number": ("fa", {"feedback_scale": [1.0, 2.0]}, r"rule.feedback_scale = \[1.0, 2.0\] is not allowed"),
    "nested list": ("curl", {"flips": [[0.1]]}, r"rule.flips = \[\[0.1\]\] is not allowed"),
    "number for a truth value": ("curl", {"clamp": 1}, "rule.clamp = 1 is not allowed.*must be of type bool"),
    "number for a text": ("hebbian", {"readout": 1}, "rule.readout = 1 is not allowed.*must be of type str"),
    "float for an integer": ("heterosynaptic", {"feedback_units": 2.5}, "rule.feedback_units = 2.5.*of type int"),
    "unknown wrapped rule": ("curl", {"credit": "gfa"}, "rule 'gfa' is not known.*did you mean 'fa'"),
    "wrapped rule without name": ("curl", {"credit": {"feedback_scale": 2.0}}, "rule.credit = .*must be .*name"),
    "wrapped rule that is none": ("curl", {"credit": 3}, "rule.credit = 3 is not allowed.*must be .*name"),
    "wrong parameter of a wrapped rule": ("curl", {"credit": {"name": "fa", "flips": 1}}, "rule 'fa' 'flips'"),
}


@pytest.mark.parametrize(("name", "parameters", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_rule_is_refused_in_a_sentence(name, parameters, sentence):
    with pytest.raises(PlasticodeError, match=sentence) as caught:
        make_rule(name, parameters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("flips", [-0.1, 0.0, 0.5, 1.0, 1.1, np.nan])
def test_the_ends_of_a_range_are_allowed_and_what_lies_beyond_is_refused(flips):
    if 0 <= flips <= 1:
        check_numbers("curl", "flips", np.array([0.5, flips]))
        return
    with pytest.raises(PlasticodeError, match=f"rule.flips = {flips} is not allowed.*from 0 to 1"):
        check_numbers("curl", "flips", np.array([0.5, flips]))


def test_the_allowed_rules_are_listed():
    with pytest.raises(PlasticodeError, match="must be one of " + ", ".join(sorted(RULES))):
        make_rule("x", {})


def test_heterosynaptic_wiring_has_two_names():
    with pytest.raises(PlasticodeError, match="rule.wiring 'randm' is not known.*did you mean 'random'"):
        Heterosynaptic(wiring="randm").wire(TINY.network)


class Wrapping(AbstractRule):
    """A wrapper as those of the package, out of reach of the checks of types that only tests have."""

    reference = "@misc{none, title={None}}"
    credit: AbstractRule = SGD()

    def wire(self, network: Network) -> Circuit:
        return self.credit.wire(network)


@pytest.mark.parametrize("credit", ["fa", FA, 3.0, {"name": "fa"}, None])
def test_what_is_no_rule_is_refused_where_a_rule_is_wrapped(credit: Any):
    with pytest.raises(
        PlasticodeError, match=r"Wrapping has credit = .*: it must be a rule, such as SGD\(\) or FA\(\)"
    ):
        Wrapping(credit=credit)


@pytest.mark.parametrize("value", ["0.5 s", None])
def test_what_is_no_number_is_refused_where_a_number_is(value: Any):
    with pytest.raises(PlasticodeError, match="a rule has .* where a number should be: it must be a number"):
        Momentum(inertia=value)
