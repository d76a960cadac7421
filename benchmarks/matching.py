"""Matched accuracy: the cheapest setting of a competitor that reaches a relative error of the weight change."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.contract import TARGETS, Competitor, Program, Setting
from benchmarks.workloads import Problem


class Accepted(NamedTuple):
    """A setting, its errors (median and worst over configurations), and what it took on the small problem."""

    setting: Setting
    median: float
    worst: float
    seconds: float  # per presentation and configuration


def relative_errors(weights: Sequence[Any], reference: Sequence[Any], start: Sequence[Any]) -> np.ndarray:
    """|W - W_ref| / |W_ref - W_0| by configuration: Frobenius norms over all matrices. Infinite where not finite."""

    def norms(left: Sequence[Any], right: Sequence[Any]) -> np.ndarray:
        pairs = zip(left, right, strict=True)
        return np.sqrt(sum(((np.asarray(a, float) - np.asarray(b, float)) ** 2).sum((1, 2)) for a, b in pairs))

    with np.errstate(all="ignore"):
        errors = norms(weights, reference) / norms(reference, start)
    return np.where(np.isfinite(errors), errors, np.inf)


def search(
    program: Program, ladder: Sequence[Setting], problem: Problem, reference: Sequence[np.ndarray]
) -> tuple[dict[float, Accepted], Accepted]:
    """The first setting of `ladder` (cheapest first) whose median error meets each target, and the most accurate one.

    Targets not met are absent. A setting that is unstable gives inf or nan and is simply not accepted. A tolerance must
    also be the target or less: who asks for a tolerance does not know the error.
    """
    presentations, accepted = problem.workload.reference_presentations, {}
    closest = None
    for setting in ladder:
        program.compile(setting)
        began = time.perf_counter()
        weights = program.run(setting, presentations)
        seconds = (time.perf_counter() - began) / presentations / problem.configurations
        errors = relative_errors(weights, reference, problem.weights)
        found = Accepted(setting, float(np.median(errors)), float(errors.max()), seconds)
        closest = found if closest is None or found.median < closest.median else closest
        for target in TARGETS:
            honest = setting >= 1 or setting <= target
            if found.median <= target and honest and target not in accepted:
                accepted[target] = found
        if len(accepted) == len(TARGETS):
            break
    assert closest is not None
    return accepted, closest


def ladder_of(competitor: Competitor, known: dict[str, dict[float, Accepted]]) -> tuple[Setting, ...]:
    """The settings to try: those that the competitor's twin was accepted with come first, then the ladder above them.

    The twin integrates the same equations by the same method, so nothing below can be accurate enough.
    """
    if competitor.like not in known:
        return competitor.ladder
    twins = sorted({found.setting for found in known[competitor.like].values()})
    return (*twins, *(setting for setting in competitor.ladder if twins and setting > max(twins)))
