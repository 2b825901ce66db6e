"""Where the time of a process goes, function by function, in all its threads: CPU time, so that waiting is none.

Watching costs many times what is watched: the numbers of calls are exact, the times are shares and no more.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from time import thread_time
from types import CodeType, FrameType
from typing import Any

__all__ = ["PROFILE", "Profiler", "profiler_if_asked"]

PROFILE = "RPYC_GATEWAY_BENCH_PROFILE"
"""Set in the environment of processes that are to be watched from their beginning."""


def profiler_if_asked() -> Profiler | None:
    """One that watches this process from now on, if whoever started it wants that."""
    return Profiler() if os.environ.get(PROFILE) else None


class Profiler:
    """Watches every thread that this process will start, and the one that makes it."""

    def __init__(self) -> None:
        self._threads: list[_Watch] = []
        threading.setprofile(self._meet)
        sys.setprofile(self._watch().see)

    def _watch(self) -> _Watch:
        watch = _Watch()
        self._threads.append(watch)
        return watch

    def _meet(self, _frame: FrameType, _event: str, _argument: Any) -> None:
        """The first event of a new thread."""
        sys.setprofile(self._watch().see)

    def begin(self) -> None:
        """Forget what was seen so far."""
        for watch in self._threads:
            watch.forget()

    def seen(self) -> list[tuple[str, int, float, float]]:
        """Each function with its calls, its own seconds, and those with all that it called."""
        calls: defaultdict[str, int] = defaultdict(int)
        own: defaultdict[str, float] = defaultdict(float)
        whole: defaultdict[str, float] = defaultdict(float)
        seen = [(dict(watch.calls), dict(watch.own), dict(watch.whole)) for watch in self._threads]
        for watch in seen:
            for here, there in zip(watch, (calls, own, whole), strict=True):
                for function, amount in here.items():
                    there[_name(function)] += amount
        return [(name, calls[name], seconds, whole[name]) for name, seconds in own.items()]


class _Watch:
    """What was seen of one thread. Time is given to whoever is on top of the stack, as it passes."""

    def __init__(self) -> None:
        self._stack: list[tuple[CodeType | str, float]] = []  # with the time of the whole thread when it was called
        self._passed = 0.0
        self.forget()
        self._last = thread_time()

    def forget(self) -> None:
        self.calls: defaultdict[CodeType | str, int] = defaultdict(int)
        self.own: defaultdict[CodeType | str, float] = defaultdict(float)
        self.whole: defaultdict[CodeType | str, float] = defaultdict(float)

    def see(self, frame: FrameType, event: str, argument: Any) -> None:
        passed = thread_time() - self._last
        self._passed += passed
        stack = self._stack
        if stack:
            self.own[stack[-1][0]] += passed
        if event == "call" or event == "c_call":
            function = frame.f_code if event == "call" else argument.__qualname__
            self.calls[function] += 1
            stack.append((function, self._passed))
        elif stack:  # else it was called before this thread was watched
            function, before = stack.pop()
            if all(function is not other for other, _ in stack):  # the outermost of a recursion counts
                self.whole[function] += self._passed - before
        self._last = thread_time()  # what passed since then is this function's own doing


def _name(function: CodeType | str) -> str:
    if isinstance(function, str):
        return function
    folders: Iterator[str] = iter(function.co_filename.split(os.sep)[-2:])
    return f"{'/'.join(folders)}:{function.co_firstlineno} {function.co_qualname}"
