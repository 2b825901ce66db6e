"""One object for each process: made when it is first wanted, and again in a child that was forked. And which process this is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["PerProcess", "process"]

_T = TypeVar("_T")


class PerProcess(Generic[_T]):
    """Call it for the object, from any thread. A child does not get that of its parent, nor the lock that another thread may have had then."""

    __slots__ = ("_lock", "_made", "_make", "_pid")

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: _T | None = None
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._made = None

    def __call__(self) -> _T:
        made = self._made
        if made is None:
            with self._lock:
                made = self._made = self._made or self._make()
        return made


class Process:
    """Which of a family of processes this is."""

    __slots__ = ("generation",)

    def __init__(self) -> None:
        self.generation = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._count)

    def _count(self) -> None:
        self.generation += 1


process = Process()
"""This one. Its `generation` is another in a child that was forked: cheaper than its number, for which the system is asked."""
