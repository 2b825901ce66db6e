"""Who waits for the answer to a question: a thread, which may be given callbacks of its own chain of calls meanwhile, or a trio task."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Protocol

import trio
from msgspec import Struct

from rpyc_gateway.deadlines import Deadline
from rpyc_gateway.errors import Cancelled
from rpyc_gateway.inbox import Inbox
from rpyc_gateway.leading import LEAD, Leadership, get
from rpyc_gateway.proto.speaking import Question
from rpyc_gateway.proto.values import Payload
from rpyc_gateway.turn import deferral
from rpyc_gateway.weak import WeakTable

__all__ = ["Listener", "Outcome", "TaskWaiter", "ThreadWaiter", "Waiter", "new_number", "thread_number"]


class Outcome(Struct, eq=False):
    """What a question came to: an answer, an exception of the far side, or an error of the way there."""

    payload: Payload | None = None
    raised: Payload | None = None
    error: Exception | None = None
    held: tuple[object, ...] | None = None  # what the payload refers to, if that was taken over already


class Waiter(Protocol):
    """Completed exactly once, with the turn held. `cause` is the chain of calls its question belongs to."""

    cause: int

    def complete(self, outcome: Outcome) -> None:
        """Hand over what the question came to."""
        ...


class ThreadWaiter:
    """A thread that waits. Whatever is put into its inbox is run on its stack, until an Outcome is. `outer` waits further out in its chain."""

    __slots__ = ("cause", "inbox", "outer")

    def __init__(self) -> None:
        self.cause = 0
        self.outer: ThreadWaiter | None = None
        self.inbox = Inbox()

    def complete(self, outcome: Outcome) -> None:
        """Wake the thread with its outcome."""
        inbox = self.inbox  # as `give` does, without a call
        inbox.put(outcome)
        if inbox.waker is not None:
            inbox.waker()

    def run(self, task: Callable[[], object]) -> None:
        """Let the thread run a callback that belongs to its own chain of calls."""
        self.inbox.give(task)

    def interrupt(self, reason: str) -> None:
        """The call that this thread is serving was cancelled: what it waits for is of no use any more."""
        self.inbox.give(Outcome(error=Cancelled(reason)))

    def wait(
        self, deadline: Deadline | None = None, lead: Leadership | None = None, *, deferred: bool = False
    ) -> Outcome:
        """Serve callbacks until the outcome is there, and read the link under its `lead` if nobody else does.

        Raises TimedOut at `deadline`, or when the callback that ran then has ended. `deferred`: the signals of this thread wait, but while it
        only waits, and while callbacks run.
        """
        inbox = self.inbox
        while True:
            if lead is None:
                item = get(inbox, deadline, deferred=deferred)
            elif lead.lead(inbox, deadline, deferred=deferred):
                item = None if inbox.empty() else inbox.get_nowait()
            else:
                item = lead.follow(inbox, deadline, deferred=deferred)
            if type(item) is Outcome:
                return item
            if item is None:
                if deadline is not None and deadline.left <= 0:
                    raise deadline.missed()
                continue  # longer than a thread can wait at once
            if item is LEAD:
                continue
            if deferred:
                try:
                    deferral.end()
                except BaseException:  # a signal that came: somebody else must run it
                    inbox.put(item)
                    raise
            item()  # type: ignore[operator]
            del item  # what it was given must not live as long as this wait
            if deferred:
                deferral.begin(outside_trio=True)

    def leftovers(self) -> list[object]:
        """What was handed over and not taken: callbacks that somebody else must run, outcomes that nobody waits for, the lead."""
        items: list[object] = []
        while not self.inbox.empty():
            items.append(self.inbox.get_nowait())
        return items


class TaskWaiter:
    """A trio task that waits. All in the trio thread."""

    __slots__ = ("abandoned", "cause", "outcome", "program", "question", "task")

    def __init__(self, program: Question = (0, b"", 0, 0, 0)) -> None:
        self.cause = program[2]
        self.program = program
        self.question = 0  # it is not sent yet
        self.abandoned = False  # nobody will wait for it any more
        self.outcome: Outcome | None = None  # if it is there and nobody has taken it
        self.task: trio.lowlevel.Task | None = None  # that sleeps until it is

    def complete(self, outcome: Outcome) -> None:
        """Wake the task with its outcome."""
        self.outcome = outcome
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None

    async def wait(self) -> Outcome:
        """The outcome. Cancelled, nobody waits any more."""
        if self.outcome is None:
            self.task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        outcome = self.leftover()
        assert outcome is not None
        return outcome

    def leftover(self) -> Outcome | None:
        """The outcome, if it is there and nobody has taken it."""
        outcome, self.outcome = self.outcome, None
        return outcome

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self.task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Listener(Protocol):
    """Who wants to know when a calling thread has ended."""

    def thread_ended(self, number: int) -> None:
        """Called in any thread at any moment: append and wake, no more."""
        ...


_numbers = itertools.count(1)


def new_number() -> int:
    """An affinity that no thread of this process has."""
    return next(_numbers)


class _ThreadLife:
    """Lives in a thread's local storage and dies with the thread."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.listeners: WeakTable[Listener, None] = WeakTable()

    def __del__(self) -> None:
        for listener in self.listeners:
            listener.thread_ended(self.number)


_local = threading.local()


def thread_number(listener: Listener) -> int:
    """The affinity of the calling thread; `listener` is told when the thread ends."""
    life: _ThreadLife | None = getattr(_local, "life", None)
    if life is None:
        life = _local.life = _ThreadLife()
    if life.listeners.object(id(listener)) is not listener:
        life.listeners.keep(id(listener), listener, None)
    return life.number
