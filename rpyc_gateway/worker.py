"""The threads that run served code: a pool, and one thread for each calling thread that asks for it."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from queue import Empty
from typing import Protocol

from rpyc_gateway.inbox import Inbox
from rpyc_gateway.leading import Leadership
from rpyc_gateway.standby import standby

__all__ = ["Workers", "workers"]

IDLE_SECONDS = 10.0
"""How long a pooled thread waits for work before it ends: longer than the pauses in a conversation, shorter than a coffee."""

REST_SECONDS = 0.1
"""How long a thread waits at the place where its last task came from: longer than a program that calls again and again needs between two calls."""

logger = logging.getLogger("rpyc_gateway.session")


Task = Callable[[], object]
"""It may return the Leadership of the link that it came by: the thread reads that, and so waits for its next task."""

_GO = object()  # in a pooled thread's inbox: there is something to do


class _Worker(threading.Thread):
    """One thread and its inbox. `None` in the inbox ends it."""

    def __init__(self, number: int) -> None:
        # A daemon: served code that never returns must not keep the process from ending.
        super().__init__(name=f"rpyc-gateway worker {number}", daemon=True)
        self.inbox = Inbox()
        self._place: object = None

    def next_item(self, seconds: float | None) -> object:
        """What is in the inbox next, waited for at the place of the last task while that goes well. Raises Empty after `seconds`."""
        place, inbox = self._place, self.inbox
        self._place = None
        if type(place) is Leadership and not place.for_trio and inbox.empty():
            place.lead(inbox, None, REST_SECONDS)
        return inbox.get(True, seconds)  # by position: it is quicker

    def perform(self, task: Task) -> None:
        """Run a task; what it raises is a defect of ours, and the next task of this thread is somebody else's."""
        try:
            self._place = task()
        except BaseException:
            logger.exception("%s goes on after a task that raised", self.name)


class _Bound(_Worker):
    """The thread that belongs to one calling thread of a peer."""

    def take_back(self) -> list[Task]:
        """What it was given and has not begun."""
        tasks: list[Task] = []
        with suppress(Empty):
            while (task := self.inbox.get_nowait()) is not None:
                tasks.append(task)
        return tasks

    def run(self) -> None:
        while True:
            task = self.next_item(None)
            if task is None:
                return
            self.perform(task)  # type: ignore[arg-type]
            del task


class _Pooled(_Worker):
    """A thread of the pool: it does what waits there, and is woken when something does again."""

    def __init__(self, pool: _Pool, number: int) -> None:
        super().__init__(number)
        self._pool = pool

    def run(self) -> None:
        _local.worker = self
        while True:
            task = self._pool.next_for(self)
            if task is not None:
                try:  # as `perform` does, in this frame
                    self._place = task()
                except BaseException:
                    logger.exception("%s goes on after a task that raised", self.name)
                del task
                continue
            self._pool.flush()
            try:
                self.next_item(IDLE_SECONDS)
            except Empty:
                if self._pool.retire(self):
                    return


_local = threading.local()  # `worker` is the pooled thread that this is, if it is one


class Flushable(Protocol):
    """What has something to send."""

    def flush(self) -> None:
        """Send it now."""
        ...


