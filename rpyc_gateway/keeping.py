"""What a node reaches for again and again, of its own accord: the nodes that it dials, and its boards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import trio

from rpyc_gateway.dialer import Attempt, Backoff, Dialer
from rpyc_gateway.errors import DialFailed, GatewayError
from rpyc_gateway.lookout import ABSENT, Lookout, Watch
from rpyc_gateway.node_service import NodeInfo

__all__ = ["Keeping", "Kept"]

STEADY_BOARD = 1.0  # seconds that a board must have been there to be had again at once: who works on one resets it every few seconds
LONGEST_ABSENCE = 8.0  # seconds between two looks for a board: who plugs one in waits for it
HUSH = 0.2  # seconds before a lost link is news: a signal to all processes of a chain may reach this one last


class Kept(NamedTuple):
    """What is dialled again and again. Cancel its scope to have it no more."""

    absent: NodeInfo
    dialer: Dialer
    scope: trio.CancelScope


class Keeping:
    """All of them, for one node; their tasks are in its nursery. `departed` says whether it makes no attempts any more."""

    def __init__(self, nursery: trio.Nursery, departed: Callable[[], bool]) -> None:
        self.lookout = Lookout()
        self._nursery = nursery
        self._departed = departed
        self._kept: list[Kept] = []

    def keep_link(self, absent: NodeInfo, what: str, watched: str, attempt: Attempt) -> Kept:
        """Make `attempt` again and again: it raises a GatewayError when what it links is gone.

        `absent` is told in `nodes` while it is not up, with the dialer's state. `watched` is a URL of this machine, or "".
        """
        return self._keep(absent, what, watched, attempt, longest=Backoff.CAP, steady=Backoff.STEADY)

    def keep_board(self, absent: NodeInfo, what: str, watched: str, attempt: Attempt) -> Kept:
        """The same for a board, for which somebody waits who has it in his hand."""
        return self._keep(absent, what, watched, attempt, longest=LONGEST_ABSENCE, steady=STEADY_BOARD)

    def absent(self) -> list[NodeInfo]:
        """What it tries to reach in vain."""
        return [
            absent._replace(state=f"{dialer.state}: {dialer.reason}" if dialer.reason else dialer.state)
            for absent, dialer, _ in self._kept
            if dialer.state != "up"
        ]

    def _keep(
        self, absent: NodeInfo, what: str, watched: str, attempt: Attempt, *, longest: float, steady: float
    ) -> Kept:
        watch = Watch(self.lookout, watched) if watched else None
        dialer = Dialer(
            what,
            partial(self._try, attempt, watch),
            longest=longest,
            steady=steady,
            wait_changed=watch.wait_changed if watch else trio.sleep_forever,
        )
        kept = Kept(absent, dialer, trio.CancelScope())
        self._kept.append(kept)
        self._nursery.start_soon(self._run, kept)
        return kept

    async def _run(self, kept: Kept) -> None:
        with kept.scope:
            await kept.dialer.run()
        self._kept.remove(kept)

    async def _try(self, attempt: Attempt, watch: Watch | None, dialer: Dialer) -> None:
        """One attempt, whose end is no news where the node leaves: it makes no more of them then."""
        try:
            if watch is not None and not await watch.look():
                raise DialFailed(ABSENT)
            await attempt(dialer)
        except GatewayError:
            if dialer.state == "up":
                await trio.sleep(HUSH)
            if not self._departed():
                raise
        await trio.sleep_forever()
