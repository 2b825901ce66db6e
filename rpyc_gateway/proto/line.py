"""The serial line as one value: a reliable stream of bytes over a pipe that loses, changes, repeats and invents some (docs/protocol.md, section 12).

Beside it: `lineframes` frames <-> bytes, `linesending` and `linereceiving` the two directions, `linerate` another baud rate, `lineevents` what it tells.
"""

from __future__ import annotations

from enum import Enum
from math import inf

from msgspec import Struct, structs

from rpyc_gateway.proto.lineevents import (
    Cause,
    Datagram,
    Established,
    Finished,
    LineEvent,
    Lost,
    Printed,
    RateChanged,
    Received,
)
from rpyc_gateway.proto.lineframes import (
    ACK,
    BITS,
    DATA,
    DGRAM,
    FIN,
    FULL,
    HELLO,
    LEAST_MTU,
    LONG_MAP,
    NAK,
    NONCE,
    POLL,
    RATE,
    RESET,
    Damage,
    Encoder,
    Frame,
    Greeting,
    Lines,
    Text,
    session_seed,
)
from rpyc_gateway.proto.linerate import RateChange, Step
from rpyc_gateway.proto.linereceiving import Incoming
from rpyc_gateway.proto.linesending import Outgoing

__all__ = ["Line", "LineStatistics"]

REPEAT = 0.3  # seconds between two HELLOs
REPEAT_HEARD = 0.05  # the same to a peer that has been heard: they were lost
GREETING = 10.0  # seconds that a dialler waits for a peer, and a listener for the rest of a greeting
SILENCE = 10.0  # seconds without any frame, while something is under way, and the line is lost
AHEAD = 0.016  # seconds: no more than so much is given to the kernel before it is on the line, beside the last frame
NEAR = 0.008  # seconds: with less than that left more is given; a scheduler may be so late
FRAME = (
    0.025  # seconds that a frame takes at most, if it can be helped: so long a small call waits for the one before it
)
UNKNOWN = 480  # bytes of a frame where the rate is not known
BURST = 4096  # bytes that are given out at once where the rate is not known
REASON = 200  # bytes of the text of a RESET
HEARD = 60  # bytes that an error quotes


class State(Enum):
    """Where a line is in its life; it only moves down this list."""

    GREETING = "no session yet"
    UP = "in session"
    DOWN = "down"


class LineStatistics(Struct, frozen=True):
    """A peek at a line. Frames are those of any type; `damaged` counts lines that were no frames and no text."""

    frames_in: int
    frames_out: int
    bytes_in: int
    bytes_out: int
    damaged: int
    retransmissions: int
    round_trip: float | None  # seconds


