"""What tests of runs share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def small_pictures() -> Iterator[None]:
    """What is drawn is the same, and quicker."""
    from experiments.report import figures  # not before jaxtyping's hook is there

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(figures.STYLE, "savefig.dpi", 30)
        yield


@pytest.fixture(scope="module")
def compiled_once() -> Iterator[None]:
    """The runs of a file share their programs, if they have the same plan and the same functions of a point, and what
    tracing tells before.

    For files whose tests run one spec again and again, and whose rules are ours: a user's own code may have changed.
    """
    from experiments.execution import programs
    from experiments.points import jobs

    real, made = programs.compiled, {}
    fresh, told = jobs._Found, jobs._Found()

    def once(job, size):
        name = repr(job.plan), size, programs.init_point, programs.advance_point, programs.measure_point
        if name not in made:
            made[name] = real(job, size)
        return made[name]

    def found():
        one = fresh()
        vars(one).update({what: known for what, known in vars(told).items() if what != "data"})  # of its own precision
        return one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "compiled", once)
        patch.setattr(jobs, "_Found", found)
        yield
