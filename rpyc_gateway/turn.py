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

# Ctrl-C, the end that a supervisor asks for, and alarms: programs turn them into exceptions.
_RAISING = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGALRM") if name in signal.Signals.__members__]


class Turn:
    """A lock that knows its owner. `with turn:` from any thread, for a few microseconds.

    Entering it twice in one thread raises RuntimeError: as a rule that is a finalizer which makes a remote call while the
    garbage collector runs inside somebody's turn. In the main thread signals whose handlers may raise wait until the turn is given back (a
    KeyboardInterrupt in the middle of a step would leave a machine half changed); trio looks after SIGINT itself where the
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

    @trio.lowlevel.enable_ki_protection
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

    @trio.lowlevel.enable_ki_protection
    def __exit__(self, *_: object) -> None:
        deferred, self._deferred = self._deferred, None
        self._owner = 0
        self._lock.release()
        if deferred is not None:
            deferred.deliver()


class _Deferred:
    """Stands in for the program's handlers of the signals that programs let raise, and remembers which came."""

    __slots__ = ("_came", "_handlers")

    def __init__(self, handlers: dict[signal.Signals, _Handler]) -> None:
        self._handlers = handlers
        self._came: list[tuple[int, FrameType | None]] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._came.append((number, frame))

    def take_over(self) -> None:
        """Stand in for the handlers, for all of them or, if one of them raises meanwhile, for none."""
        try:
            for number in self._handlers:
                signal.signal(number, self)
        except BaseException:
            self._restore()
            raise

    def deliver(self) -> None:
        """Put the handlers back, and call those whose signals came."""
        self._restore()
        for number, frame in self._came:
            self._handlers[signal.Signals(number)](number, frame)

    def _restore(self) -> None:
        try:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        except BaseException:  # a handler that is back raised before the next one was
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            raise


def _defer() -> _Deferred | None:
    if trio.lowlevel.in_trio_run():
        return None
    handlers: dict[signal.Signals, _Handler] = {}
    for number in _RAISING:
        handler = signal.getsignal(number)
        if isinstance(handler, _Deferred):
            return None  # an outer turn of this thread has seen to it
        if callable(handler) and not isinstance(handler, signal.Handlers):
            handlers[number] = handler
    if not handlers:
        return None
    deferred = _Deferred(handlers)
    deferred.take_over()
    return deferred
