"""Two serial lines that hear each other over a wire with a clock of its own, for tests: slow, late, and as noisy as one likes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from rpyc_gateway.proto.line import Line
from rpyc_gateway.proto.lineevents import Finished, LineEvent, Lost, Printed, Received
from rpyc_gateway.proto.lineframes import Greeting

Noise = Callable[[bytes], bytes]

TICK = 0.001  # seconds: what arrives within it arrives in one read


@dataclass
class Way:
    """One direction of the wire. `noise` is what becomes of the bytes on it."""

    rate: float = inf
    latency: float = 0.0
    noise: Noise | None = None
    carried: int = 0
    _free: float = 0.0
    _under_way: deque[tuple[float, bytes]] = field(default_factory=deque)

    def give(self, data: bytes, now: float) -> None:
        self.carried += len(data)
        step = len(data) if self.rate == inf else max(1, int(self.rate * TICK))
        for at in range(0, len(data), step):
            part = data[at : at + step]
            self._free = max(self._free, now) + len(part) / self.rate
            self._under_way.append((self._free + self.latency, part))

    @property
    def backlog_until(self) -> float:
        return self._free

    def due(self) -> float:
        return self._under_way[0][0] if self._under_way else inf

    def take(self, now: float) -> bytes:
        data = b""
        while self._under_way and self._under_way[0][0] <= now:
            data += self._under_way.popleft()[1]
        return self.noise(data) if self.noise and data else data


class End:
    """One line, and what it has heard."""

    def __init__(self, line: Line, out: Way, into: Way) -> None:
        self.line = line
        self.out = out
        self.into = into
        self.heard: list[LineEvent] = []
        self.got = bytearray()
        self.printed: list[bytes] = []
        self.lost: Lost | None = None
        self.finished = False
        self.reads = True

    def note(self, now: float) -> None:
        for event in self.line.events():
            match event:
                case Received(data):
                    assert not self.finished
                    self.got += data
                    if self.reads:
                        self.line.consume(len(data), now)
                case Printed(text):
                    self.printed.append(text)
                case Finished():
                    self.finished = True
                case Lost():
                    assert self.lost is None
                    self.lost = event
            self.heard.append(event)


class Pair:
    """A dialler (`near`) and a listener (`far`). `run` lets time pass."""

    def __init__(
        self,
        *,
        rate: float = inf,
        latency: float = 0.001,
        noise: Noise | None = None,
        mtu: int = 240,
        window: int = 64,
        buffer: int = 65536,
        told_rate: float | None = None,
    ) -> None:
        self.now = 100.0
        there, back = Way(rate, latency, noise), Way(rate, latency, noise)
        told = rate if told_rate is None else told_rate
        terms = {"mtu": mtu, "window": window, "buffer": buffer}
        near = Line(Greeting(nonce=b"near", **terms), dialler=True, now=self.now, rate=told)
        far = Line(Greeting(nonce=b"far!", **terms), dialler=False, now=self.now, rate=told)
        self.near = End(near, there, back)
        self.far = End(far, back, there)
        self.steps = 0

    def settle(self) -> None:
        """Let both ends do what they can do now."""
        for end in (self.near, self.far):
            for _ in range(1000):
                data = end.into.take(self.now)
                if data:
                    end.line.receive_data(data, self.now)
                deadline = end.line.deadline()
                if deadline is not None and deadline <= self.now:
                    end.line.handle_timeout(self.now)
                out = end.line.data_to_send(self.now)
                if out:
                    end.out.give(out, self.now)
                end.note(self.now)
                if not out and not data:
                    break
            else:
                raise AssertionError("it never comes to rest")

    def next(self) -> float:
        deadlines = [end.line.deadline() for end in (self.near, self.far)]
        return min(self.near.into.due(), self.far.into.due(), *(at for at in deadlines if at is not None), inf)

    def run(self, until: Callable[[], bool] = lambda: False, *, seconds: float = 60.0) -> bool:
        """Step until that is so, or nothing happens any more, or so much time has passed; whether it is so."""
        end = self.now + seconds
        self.settle()
        while not until():
            at = self.next()
            if at > end:
                self.now = end
                return until()
            assert at > self.now - 1e-9 or self.steps >= 0
            self.now = max(self.now, at) if at > self.now else self.now + 1e-6
            self.steps += 1
            self.settle()
        return True


def flips(chance: float, seed: int = 0) -> Noise:
    """Flips a bit of each byte with this probability."""
    chooser = random.Random(seed)

    def noise(data: bytes) -> bytes:
        if not chance:
            return data
        changed = bytearray(data)
        for index in range(len(changed)):
            if chooser.random() < chance:
                changed[index] ^= 1 << chooser.randrange(8)
        return bytes(changed)

    return noise
