"""What a competitor of the side-by-side benchmark is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from benchmarks.workloads import Problem, Workload

TARGETS = (1e-2, 1e-3)  # relative errors of the weight change
STEPS = (5, 8, 10, 12, 16, 20, 25, 32, 50, 100, 200, 500, 1000, 2000)  # per presentation
QUICK_STEPS = (10, 16, 25, 50, 200, 1000)

Setting = float  # steps per presentation, or a tolerance


class Cost(NamedTuple):
    """What a program costs before it runs: seconds of compilation, and bytes of memory while it runs."""

    compile_seconds: float
    memory_bytes: int


class Program(Protocol):
    """One competitor on one problem."""

    def compile(self, setting: Setting) -> Cost:
        """Makes `run` ready for `setting`; what is ready is not made again."""
        ...

    def run(self, setting: Setting, presentations: int) -> Sequence[Any]:
        """The final W_1 .. W_L, each (configurations, targets, sources), when they are there."""
        ...


@dataclass(frozen=True)
class Competitor:
    """A method in one implementation.

    ladder      settings from the cheapest to the dearest; the first that is accurate enough is the one that is timed
    flops       floating-point operations of its matrix products per presentation and configuration (None: not known)
    like        the competitor of the same method whose accepted settings this one takes over (and has checked)
    applies     whether the competitor makes sense on a problem of this many configurations
    missing     why it cannot run here; None if it can
    least       presentations of a timing, at least
    """

    name: str
    family: str
    ladder: tuple[Setting, ...]
    prepare: Callable[[Problem], Program]
    flops: Callable[[Workload, Setting], float | None]
    like: str | None = None
    applies: Callable[[int], bool] = lambda configurations: True
    missing: str | None = None
    least: int = 1

    def label(self, setting: Setting) -> str:
        """The setting, in words."""
        if self.family == "window":
            nodes, sweeps = f"{setting:.1f}".split(".")
            return f"{nodes} nodes, {sweeps} sweeps"
        return f"{setting:g} steps" if setting >= 1 else f"tolerance {setting:g}"


def stages(count: int) -> Callable[[Workload, Setting], float]:
    """The operations of a Runge-Kutta method that evaluates the equations `count` times per step."""
    return lambda workload, steps: workload.flops_per_stage * count * steps
