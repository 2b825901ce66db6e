"""How fast a serial line is, and what that means: when it is free, how much is given to it, how long a frame may be."""

from __future__ import annotations

from math import inf

from rpyc_gateway.proto.lineframes import BITS, LEAST_MTU

__all__ = ["BURST", "Pace"]

AHEAD = 0.016  # seconds: no more than so much is given to the kernel before it is on the line, beside the last frame
NEAR = 0.008  # seconds: with less than that left more is given; a scheduler may be so late
BURST = 4096  # bytes that are given at once where the rate is not known
UNKNOWN = 480  # bytes of a frame there
FRAME = 0.025  # seconds that a frame takes at most: so long a small call waits for the one before it
LEAST = 4 * LEAST_MTU  # bytes of a frame, however slow the line is


class Pace:
    """Counts what the line was given. `rate` is in bytes per second, inf if unknown."""

    __slots__ = ("_first", "free", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = self._first = rate
        self.free = now  # when the line will have carried all that it was given

    @property
    def baud(self) -> float:
        return self.rate * BITS

    @property
    def changed(self) -> bool:
        return self.rate != self._first

    @property
    def near(self) -> float:
        """When it wants more."""
        return self.free - NEAR

    def takes(self, now: float) -> bool:
        """Whether another frame may follow what it was just given."""
        return self.free - now <= AHEAD

    def carry(self, size: int, now: float) -> None:
        """It has been given so many bytes."""
        self.free = max(self.free, now) + size / self.rate

    def longest(self, most: int) -> int:
        """Bytes of a frame, of which the peer takes `most`."""
        if self.rate == inf:
            return min(most, UNKNOWN)
        return min(most, max(LEAST, int(self.rate * FRAME)))

    def change(self, baud: int) -> None:
        """The line has another baud rate; 0 is the one it had at first."""
        self.rate = baud / BITS if baud else self._first
