"""What a session has lent and borrowed: exports and their counts, imports and their handles, classes (docs/protocol.md, section 8).

Numbers come from outside (one counter for the whole vat, so that none is used twice in its life).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from sys import getrefcount
from typing import Any, Generic, Protocol, TypeVar

from rpyc_gateway.errors import LimitExceeded, ProtocolError
from rpyc_gateway.proto.messages import ClassInfo

__all__ = ["Classes", "Exports", "Handle", "Holder", "Imports"]

_T = TypeVar("_T", bound=object)
_H = TypeVar("_H", bound="Holder")


class _Export:
    __slots__ = ("count", "number", "value")

    def __init__(self, value: object, number: int) -> None:
        self.value = value
        self.number = number
        self.count = 0


class Exports:
    """Objects the peer may name. Number 0 is the root and is not counted."""

    def __init__(self, root: object, numbers: Iterator[int], limit: int = 1_000_000) -> None:
        self.root = root
        self._numbers = numbers
        self._limit = limit
        self.by_number: dict[int, _Export] = {}
        self._by_identity: dict[int, _Export] = {}
        self._most = 0  # how long the tables were since they were made

    def introduce(self, value: object) -> int:
        """Count one more reference to `value` that the peer is about to get; its number. Raises LimitExceeded."""
        # The table keeps the object alive, so its id is its own as long as the entry stands; it never leaves the process.
        export = self._by_identity.get(id(value))
        if export is None:
            if len(self.by_number) >= self._limit:
                raise LimitExceeded(f"the peer already holds {self._limit} objects of this session")
            number = next(self._numbers)
            export = self.by_number[number] = self._by_identity[id(value)] = _Export(value, number)
            self._most = max(self._most, len(self.by_number))
        export.count += 1
        return export.number

    def resolve(self, number: int) -> object:
        """The object with this number. Raises ProtocolError if the peer was never given it, or gave it back."""
        if number == 0:
            return self.root
        export = self.by_number.get(number)
        if export is None:
            raise ProtocolError(f"reference to object {number}, which this session does not hold")
        return export.value

    def release(self, number: int, count: int) -> object | None:
        """Take `count` references back; returns the object if it was the last of them, so that the caller says where it dies.

        Raises ProtocolError if fewer than `count` are held.
        """
        export = self.by_number.get(number)
        if export is None or count < 1 or count > export.count:
            held = export.count if export else 0
            raise ProtocolError(f"release of {count} references to object {number}, of which {held} are held")
        export.count -= count
        if export.count:
            return None
        del self.by_number[number]
        del self._by_identity[id(export.value)]
        if self._most > LONG and len(self.by_number) < self._most // 8:
            _shrink(self._by_identity)
            self._most = _shrink(self.by_number)
        return export.value

    def clear(self) -> list[object]:
        """Forget everything; returns the objects, so that the caller says where they die."""
        values = [export.value for export in self.by_number.values()]
        self.by_number.clear()
        self._by_identity.clear()
        self.root = None
        return values

    def __len__(self) -> int:
        return len(self.by_number)


class Handle(weakref.ref[_T], Generic[_T]):
    """A weak hold of a proxy of an import: when that dies, it says whose it was."""

    __slots__ = ("number",)

    number: int


class Holder(Protocol):
    """What is held here of one of the peer's objects. `count` are the references that came of it."""

    number: int
    count: int

    @property
    def shown(self) -> bool:
        """Whether a proxy of it lives, whose handle will tell of its end."""
        ...


class Imports:
    """The peer's objects that are held here: one holder per number, as long as anybody but this table has it.

    As a rule that is a proxy, which may die in any thread at any moment. Its handle is then appended to a deque, by the deque's own method: no
    line of Python runs in the finalizer, where a KeyboardInterrupt would be printed and forgotten. Somebody must come and `take_dropped`.
    (A second weak reference, to the holder, would tell the same and cost a third of what a proxy takes.)
    """

    def __init__(self) -> None:
        self._holders: dict[int, Any] = {}
        self._most = 0  # how long the table was since it was made
        self.dropped: deque[Handle[Any] | int] = deque()
        self.lingering: list[int] = []  # without a proxy, but somebody has them
        self.drop: Callable[[Handle[Any]], object] = self.dropped.append

    def adopt(self, number: int, make: Callable[..., _H], *facts: object) -> _H:
        """The holder for `number`, made of the facts if there is none; it answers for one reference more.

        Who does not make a proxy of it at once must `doubt` it.
        """
        holder: _H | None = self._holders.get(number)
        if holder is None:
            holder = self._holders[number] = make(*facts)
            self._most = max(self._most, len(self._holders))
        holder.count += 1
        return holder

    def doubt(self, number: int) -> None:
        """Perhaps nobody has this one any more, and no handle will tell."""
        self.dropped.append(number)

    def take_dropped(self) -> list[tuple[int, int]]:
        """(number, count) of each holder that nobody has any more, as far as is known since the last time."""
        pairs: list[tuple[int, int]] = []
        if self.lingering:
            count = max(len(self.lingering) // 8, LINGERING)
            looked_at, self.lingering = self.lingering[:count], self.lingering[count:]
            for number in looked_at:
                self._take(number, pairs)
        while self.dropped:
            dropped = self.dropped.popleft()
            self._take(dropped if type(dropped) is int else dropped.number, pairs)  # type: ignore[union-attr]
        if pairs and self._most > LONG and len(self._holders) < self._most // 8:
            self._most = _shrink(self._holders)
        return pairs

    def _take(self, number: int, pairs: list[tuple[int, int]]) -> None:
        holder = self._holders.get(number)
        if holder is None or holder.shown:
            return
        if getrefcount(holder) > _OURS:
            self.lingering.append(number)
            return
        del self._holders[number]
        pairs.append((number, holder.count))

    def __len__(self) -> int:
        return len(self._holders)


LINGERING = 100  # of those that linger so many are looked at each time: they are few, or there is no hurry
LONG = 1000  # entries of a table that is worth the trouble


def _our_references() -> int:
    """What is counted where the table has a holder, and `_take` looks at it."""
    table: dict[int, object] = {0: object()}
    holder = table.get(0)
    return getrefcount(holder)


_OURS = _our_references()


def _shrink(table: dict[Any, Any]) -> int:
    """Give back the room that a table keeps for what it had once; its length."""
    rest = table.copy()
    table.clear()
    table.update(rest)
    return len(table)


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