class Line:
    """One end. `hello` is what this side says of itself, with a nonce that is new and random; `rate` is in bytes per second, inf if unknown.

    Nothing blocks, and nothing that the peer or the noise does raises. After each call `events` may have something and `data_to_send` may give
    something; both also when `deadline` has come and `handle_timeout` was called.
    """

    def __init__(self, hello: Greeting, *, dialler: bool, now: float, rate: float = inf) -> None:
        hello.check()
        self.hello = hello
        self.dialler = dialler
        self.rate = rate
        self.state = State.GREETING
        self.peer: Greeting | None = None
        self._first_rate = rate
        self._lines = Lines(hello.mtu, dialler=dialler)
        self._greeter = Encoder(LONG_MAP, dialler=dialler)
        self._encoder = self._greeter
        self._events: list[LineEvent] = []
        self._control: list[bytes] = []  # bodies of frames that go before all others
        self._sending = Outgoing(hello, hello.mtu)  # as long as nothing is known of the peer
        self._receiving = Incoming(mtu=hello.mtu, window=hello.window, delay=hello.delay / 1000)
        self._told_finished = False
        self._polling = False  # the peer is to be asked for an ACK
        self._free = now  # when the line will have carried all that it was given
        self._heard = now  # the last frame
        self._busy_since = now  # as long as an answer is waited for
        self._echo = bytes(NONCE)  # the nonce of the peer, as far as known
        self._greeting = True  # a HELLO is to be sent
        self._greet_at = now  # when the next one is due
        self._greet_until = now + GREETING if dialler else now
        self._noise = b""  # what came last and was no frame, for the error
        self._change: RateChange | None = None
        self._frames_in = self._frames_out = self._bytes_in = self._bytes_out = self._damaged = 0

    # -- what it is

    @property
    def down(self) -> bool:
        return self.state is State.DOWN

    @property
    def queued(self) -> int:
        """Bytes that were sent and are in no frame yet."""
        return self._sending.queued

    @property
    def room_at(self) -> float:
        """When more of the stream could be sent at once: the moment to choose what that is. inf if something else must happen before."""
        if self.state is State.DOWN:
            return 0.0
        sending = self._sending
        if (
            self.state is State.GREETING
            or self._change is not None
            or sending.queued
            or sending.ready
            or not sending.open
        ):
            return inf
        return self._free - NEAR

    @property
    def unread(self) -> int:
        """Bytes that were Received and not consumed."""
        return self._receiving.unread

    @property
    def settled(self) -> bool:
        """Whether everything that was sent has arrived, or cannot any more."""
        return self.state is State.DOWN or self._sending.settled

    @property
    def message(self) -> int:
        """Bytes that go out as one frame, if the line is good: no more than the peer takes, nor than leaves in FRAME seconds."""
        most = self.peer.mtu if self.peer is not None else self.hello.mtu
        if self.rate == inf:
            return min(most, UNKNOWN)
        return max(LEAST_MTU * 4, min(most, int(self.rate * FRAME)))

    def statistics(self) -> LineStatistics:
        return LineStatistics(
            frames_in=self._frames_in,
            frames_out=self._frames_out,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            damaged=self._damaged,
            retransmissions=self._sending.retransmissions,
            round_trip=self._sending.round_trip,
        )

    def events(self) -> list[LineEvent]:
        """What has happened since the last call."""
        happened, self._events = self._events, []
        return happened

    # -- bytes in

    def receive_data(self, data: bytes, now: float) -> None:
        """Take what has arrived, whatever it is."""
        self._bytes_in += len(data)
        for found in self._lines.receive(data):
            if self.state is State.DOWN:
                return
            if type(found) is Frame:
                self._frames_in += 1
                self._heard = now
                self._take(found, now)
            elif type(found) is Text:
                self._noise = found.text
                self._events.append(Printed(found.text))
            elif type(found) is Damage:
                self._take_damage(now, framed=found.framed)
        self._tell_finished()

    def receive_eof(self) -> None:
        """The pipe below has ended."""
        self.fail("the pipe has ended")

    def fail(self, reason: str) -> None:
        """The pipe below is broken. Nothing is sent any more."""
        self._end(Cause.BROKEN, reason)
        self._control.clear()

    def _take(self, frame: Frame, now: float) -> None:
        first = frame.first
        kind = first & 0xC0
        if first == HELLO:
            self._take_hello(frame.payload, now)
            return
        if self.state is not State.UP:
            return
        if first == RATE:
            self._take_rate(frame.payload, now)
            return
        if self._change is not None:
            self._change.hear_other()
            self._settle_change()
        if kind == DATA:
            self._sending.acknowledge(frame.header[2], now)
            data = self._receiving.receive(
                frame.header, frame.payload, now, last=bool(first & FIN), poll=bool(first & POLL)
            )
            if data:
                self._events.append(Received(data))
        elif kind == ACK:
            self._take_ack(frame, now)
        elif kind == DGRAM:
            self._events.append(Datagram(frame.payload))
        elif first == RESET:
            self._take_reset(frame.payload, now)

    def _take_ack(self, frame: Frame, now: float) -> None:
        latest, ack = frame.header
        sending = self._sending
        sending.asked = False
        sending.full = bool(frame.first & FULL)
        bitmap, damaged = frame.payload, 0
        if frame.first & NAK and bitmap:
            damaged, bitmap = bitmap[0], bitmap[1:]
        if sending.acknowledge(ack, now):
            sending.report(latest, bitmap, damaged, now)
        if frame.first & POLL:
            self._receiving.hurry(now)

    def _take_reset(self, payload: bytes, now: float) -> None:
        if payload:
            self._sending.acknowledge(payload[0], now)
        if self._receiving.finished and self._sending.closed:
            self._end(Cause.CLOSED, "both ends have ended it")
        else:
            self._end(Cause.RESET, payload[1:].decode(errors="replace") or "the peer has ended the line")

    def _take_damage(self, now: float, *, framed: bool) -> None:
        self._damaged += 1
        if self.state is State.UP:
            self._receiving.meet_damage(now, framed=framed)
        elif framed and now >= self._greet_at:  # a frame of a session that this side has forgotten, perhaps
            self._greeting = True

    # -- the greeting

    def _take_hello(self, payload: bytes, now: float) -> None:
        try:
            peer = Greeting.decode(payload)
        except ValueError as error:
            self._control.append(self._hello())
            self._end(Cause.REFUSED, str(error))
            return
        if self.state is State.UP:
            if peer.nonce != self._echo:
                self._end(
                    Cause.RESTARTED,
                    "the peer has started anew: what was under way is lost, and whether it was done is unknown",
                )
            elif peer.wanted:
                self._greeting = True
                self._sending.lose_all()
            return
        self._echo = peer.nonce
        if peer.echo == self.hello.nonce:
            self._begin(peer, now)
        self._greeting = self._greeting or peer.wanted
        self._greet_until = max(self._greet_until, now + GREETING) if not self.dialler else self._greet_until

    def _begin(self, peer: Greeting, now: float) -> None:
        nonces = (self.hello.nonce, peer.nonce) if self.dialler else (peer.nonce, self.hello.nonce)
        seed = self._lines.seed = session_seed(*nonces)
        self._encoder = Encoder(peer.escapes, dialler=self.dialler, seed=seed)
        self.peer = peer
        self.state = State.UP
        self._greeting = False
        early, self._sending = self._sending, Outgoing(peer, self.message)
        early.move(self._sending)
        self._busy_since = now
        target = min(self.hello.baud, peer.baud)
        if self.dialler and target > self.rate * BITS:
            self._change = RateChange(target, now, dialler=True)
        else:
            self._events.append(Established(peer))

    def _hello(self) -> bytes:
        return structs.replace(self.hello, echo=self._echo, wanted=self.state is State.GREETING).encode()

    # -- another baud rate

    def _take_rate(self, payload: bytes, now: float) -> None:
        if len(payload) < 5:
            return
        step, baud = payload[0], int.from_bytes(payload[1:5], "big")
        if self._change is None and not self.dialler and step == Step.PROPOSE and 0 < baud <= self.hello.baud:
            self._change = RateChange(baud, now, dialler=False)
        elif self._change is not None:
            self._change.hear(step, baud, now)
            self._settle_change()

    def _settle_change(self) -> None:
        """Do what the change of the rate asks for."""
        change = self._change
        if change is None:
            return
        if change.baud is not None:
            self.rate = change.baud / BITS if change.baud else self._first_rate
            self._sending.limit(self.message)
            self._events.append(RateChanged(change.baud))
            change.baud = None
        if change.over:
            self._change = None
            if self.dialler and self.peer is not None:
                self._events.append(Established(self.peer))
                self._polling = change.changed  # so that the listener is sure, too

    # -- intentions

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Queue data; there may be no session yet. After `finish` or the end of the line it is dropped."""
        if self.state is not State.DOWN and not self._sending.finishing:
            self._sending.send(data)

    def finish(self) -> None:
        """Send nothing more after what is queued."""
        self._sending.finish()

    def reset(self, reason: str) -> None:
        """End the line in both directions, now. The peer is told, if it hears that; no event follows."""
        if self.state is State.UP:
            text = reason.encode()[:REASON]
            self._control = [bytes((RESET, self._receiving.ack)) + text]
        self.state = State.DOWN

    def consume(self, count: int, now: float) -> None:
        """So many of the bytes that were Received have been taken."""
        self._receiving.consume(count, now)

    def send_datagram(self, data: bytes) -> None:
        """Send it once, on the chance that it arrives; ahead of the stream. Dropped if there is no session."""
        if self.state is State.UP:
            self._control.append(bytes((DGRAM,)) + data[: self.message])

    def _end(self, cause: Cause, reason: str) -> None:
        if self.state is State.DOWN:
            return
        self._tell_finished()
        self.state = State.DOWN
        self._events.append(Lost(cause, reason))

    def _tell_finished(self) -> None:
        if self._receiving.finished and not self._told_finished and self.state is State.UP:
            self._told_finished = True
            self._events.append(Finished())

    # -- bytes out

    def data_to_send(self, now: float) -> bytes:
        """What is to be given to the pipe now; b"" if there is nothing, or the line has enough to do."""
        if self._free - NEAR > now:
            return b""
        out: list[bytes] = []
        size = 0
        while self._free - now <= AHEAD and size < BURST:
            frame = self._next_frame(now)
            if not frame:
                break
            out.append(frame)
            size += len(frame)
        self._bytes_out += size
        self._frames_out += len(out)
        return b"".join(out)

    def last_words(self) -> bytes:
        """What is still to be said on a line that is down, however busy it is: for who leaves at once."""
        control, self._control = self._control, []
        return b"".join(map(self._encoder.encode, control)) if self.state is State.DOWN else b""

    def _next_frame(self, now: float) -> bytes:
        if self._control:
            return self._put(self._control.pop(0), now)
        if self.state is State.DOWN:
            return b""
        if self._greeting or (self.state is State.GREETING and self._greet_at <= now < self._greet_until):
            return self._greet(now)
        if self.state is not State.UP:
            return b""
        if self._change is not None:
            return self._put_change(self._change, now)
        return self._put_piece(now)

    def _put_piece(self, now: float) -> bytes:
        """The next frame of the session: an ACK if it is time for one and no data says the same, else data."""
        receiving, sending = self._receiving, self._sending
        ready = sending.ready
        if self._polling or (receiving.acknowledge_by <= now and not (ready and receiving.plain)):
            frame = self._put(receiving.encode(poll=self._polling), now)
            if self._polling:
                self._polling = False
                self._wait_from(now)
                sending.asked = True
                sending.left = self._free
            return frame
        if not ready:
            self._close_if_over()
            return self._put(self._control.pop(0), now) if self._control else b""
        self._wait_from(now)
        piece, poll = sending.next()
        sending.number += 1
        first = DATA | (POLL if poll else 0) | (FIN if piece.last else 0)
        header = bytes((first, sending.number & 0xFF, piece.sequence & 0xFF, receiving.ack))
        receiving.acknowledged()
        frame = self._put(header + piece.data, now)
        sending.transmitted(piece, len(frame), self._free, poll=poll)
        return frame

    def _wait_from(self, now: float) -> None:
        if not self._sending.busy:
            self._busy_since = now

    def _close_if_over(self) -> None:
        """Both directions have ended, and both sides know."""
        if self._receiving.finished and self._sending.closed and self._receiving.acknowledge_by == inf:
            self._control.append(bytes((RESET, self._receiving.ack)))
            self._end(Cause.CLOSED, "both ends have ended it")

    def _greet(self, now: float) -> bytes:
        self._greeting = False
        # What came before, if anything, is no part of the line.
        frame = b"\n" + self._greeter.encode(self._hello())
        self._greet_at = now + (REPEAT_HEARD if any(self._echo) else REPEAT) + 4 * len(frame) / self.rate
        self._count(frame, now)
        return frame

    def _put_change(self, change: RateChange, now: float) -> bytes:
        step = change.say
        if step is None:
            return b""
        frame = self._put(change.encode(), now)
        change.said(step, self._free)
        return frame

    def _put(self, body: bytes, now: float) -> bytes:
        frame = (self._greeter if body[0] == HELLO else self._encoder).encode(body)
        self._count(frame, now)
        return frame

    def _count(self, frame: bytes, now: float) -> None:
        self._free = max(self._free, now) + len(frame) / self.rate

    # -- time

    def deadline(self) -> float | None:
        """When to call handle_timeout and data_to_send, even if nothing has happened; None if never."""
        at = min(self._send_at(), self._act_at())
        return at if at < inf else None

    def _send_at(self) -> float:
        """When there will be something to send, and the line is free for it."""
        at = inf
        if self._control or (self._greeting and self.state is not State.DOWN):
            at = 0.0
        elif self.state is State.GREETING:
            at = self._greet_at if self._greet_at < self._greet_until else inf
        elif self.state is State.UP and self._change is not None:
            at = 0.0 if self._change.say is not None else inf
        elif self.state is State.UP:
            at = 0.0 if self._polling or self._sending.ready else self._receiving.acknowledge_by
        return max(at, self._free - NEAR)

    def _act_at(self) -> float:
        if self.state is State.GREETING and self.dialler:
            return self._greet_until
        if self.state is not State.UP:
            return inf
        if self._change is not None:
            return self._change.deadline()
        waiting = self._sending.deadline()
        return inf if waiting is None else min(waiting, max(self._heard, self._busy_since) + SILENCE)

    def handle_timeout(self, now: float) -> None:
        """It is so late: ask again, or give up."""
        if self.state is State.GREETING and self.dialler and now >= self._greet_until:
            self._end(Cause.SILENT, self._nobody())
        if self.state is not State.UP:
            return
        if self._change is not None:
            if now >= self._change.deadline():
                self._change.handle_timeout(now)
                self._settle_change()
            return
        waiting = self._sending.deadline()
        if waiting is None:
            return
        since = max(self._heard, self._busy_since)
        if now >= since + SILENCE:
            self._end(Cause.SILENT, f"no frame for {now - since:.0f} s, and something is under way")
        elif now >= waiting and not self._sending.handle_timeout():
            self._polling = True

    def _nobody(self) -> str:
        said = (self._lines.unfinished or self._noise)[-HEARD:]
        if said:
            instead = f"it said {said!r}"
        elif self._damaged:
            instead = f"{self._damaged} lines of garbage came: is the baud rate right?"
        else:
            instead = "nothing came at all: is it connected, and on?"
        return f"nobody speaks the protocol of the serial line at the other end ({GREETING:g} s); {instead}"
