"""A program for a board without the agent, from the moment when it is asked for until its outcome is known."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import trio
from msgspec import Struct

from rpyc_gateway.device.conversation import Step
from rpyc_gateway.device.waiting import Waiter

__all__ = ["Program"]


class Program(Struct, eq=False):
    """A program that waits, or runs."""

    steps: Sequence[Step]
    copy: bool
    waiter: Waiter
    begun: float = inf  # when all of it was sent, and the board took it
    over: bool = False
    abandoned: bool = False  # nobody waits for it any more
    unseen: bool = False  # what it prints cannot be shown any more
    stirred: bool = False  # more was sent than it reads: the REPL is to be found again
    calling: bool = False  # it waits for a function of this side
    meanwhile: trio.CancelScope | None = None  # what this side does while it waits

    def stop_meanwhile(self) -> None:
        """It does not wait any more."""
        self.calling = False
        if self.meanwhile is not None:
            self.meanwhile.cancel()
