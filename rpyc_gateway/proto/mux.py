"""Streams on a link: labels, credit, early data, ends, turns. One value drives a whole hop."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from rpyc_gateway.errors import Code, LimitExceeded, ProtocolError
from rpyc_gateway.proto.events import (
    Accepted,
    Drained,
    Established,
    Event,
    Finished,
    Greeted,
    Leaving,
    Lost,
    Opened,
    Probed,
    Received,
    Refused,
    Reset,
    Routed,
    Stopped,
)
from rpyc_gateway.proto.frames import CircuitClass, Failure, Frame, Hello, Open, Routes
from rpyc_gateway.proto.framing import gather
from rpyc_gateway.proto.link import Link, State
from rpyc_gateway.proto.streams import Streams

__all__ = [
    "Accepted",
    "Drained",
    "Established",
    "Event",
    "Finished",
    "Greeted",
    "Leaving",
    "Lost",
    "Mux",
    "MuxStatistics",
    "Opened",
    "Probed",
    "Received",
    "Refused",
    "Reset",
    "Routed",
    "Stopped",
]


class MuxStatistics(Struct, frozen=True):
    """A peek at a hop."""

    streams: int
    opened: int
    queued: int
    late_frames: int
    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int


class Mux:
    """A hop as one value. Nothing here blocks, and what the peer does never raises: it becomes events and bytes to send.

    `jitter` (0 to 1) makes the idle probe earlier by up to a fifth. What `send` was given must not change any more.
    """

    def __init__(self, hello: Hello, *, dialler: bool, now: float, jitter: float = 0.0) -> None:
        self.hello = hello
        self._link = Link(hello, dialler=dialler, now=now, jitter=jitter)
        self._streams = Streams(self._link, dialler=dialler)
        self._bytes_in = 0
        self._bytes_out = 0
        self._told_lost = False

    # -- what it is

    @property
    def peer(self) -> Hello | None:
        return self._link.peer

    @property
    def up(self) -> bool:
        return self._link.state is State.UP

    @property
    def down(self) -> bool:
        return self._link.state is State.DOWN

    @property
    def rtt(self) -> float | None:
        """Seconds a round trip takes, or None while nobody knows."""
        return self._link.rtt

    @property
    def ready(self) -> bool:
        """Whether data_to_send would give bytes."""
        return bool(self._link.backlog or self._streams.credits or self._streams.turns.waiting)

    def queued(self, label: int) -> int:
        """Bytes of a stream that are not yet pulled."""
        return self._streams.queued_on(label)

    def statistics(self) -> MuxStatistics:
        return MuxStatistics(
            streams=len(self._streams),
            opened=self._streams.opened,
            queued=self._streams.queued,
            late_frames=self._streams.late,
            frames_in=self._link.frames_in,
            frames_out=self._link.frames_out + self._streams.frames_out,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
        )

    # -- facts out

    def events(self) -> list[Event]:
        """What has happened since the last call."""
        happened = self._link.events
        if happened:
            self._link.events = []
        return happened

    @property
    def eventful(self) -> bool:
        """Whether there are events to take."""
        return bool(self._link.events)

    def over(self) -> list[int]:
        """Labels whose streams have ended since the last call; after their events nothing more is said of them."""
        labels = self._streams.over
        if labels:
            self._streams.over = []
        return labels

    # -- bytes in

    def receive_data(self, data: bytes, now: float) -> None:
        """Take what has arrived. A peer that breaks the rules gets an ERROR frame, and Lost is told."""
        if self.down:
            return
        self._bytes_in += len(data)
        self._guarded(self._link.receive_data(data, now))

    def receive_eof(self, now: float) -> None:
        """The peer has closed: nothing can be sent, either."""
        self._link.receive_eof()
        self._link.drop_control()
        self._settle()

    def fail(self, failure: Failure) -> None:
        """The transport broke: Reset for each stream, then Lost. Nothing is sent any more."""
        self._link.end(failure)
        self._link.drop_control()
        self._settle()

    def _guarded(self, arrived: Iterable[Frame]) -> None:
        try:
            self._streams.take(arrived)
        except (ProtocolError, LimitExceeded) as exc:
            self._link.end(Failure(exc.code, str(exc), self.hello.name), tell=True)
        self._settle()

    # -- intentions: the link

    def welcome(self, now: float) -> None:
        """Take the peer in. The dialler's welcome sends nothing."""
        self._guarded(self._link.welcome(now))

    def refuse(self, failure: Failure) -> None:
        self._link.refuse(failure)
        self._settle()

    def announce(self, routes: Routes) -> None:
        """Tell the peer of routes, if it wants to hear of any."""
        self._link.announce(routes)

    def leave(self, failure: Failure, grace: float) -> None:
        """Go away: new streams are refused, and the link ends with its last stream or after `grace` seconds."""
        self._link.leave(failure, grace)
        self._settle()

    def probe(self, now: float, within: float) -> None:
        """Ask for a sign of life: Probed follows, or Lost after `within` seconds."""
        self._link.probe(now, within)

    # -- intentions: streams

    # -- intentions: streams

    def open(self, request: Open, kind: CircuitClass) -> int:
        """Open a stream and say its label; data may be sent at once.

        Raises LinkLost if the link is not up or is going away, LimitExceeded if the peer takes no more streams, none so
        large a request, or does not read.
        """
        return self._streams.open(request, kind)

    def accept(self, label: int, path: tuple[str, ...]) -> None:
        """Say yes to an Opened. A path too long for the peer's frames is left out."""
        self._streams.accept(label, path)
        self._settle()

    def reject(self, label: int, failure: Failure) -> None:
        """Say no to an Opened."""
        self._streams.reject(label, failure)
        self._settle()

    def send(self, label: int, data: bytes | memoryview) -> None:
        """Queue data. After the end of the stream it is dropped: the event has told. Raises ValueError after finish()."""
        self._streams.send(label, data)

    def finish(self, label: int) -> None:
        """Send nothing more after what is queued."""
        self._streams.finish(label)
        self._settle()

    def reset(self, label: int, failure: Failure) -> None:
        """End the stream in both directions; what is queued is dropped. No event follows."""
        self._streams.reset(label, failure)
        self._settle()

    def stop(self, label: int, failure: Failure) -> None:
        """Read no more: what still comes is dropped, and the peer is asked to end its direction."""
        self._streams.stop(label, failure)

    def consume(self, label: int, count: int) -> None:
        """Give credit back for data that was taken. Raises ValueError if so much has not arrived."""
        self._streams.consume(label, count)

    def mute(self, label: int) -> None:
        """Tell no Drained for this stream: its owner does not count what is queued."""
        self._streams.mute(label)

    # -- bytes out

    def data_to_send(self, now: float, limit: int = 65536) -> list[bytes | memoryview]:
        """The next frames, about `limit` bytes if there is so much, as buffers for one write; [] if nothing may go.

        Long payloads are views of what `send` was given, which must not change as long as it may have to be written.
        """
        out: list[bytes | memoryview] = []
        out += self._link.take(now)
        if not self.down:
            self._streams.fill(out, limit - sum(map(len, out)) if out else limit)
        self._streams.labels.rest(now, self._link.rtt)
        self._settle()
        self._bytes_out += sum(map(len, out))
        return gather(out)

    # -- time

    def deadline(self) -> float | None:
        """When handle_timeout must be called; None if never."""
        return self._link.deadline()

    def handle_timeout(self, now: float) -> None:
        """It is so late: give up, or ask for a sign of life."""
        self._link.handle_timeout(now)
        self._settle()

    def _settle(self) -> None:
        """What must follow: a link that leaves ends with its last stream, and with a link ends everything on it."""
        link = self._link
        if link.leaving is not None and not self._streams and not link.backlog:
            link.end(link.leaving)
        if link.lost is None or self._told_lost:
            return
        self._told_lost = True
        name = self.peer.name if self.peer is not None else "a peer that said no name"
        text = f"the link {link.hello.name} -> {name} was lost: {link.lost}"
        self._streams.lose(Failure(Code.LINK_LOST, text, self.hello.name))
        link.events.append(Lost(link.lost))
