"""Changing the baud rate of a serial line: proposed, accepted, tried, and taken back if it does not work."""

from __future__ import annotations

from enum import IntEnum
from math import inf

from rpyc_gateway.proto.lineframes import RATE

__all__ = ["RateChange", "Step"]

PROPOSALS = 3
REPEAT = 0.3  # seconds between them
SETTLING = 0.02  # seconds from the change to the first probe: the other port has to be set, too
PROBE = 0.05  # seconds between two probes
TRIAL = 1.0  # seconds without a word at the new rate, and it is given up


class Step(IntEnum):
    """What a RATE frame says."""

    PROPOSE = 0
    ACCEPT = 1
    PROBE = 2
    CONFIRM = 3


class RateChange:
    """One attempt, on either side. `say` is the step to be sent next, if any; `baud` is set when the port is to be changed, and 0 takes that back."""

    def __init__(self, baud: int, now: float, *, dialler: bool) -> None:
        self.target = baud
        self.say: Step | None = Step.PROPOSE if dialler else Step.ACCEPT
        self.baud: int | None = None
        self.over = False
        self.changed = False  # the new rate is in use
        self._dialler = dialler
        self._left = PROPOSALS
        self._next = now if dialler else inf  # when to say something again, or to change
        self._give_up_at = inf
        self._tried = False  # the listener has heard a probe

    def encode(self) -> bytes:
        """The body of the frame that says it."""
        step, self.say = self.say, None
        assert step is not None
        return bytes((RATE, step)) + self.target.to_bytes(4, "big")

    def said(self, step: Step, left: float) -> None:
        """The frame has been given to the line, and its last byte leaves then."""
        if step is Step.PROPOSE:
            self._left -= 1
            self._next = left + REPEAT
        elif step is Step.ACCEPT:
            self._next = left + SETTLING / 4
        elif step is Step.PROBE:
            self._next = left + PROBE

    def hear(self, step: int, baud: int, now: float) -> None:
        """A RATE frame has come."""
        if baud != self.target:
            return
        if step == Step.ACCEPT and self._dialler and not self.changed:
            self._change(now)
            self._next = now + SETTLING
        elif step == Step.PROBE and not self._dialler and self.changed:
            self._tried = True
            self._give_up_at = now + TRIAL
            self.say = Step.CONFIRM
        elif step == Step.CONFIRM and self._dialler and self.changed:
            self.over = True
        elif step == Step.PROPOSE and not self._dialler and not self.changed:
            self.say = Step.ACCEPT

    def hear_other(self) -> None:
        """Any other frame has come: the peer goes on, so the rate is good."""
        if self._tried:
            self.over = True

    def _change(self, now: float) -> None:
        self.changed = True
        self.baud = self.target
        self._give_up_at = now + TRIAL

    def deadline(self) -> float:
        return min(self._next, self._give_up_at)

    def handle_timeout(self, now: float) -> None:
        if now >= self._give_up_at:
            self.changed = False
            self.baud = 0
            self.over = True
        elif now >= self._next:
            self._next = inf
            if not self._dialler:
                self._change(now)
            elif self.changed:
                self.say = Step.PROBE
            elif self._left:
                self.say = Step.PROPOSE
            else:
                self.over = True
