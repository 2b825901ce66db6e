"""A bound on what a row may take: a row that hangs has failed, and must not take the others with it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["TooLong", "bounded"]


class TooLong(BaseException):
    """A row did not end. Not an Exception: a row catches those."""


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Interrupt the body, in the main thread, when its time is over."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise TooLong(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, should a finalizer have swallowed it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
