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
        self.shared: list[object] = []  # what somebody else has, too, or had a moment ago
        self.burials: list[Burial] = []

    def take(self, values: list[object]) -> None:
        """Take all of them out of `values`, and keep them until they are buried."""
        for value in values:
            (self.garbage if getrefcount(value) <= _LAST else self.shared).append(value)
        values.clear()  # whoever told of them may have that list longer than they live

    def take_shared(self) -> list[object]:
        """What nobody has to wait for, to be dropped where finalizers may run: its last owner may have gone since."""
        shared, self.shared = self.shared, []
        return shared

    def bury(self) -> list[Burial]:
        """All that may not have died, to be finished by whoever comes first; what was taken since the last time is the last of them."""
        self.burials = [burial for burial in self.burials if not burial.over]
        if self.shared:
            self.garbage += self.take_shared()
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
