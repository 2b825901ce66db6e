"""Labels of streams: who allots which, which were ever used, which rest."""

from __future__ import annotations

from collections.abc import Container

from rpyc_gateway.errors import LimitExceeded, ProtocolError

REST = 1.0  # seconds a label rests at least; two round trips where they are longer
LAST = (1 << 32) - 1


class Labels:
    """The dialler allots odd labels, the listener even ones: upwards first, so that each rests as long as it can, then round again."""

    __slots__ = ("_ended", "_highest", "_mine", "_next", "_now", "_resting", "last", "restless")

    def __init__(self, *, dialler: bool) -> None:
        self.last = LAST
        self._mine = 1 if dialler else 0  # the lowest bit of this side's labels
        self._next = 1 if dialler else 2
        self._highest = [0, 0]  # ever used, even and odd
        self._ended: list[int] = []  # since the last rest()
        self._resting: dict[int, float] = {}
        self._now = 0.0
        self.restless = False  # there are labels that must rest, or do

    def allot(self, in_use: Container[int]) -> int:
        """A free label of this side; `use` it. Raises LimitExceeded if there is none."""
        label = self._next
        for _ in range(self.last // 2 + 1):
            if label > self.last:
                label = 2 - self._mine
            if label not in in_use and label not in self._ended and self._resting.get(label, self._now) <= self._now:
                return label
            label += 2
        raise LimitExceeded("no label is free on this link")

    def use(self, label: int) -> None:
        """It is in use from now on."""
        self._highest[label & 1] = max(self._highest[label & 1], label)
        if label & 1 == self._mine:
            self._next = label + 2

    def check_theirs(self, label: int) -> None:
        """Raises ProtocolError if the peer may not open a stream under this label."""
        if label == 0 or label & 1 == self._mine:
            raise ProtocolError(f"OPEN with label {label}, which is not the peer's to allot")

    def used(self, label: int) -> bool:
        """Whether there ever was a stream of this label."""
        return 0 < label <= self._highest[label & 1]

    def ended(self, label: int) -> None:
        """Its stream is over; it may not be used before it has rested."""
        if label & 1 == self._mine:
            self._ended.append(label)
            self.restless = True

    def rest(self, now: float, rtt: float | None) -> None:
        """What has ended is sent now: from here on these labels rest."""
        self._now = now
        if self._ended:
            until = now + max(2 * (rtt or 0.0), REST)
            for label in self._ended:
                self._resting[label] = until
            self._ended.clear()
        while self._resting:
            label = next(iter(self._resting))
            if self._resting[label] > now:
                return
            del self._resting[label]
        self.restless = False
