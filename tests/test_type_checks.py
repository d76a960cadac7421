"""Shapes and types are checked at run time, by jaxtyping's hook: where, and that a wrong one is found there."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import jaxtyping
import pytest

from dynamics.jacobian import antisymmetric_part
from experiments.predictions.continuous.accuracies import in_t
from rules.replicas import _marked

TESTS = Path(__file__).parent
CHECKED = ("dynamics", "rules")  # folders, all files of which are
NOT_SQUARE: Any = jnp.ones((2, 2, 2))
NO_NUMBER: Any = "2"
NO_NAME: Any = 2

# Of each package a call that would do, were the types of no matter.
WRONG = {
    "dynamics": lambda: antisymmetric_part(NOT_SQUARE),
    "rules": lambda: _marked(NO_NAME, 1),
    "experiments": lambda: in_t(NO_NUMBER),
}


@pytest.mark.parametrize("package", WRONG)
def test_a_wrong_type_is_found_in_every_package(package):
    with pytest.raises(jaxtyping.TypeCheckError):
        WRONG[package]()


@pytest.mark.parametrize("folder", CHECKED)
def test_the_engine_and_the_rules_are_tested_with_checks(folder):
    texts = {path: path.read_text() for path in (TESTS / folder).rglob("*.py")}
    assert len(texts) > 10
    assert [str(path) for path, text in texts.items() if "unchecked" in text or "jaxtyping_disable" in text] == []


def test_files_that_say_so_go_without(unchecked_types):
    """The last test here, as the fixture is the file's."""
    for call in WRONG.values():
        call()
