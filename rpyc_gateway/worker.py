"""The threads that run served code: a pool, and one thread for each calling thread that asks for it."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from queue import Empty, SimpleQueue

__all__ = ["Workers", "workers"]

IDLE_SECONDS = 10.0
"""How long a pooled thread waits for work before it ends: longer than the pauses in a conversation, shorter than a coffee."""

logger = logging.getLogger("rpyc_gateway.session")

Task = Callable[[], object]


class _Worker(threading.Thread):
    """One thread and its inbox. `None` in the inbox ends it."""

    def __init__(self, on_idle: Callable[[_Worker], bool], number: int) -> None:
        # A daemon: served code that never returns must not keep the process from ending.
        super().__init__(name=f"rpyc-gateway worker {number}", daemon=True)
        self.inbox: SimpleQueue[Task | None] = SimpleQueue()
        self._on_idle = on_idle

    def take_back(self) -> list[Task]:
        """What it was given and has not begun."""
        tasks: list[Task] = []
        with suppress(Empty):
            while (task := self.inbox.get_nowait()) is not None:
                tasks.append(task)
        return tasks

    def run(self) -> None:
        while True:
            try:
                task = self.inbox.get(timeout=IDLE_SECONDS)
            except Empty:
                if self._on_idle(self):
                    return
                continue
            if task is None:
                return
            try:
                task()
            except BaseException:  # a defect of ours; the next task of this thread is somebody else's
                logger.exception("%s goes on after a task that raised", self.name)
            del task


class Workers:
    """Runs tasks in threads. Any thread may use it. What a task raises is logged: it should answer for itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._bound: dict[Hashable, _Worker] = {}
        self._numbers = itertools.count(1)

    def submit(self, task: Task) -> None:
        """Run `task` in some thread of the pool, now: a new one if all are busy. Raises RuntimeError if there can be no more threads."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is None:
            worker = self._make(self._retire)
            worker.start()
        worker.inbox.put(lambda: self._pooled(worker, task))

    def submit_to(self, key: Hashable, task: Task) -> None:
        """Run `task` in the thread that belongs to `key`, after what it was given before. Raises RuntimeError like `submit`."""
        made: _Worker | None = None
        with self._lock:  # a release may come from another thread: nothing may be given to a thread after its end
            worker = self._bound.get(key)
            if worker is None:
                worker = made = self._bound[key] = self._make(lambda _worker: False)
            worker.inbox.put(task)
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
                worker.inbox.put(None)

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
                stuck.inbox.put(task)
        stuck.inbox.put(None)

    def statistics(self) -> tuple[int, int]:
        """(threads idle in the pool, threads bound to callers)."""
        with self._lock:
            return len(self._idle), len(self._bound)

    def _make(self, on_idle: Callable[[_Worker], bool]) -> _Worker:
        return _Worker(on_idle, next(self._numbers))

    def _pooled(self, worker: _Worker, task: Task) -> None:
        try:
            task()
        finally:
            with self._lock:
                self._idle.append(worker)

    def _retire(self, worker: _Worker) -> bool:
        with self._lock:
            if worker not in self._idle:
                return False  # it was picked a moment ago: work is on its way
            self._idle.remove(worker)
            return True


workers = Workers()
"""The threads of this process that run served code."""
