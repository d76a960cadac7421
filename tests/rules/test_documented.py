"""The rules that the documentation shows wire networks of any depth as they stand."""

import re
from pathlib import Path

import pytest

from dynamics.network import Network
from rules import AbstractRule
from tests.problems import f64

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "write-a-rule.md").read_text(encoding="utf-8")
SHOWN: dict = {"__name__": "my_rules"}
exec("\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), SHOWN)


@pytest.mark.parametrize("name", ["FA", "ThreeFactor", "Lateral", "Sparse", "Chain", "Bounded"])
@pytest.mark.parametrize("sizes", [(3, 2), (3, 4, 2), (3, 4, 5, 2)])
def test_a_rule_of_the_documentation_wires_a_network(name, sizes):
    rule: AbstractRule = SHOWN[name]()
    plastic = {p.name for p in rule.wire(Network(sizes, gain=f64(1.0))).plastic}
    assert plastic >= {f"{kind}{i}" for kind in "Wb" for i in range(1, len(sizes))}
