"""Walks over things of this process that a peer iterates, in batches: what ITER begins and TAKE goes on with."""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from sys import getsizeof
from time import monotonic
from typing import Any

import trio

from rpyc_gateway.awaiting import Later
from rpyc_gateway.classes import described, walks_quietly
from rpyc_gateway.proto.atoms import ATOMS, all_atoms, are_rows
from rpyc_gateway.proto.messages import ClassInfo

__all__ = ["Walk"]

PATIENCE = 0.05
"""Seconds after which a batch is sent although it is not full: nobody waits for a slow producer to fill one."""

WEIGHT = 2**18
"""Bytes of its items, roughly, at which a batch is full: long ones are not fetched by the thousand before anybody wants them."""

LOOK = 256
"""Items between two looks at what they weigh."""

OBJECT = 1024
"""Bytes that an object weighs which goes by reference: its name, and what is kept of it at both ends."""

Batch = tuple[tuple[object, ...], bool]
"""Items, and whether they were the last."""


class Walk:
    """One iteration, with the iterator for async code if there is one, or else the plain one. Raises what asking for it raises.

    A batch has at most `quiet` items where fetching ahead cannot be seen, as the iterator runs no code of anybody; else `most`; fewer if
    they are long.
    What is raised behind items that were taken already waits for the next batch, as it would for the next item.
    """

    __slots__ = ("_busy", "_error", "_hooks", "_iterator", "_most", "_plain", "_quiet", "_ready")

    def __init__(self, subject: Any, quiet: int, most: int) -> None:
        info = described(subject)  # what is held from elsewhere is walked in batches of its own
        self._quiet = bool(info.flags & ClassInfo.QUIET) if info is not None else walks_quietly(type(subject))
        self._most = quiet if self._quiet else most
        self._plain = not hasattr(type(subject), "__aiter__")
        self._iterator: Any = iter(subject) if self._plain else aiter(subject)  # None at the end
        self._ready: list[object] = []
        self._error: BaseException | None = None
        self._hooks = sys.get_asyncgen_hooks()  # of the step that begins this, in whose thread no trio is
        self._busy = threading.Lock()  # a thread may still be in the batch that a cancelled caller asked for

    @staticmethod
    def beginning(subject: object) -> str:
        """The special method that begins a walk over an object."""
        return "__aiter__" if hasattr(type(subject), "__aiter__") else "__iter__"

    def take(self, count: int) -> Batch | Later:
        """Up to `count` items: one at least, unless the end is there. Raises what the iterator raises.

        RuntimeError if another batch is being taken. Cancelled, what an async iterator has given already is for the next batch.
        """
        count = min(count, self._most)
        return self._take(count) if self._plain else Later(self._take_async(count))  # type: ignore[arg-type]

    def _take(self, count: int) -> Batch:
        with self._alone():
            try:
                if self._iterator is not None and self._error is None:
                    self._fill(count)
            except StopIteration:
                self._iterator = None
            except BaseException as error:  # noqa: BLE001  # raised in its turn
                self._error = error
            return self._batch()

    def _fill(self, count: int) -> None:
        """Take items until there are `count`, or they are heavy, or somebody has waited long enough. Raises StopIteration at the end."""
        ready = self._ready
        end = monotonic() + PATIENCE
        weight = 0
        while True:
            before = len(ready)
            wanted = min(count - before, LOOK)
            if self._quiet:
                ready.extend(islice(self._iterator, wanted))
                if len(ready) < before + wanted:
                    raise StopIteration
            else:
                _append(ready, self._iterator, wanted, end)
            weight += weigh(ready[before:])
            if len(ready) >= count or weight >= WEIGHT or monotonic() >= end:
                return

    async def _take_async(self, count: int) -> Batch:
        with self._alone():
            end = monotonic() + PATIENCE
            try:
                while self._wants(count, end):
                    self._ready.append(await self._next())
            except StopAsyncIteration:
                self._iterator = None
            except trio.Cancelled:
                raise
            except BaseException as error:  # noqa: BLE001  # raised in its turn
                self._error = error
            return self._batch()

    def _next(self) -> Awaitable[object]:
        """The next item of an async iterator. A generator remembers whose hooks were there when it was first asked."""
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(*self._hooks)
        try:
            return anext(self._iterator)
        finally:
            sys.set_asyncgen_hooks(*hooks)

    def _wants(self, count: int, end: float) -> bool:
        if self._iterator is None or self._error is not None:
            return False
        return not self._ready or (len(self._ready) < count and monotonic() < end)

    def _batch(self) -> Batch:
        if self._error is not None and not self._ready:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # the traceback holds this frame
        items, self._ready = tuple(self._ready), []
        return items, self._iterator is None and self._error is None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("the next item of this iteration is being fetched already")
        try:
            yield
        finally:
            self._busy.release()


def _append(ready: list[object], iterator: Any, wanted: int, end: float) -> None:
    """Append so many items one by one, or as many as there are before `end`."""
    append = ready.append
    for _ in range(wanted):
        append(next(iterator))
        if monotonic() >= end:
            return


def weigh(items: Sequence[object]) -> int:
    """The bytes of some items, roughly. No item is asked: its class may have its own idea of its size."""
    kinds = set(map(type, items))
    size = _SIZES.get(kinds.pop()) if len(kinds) == 1 else None
    if size is not None:  # as a rule, and quicker
        return SMALL * len(items) + sum(map(size, items))
    if all_atoms(items):
        return sum(map(getsizeof, items))
    if are_rows(items, tuple):
        return sum(map(getsizeof, chain.from_iterable(items)))  # type: ignore[arg-type]
    return sum([_weight(item) for item in items])


SMALL = 16
"""Bytes that an item has at least, here or on its way."""

_SIZES: dict[type, Callable[[Any], int]] = {int: int.bit_length, str: len, bytes: len}
"""What grows with the size of an atom; an int's bits are too many, but quick to be had."""


def _weight(item: object) -> int:
    kind = type(item)
    if kind is tuple:
        return sum([getsizeof(part) if type(part) in ATOMS else OBJECT for part in item])  # type: ignore[attr-defined, misc]
    return getsizeof(item) if kind in ATOMS else OBJECT
