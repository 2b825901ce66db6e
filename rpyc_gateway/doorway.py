"""Where a listener's callers stand until it is decided what becomes of them, so that those who say nothing keep nobody out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

__all__ = ["Crowded", "Doorway", "Hearing"]

PLACES = 128  # callers that are heard at one time
PATIENCE = 1.0  # seconds that each of them has, even if others wait; an honest caller needs one round trip
QUEUE = 1024  # callers outside, each with a file descriptor and a task
OUTSIDE = 10.0  # seconds there


class Crowded(Exception):
    """There is no place for this caller."""


@dataclass(eq=False, slots=True)
class Hearing:
    """A caller that is being heard. `evict` is called when it has had its time and another wants the place."""

    since: float = field(default_factory=trio.current_time)
    evict: Callable[[], object] = lambda: None


@dataclass(eq=False, slots=True)
class _Waiting:
    """A caller outside."""

    scope: trio.CancelScope
    since: float = field(default_factory=trio.current_time)
    woken: trio.Event = field(default_factory=trio.Event)


class Doorway:
    """So many callers are heard at one time; the one that has been heard longest makes room for another once it has had its time.

    Outside, whoever has said nothing yet waits until it does, or until there are too many. Of the others the newest comes in first: an honest
    caller has spoken at once and is decided about at once, so that however many stand there for another reason, it waits no longer than one
    of them is heard.
    """

    def __init__(self, *, places: int = PLACES, queue: int = QUEUE) -> None:
        most = max(1, _descriptors() // 4)  # strangers leave room for the links that there are, and for more
        self.queue = min(queue, most)
        self._places = min(places, most)
        self._inside: dict[Hearing, None] = {}  # the oldest first
        self._silent: dict[_Waiting, None] = {}  # outside, the oldest first
        self._speaking: list[_Waiting] = []  # outside; the last is the next to come in

    def __len__(self) -> int:
        """How many are being heard."""
        return len(self._inside)

    async def enter(self, fileno: int = -1) -> Hearing:
        """Wait for a place. `fileno` can be waited for where the caller speaks on a descriptor. Raises Crowded, after 10 s at the latest.

        Cancelled, nothing is left of it.
        """
        if len(self._inside) < self._places and not self._speaking:
            return self._let_in()
        self._make_way()
        with trio.CancelScope(deadline=trio.current_time() + OUTSIDE) as scope:
            waiting = _Waiting(scope)
            try:
                if fileno >= 0:
                    self._silent[waiting] = None
                    await trio.lowlevel.wait_readable(fileno)
                await self._wait_room(waiting)
                return self._let_in()
            finally:
                self._silent.pop(waiting, None)
        raise Crowded

    def leave(self, place: Hearing) -> None:
        """It is decided about the caller that had this place, or it is gone. Twice is as good as once."""
        if self._inside.pop(place, self) is None and self._speaking:
            self._speaking[-1].woken.set()

    def _let_in(self) -> Hearing:
        place = Hearing()
        self._inside[place] = None
        return place

    def _make_way(self) -> None:
        """Have room for one more outside, at the cost of one that has said nothing, or of one that has had its time. Raises Crowded."""
        if len(self._silent) + len(self._speaking) < self.queue:
            return
        if self._silent:
            oldest = next(iter(self._silent))
            del self._silent[oldest]
        elif trio.current_time() >= self._speaking[0].since + PATIENCE:
            oldest = self._speaking.pop(0)
        else:
            raise Crowded
        oldest.scope.cancel()

    async def _wait_room(self, me: _Waiting) -> None:
        """Wait until one more may come in. Only the newest keeps an eye on the clock; the others sleep until they are the newest."""
        self._silent.pop(me, None)
        if self._speaking:
            self._speaking[-1].woken.set()
        self._speaking.append(me)
        try:
            while True:
                me.woken = trio.Event()
                until = trio.current_time() + OUTSIDE
                if self._speaking[-1] is me:
                    if len(self._inside) < self._places:
                        return
                    oldest = next(iter(self._inside))
                    until = oldest.since + PATIENCE
                    if trio.current_time() >= until:
                        self.leave(oldest)
                        oldest.evict()
                        return
                with trio.move_on_at(until):
                    await me.woken.wait()
        finally:
            if me in self._speaking:
                self._speaking.remove(me)
            if self._speaking:
                self._speaking[-1].woken.set()


def _descriptors() -> int:
    """How many files this process may have open."""
    if sys.platform == "win32":
        return 4 * QUEUE
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 4 * QUEUE
