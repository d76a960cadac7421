"""What the command line prints where there is little room."""

import pytest

from experiments.commands.terminal import print_table
from experiments.results.text_tables import TextTable

NAMES = [f"alignment W{level}~{copy}" for level in range(1, 5) for copy in range(3)]
RULES = ["equilibrium-propagation", "fa"]
TABLE = TextTable("finals", ["rule", "accuracy", *NAMES], [[rule, "0.8", *["0.7286"] * len(NAMES)] for rule in RULES])


@pytest.mark.parametrize("width", [110, 160])
def test_a_table_that_is_too_wide_keeps_its_first_columns_whole(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(TABLE)
    told = capsys.readouterr().out
    shown = told.count("alignment", 0, told.index("Too wide"))
    assert 4 < shown < len(NAMES)
    assert f"Too wide for {width} characters: {', '.join(NAMES[shown:])}." in told
    lines = [line.split() for line in told.splitlines()]
    assert [line for line in lines if line[:1] and line[0] in RULES] == [[r, "0.8", *["0.7286"] * shown] for r in RULES]


def test_a_table_that_fits_is_shown_as_it_is(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    print_table(TABLE)
    told = capsys.readouterr().out
    assert "Too wide" not in told and told.count("0.7286") == 2 * len(NAMES)
