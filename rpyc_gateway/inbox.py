"""What a thread is given to do or to know while it waits, wherever it waits."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

__all__ = ["Inbox"]


class Inbox(SimpleQueue[Any]):
    """A queue with one reader, which may wait elsewhere than in `get`: `waker`, if there is one, is called after each `put`."""

    waker: Callable[[], object] | None = None

    def give(self, item: object) -> None:
        """Put `item`, and wake the thread that waits; from any thread."""
        self.put(item)
        waker = self.waker
        if waker is not None:
            waker()
