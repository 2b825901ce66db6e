"""What a session has lent and borrowed: exports and their counts, imports and their handles, classes (docs/protocol.md, section 8).

Numbers come from outside (one counter for the whole vat, so that none is used twice in its life).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from rpyc_gateway.errors import LimitExceeded, ProtocolError
from rpyc_gateway.proto.messages import ClassInfo

__all__ = ["Classes", "Exports", "Handle", "Imports"]

_T = TypeVar("_T", bound=object)


class _Export:
    __slots__ = ("count", "value")

    def __init__(self, value: object) -> None:
        self.value = value
        self.count = 0


class Exports:
    """Objects the peer may name. Number 0 is the root and is not counted."""

    def __init__(self, root: object, numbers: Iterator[int], limit: int = 1_000_000) -> None:
        self._root = root
        self._numbers = numbers
        self._limit = limit
        self._by_number: dict[int, _Export] = {}
        self._by_identity: dict[int, int] = {}

    def introduce(self, value: object) -> int:
        """Count one more reference to `value` that the peer is about to get; its number. Raises LimitExceeded."""
        # The table keeps the object alive, so its id is its own as long as the entry stands; it never leaves the process.
        number = self._by_identity.get(id(value))
        if number is None:
            if len(self._by_number) >= self._limit:
                raise LimitExceeded(f"the peer already holds {self._limit} objects of this session")
            number = next(self._numbers)
            self._by_number[number] = _Export(value)
            self._by_identity[id(value)] = number
        self._by_number[number].count += 1
        return number

    def resolve(self, number: int) -> object:
        """The object with this number. Raises ProtocolError if the peer was never given it, or gave it back."""
        if number == 0:
            return self._root
        export = self._by_number.get(number)
        if export is None:
            raise ProtocolError(f"reference to object {number}, which this session does not hold")
        return export.value

    def release(self, number: int, count: int) -> object | None:
        """Take `count` references back; returns the object if it was the last of them, so that the caller says where it dies.

        Raises ProtocolError if fewer than `count` are held.
        """
        export = self._by_number.get(number)
        if export is None or count < 1 or count > export.count:
            held = export.count if export else 0
            raise ProtocolError(f"release of {count} references to object {number}, of which {held} are held")
        export.count -= count
        if export.count:
            return None
        del self._by_number[number]
        del self._by_identity[id(export.value)]
        return export.value

    def clear(self) -> list[object]:
        """Forget everything; returns the objects, so that the caller says where they die."""
        values = [export.value for export in self._by_number.values()]
        self._by_number.clear()
        self._by_identity.clear()
        self._root = None
        return values

    def __len__(self) -> int:
        return len(self._by_number)


class Handle(weakref.ref[_T], Generic[_T]):
    """A weak hold of an import, with the references it has seen."""

    __slots__ = ("count", "number")

    count: int
    number: int


class Imports:
    """The peer's objects that are held here: one live holder per number, and who holds the count.

    A holder may die in any thread at any moment. Its weak reference is then appended to a deque, by the deque's own method: no line of
    Python runs in the finalizer, where a KeyboardInterrupt would be printed and forgotten. Somebody must come and `take_dropped`.
    """

    def __init__(self) -> None:
        self._handles: dict[int, Handle[Any]] = {}
        self._dropped: deque[Handle[Any]] = deque()

    def adopt(self, number: int, make: Callable[[], _T]) -> _T:
        """The live holder for `number`, made if there is none; it answers for one reference more."""
        handle = self._handles.get(number)
        holder = handle() if handle is not None else None
        if handle is None or holder is None:
            holder = make()
            handle = Handle(holder, self._dropped.append)
            handle.number = number
            handle.count = 0
            self._handles[number] = handle
        handle.count += 1
        return holder

    def take_dropped(self) -> list[tuple[int, int]]:
        """(number, count) of each holder that has died since the last time."""
        pairs: list[tuple[int, int]] = []
        while self._dropped:
            handle = self._dropped.popleft()
            if self._handles.get(handle.number) is handle:
                del self._handles[handle.number]
            pairs.append((handle.number, handle.count))
        return pairs

    def __len__(self) -> int:
        return len(self._handles)


HEARD = 2**24
"""Characters of all class descriptions of a peer: thousands of large classes."""


class Classes:
    """Class descriptions: what was told to the peer, and what the peer told."""

    def __init__(self, limit: int = 65536) -> None:
        self._told: dict[ClassInfo, int] = {}
        self._heard: dict[int, ClassInfo] = {}
        self._limit = self._told_limit = limit
        self._heard_size = 0

    def limit_told(self, limit: int) -> None:
        """The peer has said how many classes it will hear of."""
        self._told_limit = min(self._told_limit, limit)

    def tell(self, info: ClassInfo, describe: Callable[[int], None]) -> int:
        """The number of a class towards the peer; `describe` is called with it first, the first time.

        Raises LimitExceeded, or what `describe` raises; then nothing has changed.
        """
        number = self._told.get(info)
        if number is not None:
            return number
        if len(self._told) >= self._told_limit:
            raise LimitExceeded(f"more than {self._told_limit} classes in one session")
        number = len(self._told) + 1
        describe(number)
        self._told[info] = number
        return number

    def hear(self, number: int, info: ClassInfo) -> None:
        """Keep what the peer said of its class. Raises LimitExceeded."""
        if number not in self._heard and len(self._heard) >= self._limit:
            raise LimitExceeded(f"the peer described more than {self._limit} classes")
        names = (name for pair in ((info.module, info.name), *info.mro) for name in pair)
        self._heard_size += sum(map(len, (*names, *info.special, *info.closed, *info.methods))) + 50 * len(info.mro)
        if self._heard_size > HEARD:
            raise LimitExceeded(f"the peer's descriptions of its classes exceed {HEARD} characters")
        self._heard[number] = info

    def heard(self, number: int) -> ClassInfo:
        """The peer's class `number`. Raises ProtocolError if it was never described."""
        info = self._heard.get(number)
        if info is None:
            raise ProtocolError(f"reference to class {number}, which was never described")
        return info
