"""Streams on a link: labels, credit, early data, ends, turns. One value drives a whole hop."""

from __future__ import annotations

from math import inf

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
from rpyc_gateway.proto.frames import (
    DATA,
    FULL_FRAME,
    HEADER,
    LARGE,
    LEAST_EARLY,
    Failure,
    FrameType,
    Hello,
    Routes,
    encode_offset,
)
from rpyc_gateway.proto.framing import gather
from rpyc_gateway.proto.link import BACKLOG, HANDSHAKE, UP, Link, State
from rpyc_gateway.proto.stream import Stream
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


READ = 65536
"""Bytes of one read: a full frame with its header."""

PULL = 131072
"""Bytes that go out in one write if nobody says otherwise: two full frames, so that the next ones are chosen soon."""

FAST = 4 << 20
"""Bytes per second. A medium that is slower is given frames of data that take no longer than FRAME."""

FRAME = 0.025
"""Seconds. So long a small call waits for the frame that is being sent; much less, and the headers would take too much of a serial line."""

LEAST_DATA = 56
"""Bytes of data in a frame, however slow the medium is."""

_header = HEADER.pack
_open_header = HEADER.unpack_from


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


class Mux(Streams):
    """A hop as one value. Nothing here blocks, and what the peer does never raises: it becomes events and bytes to send.

    `jitter` (0 to 1) makes the idle probe earlier by up to a fifth. `rate` is how many bytes per second the medium carries, and `message` how many
    it likes to be given at once: on a slow one a frame of data is no longer. What `send` was given must not change any more.
    """

    def __init__(
        self,
        hello: Hello,
        *,
        dialler: bool,
        now: float,
        jitter: float = 0.0,
        rate: float = inf,
        message: int = PULL,
        patience: float = HANDSHAKE,
    ) -> None:
        longest = FULL_FRAME if rate >= FAST else max(LEAST_DATA, min(message, int(rate * FRAME)) - HEADER.size)
        longest = min(longest, FULL_FRAME)
        link = Link(hello, dialler=dialler, now=now, jitter=jitter, rate=rate, longest=longest, patience=patience)
        super().__init__(link, dialler=dialler)
        self.hello = hello
        self._slow = rate < FAST
        self._bytes_in = 0
        self._bytes_out = 0
        self._told_lost = False

    # -- what it is

    @property
    def peer(self) -> Hello | None:
        return self._link.peer

    @property
    def up(self) -> bool:
        return self._link.state is UP

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
        return bool(self._link.backlog or self._thirsty or self._turns.waiting)

    def statistics(self) -> MuxStatistics:
        return MuxStatistics(
            streams=len(self._table),
            opened=self._opened,
            queued=sum(stream.queued for stream in self._table.values()),
            late_frames=self._late,
            frames_in=self._link.frames_in,
            frames_out=self._link.frames_out + self._data_frames,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
        )

    @property
    def wanted(self) -> int:
        """How many bytes to read next, at most: if a long frame has begun, its rest, so that the next read begins with a frame."""
        return self._link.framer.missing or READ

    # -- facts out

    def events(self) -> list[Event]:
        """What has happened since the last call."""
        happened = self._link.events
        if happened:
            self._link.events = []
        return happened

    def over(self) -> list[int]:
        """Labels whose streams have ended since the last call; after their events nothing more is said of them."""
        labels = self._over
        if labels:
            self._over = []
        return labels

    # -- bytes in

    def receive_data(self, data: bytes, now: float) -> None:
        """Take what has arrived. A peer that breaks the rules gets an ERROR frame, and Lost is told.

        Long data is told as views of `data`, and a frame of 4 KiB or more perhaps in several events, as it comes.
        """
        link = self._link
        if self._told_lost:
            return
        self._bytes_in += len(data)
        try:
            arrived = link.receive_data(data, now)
            if arrived:
                self._take(arrived, now)
            if link.framer.error or link.backlog > BACKLOG:
                link.complain()
        except (ProtocolError, LimitExceeded) as exc:
            self._blame(exc)
        if link.lost is not None or link.leaving is not None:
            self._settle()

    def hear(self, data: bytes, now: float) -> tuple[int, bytes] | None:
        """(label, payload) if `data` is one small frame of data, whole: no event tells it, and for a muted stream it is consumed, too.

        None, and nothing has changed, for anything else: `receive_data` takes that. The short way of `receive_data`, and of nothing but it.
        """
        size = len(data)
        if not 8 < size < LARGE:
            return None
        kind, _, length, label = _open_header(data)
        stream = self._table.get(label)
        link = self._link
        framer = link.framer
        if (
            kind != DATA
            or length != size - 8
            or length > self.hello.limits.frame
            or stream is None
            or not stream.listening
            or link.state is not UP
            or link.answer_by is not None  # a sign of life is waited for
            or link.probe_by is not None
            or framer.begun
            or framer.awaited
            or framer.error
            or link.backlog > BACKLOG
            or link.events  # they are told first
        ):
            return None
        received = stream.received + length
        if received > stream.granted:
            return None
        if stream.muted:
            if stream.consumed != stream.received:
                return None
            stream.consumed = received
            if received >= stream.renew_at:
                self._thirsty[label] = stream
        stream.received = received
        self._bytes_in += size
        link.frames_in += 1
        link.heard = now
        return label, data[8:]

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

    def _blame(self, error: ProtocolError | LimitExceeded) -> None:
        self._link.end(Failure(error.code, str(error), self.hello.name), tell=True)

    # -- intentions

    def welcome(self, now: float) -> None:
        """Take the peer in. The dialler's welcome sends nothing."""
        try:
            self._take(self._link.welcome(now), now)
            self._link.complain()
        except (ProtocolError, LimitExceeded) as exc:
            self._blame(exc)
        self._greeted()
        self._settle()

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

    # -- bytes out

    def say(self, label: int, data: bytes) -> bytes | None:
        """The frame in which `data` leaves now, if that is all there is to send on this link, and small; counted as sent, and no Drained follows.

        None, and nothing has changed, otherwise: `send` it. The short way of `send` and `data_to_send`, and of nothing but them.
        """
        stream = self._table.get(label)
        if stream is None or self._turns.waiting or self._thirsty or stream.queued or stream.finishing:
            return None
        link = self._link
        size = len(data)
        sent = stream.sent + size
        if (
            not 0 < size < LARGE
            or sent > stream.allowed
            or size > link.data_limit
            or link.backlog
            or stream.stopped
            or not stream.answered
            or link.leaving is not None
            or link.lost is not None
        ):
            return None
        stream.sent = sent
        self._data_frames += 1
        self._bytes_out += 8 + size
        return _header(DATA, 0, size, label) + data

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to tell and nothing to send, and the deadline is no nearer than it was."""
        link = self._link
        return not (link.events or self._over or link.backlog or self._thirsty or self._turns.waiting or link.hurried)

    def data_to_send(self, now: float, limit: int = PULL) -> list[bytes | memoryview]:
        """The next frames, about `limit` bytes if there is so much, as buffers for one write; [] if nothing may go.

        Long payloads are views of what `send` was given, which must not change as long as it may have to be written.
        """
        link = self._link
        out = self._control(now) if link.backlog or self._thirsty or link.leaving is not None else []
        room = limit - sum(map(len, out)) if out else limit
        turns = self._turns
        while turns.waiting and room > 0:
            stream = turns.next()
            size = stream.queued
            sent = stream.sent + size
            if 0 < size < LARGE and size <= link.data_limit and sent <= stream.allowed and stream.answered:
                queue = stream.queue  # all that waits is one small frame
                if len(queue) == 1:
                    data = queue.popleft()
                else:
                    data = b"".join(queue)
                    queue.clear()
                stream.queued = 0
                stream.sent = sent
                out.append(_header(DATA, 0, size, stream.label) + data)
                room -= 8 + size
                if stream.muted and not stream.finishing:
                    self._data_frames += 1
                else:
                    room -= self._left(stream, size, out)
            else:
                room -= self._send_frame(stream, out)
            if self._slow and out and turns.is_below(stream.kind):
                break  # a small frame is not to wait until the long one behind it has arrived, too
        if self.labels.restless:
            self.labels.rest(now, link.rtt)
        if link.lost is not None or link.leaving is not None:
            self._settle()
        self._bytes_out += limit - room
        return gather(out) if len(out) > 1 else out

    def _control(self, now: float) -> list[bytes | memoryview]:
        """What goes before all data."""
        link = self._link
        if self._thirsty:
            link.measure(now)
        out: list[bytes | memoryview] = [*link.take(now)]
        for label, stream in self._thirsty.items():
            out.append(encode_offset(FrameType.CREDIT, label, self.credit.renew(stream, now, link.rtt)))
        self._data_frames += len(self._thirsty)
        self._thirsty.clear()
        return out

    def _send_frame(self, stream: Stream, out: list[bytes | memoryview]) -> int:
        """Append the next frame of a stream's data, if it may send one; says how many bytes that are."""
        if not stream.sendable:
            return 0
        room = min(self._link.data_limit, stream.allowed - stream.sent)
        if not stream.answered:
            room = min(room, self._early_room())
            if room <= 0:
                self._held_back[stream.label] = stream
                return 0
        at = len(out)
        out.append(b"")
        moved = stream.cut(room, out)
        out[at] = _header(DATA, 0, moved, stream.label)
        if not stream.answered:
            self._early_sent += moved
        ending = self._left(stream, moved, out)
        if stream.queued:
            self._join(stream)
        return 8 + moved + ending

    def _left(self, stream: Stream, count: int, out: list[bytes | memoryview]) -> int:
        """A frame with so many bytes of data has left the queue; FIN may follow: says how many bytes that are."""
        self._data_frames += 1
        if not stream.muted:
            events = self._link.events
            last = events[-1] if events else None
            if type(last) is Drained and last.label == stream.label:
                events[-1] = Drained(stream.label, last.count + count)
            else:
                events.append(Drained(stream.label, count))
        if not stream.finishing or stream.queued:
            return 0
        fin = self._fin(stream)
        out.append(fin)
        self._data_frames += 1
        return len(fin)

    def _early_room(self) -> int:
        peer = self._link.peer
        return (peer.limits.early_link if peer is not None else LEAST_EARLY) - self._early_sent

    # -- time

    @property
    def hurried(self) -> bool:
        """Whether deadline() may be earlier than when it was last asked for. As a rule it only moves away."""
        return self._link.hurried

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
        if link.leaving is not None and not self._table and not link.backlog:
            link.end(link.leaving)
        if link.lost is None or self._told_lost:
            return
        self._told_lost = True
        name = self.peer.name if self.peer is not None else "a peer that said no name"
        text = f"the link {link.hello.name} -> {name} was lost: {link.lost}"
        # Whoever used a board must know that its next life is another one, also if nothing of his was under way.
        code = Code.RESTARTED if link.lost.code == Code.RESTARTED else Code.LINK_LOST
        self._lose(Failure(code, text, self.hello.name))
        link.events.append(Lost(link.lost))
