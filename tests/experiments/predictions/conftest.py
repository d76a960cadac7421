"""What tests of predictions share."""

import inspect
import textwrap

import jaxtyping
import pytest
from matplotlib.figure import Figure

from dynamics.kept import forget
from experiments.predictions.contract import AbstractPrediction


@pytest.fixture(scope="module", autouse=True)
def small_pictures():
    """Pictures of predictions have their own size, unlike those of runs: a browser measures them."""


@pytest.fixture(autouse=True)
def programs_of_patched_code(request):
    """Are not found by other tests, nor theirs by tests that patch."""
    patches = "monkeypatch" in request.fixturenames
    if patches:
        forget()
    yield
    if patches:
        forget()


@pytest.fixture(scope="module", autouse=True)
def claims_alone(unjudged, unchecked_types):
    """Claims are about numbers, which nothing that judges runs or checks types changes: both take half of the time."""


@pytest.fixture
def plant(monkeypatch):
    """Puts a defect into the engine, and makes all be compiled anew. From then on types are not checked, a tenth of the
    time of what traces, and no figures drawn, which tests without a defect do: a claim must find the defect."""

    def planted(target, name, defect):
        forget()
        monkeypatch.setattr(target, name, defect)
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        for prediction in descendants(AbstractPrediction):
            if "_drawn" in vars(prediction):
                monkeypatch.setattr(prediction, "_drawn", lambda *_, **__: Figure())

    return planted


def descendants(cls):
    """All subclasses so far."""
    return [one for child in cls.__subclasses__() for one in (child, *descendants(child))]


@pytest.fixture
def rewrite(plant):
    """Plants a function whose text says `new` where it said `old`, for all who have imported it."""

    def rewritten(function, old, new):
        plain, made = inspect.unwrap(function), {}
        text = textwrap.dedent(inspect.getsource(plain))
        assert text.count(old) == 1, f"'{old}' is not once in:\n{text}"
        exec(f"from __future__ import annotations\n{text.replace(old, new)}", plain.__globals__, made)
        plant(plain, "__code__", made[plain.__name__].__code__)

    return rewritten
