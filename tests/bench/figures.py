"""What the rounds come to: medians, ratios of the same round, and whether a target is reached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

from tests.bench.workloads import Target, Workload

__all__ = ["Measurement", "Ratio", "judge", "ratio", "rotated", "values", "work"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One slot. Without a value it failed, and `error` says how, or the peer cannot do it."""

    round: int
    workload: str
    row: str
    value: float | None = None
    near_us: float = 0.0  # CPU microseconds of the client for each unit
    far_us: float = 0.0  # and of everything behind it
    shortened: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How two rows compare: the median of what each round says, and the extremes."""

    median: float
    lowest: float
    highest: float
    rounds: int


def rotated(rows: Sequence[T], turn: int) -> list[T]:
    """The rows in the order of this round: each comes first, and last, as often as the others."""
    start = turn % len(rows) if rows else 0
    return [*rows[start:], *rows[:start]]


def values(measurements: Iterable[Measurement], workload: str, row: str) -> dict[int, float]:
    """The values of a row in a workload, by round."""
    return {
        found.round: found.value
        for found in measurements
        if found.workload == workload and found.row == row and found.value is not None
    }


def work(measurements: Iterable[Measurement], workload: str, row: str) -> dict[int, float]:
    """The same of how much can be done in a second of CPU time, of all processes together: neighbours on the machine change that little."""
    return {
        found.round: 1e6 / (found.near_us + found.far_us)
        for found in measurements
        if found.workload == workload and found.row == row and found.near_us + found.far_us
    }


def ratio(ours: dict[int, float], base: dict[int, float]) -> Ratio | None:
    """Compare round by round: what disturbs the machine disturbs both of one round. None without a common one."""
    ratios = [ours[number] / base[number] for number in ours if base.get(number)]
    return Ratio(median(ratios), min(ratios), max(ratios), len(ratios)) if ratios else None


def judge(measurements: Sequence[Measurement], workload: Workload, target: Target) -> tuple[Ratio | None, bool]:
    """What was measured for a target (without a base the value itself), and whether that reaches it."""
    ours = values(measurements, workload.name, target.row)
    if not target.base:
        found = ratio(ours, dict.fromkeys(ours, 1.0))
        return found, found is not None and found.median <= target.most
    found = ratio(ours, values(measurements, workload.name, target.base))
    return found, found is not None and found.median >= target.least
