"""Two machines and the wire between them, in the hand of a test."""

from __future__ import annotations

from dataclasses import dataclass, field

from rpyc_gateway.proto.events import Event, Greeted
from rpyc_gateway.proto.frames import Hello, Limits
from rpyc_gateway.proto.mux import Mux

START = 1000.0


def pulled(mux: Mux, now: float = START, limit: int = 65536) -> bytes:
    """What a machine has to send, in one piece."""
    return b"".join(mux.data_to_send(now, limit))


def hello(name: str, *, limits: Limits | None = None, routes: bool = True) -> Hello:
    return Hello(name=name, vat=name.encode().ljust(16, b"-"), limits=limits or Limits(), routes=routes)


@dataclass
class Side:
    """One end: its machine, what has happened there, and what is on the wire towards it."""

    mux: Mux
    heard: list[Event] = field(default_factory=list)
    coming: bytes = b""

    def listen(self) -> list[Event]:
        """What has happened since the test last asked."""
        self.heard += self.mux.events()
        heard, self.heard = self.heard, []
        return heard


class Pair:
    """`near` has dialled `far`; nothing is sent or delivered but by the test."""

    def __init__(self, near_limits: Limits | None = None, far_limits: Limits | None = None) -> None:
        self.now = START
        self.near = Side(Mux(hello("near", limits=near_limits), dialler=True, now=START))
        self.far = Side(Mux(hello("far", limits=far_limits), dialler=False, now=START))

    def other(self, side: Side) -> Side:
        return self.far if side is self.near else self.near

    def pull(self, side: Side, limit: int = 65536) -> bytes:
        """Put what a side has to send on the wire."""
        data = pulled(side.mux, self.now, limit)
        self.other(side).coming += data
        return data

    def deliver(self, side: Side, count: int | None = None) -> None:
        """Let a side read some of what is on the wire towards it."""
        count = len(side.coming) if count is None else count
        data, side.coming = side.coming[:count], side.coming[count:]
        if data:
            side.mux.receive_data(data, self.now)
        for event in side.mux.events():
            side.heard.append(event)
            if isinstance(event, Greeted):
                side.mux.welcome(self.now)
        side.heard += side.mux.events()

    def exchange(self) -> None:
        """Send and deliver until nothing moves."""
        while any([self.pull(self.near), self.pull(self.far), self.near.coming, self.far.coming]):
            self.deliver(self.near)
            self.deliver(self.far)


def pair(near_limits: Limits | None = None, far_limits: Limits | None = None) -> Pair:
    """Two sides that have greeted each other."""
    both = Pair(near_limits, far_limits)
    both.exchange()
    assert both.near.mux.up
    assert both.far.mux.up
    both.near.listen()
    both.far.listen()
    return both
