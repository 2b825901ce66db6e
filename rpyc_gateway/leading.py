"""Who reads the descriptor of a link: a thread that waits for it (the leader), else trio or the standby; never two at once.

The leader/followers pattern: a thread that waits for an answer reads the link itself, does what comes for others, and hands the
lead on when it leaves. So the answer to a small call wakes one thread, once.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from queue import Empty

from rpyc_gateway.deadlines import Deadline
from rpyc_gateway.inbox import Inbox
from rpyc_gateway.places import LOOK_UP
from rpyc_gateway.standby import standby
from rpyc_gateway.turn import deferral

__all__ = ["LEAD", "Leadership", "can_lead", "get"]

LEAD = object()
"""Put into the inbox of a follower: nobody reads any more, its turn."""


def can_lead(fileno: int) -> bool:
    """Whether threads can wait for this descriptor."""
    return fileno >= 0 and hasattr(select, "epoll") and hasattr(os, "eventfd")


class Leadership:
    """The lead of one link. `read` takes what has come, without waiting; `resume` lets trio read again, called from any thread.

    `for_trio` says who reads when no thread leads: trio's own reader, which wakes tasks, or the standby, which wakes threads.
    """

    def __init__(self, fileno: int, read: Callable[[], object], resume: Callable[[], object]) -> None:
        self.fileno = fileno
        self.for_trio = True
        self.watched = False  # the standby looks after it from time to time
        self.standing_by = False  # the standby waits for its descriptor
        self.terms = 0  # how often somebody has led
        self.seen = 0  # `terms` when the standby looked
        self.quiet = 0  # how often it has seen nothing new
        self.over = False
        self._lead = threading.Lock()
        self._read = read
        self._resume = resume
        self._followers: dict[Inbox, None] = {}
        self._poll: Callable[..., list[tuple[int, int]]] | None = None
        self._waker = -1

    # -- in a thread ------------------------------------------------------------------------------------------------

    def follow(self, inbox: Inbox, deadline: Deadline | None, *, deferred: bool) -> object | None:
        """The next item of the inbox, while somebody else leads. None: it is `deadline`, or time to ask again.

        `deferred`: the signals of this thread wait, and may come while it does.
        """
        self._followers[inbox] = None
        try:
            if self.lead(inbox, deadline, deferred=deferred):  # it may have become free before we stood in line
                return None if inbox.empty() else inbox.get_nowait()
            return get(inbox, deadline, deferred=deferred)
        finally:
            self._followers.pop(inbox, None)

    def lead(
        self, inbox: Inbox, deadline: Deadline | None = None, idle: float | None = None, *, deferred: bool = False
    ) -> bool:
        """Read until there is something in the inbox, it is `deadline`, or nothing comes for `idle` seconds.

        False at once if somebody else reads, or the link is over.
        """
        if self.over or not self._lead.acquire(blocking=False):
            return False
        try:
            if self.standing_by:
                self._leave_standby()
            poll = self._poll or self._make_poll()
            self.for_trio = False
            patience = LOOK_UP if deferred else idle
            while inbox.empty() and not self.over:
                if deadline is not None:
                    patience = _patience(deadline, deferred=deferred)
                inbox.waker = self.wake
                try:
                    if not inbox.empty():
                        break
                    if deferred:
                        deferral.open = True
                        if deferral.came:
                            deferral.let_through()
                    ready = poll(None if patience is None else min(int(patience * 1000) + 1, LONGEST))
                finally:
                    if deferred:
                        deferral.open = False
                    inbox.waker = None
                if not ready and self._gives_up(deadline, deferred=deferred):
                    break
                for fileno, _ in ready:
                    if fileno == self.fileno:
                        self._read()
                    else:
                        os.eventfd_read(fileno)
        finally:
            self.leave()
        return True

    def _gives_up(self, deadline: Deadline | None, *, deferred: bool) -> bool:
        """Nothing came in the time that a leader waits at once: whether it leaves."""
        if deferred and (deadline is None or deadline.left > 0):
            return False  # it has only looked up
        if deadline is None:  # a pause in the conversation
            self._stand_by()
        return True

    def claim(self) -> bool:
        """Lead from now on, without waiting: `leave` must follow. For trio's reader; False if somebody else does."""
        if self.over or not self._lead.acquire(blocking=False):
            return False
        if self.standing_by:
            self._leave_standby()
        return True

    def leave(self) -> None:
        """Somebody else may lead."""
        self.terms += 1
        self._lead.release()
        if self._followers or self.over or self.for_trio or not (self.watched or self.standing_by):
            self.hand_on()

    def leave_to_trio(self) -> None:
        """The same for trio's reader, which goes on by itself while the link is for trio."""
        self.terms += 1
        self._lead.release()
        if self._followers or self.over:
            self.hand_on()

    def hand_on(self) -> None:
        """Nobody leads: let somebody do it who waits, or who looks after it."""
        if self.over:  # nobody may lead again; those who wait are told by whoever ends what they wait for
            self._free()
            return
        for inbox in list(self._followers):
            inbox.give(LEAD)  # before it is taken off the list: who leaves that sees what it was given
            if self._followers.pop(inbox, self) is None:
                return
        if self.for_trio:
            self._resume()
        elif not (self.watched or self.standing_by):
            self.watched = True
            if self._poll is None:  # no thread has led yet, and none is likely to be back in a moment
                self.seen = self.terms
            standby().watch(self)

    def retire(self) -> None:
        """Trio's reader reads no more: the standby does from now on."""
        if self.claim():
            if not (self.over or self.for_trio):
                self._stand_by()
            self.leave_to_trio()
        else:
            self.hand_on()

    def _stand_by(self) -> None:
        if not self.standing_by:
            self.standing_by = standby().wait_for(self)

    def wake(self) -> None:
        """Let the leader look into its inbox, if it waits; from any thread."""
        if self._waker >= 0:
            os.eventfd_write(self._waker, 1)

    def _make_poll(self) -> Callable[..., list[tuple[int, int]]]:
        try:
            self._waker = _wakers.pop()
        except IndexError:
            self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        poll.register(self._waker, select.POLLIN)
        self._poll = poll.poll
        return self._poll

    def _leave_standby(self) -> None:
        self.standing_by = False
        standby().dismiss(self)

    # -- in the standby's thread --------------------------------------------------------------------------------------

    def look(self) -> bool:
        """Whether the standby has to look again: if nobody has led since the last time, it waits for the descriptor itself."""
        if not self._lead.acquire(blocking=False):
            if self.terms != self.seen:
                self.seen = self.terms
                self.quiet = 0
                return True
            self.quiet += 1
            if self.quiet < QUIET:
                return True
            self.quiet = 0
            self.watched = False  # whoever leads says when it leaves
            if not self._lead.acquire(blocking=False):
                return False
            self.watched = True
        try:
            if self.over or self.for_trio:
                self.watched = False
            elif self.terms == self.seen:
                self.watched = False
                self._stand_by()
            self.seen = self.terms
        finally:
            self._let_go()
        return self.watched

    def read_standing_by(self) -> None:
        """Take what has come, unless a thread has taken the lead meanwhile.

        Who has it will have dismissed the standby in a moment, or leave: to come back at once would keep the processor from that thread.
        """
        if not self._lead.acquire(timeout=MOMENT):
            return
        try:
            if self.standing_by:
                self._read()
                if self.over or self.for_trio:
                    self._leave_standby()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """The standby leads no more; whoever wanted to meanwhile may."""
        self._lead.release()
        if self._followers or self.over or self.for_trio:
            self.hand_on()

    # -- in the trio thread -------------------------------------------------------------------------------------------

    def read_for_trio(self) -> None:
        """Trio's reader reads from now on, as soon as no thread leads."""
        self.for_trio = True
        if self.claim():
            self._lead.release()
            self._resume()

    def end(self) -> None:
        """The link is over, and its descriptor will be closed. Whoever leads leaves."""
        self.over = True
        if self._lead.acquire(blocking=False):
            if self.standing_by:
                self._leave_standby()
            self._lead.release()
            self._free()
        else:
            self.wake()

    def _free(self) -> None:
        """Part with what wakes the leader: once, by whoever finds that nobody leads any more."""
        if self._lead.acquire(blocking=False):  # for good
            if self.standing_by:  # since whoever ended the link has looked
                self._leave_standby()
            waker, self._waker = self._waker, -1
            if waker >= 0:
                _wakers.append(waker)


