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
