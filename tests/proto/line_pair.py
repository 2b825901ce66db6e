"""Two serial lines that hear each other over a wire with a clock of its own, for tests: slow, late, and as noisy as one likes."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, log

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
        baud: int = 0,
    ) -> None:
        self.now = 100.0
        self._shape = f"Pair({rate=}, {latency=}, {mtu=}, {window=}, {buffer=}, {baud=})"
        there, back = Way(rate, latency, noise), Way(rate, latency, noise)
        self.terms = {"mtu": mtu, "window": window, "buffer": buffer, "baud": baud}
        near = Line(Greeting(nonce=b"near", **self.terms), dialler=True, now=self.now, rate=rate)
        far = Line(Greeting(nonce=b"far!", **self.terms), dialler=False, now=self.now, rate=rate)
        self.near = End(near, there, back)
        self.far = End(far, back, there)

    def __repr__(self) -> str:
        return self._shape

    @property
    def carried(self) -> int:
        """Bytes that were sent so far, both ways."""
        return self.near.out.carried + self.far.out.carried

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
        stuck = carried = 0
        while not until():
            at = self.next()
            if at > end:
                self.now = end
                return until()
            stuck = stuck + 1 if at <= self.now and carried == self.carried else 0
            carried = self.carried
            assert stuck < 20, "a deadline that has come does not go away"
            self.now = max(self.now, at)
            self.settle()
        return True

    def meet(self) -> Pair:
        """Until both are in session, and all is quiet."""
        assert self.run(lambda: self.near.line.peer is not None and self.far.line.peer is not None, seconds=9)
        self.run(seconds=0.1)
        return self


@dataclass
class Disorder:
    """Noise of all kinds, the chance of each for a byte, until it is stopped. The same for the same seed."""

    seed: int = 0
    flip: float = 0.0
    drop: float = 0.0
    twice: float = 0.0
    invent: float = 0.0
    burst: float = 0.0
    active: bool = True

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._kinds = ("flip", "drop", "twice", "invent", "burst")
        self._weights = [getattr(self, kind) for kind in self._kinds]
        self._sum = sum(self._weights)
        self._gap = self._draw()

    def _draw(self) -> int:
        """Bytes that pass unharmed."""
        if not self._sum:
            return 1 << 60
        if self._sum >= 1:
            return 0
        return int(log(1 - self._random.random()) / log(1 - self._sum))

    def __call__(self, data: bytes) -> bytes:
        if not self.active:
            return data
        if self._gap >= len(data):
            self._gap -= len(data)
            return data
        out = bytearray()
        at = 0
        while at + self._gap < len(data):
            out += data[at : at + self._gap]
            at += self._gap
            at += self._strike(data[at], out)
            self._gap = self._draw()
        out += data[at:]
        self._gap -= max(0, len(data) - at)
        return bytes(out)

    def _strike(self, byte: int, out: bytearray) -> int:
        (kind,) = self._random.choices(self._kinds, self._weights)
        match kind:
            case "flip":
                out.append(byte ^ 1 << self._random.randrange(8))
            case "twice":
                out += bytes((byte, byte))
            case "invent":
                out += bytes((self._random.choice(b"#\x1e\n\x7d\x00A\xff"), byte))
            case "burst":
                out += self._random.randbytes(16)
                return 16
        return 1


def flips(chance: float, seed: int = 0) -> Noise:
    """Flips a bit of each byte with this probability."""
    return Disorder(seed, flip=chance)
