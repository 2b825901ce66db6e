"""What is known of objects as long as somebody else keeps them."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["WeakTable"]

_T = TypeVar("_T", bound=object)
_F = TypeVar("_F")


class WeakTable(Generic[_T, _F]):
    """Objects by key, each with a fact about it, until they die.

    An object may die in any thread at any moment, as a rule in the middle of a garbage collection. No line of Python runs then, unlike
    in the weak containers of the standard library: a KeyboardInterrupt that comes during a collection is raised in the first line that
    runs, and in a finalizer it would be printed and forgotten. What died is forgotten by the next `keep`.
    """

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry[_T, _F]] = {}
        self._dead: deque[_Entry[_T, _F]] = deque()

    def object(self, key: Hashable) -> _T | None:
        """The object kept under `key`, if it lives."""
        entry = self._entries.get(key)
        return entry() if entry is not None else None

    def fact(self, key: Hashable) -> _F | None:
        """What was said of the object kept under `key`, if it lives: with its id as the key, of that very object."""
        entry = self._entries.get(key)
        return entry.fact if entry is not None and entry() is not None else None

    def keep(self, key: Hashable, value: _T, fact: _F) -> _T:
        """Know `value` under `key` as long as it lives. What lives there already stays, and is returned instead."""
        self._forget()
        entry = _Entry(value, self._dead.append)
        entry.key = key
        entry.fact = fact
        while True:  # without a lock: a collection in the middle of this may run a finalizer that comes here too
            known = self._entries.setdefault(key, entry)
            if known is entry:
                return value
            living = known()
            if living is not None:
                return living
            self._entries.pop(key, None)

    def change(self, key: Hashable, fact: _F) -> None:
        """Know another fact about what lives under `key`."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.fact = fact

    def _forget(self) -> None:
        """Forget what died."""
        while True:
            try:
                dead = self._dead.popleft()
            except IndexError:
                return
            if self._entries.get(dead.key) is dead:
                del self._entries[dead.key]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[_T]:
        living = (entry() for entry in list(self._entries.values()))
        return (value for value in living if value is not None)


class _Entry(weakref.ref[_T], Generic[_T, _F]):
    __slots__ = ("fact", "key")

    key: Hashable
    fact: _F
