"""What a piece of code leaves behind: tasks, descriptors, child processes; and cutting it short at each of its steps to see."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

__all__ = ["Belongings", "Interruption", "interrupted"]

LOOK_AGAIN = 0.01  # seconds: nothing tells that a descriptor was closed


@dataclass(frozen=True)
class Belongings:
    """What this process holds at one moment. Descriptors and children are known on Linux only; elsewhere there seem to be none."""

    tasks: int
    descriptors: frozenset[str]
    children: frozenset[str]

    @classmethod
    def now(cls) -> Belongings:
        return cls(
            trio.lowlevel.current_statistics().tasks_living, frozenset(_descriptors()), frozenset(_child_processes())
        )

    async def what_is_more(self, patience: float) -> str:
        """What is there that was not, in words; "" as soon as there is nothing, for which it may take so many seconds."""
        with trio.move_on_after(patience):
            while True:
                more = self._compare(Belongings.now())
                if not more:
                    return ""
                await trio.sleep(LOOK_AGAIN)
        return self._compare(Belongings.now())

    def _compare(self, now: Belongings) -> str:
        parts = []
        if now.tasks > self.tasks:
            parts.append(f"{now.tasks - self.tasks} tasks")
        for what, before, after in (
            ("descriptors", self.descriptors, now.descriptors),
            ("child processes", self.children, now.children),
        ):
            more = sorted(after - before)
            if more:
                parts.append(f"{len(more)} {what} ({', '.join(more[:5])})")
        return " and ".join(parts)


def _descriptors() -> Iterator[str]:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return
    for number in os.listdir(folder):
        with suppress(OSError):  # the one that the listing itself used
            yield f"{number}: {os.readlink(folder / number)}"


def _child_processes() -> Iterator[str]:
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended
            yield from (f"pid {pid}" for pid in file.read_text().split())


class Interruption(trio.abc.Instrument):
    """Counts the steps of a task and of those below it, and cancels a scope at one of them: at the moment at which it has begun to wait."""

    def __init__(self, scope: trio.CancelScope, at: int) -> None:
        self.steps = 0
        self._root = trio.lowlevel.current_task()
        self._others = set(self._root.child_nurseries)  # opened before; what runs in them goes on
        self._scope = scope
        self._at = at

    @property
    def came(self) -> bool:
        """Whether it got so far."""
        return self.steps >= self._at

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._descends(task):
            self.steps += 1
            if self.steps == self._at:
                self._scope.cancel()

    def _descends(self, task: trio.lowlevel.Task | None) -> bool:
        while task is not None and task is not self._root:
            nursery = task.parent_nursery
            task = nursery.parent_task if nursery and nursery not in self._others else None
        return task is not None


@contextmanager
def interrupted(at: int) -> Iterator[Interruption]:
    """Cancel the body, which must be all that its task does meanwhile, at its `at`-th step."""
    with trio.CancelScope() as scope:
        interruption = Interruption(scope, at)
        trio.lowlevel.add_instrument(interruption)
        try:
            yield interruption
        finally:
            trio.lowlevel.remove_instrument(interruption)


async def count_steps(story: Callable[[], Awaitable[object]]) -> int:
    """How many steps it takes when nobody interrupts it."""
    with interrupted(-1) as never:
        await story()
    return never.steps
