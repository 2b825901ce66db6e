"""What one direction of a bad wire does to what it carries: when a byte arrives, and whether it is the one that was sent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

import trio

__all__ = ["Conditions", "Course"]

PIECE = 65536
SLICE = 0.02  # seconds of a slow wire that travel as one piece: fine enough to look like a flow of bytes


class Conditions:
    """How bad a direction is, for all connections alike. It may change at any moment; what is under way keeps its time of arrival."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.jitter = 0.0
        self.rate = math.inf
        self.loss = 0.0
        self.corruption = 0.0
        self._passable = trio.Event()
        self._passable.set()

    def shut(self) -> None:
        """Let nothing through."""
        if self._passable.is_set():
            self._passable = trio.Event()

    def open(self) -> None:
        self._passable.set()

    async def wait_open(self) -> None:
        while not self._passable.is_set():
            await self._passable.wait()

    @property
    def piece(self) -> int:
        """How many bytes to take at once."""
        return PIECE if self.rate == math.inf else max(1, min(PIECE, int(self.rate * SLICE)))


class Course:
    """One direction of one connection: where it stands. Chance comes from a seed, by the byte: it does not matter how they were cut."""

    def __init__(self, conditions: Conditions, seed: str) -> None:
        self._conditions = conditions
        self._jitter = Random(f"{seed} jitter")
        self._losses = Picker(Random(f"{seed} loss"))
        self._corruptions = Picker(Random(f"{seed} corruption"))
        self._other_bytes = Random(f"{seed} bytes")
        self._idle_from = -math.inf  # the moment at which the last byte has left
        self._latest = -math.inf  # arrival so far: nothing overtakes

    def leaves(self, size: int, now: float) -> float:
        """When so many bytes have left, if they are given now: the next ones wait until then."""
        self._idle_from = max(now, self._idle_from) + size / self._conditions.rate
        return self._idle_from

    def arrives(self, left: float) -> float:
        """When what has left then will be there."""
        extra = self._jitter.uniform(0, self._conditions.jitter) if self._conditions.jitter else 0.0
        self._latest = max(self._latest, left + self._conditions.delay + extra)
        return self._latest

    def spoil(self, data: bytes) -> bytes:
        """What is left of it."""
        spoiled = bytearray(data)
        for place in self._corruptions.pick(len(spoiled), self._conditions.corruption):
            spoiled[place] ^= self._other_bytes.randrange(1, 256)
        for place in reversed(self._losses.pick(len(spoiled), self._conditions.loss)):
            del spoiled[place]
        return bytes(spoiled)


@dataclass(slots=True)
class Picker:
    """Picks each of a row of places with the same chance, without a throw for each."""

    chance: Random
    skipped: int = 0  # places that are still to be passed over
    share: float = -1.0  # for which `skipped` was thrown: none yet

    def pick(self, size: int, share: float) -> list[int]:
        """Which of the next `size` places."""
        if share != self.share:
            self.share, self.skipped = share, self._throw(share)
        picked = []
        while self.skipped < size:
            picked.append(self.skipped)
            self.skipped += 1 + self._throw(share)
        self.skipped -= size
        return picked

    def _throw(self, share: float) -> int:
        if share <= 0:
            return 1 << 62
        if share >= 1:
            return 0
        return int(math.log(1 - self.chance.random()) / math.log1p(-share))
