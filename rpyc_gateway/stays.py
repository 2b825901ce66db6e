"""Stays in context managers of this process that a peer has entered: what ENTER begins and `__aexit__` ends."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextvars import copy_context
from queue import SimpleQueue
from types import TracebackType
from typing import Any

import trio

from rpyc_gateway import deadlines
from rpyc_gateway.errors import Cancelled, LimitExceeded
from rpyc_gateway.weak import WeakTable
from rpyc_gateway.worker import workers

__all__ = ["STAYS", "Stay", "abandon"]

STAYS = 1000
"""Context managers that one peer may have entered at once: each has a task, and a plain one a thread."""

GONE = "whoever entered this has left without a word: cancelled, or its session is over"

logger = logging.getLogger("rpyc_gateway.session")


class Stay:
    """One block of a context manager: a task of the session that is in it, so that it is left whatever becomes of the peer.

    A manager that is for async code is entered and left in that task, a plain one in a thread that is its own for so long.
    """

    __slots__ = ("_entered", "_error", "_leaving", "_manager", "_outcome", "_over", "_scope", "_token", "_wanted")

    def __init__(self, manager: Any) -> None:
        self._manager = manager if hasattr(type(manager), "__aenter__") else _Threaded(manager)
        self._wanted = True
        self._entered = False
        self._leaving = trio.Event()
        self._over = trio.Event()
        self._error: BaseException | None = None
        self._outcome: BaseException | None = None
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None

    @staticmethod
    def beginning(manager: object) -> str:
        """The special method that enters a manager."""
        return "__aenter__" if hasattr(type(manager), "__aenter__") else "__enter__"

    async def enter(self) -> tuple[Stay, object]:
        """Enter, in a task beside this one; this stay, and what was entered. Raises what entering raises; cancelled, it was left again."""
        self._token = trio.lowlevel.current_trio_token()
        nursery = trio.lowlevel.current_task().parent_nursery
        assert nursery is not None
        threads = _threads_of(nursery)
        if sum(task.name == _NAME for task in nursery.child_tasks) >= STAYS or len(threads) >= STAYS:
            raise LimitExceeded(f"{STAYS} context managers are entered already")
        if type(self._manager) is _Threaded:
            self._manager.threads = threads
        return self, await nursery.start(self._stay, name=_NAME)

    async def _stay(self, *, task_status: trio.TaskStatus[object]) -> None:
        deadlines.forget()
        try:
            with self._scope:
                await self._live(task_status)
        finally:
            self._manager = None
            self._over.set()

    async def _live(self, task_status: trio.TaskStatus[object]) -> None:
        try:
            async with self._manager as value:
                self._entered = True
                task_status.started(value)
                del value
                await self._leaving.wait()
                if self._error is not None:
                    raise self._error
        except trio.Cancelled:
            raise
        except BaseException as problem:
            if not self._entered:
                raise
            self._outcome = problem
            if not self._wanted and not isinstance(problem, Cancelled):
                logger.warning("a context manager whose peer has left raised when it was left", exc_info=problem)

    async def leave(self, error: BaseException | None) -> bool:
        """Leave, with the exception that ended the block. Whether that was suppressed; raises what leaving raises instead.

        Cancelled, leaving is cancelled too. RuntimeError if it was left before.
        """
        if self._leaving.is_set() or self._over.is_set():
            raise RuntimeError("this context manager was left already")
        self._error = error
        self._leaving.set()
        try:
            await self._over.wait()
        finally:
            self._scope.cancel()  # no harm if it is over
        outcome, self._outcome, self._error = self._outcome, None, None
        if outcome is None or outcome is error:
            return error is not None and outcome is None
        try:
            raise outcome
        finally:
            del outcome  # the traceback holds this frame

    def abandon(self) -> None:
        """Nobody is left who could leave: cancel the block, in its task; from any thread."""
        self._wanted = False
        if self._token is None:
            return
        try:
            self._token.run_sync_soon(self._scope.cancel)
        except trio.RunFinishedError:
            return  # its task was cancelled with all others


_NAME = "rpyc_gateway stay"

_threads: WeakTable[trio.Nursery, set[_Threaded]] = WeakTable()


def _threads_of(nursery: trio.Nursery) -> set[_Threaded]:
    """The plain managers of a session that have a thread: one that is stuck has it still when its task was cancelled."""
    threads = _threads.fact(id(nursery))
    if threads is None:
        threads = set()
        _threads.keep(id(nursery), nursery, threads)
    return threads


def abandon(values: Iterable[object]) -> None:
    """Leave the stays among these: nobody holds them any more."""
    for value in values:
        if type(value) is Stay:
            value.abandon()


class _Threaded:
    """A plain context manager for async code: entered and left by one thread, as locks and databases want it."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._inbox: SimpleQueue[BaseException | None] = SimpleQueue()
        self._entered = trio.Event()
        self._over = trio.Event()
        self._value: object = None
        self._outcome: BaseException | None = None
        self.threads: set[_Threaded] = set()  # where it counts as long as its thread is in the block

    async def __aenter__(self) -> object:
        token = trio.lowlevel.current_trio_token()
        context = copy_context()
        self.threads.add(self)
        try:
            workers.submit(lambda: context.run(self._stay, token))
        except RuntimeError:
            self.threads.discard(self)
            raise
        try:
            await self._entered.wait()
        except trio.Cancelled:
            self._inbox.put(Cancelled(GONE))
            raise
        if self._over.is_set():
            return self._end(None)
        value, self._value = self._value, None
        return value

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, trio.Cancelled):
            self._inbox.put(Cancelled(GONE))
            return False
        self._inbox.put(error)
        await self._over.wait()
        return self._end(error)

    def _end(self, error: BaseException | None) -> bool:
        outcome, self._outcome = self._outcome, None
        if outcome is None or outcome is error:
            return outcome is None
        try:
            raise outcome
        finally:
            del outcome  # the traceback holds this frame

    def _stay(self, token: trio.lowlevel.TrioToken) -> None:
        """What the thread does: one `with` block."""
        entered = False
        try:
            with self._manager as self._value:
                entered = True
                _tell(token, self._entered)
                error = self._inbox.get()
                if error is not None:
                    try:
                        raise error
                    finally:
                        del error  # the traceback holds this frame
        except BaseException as problem:  # noqa: BLE001  # it is what leaving comes to
            self._outcome = problem
        self._manager = None
        self.threads.discard(self)
        _tell(token, self._over)
        if not entered:
            _tell(token, self._entered)


def _tell(token: trio.lowlevel.TrioToken, event: trio.Event) -> None:
    try:
        token.run_sync_soon(event.set)
    except trio.RunFinishedError:
        return  # nobody is left to tell