class _Pool:
    """Tasks that wait, and threads that do them, as few as can be.

    One thread does one short task after the other, without a change of threads between them. The standby looks after it: what waits
    behind a task that does not end gets threads of its own within a few milliseconds.
    """

    def __init__(self, numbers: Iterator[int]) -> None:
        # Entered twice by one thread where a finalizer, run by the garbage collector in between, makes a remote call.
        self._lock = threading.RLock()
        self._numbers = numbers
        self._tasks: deque[Task] = deque()
        self._idle: list[_Pooled] = []
        self._runner: _Pooled | None = None  # will come back for more
        self._begun = 0  # tasks, ever
        self._seen = 0  # that number when the standby looked
        self._watched = False
        self._unsaid: dict[Flushable, None] = {}  # answers that wait for the next ones

    def submit(self, task: Task) -> None:
        """Run `task` soon. Raises RuntimeError if there can be no more threads."""
        with self._lock:
            self._tasks.append(task)
            if self._runner is None:
                chosen = self._choose()
                try:
                    self._start(chosen)
                except RuntimeError:
                    self._tasks.remove(task)
                    raise
                self._runner = chosen
            if not self._watched:
                self._be_watched()

    def will_go_on(self) -> bool:
        """Whether this is a thread of the pool, and more tasks wait."""
        return bool(self._tasks) and getattr(_local, "worker", None) is not None

    def flush_later(self, link: Flushable) -> None:
        """Flush `link` after the tasks that wait, or in a few milliseconds."""
        with self._lock:
            self._unsaid[link] = None
            if not self._watched:
                self._be_watched()

    def flush(self) -> None:
        """Send what was held back."""
        if self._unsaid:
            with self._lock:
                links, self._unsaid = self._unsaid, {}
            for link in links:
                try:
                    link.flush()
                except Exception:  # a defect, which the other links have no part in
                    logger.exception("a link was not flushed")

    def look(self) -> bool:
        """The standby's look: nothing waits for long."""
        self.flush()
        with self._lock:
            if self._tasks and self._begun == self._seen:
                with suppress(RuntimeError):  # no thread can be started: the next look tries again
                    for _ in range(len(self._tasks)):
                        self._runner = chosen = self._choose()
                        self._start(chosen)
            self._seen = self._begun
            self._watched = bool(self._tasks or self._unsaid)
            return self._watched

    def next_for(self, worker: _Pooled) -> Task | None:
        """A task for this thread; None, and it is idle from now on."""
        with self._lock:
            if self._tasks:
                self._begun += 1
                self._runner = worker
                return self._tasks.popleft()
            if self._runner is worker:
                self._runner = None
            if worker not in self._idle:
                self._idle.append(worker)
            return None

    def retire(self, worker: _Pooled) -> bool:
        """Whether an idle thread may end; not if it was chosen a moment ago."""
        with self._lock:
            if worker not in self._idle:
                return False
            self._idle.remove(worker)
            return True

    def idle(self) -> int:
        """How many threads have nothing to do."""
        return len(self._idle)

    def _choose(self) -> _Pooled:
        """An idle thread, this one if it is one (it reads a link), or a new one."""
        here: _Pooled | None = getattr(_local, "worker", None)
        if here is not None and here in self._idle:
            self._idle.remove(here)
            return here
        return self._idle.pop() if self._idle else _Pooled(self, next(self._numbers))

    def _start(self, chosen: _Pooled) -> None:
        if chosen.ident is None:
            chosen.start()
        else:
            chosen.inbox.give(_GO)

    def _be_watched(self) -> None:
        self._watched = True
        self._seen = -1  # what is new now is not stuck yet
        standby().watch(self)


class Workers:
    """Runs tasks in threads. Any thread may use it. What a task raises is logged: it should answer for itself."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Know of no thread, and of no lock that one of them may have: a child that was forked has none of them."""
        self._lock = threading.RLock()  # as that of the pool
        self._bound: dict[Hashable, _Bound] = {}
        self._numbers = itertools.count(1)
        self._pool = pool = _Pool(self._numbers)
        # Not methods that call them: each call passes here.
        self.submit = pool.submit
        """Run a task in some thread of the pool: at once, or in a few milliseconds if the task before it does not end.

        Raises RuntimeError if there can be no more threads.
        """
        self.will_go_on = pool.will_go_on
        """Whether this is a thread of the pool, and has more to do."""
        self.flush_later = pool.flush_later
        """In a thread that `will_go_on`: flush a link then; if it does not come to it, somebody else does in a few milliseconds."""

    def submit_to(self, key: Hashable, task: Task) -> None:
        """Run `task` in the thread that belongs to `key`, after what it was given before. Raises RuntimeError like `submit`."""
        made: _Bound | None = None
        with self._lock:  # a release may come from another thread: nothing may be given to a thread after its end
            worker = self._bound.get(key)
            if worker is None:
                worker = made = self._bound[key] = _Bound(next(self._numbers))
            inbox = worker.inbox  # as `give` does, without a call
            inbox.put(task)
            if inbox.waker is not None:
                inbox.waker()
        if made is not None:
            try:
                made.start()
            except RuntimeError:
                with self._lock:
                    self._bound.pop(key, None)
                raise

    def release(self, key: Hashable) -> None:
        """The thread that belongs to `key` ends when it has done what it was given; the next task for `key` gets a new one."""
        with self._lock:
            worker = self._bound.pop(key, None)
            if worker is not None:
                worker.inbox.give(None)

    def detach(self, key: Hashable) -> None:
        """The thread that belongs to `key` may be stuck: it ends after its task, and what it was given after that is for a new one."""
        with self._lock:
            stuck = self._bound.pop(key, None)
            if stuck is None:
                return
            tasks = stuck.take_back()
        try:
            while tasks:
                self.submit_to(key, tasks[0])
                del tasks[0]
        except RuntimeError:  # no thread can be started: better late than never
            for task in tasks:
                stuck.inbox.give(task)
        stuck.inbox.give(None)

    def statistics(self) -> tuple[int, int]:
        """(threads idle in the pool, threads bound to callers)."""
        return self._pool.idle(), len(self._bound)


workers = Workers()
"""The threads of this process that run served code."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=workers.forget)
