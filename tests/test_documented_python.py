"""The code blocks of docs/python.md run as they stand, one after the other, as in a notebook."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from tests.compilations import compilations

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.usefixtures("unchecked_types")
def test_the_page_runs():
    shown: dict = {"__name__": "page"}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"block {number} of {PAGE.name}", "exec"), shown)
    plt.close("all")
    before = compilations()
    shown["plasticode"].run(shown["spec"], {"delays.error": "40 ms", "timescales.plasticity": "2 s"}, seed=4)
    assert compilations() == before
    assert shown["result"].complete and shown["late"].shape == (2,) and shown["good"].accuracy.notnull().all()
    assert shown["recording"].presentations.tolist() == [*range(0, 201, 40), *range(220, 301, 20)]
    assert shown["recording"].status == "ok" and shown["recording"].probes[-1] < shown["recording"].probes[0]
