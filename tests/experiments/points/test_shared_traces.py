"""Programs that are alike share a trace: many are checked quickly, to the same end as each by itself."""

import time

import pytest

from dynamics.errors import PlasticodeError
from dynamics.plugins import look_in
from experiments.points.jobs import job_of, prepare
from experiments.spec.loading import make_spec

pytestmark = pytest.mark.usefixtures("unchecked_types")
TASK = {"name": "circles", "samples": 20}
WIDTHS = [[2], [3], [2, 2]]
PROBES = ["loss", "weight_norm"]
RULE = """
from rules.feedback_alignment import FA

class Narrow(FA):
    def wire(self, network):
        if network.sizes[1] > 2:
            raise ValueError("too wide")
        return super().wire(network)
"""


@pytest.mark.parametrize("regime", ["coupled", "flow"])
def test_a_program_is_as_large_as_it_is_alone(regime):
    axes = {"rule": ["fa", "kp"], "network.activation": ["tanh", "relu"]}
    sweep = {**axes, "network.hidden": WIDTHS, "zip": [list(axes)]}
    spec = make_spec({"regime": regime, "task": TASK, "record": {"probes": PROBES}, "sweep": sweep})
    for number, job in enumerate(prepare(spec)[""]):
        sizes = [(one.state_bytes, one.weight_bytes, one.point_bytes) for one in (job, job_of(spec, "", number))]
        assert sizes[0] == sizes[1], (number, job.plan)


def test_hundreds_of_programs_are_checked_in_seconds():
    widths, seeds = [[n] for n in range(2, 12)], list(range(10))
    axes = {"network.hidden": widths, "network.activation": ["tanh", "relu"], "task.seed": seeds}
    spec = make_spec({"task": TASK, "sweep": axes})
    began = time.process_time()
    assert len(prepare(spec)[""]) == 200
    assert time.process_time() - began < 5


def test_a_rule_that_fits_only_some_networks_is_refused(tmp_path):
    """The user's own code is tried on every width, however much alike the networks are."""
    (tmp_path / "narrow_rule.py").write_text(RULE)
    look_in(tmp_path)
    spec = make_spec({"task": TASK, "rule": "narrow_rule:Narrow", "sweep": {"network.hidden": [[2], [3]]}})
    with pytest.raises(PlasticodeError, match="too wide.*narrow_rule.py, line 7"):
        prepare(spec)
