"""The thread that runs trio for the blocking sessions of a process, and the links that they share."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from queue import Empty, SimpleQueue
from typing import Any

import trio

from rpyc_gateway import deadlines
from rpyc_gateway.client import Way, open_way
from rpyc_gateway.deadlines import Deadline
from rpyc_gateway.errors import GatewayError, SessionClosed, TimedOut
from rpyc_gateway.per_process import PerProcess
from rpyc_gateway.session import Session

__all__ = ["Background", "Told", "background"]

Enter = Callable[[Way], AbstractAsyncContextManager[Session]]
"""Opens the session that is wanted, at the end of a way."""

PARTING = 5.0
"""Seconds that the end of a way may take before nobody waits for it any more: longer than a child is given to go by itself."""


class Told:
    """An event for threads that may be interrupted at any point of `wait`.

    A `threading.Event` keeps a lock in Python code: an interrupt in the wrong moment leaves it taken, and whoever sets it hangs.
    """

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[SimpleQueue[None]] = []

    def is_set(self) -> bool:
        """Whether it has been told."""
        return self._is_set

    def set(self) -> None:
        """Wake whoever waits, now and later; from any thread."""
        self._is_set = True
        for waiting in tuple(self._waiting):
            waiting.put(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it; whether it has been told."""
        if not self._is_set:
            waiting: SimpleQueue[None] = SimpleQueue()
            self._waiting.append(waiting)
            if not self._is_set:  # before we stood in line
                with suppress(Empty):
                    waiting.get(timeout=timeout)
        return self._is_set


class _Shared:
    """A way that several sessions use; it ends with the last of them."""

    def __init__(self) -> None:
        self.users = 0
        self.way: Way | None = None
        self.failure: BaseException | None = None
        self.ready = trio.Event()
        self.unused = trio.Event()
        self.over = trio.Event()
        self.attempt = trio.CancelScope()


class Background:
    """The thread that runs trio for all blocking sessions of this process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._ready = Told()
        self._ways: dict[tuple[tuple[str, ...], str | None], _Shared] = {}
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="rpyc-gateway trio", daemon=True)
        self._thread.start()
        self._ready.wait()

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._ready.set()
            await trio.sleep_forever()

    def run(self, function: Callable[..., Any], *args: object, deadline: Deadline | None = None) -> Any:
        """Run an async function in the thread, and wait, no longer than to `deadline`. Interrupted or late, it is cancelled before this returns."""

        async def tell(result: _Result) -> None:
            result.tell(await function(*args))

        return self._run(tell, deadline)

    def connect(self, hops: tuple[str, ...], name: str | None, enter: Enter) -> tuple[Session, Callable[[], None]]:
        """Open a session, over a link that is there already if it can be; and what closes it."""
        deadline = deadlines.current()
        if deadline is not None:
            deadline.check()
        over = Told()

        async def hold(result: _Result) -> None:
            await self._hold_session(hops, name, enter, over, result)

        def close() -> None:
            self._close(session, over)

        session: Session = self._run(hold, deadline, lambda opened: self._close(opened, over))
        return session, close

    def _run(
        self,
        task: Callable[[_Result], Awaitable[None]],
        deadline: Deadline | None,
        undo: Callable[[Any], object] | None = None,
    ) -> Any:
        """Start a task in the thread, and wait for the result that it tells; it may go on after that.

        Interrupted or late, the task is cancelled before this returns; what it came to all the same is given to `undo`.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a blocking call in the thread that runs trio")
        result = _Result()
        self._token.run_sync_soon(self._nursery.start_soon, result.run, task)
        try:
            return result.wait(deadline)
        except BaseException:
            if not result.told.is_set():  # KeyboardInterrupt, or it is too late
                self._token.run_sync_soon(result.scope.cancel)
                result.told.wait()
            if undo is not None and result.value is not None:
                undo(result.value)
            raise

    def _close(self, session: Session, over: Told) -> None:
        if self.pid != os.getpid():
            return  # the session belongs to the process that forked this one
        if threading.current_thread() is self._thread:
            session.close()
            return
        if not over.is_set():
            self._token.run_sync_soon(session.close)
            over.wait()

    async def _hold_session(
        self, hops: tuple[str, ...], name: str | None, enter: Enter, over: Told, result: _Result
    ) -> None:
        """Open a session, tell it, and keep it to its end."""
        shared = self._way(hops, name)
        try:
            await shared.ready.wait()
            if shared.failure is not None:
                raise shared.failure.with_traceback(None)
            assert shared.way is not None
            async with enter(shared.way) as session:
                result.tell(session)
                await session.wait_closed()
        except GatewayError:
            if not result.told.is_set():
                raise
        finally:
            self._leave(shared)
            if shared.users == 0:  # the peer has heard the goodbye, and a child or a port is free, before we return
                with trio.move_on_after(PARTING, shield=True):
                    await shared.over.wait()
            over.set()

    def _way(self, hops: tuple[str, ...], name: str | None) -> _Shared:
        """The shared way for these hops, with this caller counted among its users."""
        key = (hops, name)
        shared = self._ways.get(key)
        if shared is None or shared.unused.is_set() or (shared.way is not None and shared.way.connection.mux.down):
            before, shared = shared, _Shared()
            self._ways[key] = shared
            self._nursery.start_soon(self._hold_way, key, shared, before)
        shared.users += 1
        return shared

    async def _hold_way(self, key: tuple[tuple[str, ...], str | None], shared: _Shared, before: _Shared | None) -> None:
        try:
            with shared.attempt:
                if before is not None:  # a serial port, for one, has one user at a time
                    with trio.move_on_after(PARTING):
                        await before.over.wait()
                async with open_way(key[0], name=key[1], nursery=self._nursery) as shared.way:
                    shared.ready.set()
                    await shared.unused.wait()
        except Exception as error:  # noqa: BLE001  # told to whoever waits for the way; a broken link is told by its sessions
            shared.failure = error
        finally:
            shared.ready.set()
            shared.unused.set()
            shared.over.set()
            if self._ways.get(key) is shared:
                del self._ways[key]

    @staticmethod
    def _leave(shared: _Shared) -> None:
        shared.users -= 1
        if shared.users == 0:
            shared.unused.set()
            if shared.way is None:
                shared.attempt.cancel()


class _Result:
    """One result, told by a task of the trio thread to a thread that waits."""

    def __init__(self) -> None:
        self.told = Told()
        self.scope = trio.CancelScope()
        self.value: Any = None
        self._error: BaseException | None = None

    def tell(self, value: object) -> None:
        """Wake the thread. The task may go on."""
        self.value = value
        self.told.set()

    async def run(self, task: Callable[[_Result], Awaitable[None]]) -> None:
        """Run the task; what it raises before it has told anything is raised in the thread that waits."""
        try:
            with self.scope:
                await task(self)
        except trio.Cancelled:
            self._error = SessionClosed("the background thread is ending")
            raise
        except Exception as error:
            if self.told.is_set():
                raise
            self._error = error
        finally:
            self.told.set()

    def wait(self, deadline: Deadline | None) -> Any:
        """What was told, or raise what went wrong."""
        while not self.told.wait(None if deadline is None else deadline.wait):
            if deadline is not None and deadline.left <= 0:
                raise TimedOut(f"{deadline.patience} is over, and nothing has come of it: what was begun is undone")
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self.value


background = PerProcess(Background)
"""The background thread of this process, started if there is none; a child that was forked has one of its own."""
