"""`import plasticode`: every public name, typed, documented, and imported when it is first used."""

import subprocess
import sys
from pathlib import Path

import pytest

import plasticode
from rules.registry import RULES

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 2.0  # for the import alone, on a busy machine; it takes a tenth


@pytest.mark.parametrize("name", dir(plasticode))
def test_every_name_is_there_and_documented(name):
    value = getattr(plasticode, name)
    assert getattr(plasticode, name) is value and (name == "__version__" or value.__doc__.strip())


def test_importing_it_imports_nothing_else():
    code = (
        "import sys, time; begun = time.perf_counter(); import plasticode; took = time.perf_counter() - begun; "
        "print(took, *(name in sys.modules for name in ('jax', 'numpy', 'dynamics', 'rules', 'experiments')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    took, *imported = done.stdout.split()
    assert float(took) < SECONDS and set(imported) == {"False"}


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(plasticode, "nothing")  # noqa: B009  a type checker knows that it is not there


def test_a_run_from_a_spec_in_memory():
    spec = plasticode.make_spec(
        {
            "regime": "discrete",
            "task": {"name": "circles", "samples": 40},
            "network": {"hidden": [2]},
            "stimulus": {"presentations": 4},
            "record": {"points": 2},
        }
    )
    assert plasticode.run(spec).datasets[""]["accuracy"].sizes == {"record": 3}


def test_every_rule_is_public():
    assert {rule.__name__ for rule in RULES.values()} <= set(dir(plasticode))
