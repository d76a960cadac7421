"""What a compiled run asks of a device for every presentation, and whether other devices could run it.

Both are read in texts of programs, so that no device is needed and a small network will do. A kernel is an instruction
that is carried out: a fusion, a product, a copy, but not what only names or regroups values. Where the count of a loop
or the branch of a condition is computed, the host of a GPU may wait to see it: such looks are counted too.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.export

PLATFORMS = ("cuda", "rocm", "tpu")
# What is called by name and is there: random bits on GPUs, and marks of how arrays are spread.
PROVIDED = {"cu_threefry2x32_ffi", "hip_threefry2x32_ffi", "Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "domain"}

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{")
_INSTRUCTION = re.compile(r"  (?:ROOT )?%?[\w.-]+ = .*? ([a-z][\w-]*)\(")
_CALLED = re.compile(r"(condition|body|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@dataclass(frozen=True)
class Counts:
    """Kernels, and looks of the host."""

    kernels: int = 0
    looks: int = 0

    def plus(self, other: "Counts", times: int = 1) -> "Counts":
        return Counts(self.kernels + times * other.kernels, self.looks + times * other.looks)


class _Instruction(NamedTuple):
    opcode: str
    line: str

    def called(self, *roles: str) -> list[str]:
        """The computations that it calls in these roles, or in any."""
        branches = _BRANCHES.search(self.line)
        named = [name.strip().removeprefix("%") for name in branches[1].split(",")] if branches else []
        return named + [name for role, name in _CALLED.findall(self.line) if not roles or role in roles]

    @property
    def turns(self) -> int | None:
        """Of a loop; None where they are computed."""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', self.line)
        return int(known[1]) if known else None


class Program:
    """The computations of a compiled program."""

    def __init__(self, text: str | None):
        self._computations: dict[str, list[_Instruction]] = {}
        self._entry, current = "", None
        for line in (text or "").splitlines():
            if begun := _COMPUTATION.fullmatch(line):
                current = self._computations.setdefault(begun[2], [])
                self._entry = begun[2] if begun[1] else self._entry
            elif current is not None and (found := _INSTRUCTION.match(line)):
                current.append(_Instruction(found[1], line))

    def per_presentation(self, sweeps: int = 3) -> Counts:
        """What a presentation takes that nothing judges: one turn of the outermost loop whose count is computed (of
        several, of that with the most kernels). Those within it turn so often that windows sweep `sweeps` times; the
        first sweep stands before them."""
        bodies = [self._of(name, sweeps - 1) for name in self._open_loops(self._entry)]
        if not bodies:
            raise ValueError("no loop of this program has a count that is computed")
        return max(bodies, key=lambda counts: counts.kernels)

    def _open_loops(self, name: str) -> list[str]:
        found: list[str] = []
        for one in self._computations[name]:
            if one.opcode == "while" and one.turns is None:
                found += one.called("body")
            elif one.opcode in ("while", "call"):
                found += [body for called in one.called("body", "to_apply") for body in self._open_loops(called)]
        return found

    def _of(self, name: str, turns: int) -> Counts:
        total = Counts()
        for one in self._computations[name]:
            if one.opcode == "while":
                count = turns if one.turns is None else one.turns
                total = total.plus(Counts(looks=count + 1 if one.turns is None else 0))
                for called in one.called("body"):
                    total = total.plus(self._of(called, turns), count)
                for called in one.called("condition"):
                    total = total.plus(self._of(called, turns), count + 1)
            elif one.opcode == "conditional":
                least = min((self._of(called, turns) for called in one.called()), key=lambda counts: counts.kernels)
                total = total.plus(least).plus(Counts(looks=1))
            elif one.opcode == "call" and "small_call" not in one.line:  # which is one kernel
                for called in one.called():
                    total = total.plus(self._of(called, turns))
            elif one.opcode not in FREE and not one.opcode.endswith("-done"):
                total = total.plus(Counts(kernels=1))
        return total


def missing(function: Callable[..., Any], *arguments: Any) -> list[str]:
    """What a program asks for that not all of `PLATFORMS` have: calls by name, and float64. Raises what jax raises
    where there is no such program at all."""
    text = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments).mlir_module()
    calls = set(re.findall(r"custom_call @([\w.]+)", text))
    return sorted(calls - PROVIDED) + ["float64"] * bool(re.search(r"\bf64\b|xf64", text))
