"""A clock for tests that jumps when nothing happens, and knows that something happens in worker threads, too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from rpyc_gateway.worker import Task, workers

PATIENCE = 0.05
"""Real seconds that a call in a worker thread has before the clock jumps over it. Not for ever: it may wait for the clock itself."""


class Patience:
    """Makes an autojump clock wait a moment while served code runs: on a loaded machine a thread may take longer to start than hours
    take to pass in jumps from one keepalive to the next."""

    def __init__(self, clock: MockClock, patch: pytest.MonkeyPatch) -> None:
        self._clock = clock
        self._busy = 0
        self._usual = 0.0
        self._token: trio.lowlevel.TrioToken | None = None
        submit, submit_to = workers.submit, workers.submit_to
        patch.setattr(workers, "submit", lambda task: self._count(submit, task))
        patch.setattr(
            workers, "submit_to", lambda key, task: self._count(lambda counted: submit_to(key, counted), task)
        )

    def _count(self, submit: Callable[[Task], None], task: Task) -> None:
        def counted() -> None:
            try:
                task()
            finally:
                self._tell(self._end)

        self._tell(self._begin)
        try:
            submit(counted)
        except RuntimeError:
            self._tell(self._end)
            raise

    def _tell(self, change: Callable[[], None]) -> None:
        """In the clock's own run: that is where a threshold takes effect."""
        if trio.lowlevel.in_trio_run() and trio.lowlevel.current_clock() is self._clock:
            self._token = trio.lowlevel.current_trio_token()
            change()
        elif self._token is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(change)

    def _begin(self) -> None:
        if self._busy == 0:
            self._usual = self._clock.autojump_threshold
            self._clock.autojump_threshold = max(PATIENCE, self._usual)
        self._busy += 1

    def _end(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            self._clock.autojump_threshold = self._usual
