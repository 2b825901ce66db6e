"""What `async for` over a remote value runs on: items that come in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from rpyc_gateway.async_verbs import MOST
from rpyc_gateway.held import Held, held_by
from rpyc_gateway.proto.messages import Verb

__all__ = ["MOST", "Iteration"]

First = tuple[tuple[Any, ...], bool, Any]
"""The first items, whether they are all, and the proxy of the walk that goes on if not."""


class Iteration:
    """An async iterator for one task at a time. `begin` fetches the first batch.

    Left early it needs no closing: when it is dropped the far side drops its iterator, and a generator is closed there. Cancelled
    while it waits, the far side's is cancelled too; what that means for the next item is up to that iterator.
    """

    __slots__ = ("_begin", "_busy", "_items", "_walk")

    def __init__(self, begin: Callable[[], Awaitable[First]]) -> None:
        self._begin: Callable[[], Awaitable[First]] | None = begin
        self._busy = False
        self._items: deque[Any] = deque()
        self._walk: Held | None = None

    def __aiter__(self) -> Iteration:
        return self

    async def __anext__(self) -> Any:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._items:
            await self._fetch()
        if not self._items:
            raise StopAsyncIteration
        return self._items.popleft()

    async def _fetch(self) -> None:
        if self._busy:
            raise RuntimeError("another task waits for the next item of this iteration already")
        self._busy = True
        try:
            if self._begin is not None:
                items, done, walk = await self._first(self._begin)
                self._walk = None if walk is None else held_by(walk)
            elif self._walk is not None:
                items, done = await self._walk.caller.ask_async(self._walk.number, ((Verb.TAKE, 0, MOST),))
            else:
                return
            self._items.extend(items)
            if done:
                self._walk = None
        finally:
            self._busy = False

    async def _first(self, begin: Callable[[], Awaitable[First]]) -> First:
        try:
            first = await begin()
        except Exception:
            self._begin = None
            raise
        self._begin = None
        return first

    async def aclose(self) -> None:
        """Fetch no more, and let the far side know now: its generator is closed. For `contextlib.aclosing`."""
        walk, self._walk, self._begin = self._walk, None, None
        self._items.clear()
        if walk is not None:
            caller = walk.caller
            del walk
            caller.give_back()
