"""What one link has to do on others when its turn has been given back: so no thread but trio's waits for a turn while it holds one."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Errands"]

log = logging.getLogger(__name__)


class Other(Protocol):
    """A link that something is to be done on."""

    @property
    def turn(self) -> AbstractContextManager[Any]:
        """Its turn."""
        ...

    def disown(self, label: int) -> None:
        """What was to be done on a stream failed: reset it. With its turn held."""
        ...


_O = TypeVar("_O", bound=Other)


class Errands(Generic[_O]):
    """A queue: `add` with the turn of its link held, `run` without. Whoever finds nobody at it runs all, in order.

    Two threads may have stepped the link one after the other, and what the second one has to say must not overtake the first.
    """

    __slots__ = ("_running", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[_O, Callable[[_O, int, Any], object], int, object]] = deque()
        self._running = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether what was added before is not done yet. With the turn of its link held, so that nothing is added meanwhile."""
        return bool(self.waiting) or self._running.locked()

    def add(self, other: _O, act: Callable[[_O, int, Any], object], label: int, value: object) -> None:
        """`act(other, label, value)` is to be called with the turn of `other` held."""
        self.waiting.append((other, act, label, value))

    def run(self) -> None:
        """Run what waits, one turn for as much as one link is told in a row; nothing if another thread (or this one, further out) is at it."""
        while self.waiting and self._running.acquire(blocking=False):
            try:
                self._run()
            finally:
                self._running.release()

    def _run(self) -> None:
        waiting = self.waiting
        while waiting:
            other = waiting[0][0]
            with other.turn:
                while waiting and waiting[0][0] is other:
                    _, act, label, value = waiting.popleft()
                    try:
                        act(other, label, value)
                    except Exception:
                        log.exception("a stream is reset: what it was to pass on failed")
                        other.disown(label)
