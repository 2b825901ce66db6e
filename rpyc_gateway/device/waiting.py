"""Who waits for the answer to a call of a board: a task or a thread."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any

import trio

__all__ = ["Cause", "TaskWaiter", "ThreadWaiter", "Waiter"]


class Cause:
    """On whose behalf a board is asked: a session, for example. `name` is for people."""

    __slots__ = ("name", "show")

    def __init__(self, name: str) -> None:
        self.name = name
        self.show: Callable[[bytes], Awaitable[object]] | None = None
        """Who gets each line that is printed meanwhile, where the board can tell."""


class Waiter:
    """Waits for the answer to a call. `wake` is for who waits; the cause is the board's own front if none is given."""

    __slots__ = ("cause", "done", "error", "name", "value")

    def __init__(self, cause: Cause | None = None) -> None:
        self.cause = cause
        self.name = 0
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def wake(self) -> None:
        """It is done."""

    def finish(self, value: Any, error: BaseException | None) -> None:
        self.value = value
        self.error = error
        self.done = True
        self.wake()


class TaskWaiter(Waiter):
    """A task that waits."""

    __slots__ = ("_task",)

    def __init__(self, cause: Cause | None = None) -> None:
        super().__init__(cause)
        self._task: trio.lowlevel.Task | None = None

    def wake(self) -> None:
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)

    async def wait(self, abandon: Callable[[Waiter], object]) -> None:
        """Cancelled: `abandon` is called with this."""

        def abort(_: object) -> trio.lowlevel.Abort:
            abandon(self)
            return trio.lowlevel.Abort.SUCCEEDED

        if not self.done:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(abort)


class ThreadWaiter(Waiter):
    """A thread that waits."""

    __slots__ = ("_lock", "abandoned")

    def __init__(self, cause: Cause | None = None) -> None:
        super().__init__(cause)
        self.abandoned = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Whether it is done."""
        return self._lock.acquire(timeout=seconds)
