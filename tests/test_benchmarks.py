"""The benchmarks compare like with like. Their timings are for docs/benchmarks.md: a loaded machine would fail them."""

from benchmarks.against_scan import measure


def test_engine_and_hand_written_scan_integrate_the_same_equations():
    """An independent implementation of the coupled equations, step by step: equal to float32 rounding."""
    assert measure(configurations=2, presentations=5, repeats=1)["largest_relative_difference"] < 1e-5