MOMENT = 0.0005
"""Seconds that the standby waits for a lead that is taken: longer than it takes to dismiss it, and a quarter of what it may let others wait."""

LONGEST = 2**30
"""Milliseconds that a poll can take."""

QUIET = 10
"""Looks of the standby that see nothing new, until it looks no more: the thread that leads waits for something long."""


# Never closed: whoever wakes a leader that is just leaving would write into whatever file had got the number.
_wakers: list[int] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_wakers.clear)


def _patience(deadline: Deadline | None, *, deferred: bool) -> float | None:
    """How long to wait at once: a thread whose signals wait looks up from time to time."""
    if deadline is None:
        return LOOK_UP if deferred else None
    return min(deadline.wait, LOOK_UP) if deferred else deadline.wait


def get(inbox: Inbox, deadline: Deadline | None, *, deferred: bool) -> object | None:
    """The next item, waited for in the inbox; None when it is `deadline`, or time to look up. An interrupt that comes with an item leaves it there."""
    timeout = _patience(deadline, deferred=deferred)
    got: list[object] = []
    try:
        if deferred:
            deferral.let_through()
            got.extend(map(inbox.get, (True,), (timeout,)))  # no signal is heard between taking it and having it
        else:
            got.append(inbox.get(timeout=timeout))
    except Empty:
        return None
    except BaseException:
        deferral.open = False
        for item in got:
            inbox.put(item)
        raise
    finally:
        if deferred:
            deferral.open = False
    return got[0]
