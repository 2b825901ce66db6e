"""The turn of a link: who holds it may step the link's machines."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import trio

_Handler = Callable[[int, FrameType | None], Any]
_MAIN = threading.main_thread()


class Turn:
    """A lock that knows its owner. `with turn:` from any thread, for a few microseconds.

    Entering it twice in one thread raises RuntimeError: as a rule that is a finalizer which makes a remote call while the
    garbage collector runs inside somebody's turn. In the main thread SIGINT waits until the turn is given back (a
    KeyboardInterrupt in the middle of a step would leave a machine half changed); trio looks after that itself where the
    main thread runs it.
    """

    __slots__ = ("_deferred", "_lock", "_owner")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._deferred: _Deferred | None = None

    @property
    def held(self) -> bool:
        """Whether this thread holds it."""
        return self._owner == threading.get_ident()

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self._owner == me:
            raise RuntimeError(
                "a remote call from a finalizer while the link's turn is held in the same thread: "
                "let the finalizer append to a queue instead, and make the call elsewhere"
            )
        deferred = _defer() if me == _MAIN.ident else None
        self._lock.acquire()
        self._owner = me
        self._deferred = deferred

    def __exit__(self, *_: object) -> None:
        deferred, self._deferred = self._deferred, None
        self._owner = 0
        self._lock.release()
        if deferred is not None:
            deferred.deliver()


class _Deferred:
    """Stands in for the program's SIGINT handler and remembers that it was called."""

    __slots__ = ("_came", "_handler")

    def __init__(self, handler: _Handler) -> None:
        self._handler = handler
        self._came: tuple[int, FrameType | None] | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._came = (number, frame)

    def deliver(self) -> None:
        signal.signal(signal.SIGINT, self._handler)
        if self._came is not None:
            self._handler(*self._came)


def _defer() -> _Deferred | None:
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or trio.lowlevel.in_trio_run():
        return None
    deferred = _Deferred(handler)
    signal.signal(signal.SIGINT, deferred)
    return deferred
