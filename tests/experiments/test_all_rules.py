"""Every rule by its name alone: a spec of it is checked with the usual probes, and it can be shown."""

import tomllib

import pytest

from experiments.commands.catalogue import described
from experiments.points.jobs import prepare
from experiments.spec.loading import make_spec
from rules.registry import RULES, rule_class
from tests.problems import ENGINE_RULES

pytestmark = pytest.mark.usefixtures("unchecked_types")


@pytest.mark.parametrize("name", sorted(set(RULES) - set(ENGINE_RULES)))
def test_a_spec_of_a_rule_can_be_run_with_the_usual_probes(name):
    """All shapes are traced: what probes ask of the circuit is there."""
    units = getattr(rule_class(name), "activation", "tanh")
    network = {"hidden": [3], "activation": units}
    network |= {"output_activation": units, "loss": "squared"} if units == "sigmoid" else {}
    spec = {"rule": name, "task": {"name": "circles"}, "network": network, "stimulus": {"presentations": 10}}
    assert prepare(make_spec(spec | {"integrator": {"name": "euler"}}))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_shown_with_its_parameters(name):
    text = described(name)
    table = text.partition("[rule]\n")[2].partition("\n\n")[0]
    assert make_spec({"rule": tomllib.loads(table)}).rule.name == name
