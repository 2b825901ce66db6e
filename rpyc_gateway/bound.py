"""Methods of remote objects whose reading waits for the next message of their session (docs/protocol.md, section 9, "Reading a method")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rpyc_gateway.held import Held
from rpyc_gateway.waiters import Outcome, ThreadWaiter

__all__ = ["Reading", "ReadingWaiter"]


class Reading:
    """One `object.method` that was written here: unsent, under way, or known.

    `question` is 0 until the GET is under way; then its answer comes to `waiter`.
    """

    __slots__ = ("__weakref__", "held", "known", "name", "question", "value", "waiter")

    def __init__(self, held: Held, name: str) -> None:
        self.held = held
        self.name = name
        self.question = 0
        self.waiter: ReadingWaiter | None = None
        self.known = False
        self.value: Any = None

    def learn(self, value: Any) -> Any:
        """This is what was read."""
        self.value = value
        self.known = True
        return value


class ReadingWaiter:
    """Keeps the outcome of a GET until somebody wants it, or the Reading that it belongs to has died."""

    __slots__ = ("_hold", "_outcome", "_threads", "cause")

    def __init__(self, hold: Callable[[Sequence[object]], tuple[object, ...]]) -> None:
        self.cause = 0  # it belongs to no chain of calls
        self._hold = hold
        self._outcome: Outcome | None = None
        self._threads: list[ThreadWaiter] = []

    def complete(self, outcome: Outcome) -> None:
        """Take over what the answer refers to now: nobody may ever come for it, and then it goes back."""
        payload = outcome.payload or outcome.raised
        if payload is not None:
            outcome.held = self._hold(payload.refs)
        self._outcome = outcome
        for waiter in list(self._threads):
            waiter.complete(outcome)

    def join(self, waiter: ThreadWaiter) -> None:
        """Let a thread have the outcome, now or when it comes."""
        self._threads.append(waiter)
        if self._outcome is not None:
            waiter.complete(self._outcome)
