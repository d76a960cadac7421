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
    """The runs of a file share their programs, if they have the same plan and the same functions of a point.

    For files whose tests run one spec again and again, and whose rules are ours: a user's own code may have changed.
    """
    from experiments.execution import programs

    real, made = programs.compiled, {}

    def once(job, size):
        name = repr(job.plan), size, programs.init_point, programs.advance_point, programs.measure_point
        if name not in made:
            made[name] = real(job, size)
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "compiled", once)
        yield
