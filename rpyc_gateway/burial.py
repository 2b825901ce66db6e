"""Objects that a peer gave back, until they have died where their finalizers may run."""

from __future__ import annotations

import threading
from sys import getrefcount

__all__ = ["Burial", "Graveyard"]

PATIENCE = 1.0
"""Seconds that a call waits for finalizers which another thread runs already: one that hangs must not hang the calls behind it."""


class Graveyard:
    """What a peer gave back, and what of it may not have died yet. With the turn held."""

    def __init__(self) -> None:
        self.garbage: list[object] = []
        self.burials: list[Burial] = []

    def take(self, values: list[object]) -> None:
        """Keep those of them that nobody else has, until they are buried."""
        for value in values:
            if getrefcount(value) <= _LAST:  # else nothing dies here
                self.garbage.append(value)

    def bury(self) -> list[Burial]:
        """All that may not have died, to be finished by whoever comes first; what was taken since the last time is the last of them."""
        self.burials = [burial for burial in self.burials if not burial.over]
        if self.garbage:
            self.burials.append(Burial(self.garbage))
            self.garbage = []
        return self.burials.copy()


def _last_reference() -> int:
    """What is counted of an object that nobody has but the list that `take` is given."""
    counts = [getrefcount(value) for value in [object()]]
    return counts[0]


_LAST = _last_reference()


class Burial:
    """Some objects. Whoever comes first lets them die; whoever comes meanwhile waits until they have."""

    __slots__ = ("_lock", "_objects", "_slow")

    def __init__(self, objects: list[object]) -> None:
        self._objects = objects
        self._lock = threading.RLock()  # a finalizer may make a remote call, and its callbacks come here again
        self._slow = False

    @property
    def over(self) -> bool:
        """Whether nobody has to wait for it any more."""
        return self._slow or (not self._objects and self._free())

    def _free(self) -> bool:
        if not self._lock.acquire(blocking=False):
            return False
        self._lock.release()
        return True

    def finish(self, patience: float = PATIENCE) -> None:
        """Let the objects die in this thread, or wait so long until they have in another. Finalizers run: user code."""
        if self._slow:
            return
        if not self._lock.acquire(timeout=patience):
            self._slow = True
            return
        try:
            objects, self._objects = self._objects, []
            objects.clear()
        finally:
            self._lock.release()
