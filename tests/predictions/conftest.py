"""What tests of predictions share."""

import jax
import pytest


@pytest.fixture
def plant(monkeypatch):
    """Puts a defect into the engine, and makes all be compiled anew; afterwards the programs with it are forgotten."""

    def planted(target, name, defect):
        jax.clear_caches()
        monkeypatch.setattr(target, name, defect)

    yield planted
    jax.clear_caches()
