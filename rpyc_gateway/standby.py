"""The thread that takes over within a few milliseconds: it reads the links that nobody else reads, and looks after what may be stuck."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from contextlib import suppress
from typing import Protocol

from rpyc_gateway.per_process import PerProcess

__all__ = ["LOOK", "Standby", "Watched", "standby"]

LOOK = 0.002
"""Seconds between two looks at what is watched: what a stuck thread can cost others, and a hundred times what a look costs."""

logger = logging.getLogger(__name__)


class Watched(Protocol):
    """What the standby looks after."""

    def look(self) -> bool:
        """Take over what needs it; whether to look again. In the standby's thread."""
        ...


class Readable(Protocol):
    """What the standby waits for."""

    fileno: int

    def read_standing_by(self) -> None:
        """There is something to read. In the standby's thread."""
        ...


class Standby:
    """One thread. It sleeps while nothing is watched and nothing comes; it runs no user code."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._epoll = select.epoll()
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._waker, select.EPOLLIN)
        self._waiting: dict[int, Readable] = {}
        # A descriptor may be closed, and its number another's, in the middle of `dismiss`: that one must not lose its place. Entered twice by one
        # thread where a finalizer, run by the garbage collector in between, makes a remote call.
        self._changing = threading.RLock()
        self._watched: dict[Watched, None] = {}
        self._asleep = False
        threading.Thread(target=self._run, name="rpyc-gateway standby", daemon=True).start()

    def watch(self, watched: Watched) -> None:
        """Look after `watched` until its `look` says no; from any thread."""
        self._watched[watched] = None
        if self._asleep:
            os.eventfd_write(self._waker, 1)

    def wait_for(self, place: Readable) -> bool:
        """Read `place` whenever there is something; False if its descriptor cannot be waited for."""
        with self._changing:
            self._waiting[place.fileno] = place
            try:
                self._epoll.register(place.fileno, select.EPOLLIN)
            except OSError:
                self._waiting.pop(place.fileno, None)
                return False
        return True

    def dismiss(self, place: Readable) -> None:
        """Wait for it no more; from any thread. It may hear once more."""
        with self._changing:
            if self._waiting.get(place.fileno) is place:  # else the number is another's by now
                with suppress(OSError):  # closed already
                    self._epoll.unregister(place.fileno)
                # Last: else the thread could be woken again and again, and find nobody.
                self._waiting.pop(place.fileno, None)

    def _run(self) -> None:
        due = 0.0
        while True:
            self._asleep = True
            patience = max(due - time.monotonic(), 0.0) if self._watched else None
            ready = self._epoll.poll(patience)
            self._asleep = False
            for fileno, _ in ready:
                if fileno == self._waker:
                    os.eventfd_read(fileno)
                else:
                    self._read(fileno)
            if self._watched and time.monotonic() >= due:
                for watched in list(self._watched):
                    self._look_after(watched)
                due = time.monotonic() + LOOK

    # A defect of ours must not leave all links of this process unread.

    def _read(self, fileno: int) -> None:
        place = self._waiting.get(fileno)
        if place is not None:
            try:
                place.read_standing_by()
            except Exception:
                logger.exception("the standby goes on after a defect")

    def _look_after(self, watched: Watched) -> None:
        del self._watched[watched]  # before the look: while it goes on, somebody may want the next one
        try:
            more = watched.look()
        except Exception:
            logger.exception("the standby goes on after a defect")
            more = True
        if more:
            self._watched[watched] = None


standby = PerProcess(Standby)
"""The standby of this process, started if there is none; a child that was forked has one of its own."""
