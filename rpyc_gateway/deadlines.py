"""How long a caller is ready to wait: `timeout` for blocking code, and what is left of it for whoever serves the call."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import trio

from rpyc_gateway.errors import TimedOut

__all__ = ["CLOSE_CALL", "CURRENT", "Deadline", "current", "forget", "inherited", "timeout"]

CLOSE_CALL = 0.05
"""Seconds by which two clocks may disagree on a deadline."""

LONGEST = 2**32 - 1
"""Milliseconds that the wire can tell; more is no deadline."""


class Deadline(NamedTuple):
    """The end of somebody's patience, on this process's monotonic clock, and how long that patience was, for messages."""

    end: float
    patience: str

    @property
    def left(self) -> float:
        """Seconds that are left; negative when it is over."""
        return self.end - time.monotonic()

    @property
    def wait(self) -> float:
        """`left`, as a thread can wait for it."""
        return min(max(self.left, 0.0), threading.TIMEOUT_MAX)

    def check(self) -> None:
        """Raise TimedOut if it is over."""
        if self.left <= 0:
            raise TimedOut(f"{self.patience} is over")

    def milliseconds(self) -> int:
        """What is left, for the wire: 0 for more than that can tell. Raises TimedOut if nothing is."""
        left = self.left
        if left <= 0:
            raise TimedOut(f"{self.patience} is over: the call was not made")
        return max(1, int(left * 1000)) if left * 1000 <= LONGEST else 0

    def missed(self) -> TimedOut:
        """What is raised when no answer came in time."""
        return TimedOut(
            f"no answer came, and {self.patience} is over: the call was cancelled there, and whether it was done is unknown"
        )


CURRENT: ContextVar[Deadline | None] = ContextVar("rpyc_gateway.deadline", default=None)
"""What `current` tells."""


def current() -> Deadline | None:
    """The deadline of the code that runs here: the nearest of the timeouts it is in, and of the calls it serves."""
    return CURRENT.get()


def inherited(deadline: Deadline | None) -> None:
    """Let this context, which is the served call's own, end no later than its caller's patience."""
    outer = CURRENT.get()
    if deadline is not None and (outer is None or deadline.end < outer.end):
        CURRENT.set(deadline)


def forget() -> None:
    """Let this context have no deadline: what it does outlives the call that it began in."""
    if CURRENT.get() is not None:  # as a rule it has none
        CURRENT.set(None)


@contextmanager
def timeout(seconds: float) -> Iterator[None]:
    """`with gw.timeout(5):` bounds all blocking remote operations in the block together, and `connect` too.

    One that has no answer by then raises TimedOut, a TimeoutError, and is cancelled on the far side; whether it was done is unknown. What
    is served for us inherits the time that is left, and so do the calls that it makes. Blocks nest: the nearest end counts. Code
    that makes no remote operation and calls no `gw.checkpoint()` is not interrupted. Trio code has `trio.fail_after`: RuntimeError there.
    """
    if trio.lowlevel.in_trio_task():
        raise RuntimeError("gw.timeout is for blocking code: use `with trio.fail_after(seconds):` here")
    if math.isnan(seconds):
        raise ValueError("a timeout of nan seconds is not possible")
    deadline = Deadline(time.monotonic() + seconds, f"the timeout of {seconds:g} s")
    outer = CURRENT.get()
    token = CURRENT.set(deadline if outer is None or deadline.end < outer.end else outer)
    try:
        yield
    finally:
        CURRENT.reset(token)
