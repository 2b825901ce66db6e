"""What a loop over a remote value runs on: items that come in batches, one message each, which grow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from itertools import chain
from typing import Any

import trio

from rpyc_gateway.async_verbs import MOST
from rpyc_gateway.awaiting import Recorded
from rpyc_gateway.held import Held, held_by, is_proxy
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.steps import Step

__all__ = ["FIRST", "LARGEST", "MOST", "Batches", "Iteration", "buffiter", "walk_quietly"]

FIRST = 256
"""Items of the first batch from a builtin container: most have no more, and a loop that is left at once costs little."""

LARGEST = 8192
"""Items of a batch that has grown; then a message costs each of them next to nothing."""

GROWTH = 4
"""Each batch has so many times the items of the one before it: few round trips where they are slow."""

First = tuple[tuple[Any, ...], bool, Any]
"""The first items, whether they are all, and the proxy of the walk that goes on if not."""


_checkpoint_if_cancelled = trio.lowlevel.checkpoint_if_cancelled


class Iteration:
    """An async iterator for one task at a time. `begin` fetches the first batch, of up to `first` items.

    Left early it needs no closing: when it is dropped the far side drops its iterator, and a generator is closed there. Cancelled
    while it waits, the far side's is cancelled too; what that means for the next item is up to that iterator.
    """

    __slots__ = ("_begin", "_busy", "_items", "_size", "_walk")

    def __init__(self, begin: Callable[[], Awaitable[First]], first: int) -> None:
        self._begin: Callable[[], Awaitable[First]] | None = begin
        self._busy = False
        self._items: Iterator[Any] = iter(())
        self._size = first
        self._walk: Held | None = None

    def __aiter__(self) -> Iteration:
        return self

    async def __anext__(self) -> Any:
        await _checkpoint_if_cancelled()
        for item in self._items:
            return item
        await self._fetch()
        for item in self._items:
            return item
        raise StopAsyncIteration

    async def _fetch(self) -> None:
        if self._busy:
            raise RuntimeError("another task waits for the next item of this iteration already")
        self._busy = True
        try:
            if self._begin is not None:
                items, done, walk = await self._first(self._begin)
                self._walk = None if walk is None else held_by(walk)
            elif self._walk is not None:
                self._size = size = max(self._size, min(self._size * GROWTH, LARGEST))
                items, done = await self._walk.caller.ask_async(self._walk.number, ((Verb.TAKE, 0, size),))
            else:
                return
            self._items = iter(items)
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
        self._items = iter(())
        if walk is not None:
            caller = walk.caller
            del walk
            caller.give_back()


class Batches:
    """Batches of a remote value, for blocking code: the first is what `steps` come to, ITER at their end; each is `factor` times the one before it.

    Dropped, the far side drops its iterator with the next message.
    """

    __slots__ = ("_batch", "_begin", "_factor", "_held", "_most", "_size")

    def __init__(self, held: Held, steps: tuple[Step, ...], first: int, most: int, factor: float) -> None:
        self._held: Held | None = held
        self._batch: Iterator[Any] = iter(())
        self._begin: tuple[Step, ...] | None = steps
        self._size = first
        self._most = most
        self._factor = factor

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> Iterator[Any]:
        held = self._held
        if held is None:
            raise StopIteration
        begin, self._begin = self._begin, None
        if begin is not None:
            self._held = None  # if it cannot be begun there is nothing to go on with
            items, done, walk = held.caller.ask(held.number, begin)
            self._held = None if done else held_by(walk)
        else:
            self._size = min(int(self._size * self._factor), self._most)
            items, done = held.caller.ask(held.number, ((Verb.TAKE, 0, self._size),))
            if done:
                self._held = None
        self._batch = iter(items)
        return self._batch

    def close(self) -> None:
        """Fetch no more, drop what was fetched, and let the far side know now."""
        held, self._held = self._held, None
        for _ in self._batch:
            pass  # somebody may be in the middle of it
        if held is not None:
            caller = held.caller
            del held
            caller.give_back()


def walk_quietly(proxy: object, *before: Step) -> Iterator[Any]:
    """Iterate over a builtin container, or over what the steps `before` make of it: fetching ahead runs no code of anybody."""
    most = LARGEST if before else 1  # whatever its peer says of its class: only what is quiet there is fetched ahead
    steps = (*before, (Verb.ITER, len(before), LARGEST, most, FIRST))
    return chain.from_iterable(Batches(held_by(proxy), steps, FIRST, LARGEST, GROWTH))


class Buffered:
    """An iterator over fetched and unfetched items; `close` stops what makes them."""

    __slots__ = ("_batches", "_items")

    def __init__(self, batches: Batches | None, items: Iterator[Any]) -> None:
        self._batches = batches
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return self._items

    def __next__(self) -> Any:
        return next(self._items)

    def close(self) -> None:
        """Drop the items that wait, and let the far side drop its iterator now: a generator that nobody else holds is closed there."""
        self._items = iter(())
        if self._batches is not None:
            self._batches.close()


def buffiter(iterable: Any, chunk: int = 10, max_chunk: int = 1000, factor: float = 2) -> Buffered:
    """Iterate over any remote iterable of blocking code in batches: `chunk` items in the first message, `factor` times as many in each
    that follows, up to `max_chunk`.

    Items are taken before they are wanted, which a generator can tell; once 50 ms are over what there is goes with the next item, so
    that one that blocks keeps what it gave before: `for` over the proxy itself takes those one by one. What it raises is raised here
    behind the items before it. Left early it is dropped over there, and closed if nobody else holds it; `close` (or
    `contextlib.closing`) does that at once. What is local is iterated as it is. Raises ValueError for sizes that make no batches,
    TypeError for what cannot be iterated.
    """
    if not 0 < chunk <= MOST or not 0 < max_chunk <= MOST or not factor >= 1:
        raise ValueError(
            f"batches from {chunk} to {max_chunk} items, each {factor} times the last: sizes are from 1 to {MOST}"
        )
    if issubclass(type(iterable), Recorded):
        raise TypeError(
            "a remote value of trio code is iterated with `async for`: use gw.ops.iterate(proxy, prefetch=...)"
        )
    if not is_proxy(iterable):
        return Buffered(None, iter(iterable))
    most = max(chunk, max_chunk)
    batches = Batches(held_by(iterable), ((Verb.ITER, 0, most, most, chunk),), chunk, most, factor)
    return Buffered(batches, chain.from_iterable(batches))
