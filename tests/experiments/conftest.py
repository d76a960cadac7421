"""What tests of runs share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forks import DRAWN


@pytest.fixture(scope="module", autouse=True)
def small_pictures() -> Iterator[None]:
    """What is drawn is the same, and quicker."""
    from experiments.report import figures  # not before jaxtyping's hook is there

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(figures.STYLE, "savefig.dpi", 30)
        yield


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Figures are made, and an empty picture is written of each: a seventh of a short run, whose files are tested."""
    from experiments.report import figures

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures.Figure, "savefig", lambda _, file: Path(file).write_bytes(DRAWN))
        yield
