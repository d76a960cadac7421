"""What tests of rules share."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def programs_stay_here(unkept_programs: None) -> None:
    """They are found by the tests of this process alone."""
