"""The turn of a link: who holds it may step the link's machines. And the signals that wait meanwhile."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the functions of `signal` without their enums, which cost more than a step does
import os
import signal
import threading
from collections.abc import Callable
from threading import get_ident
from types import FrameType
from typing import Any, Generic, TypeVar

import trio
from sniffio import thread_local

__all__ = ["Deferral", "Turn", "deferral"]

_M = TypeVar("_M")
_Handler = Callable[[int, FrameType | None], Any]

# Ctrl-C, the end that a supervisor asks for, and alarms: programs turn them into exceptions.
_RAISING = [
    int(signal.Signals[name]) for name in ("SIGINT", "SIGTERM", "SIGALRM") if name in signal.Signals.__members__
]


class _Main:
    """Which thread is the main one: after a fork, the one that forked."""

    def __init__(self) -> None:
        self.learn()

    def learn(self) -> None:
        self.ident = threading.main_thread().ident


_main = _Main()


class Deferral:
    """Stands in for the handlers of the signals that programs let raise, and remembers which came: in the main thread, of which there is one.

    A KeyboardInterrupt in the middle of a step would leave a machine half changed. Trio looks after SIGINT itself where the main thread
    runs it. While `open` is set (the thread waits, and may be interrupted) signals go to their handlers at once.
    """

    __slots__ = ("_found", "_handlers", "active", "came", "open")

    def __init__(self) -> None:
        self.open = False
        self.active = False
        self.came: list[tuple[int, FrameType | None]] = []
        self._handlers: dict[int, _Handler] = {}
        self._found: list[object] = []  # what `_handlers` was made of; as a rule it is the same the next time

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.open:
            self._handlers[number](number, frame)
        else:
            self.came.append((number, frame))

    def begin(self, *, outside_trio: bool = False) -> bool:
        """Let signals wait until `end`, in the main thread; False if that is not needed here: another thread, trio, or an outer `begin`.

        `outside_trio`: the caller has seen that this thread runs no trio. A handler that raises meanwhile does so here, and nothing has begun.
        """
        if get_ident() != _main.ident or self.active:
            return False
        if not outside_trio and (
            thread_local.name == "trio" or trio.lowlevel.in_trio_run()
        ):  # the first is quick to say yes
            return False
        found = [*map(_signal.getsignal, _RAISING)]
        if found != self._found:
            self._handlers = {
                number: handler for number, handler in zip(_RAISING, found, strict=True) if callable(handler)
            }
            self._found = found
        handlers = self._handlers
        if not handlers:
            return False
        self.active = True
        try:
            for number in handlers:
                _signal.signal(number, self)
        except BaseException:
            self.active = False
            self._restore(handlers)
            raise
        return True

    def let_through(self) -> None:
        """This thread is about to wait: until `open` is unset signals go to their handlers at once, beginning with those that came before."""
        self.open = True
        if self.came:
            came, self.came = self.came, []
            for number, frame in came:
                self._handlers[number](number, frame)

    def end(self) -> None:
        """Put the handlers back, and call those whose signals came. Only after a `begin` that returned True; once more is no harm."""
        if not self.active:
            return
        self.open = self.active = False
        handlers = self._handlers
        try:
            for number, handler in handlers.items():
                _signal.signal(number, handler)
        except BaseException:  # a handler that is back raised before the next one was
            self._restore(handlers)
            raise
        finally:
            came, self.came = self.came, []
        for number, frame in came:
            handlers[number](number, frame)

    @staticmethod
    def _restore(handlers: dict[int, _Handler]) -> None:
        for number, handler in handlers.items():
            _signal.signal(number, handler)

    def forget(self) -> None:
        """In a child that another thread has forked: whoever began this is not there to end it."""
        if self.active and get_ident() != _main.ident:
            self.open = self.active = False
            self.came = []
            self._restore(self._handlers)


deferral = Deferral()
"""The one of this process."""


def _know_the_child() -> None:
    deferral.forget()
    _main.learn()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_know_the_child)


class Turn(Generic[_M]):
    """A lock that knows its owner. `with turn as machine:` from any thread, for a few microseconds; within a turn of the same thread it only
    counts.

    In the main thread signals whose handlers may raise wait until the turn is given back.
    """

    __slots__ = ("_deferred", "_inner", "lock", "machine", "owner")

    def __init__(self, machine: _M) -> None:
        self.machine = machine
        self.owner = 0  # the thread that holds it
        self.lock = threading.Lock()  # for others than this class only in Receiver.read
        self._inner = 0
        self._deferred = False

    @property
    def held(self) -> bool:
        """Whether this thread holds it."""
        return self.owner == get_ident()

    @trio.lowlevel.enable_ki_protection
    def __enter__(self) -> _M:
        me = get_ident()
        if self.owner == me:
            self._inner += 1
            return self.machine
        deferred = me == _main.ident and not deferral.active and thread_local.name != "trio" and deferral.begin()
        self.lock.acquire()
        self.owner = me
        self._deferred = deferred
        return self.machine

    @trio.lowlevel.enable_ki_protection
    def __exit__(self, *_: object) -> None:
        if self._inner:
            self._inner -= 1
        else:
            self.give_back()

    def enter_at_once(self) -> bool:
        """Take it without waiting, for a thread that holds another turn; whether that could be done. `leave_at_once` must follow.

        Whoever holds two turns this way waits for nothing until they are given back: so nobody waits for another in a circle. The signals of the
        thread wait already.
        """
        me = get_ident()
        if self.owner == me:
            self._inner += 1
        elif self.lock.acquire(blocking=False):
            self.owner = me
        else:
            return False
        return True

    def leave_at_once(self) -> None:
        """The end of `enter_at_once`. Nothing follows by itself."""
        if self._inner:
            self._inner -= 1
        else:
            self.owner = 0
            self.lock.release()

    @property
    def is_outer(self) -> bool:
        """Whether its holder holds it once only."""
        return not self._inner

    def give_back(self) -> None:
        """The end of the outer one."""
        deferred, self._deferred = self._deferred, False
        self.owner = 0
        self.lock.release()
        if deferred:
            deferral.end()
