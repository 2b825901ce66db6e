"""Numbers over time in one line."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import isfinite

__all__ = ["BLOCKS", "PLAIN", "Sparkline"]

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN = "_.-~=*#@"
"""For terminals that have no such characters."""
KEPT = 1000  # numbers: no terminal is wider


class Sparkline:
    """The latest numbers, drawn between the least and the greatest of those that are drawn; min and max are those of all."""

    def __init__(self, levels: str = BLOCKS) -> None:
        self._levels = levels
        self._numbers: deque[float] = deque(maxlen=KEPT)
        self._least: float | None = None
        self._greatest: float | None = None

    def add(self, number: float) -> None:
        """The next one. One that is not finite is drawn as '?'."""
        self._numbers.append(number)
        if isfinite(number):
            self._least = number if self._least is None else min(self._least, number)
            self._greatest = number if self._greatest is None else max(self._greatest, number)

    def line(self, columns: int) -> str:
        """What is shown, of at most so many characters."""
        if not self._numbers:
            return ""
        told = f" {short(self._numbers[-1])}"
        if self._least is not None and self._greatest is not None:
            told += f"  min {short(self._least)}  max {short(self._greatest)}"
        room = columns - len(told)
        drawn = drawing(list(self._numbers)[-room:], self._levels) if room > 0 else ""
        return f"{drawn}{told}"[:columns]


def drawing(numbers: Sequence[float], levels: str) -> str:
    """A character for each."""
    finite = [float(number) for number in numbers if isfinite(number)]
    if not finite:
        return "?" * len(numbers)
    least, span = min(finite), max(finite) - min(finite)
    top = len(levels) - 1
    return "".join(
        "?"
        if not isfinite(number)
        else levels[round(top * ((number - least) / span)) if 0 < span < float("inf") else 0]
        for number in numbers
    )


def short(number: float) -> str:
    """It, with what people read of it."""
    return str(number) if isinstance(number, int) and abs(number) < 10**12 else f"{number:.6g}"
