"""PyTorch competitors: batched matrix products over all configurations, in place, on the CPU.

One Python loop over presentations and steps, as PyTorch code is written; `torch.compile` fuses what is inside a step.
"""

import importlib.util
import os
import shutil
import time
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.contract import Competitor, Cost, Setting, stages
from benchmarks.workloads import TAU_PROP, Problem, T

LONGEST = 4096  # presentations of a run

Matrices = list[Any]  # torch tensors, one per layer


def competitors(ladder: tuple[Setting, ...], with_compile: bool = True) -> list[Competitor]:
    """Eager Euler and RK4, and both under torch.compile."""
    schemes = (("Euler", euler, 1), ("RK4", rk4, 4))

    def one(scheme: str, step: Callable, evaluations: int, compiled: bool) -> Competitor:
        kind = "compile" if compiled else "eager"
        return Competitor(
            f"PyTorch {kind} {scheme}",
            f"torch-{kind}",
            ladder,
            lambda problem: TorchProgram(problem, step, evaluations, compiled),
            stages(evaluations),
            like=f"PyTorch eager {scheme}" if compiled else "scan " + scheme + ", vmap",
            missing=_missing(compiled, with_compile),
        )

    return [one(*scheme, compiled) for compiled in (False, True) for scheme in schemes]


def _missing(compiled: bool, with_compile: bool) -> str | None:
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    if jax.default_backend() != "cpu":
        return "runs on the CPU only: not compared with an accelerator"
    if compiled and not with_compile:
        return "left out by --quick"
    if compiled and shutil.which("g++") is None:
        return "torch.compile needs a C++ compiler"
    return None


def slopes(weights: Matrices, z: Matrices, e: Matrices, x: Any, y: Any, feedback: Matrices) -> tuple[Matrices, ...]:
    """What z and e relax to, and the presynaptic activities; all of shape (configurations, n, 1)."""
    import torch  # pyright: ignore[reportMissingImports]

    sources = [x, *z[:-1]]
    f = [torch.bmm(w, p) for w, p in zip(weights, sources, strict=True)]
    for hidden in f[:-1]:
        hidden.tanh_()
    credit = [torch.bmm(v, above).mul_(1 - g * g) for v, above, g in zip(feedback, e[1:], f, strict=False)]
    return f, [*credit, y - z[-1]], sources


def euler(weights: Matrices, z: Matrices, e: Matrices, x: Any, y: Any, feedback: Matrices, rate: Any, fast: Any):
    """One Euler step in place; `rate` is dt/tau_plast by configuration, `fast` is dt/tau_prop."""
    f, credit, sources = slopes(weights, z, e, x, y, feedback)
    for w, m, p in zip(weights, e, sources, strict=True):
        w.baddbmm_(m * rate, p.mT)
    for value, goal in zip(z + e, f + credit, strict=True):
        value.lerp_(goal, fast)


def rk4(weights: Matrices, z: Matrices, e: Matrices, x: Any, y: Any, feedback: Matrices, rate: Any, fast: Any):
    """One RK4 step in place. A stage's change of W has rank one, the step's has rank four: no slope of W is stored."""
    import torch  # pyright: ignore[reportMissingImports]

    now_w, now_z, now_e = weights, z, e
    total = [torch.zeros_like(value) for value in z + e]
    posts, pres = [[] for _ in weights], [[] for _ in weights]
    for stage, (weight, ahead) in enumerate(((1 / 6, 0.5), (1 / 3, 0.5), (1 / 3, 1.0), (1 / 6, 0.0))):
        f, credit, sources = slopes(now_w, now_z, now_e, x, y, feedback)
        m = [each * rate for each in now_e]
        for i, (post, pre) in enumerate(zip(m, sources, strict=True)):
            posts[i].append(weight * post)
            pres[i].append(pre)
        k = [(goal - value).mul_(fast) for goal, value in zip(f + credit, now_z + now_e, strict=True)]
        for sum_, each in zip(total, k, strict=True):
            sum_.add_(each, alpha=weight)
        if stage < 3:
            triples = zip(weights, m, sources, strict=True)
            now_w = [torch.baddbmm(w, post, pre.mT, alpha=ahead) for w, post, pre in triples]
            moved = [torch.add(value, each, alpha=ahead) for value, each in zip(z + e, k, strict=True)]
            now_z, now_e = moved[: len(z)], moved[len(z) :]
    for w, post, pre in zip(weights, posts, pres, strict=True):
        w.baddbmm_(torch.cat(post, 2), torch.cat(pre, 2).mT)
    for value, sum_ in zip(z + e, total, strict=True):
        value.add_(sum_)


class TorchProgram:
    """A competitor in PyTorch; `compile` makes the step function, where asked, and is shared by all settings."""

    def __init__(self, problem: Problem, step: Callable, evaluations: int, compiled: bool):
        import torch  # pyright: ignore[reportMissingImports]

        self._problem, self._step, self._evaluations, self._compiled = problem, step, evaluations, compiled
        self._inputs, self._targets = torch.from_numpy(problem.inputs), torch.from_numpy(problem.targets)
        self._feedback = [torch.from_numpy(v) for v in problem.feedback]
        self._tau = torch.from_numpy(problem.taus)[:, None, None]
        self._order = problem.order(LONGEST).astype(int)
        self._threads = os.cpu_count() or 1
        self._cost: Cost | None = None
        if compiled:
            torch._dynamo.config.recompile_limit = 64  # every problem has its own shapes: not a sign of trouble
            self._step = torch.compile(step, dynamic=False, fullgraph=True)

    def compile(self, setting: Setting) -> Cost:
        if self._cost is None:
            began = time.perf_counter()
            self.run(1, 1)  # torch.compile works while the first step runs
            self._cost = Cost(time.perf_counter() - began if self._compiled else 0.0, self._bytes())
            self._threads = min((1, self._threads), key=self._seconds_with)  # small products may not gain from more
        return self._cost

    def _seconds_with(self, threads: int) -> float:
        """Seconds of a hundred steps with this many threads."""
        self._threads, began = threads, time.perf_counter()
        for _ in range(10):
            self.run(10, 1)
        return time.perf_counter() - began

    def run(self, setting: Setting, presentations: int) -> Matrices:
        import torch  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(self._threads)
        with torch.no_grad():
            weights = [torch.from_numpy(w).clone() for w in self._problem.weights]
            z, e = ([w.new_zeros(w.shape[0], w.shape[1], 1) for w in weights] for _ in range(2))
            rate, fast = T / setting / self._tau, torch.tensor(T / setting / TAU_PROP, dtype=torch.float32)
            for k in range(presentations):
                x, y = self._inputs[self._order[:, k], :, None], self._targets[self._order[:, k], :, None]
                for _ in range(int(setting)):
                    self._step(weights, z, e, x, y, self._feedback, rate, fast)
        return weights

    def _bytes(self) -> int:
        """Tensors that a run holds: samples, V, W at the start and now, z and e; RK4 also W, z and e of a stage."""
        weights = sum(w.nbytes for w in self._problem.weights)
        units = sum(2 * 4 * w.shape[0] * w.shape[1] for w in self._problem.weights)
        fixed = sum(a.nbytes for a in (*self._problem.feedback, self._problem.inputs, self._problem.targets))
        return fixed + weights + (2 if self._evaluations == 4 else 1) * (weights + units)
