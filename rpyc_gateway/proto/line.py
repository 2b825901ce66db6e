"""The serial line as one value: a reliable stream of bytes over a pipe that loses, changes, repeats and invents some (docs/protocol.md, section 12).

Beside it: `lineframes` frames <-> bytes, `linegreeting` who says HELLO, `linesession` what goes on then, `linesending` and `linereceiving` its two directions, `linepace` how fast it is,
`linerate` another baud rate, `lineevents` what it tells.
"""

from __future__ import annotations

from enum import Enum
from math import inf

from msgspec import Struct

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
    DATA,
    DGRAM,
    HELLO,
    LONG_MAP,
    RATE,
    RESET,
    Damage,
    Encoder,
    Frame,
    Greeting,
    Lines,
    Text,
    is_text,
    session_seed,
)
from rpyc_gateway.proto.linegreeting import Greeter, Meaning, describe_silence
from rpyc_gateway.proto.linepace import BURST, Pace
from rpyc_gateway.proto.linerate import RateChange, Step
from rpyc_gateway.proto.linesession import SILENCE, LineSession

__all__ = ["Line", "LineStatistics"]

BOTH_ENDED = "both ends have ended it"
GARBLED = 2.0  # seconds in which no frame came at another rate than the first, but
GARBAGE = 64  # bytes: a peer that was killed has been started again, and knows nothing of that rate
DATAGRAMS = 16  # that may wait
REASON = 200  # bytes of the text of a RESET


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
    `patience` is how many seconds the peer may be silent that has something to acknowledge; inf for a board.

    Nothing blocks, and nothing that the peer or the noise does raises. After each call `events` may have something and `data_to_send` may give
    something; both also when `deadline` has come and `handle_timeout` was called.
    """

    def __init__(
        self,
        hello: Greeting,
        *,
        dialler: bool,
        now: float,
        rate: float = inf,
        patience: float = SILENCE,
        lossless: bool = False,
    ) -> None:
        hello.check()
        self.hello = hello
        self.dialler = dialler
        self.state = State.GREETING
        self.peer: Greeting | None = None
        self._pace = Pace(rate, now)
        self._lines = Lines(hello.mtu, dialler=dialler)
        self._greeter = Greeter(hello, dialler=dialler, now=now)
        self._encoder = Encoder(LONG_MAP, dialler=dialler)  # as long as nothing is known of the peer
        self._events: list[LineEvent] = []
        self._control: list[bytes] = []  # frames that go before all others
        self._session = LineSession(hello, now, patience, lossless=lossless)
        self._told_finished = False
        self._noise = b""  # what came last and was no frame, for the error
        self._change: RateChange | None = None
        self._garbage = 0  # bytes since the last frame
        self.frames_in = 0  # of any type
        self._frames_out = self._bytes_in = self._bytes_out = self._damaged = 0

    # -- what it is

    @property
    def rate(self) -> float:
        """Bytes per second that the line carries, inf if unknown."""
        return self._pace.rate

    @property
    def down(self) -> bool:
        return self.state is State.DOWN

    @property
    def queued(self) -> int:
        """Bytes that were sent and are in no frame yet."""
        return self._session.sending.queued

    @property
    def room_at(self) -> float:
        """When more of the stream could be sent at once: the moment to choose what that is. inf if something else must happen before."""
        if self.state is State.DOWN:
            return 0.0
        sending = self._session.sending
        if (
            self.state is State.GREETING
            or self._change is not None
            or sending.queued
            or sending.ready
            or not sending.open
        ):
            return inf
        return self._pace.near

    @property
    def unfinished(self) -> bytes:
        """The line that has begun, and is neither frame nor text yet: the prompt of a REPL perhaps."""
        return self._lines.unfinished

    @property
    def unread(self) -> int:
        """Bytes that were Received and not consumed."""
        return self._session.receiving.unread

    @property
    def settled(self) -> bool:
        """Whether everything that was sent has arrived, or cannot any more."""
        return self.state is State.DOWN or self._session.sending.settled

    @property
    def message(self) -> int:
        """Bytes that go out as one frame, if the line is good."""
        return self._pace.longest(self.peer.mtu if self.peer is not None else self.hello.mtu)

    def statistics(self) -> LineStatistics:
        return LineStatistics(
            frames_in=self.frames_in,
            frames_out=self._frames_out,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            damaged=self._damaged,
            retransmissions=self._session.sending.retransmissions,
            round_trip=self._session.sending.round_trip,
        )

    def events(self) -> list[LineEvent]:
        """What has happened since the last call."""
        happened, self._events = self._events, []
        return happened

    # -- bytes in

    def receive_data(self, data: bytes, now: float) -> None:
        """Take what has arrived, whatever it is."""
        self._bytes_in += len(data)
        self._garbage += len(data)
        for found in self._lines.receive(data):
            if self.state is State.DOWN:
                return
            if type(found) is Frame:
                self.frames_in += 1
                self._session.hear(now)
                self._garbage = 0
                self._take(found, now)
            elif type(found) is Text:
                self._noise = found.text
                self._events.append(Printed(found.text))
            elif type(found) is Damage:
                self._take_damage(now, framed=found.framed)
        self._tell_finished()
        if self._pace.changed and self._garbage > GARBAGE and now >= self._session.heard + GARBLED:
            self._end(
                Cause.SILENT,
                "only garbage comes at the rate that was agreed: the peer seems to be back at the first one",
            )

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
        if kind in (DATA, ACK):
            data = self._session.take(frame, now)
            if data:
                self._events.append(Received(data))
        elif kind == DGRAM:
            self._events.append(Datagram(frame.payload))
        elif first == RESET:
            self._take_reset(frame.payload, now)

    def _take_reset(self, payload: bytes, now: float) -> None:
        if payload:
            self._session.sending.acknowledge(payload[0], now)
        if self._session.receiving.finished and self._session.sending.closed:
            self._end(Cause.CLOSED, BOTH_ENDED)
        else:
            self._end(Cause.RESET, payload[1:].decode(errors="replace") or "the peer has ended the line")

    def _take_damage(self, now: float, *, framed: bool) -> None:
        self._damaged += 1
        if self.state is State.UP:
            self._session.receiving.meet_damage(now, framed=framed)
        elif framed:
            self._greeter.hear_remains(now)

    # -- the greeting

    def _take_hello(self, payload: bytes, now: float) -> None:
        try:
            peer = Greeting.decode(payload)
        except ValueError as error:
            self._control.append(self._greeter.encode(now, self.rate))  # so that it knows, too
            self._end(Cause.REFUSED, str(error))
            return
        meaning = self._greeter.hear(peer, now)
        if meaning is Meaning.BEGUN:
            self._begin(peer, now)
        elif meaning is Meaning.UNHEARD:
            self._session.sending.lose_all()
        elif meaning is Meaning.RESTARTED:
            text = "the peer has started anew: what was under way is lost, and whether it was done is unknown"
            self._end(Cause.RESTARTED, text)

    def _begin(self, peer: Greeting, now: float) -> None:
        nonces = (self.hello.nonce, peer.nonce) if self.dialler else (peer.nonce, self.hello.nonce)
        seed = self._lines.seed = session_seed(*nonces)
        self._encoder = Encoder(peer.escapes, dialler=self.dialler, seed=seed)
        self.peer = peer
        self.state = State.UP
        self._session.begin(peer, self.message, now)
        target = min(self.hello.baud, peer.baud)
        if self.dialler and target > self._pace.baud:
            self._change = RateChange(target, now, dialler=True)
        else:
            self._events.append(Established(peer))

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
            self._pace.change(change.baud)
            self._session.sending.limit(self.message)
            self._events.append(RateChanged(change.baud))
            change.baud = None
        if change.over:
            self._change = None
            if self.dialler and self.peer is not None:
                self._events.append(Established(self.peer))
                self._session.polling = change.changed  # so that the listener is sure, too

    # -- intentions

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Queue data; there may be no session yet. After `finish` or the end of the line it is dropped."""
        if self.state is not State.DOWN and not self._session.sending.finishing:
            self._session.sending.send(data)

    def finish(self) -> None:
        """Send nothing more after what is queued."""
        self._session.sending.finish()

    def reset(self, reason: str) -> None:
        """End the line in both directions, now. The peer is told, if it hears that; no event follows."""
        if self.state is State.UP:
            text = reason.encode()[:REASON]
            self._control = [self._encoder.encode(bytes((RESET, self._session.receiving.ack)) + text)]
        self.state = State.DOWN

    def consume(self, count: int, now: float) -> None:
        """So many of the bytes that were Received have been taken."""
        self._session.receiving.consume(count, now)

    def send_datagram(self, data: bytes) -> None:
        """Send it once, on the chance that it arrives; ahead of the stream. Dropped if there is no session, or too much waits."""
        if self.state is State.UP and len(self._control) < DATAGRAMS:
            self._control.append(self._encoder.encode(bytes((DGRAM,)) + data[: self.message]))

    def _end(self, cause: Cause, reason: str) -> None:
        if self.state is State.DOWN:
            return
        self._tell_finished()
        self.state = State.DOWN
        self._events.append(Lost(cause, reason))

    def _tell_finished(self) -> None:
        if self._session.receiving.finished and not self._told_finished and self.state is State.UP:
            self._told_finished = True
            self._events.append(Finished())

    # -- bytes out

    def data_to_send(self, now: float) -> bytes:
        """What is to be given to the pipe now; b"" if there is nothing, or the line has enough to do."""
        pace = self._pace
        if pace.near > now:
            return b""
        out: list[bytes] = []
        size = 0
        while pace.takes(now) and size < BURST:
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
        return b"".join(control)

    def _next_frame(self, now: float) -> bytes:
        if self._control:
            return self._give(self._control.pop(0), now)
        if self.state is not State.DOWN and self._greeter.say_at() <= now:
            return self._give(self._greeter.encode(now, self.rate), now)
        if self.state is not State.UP:
            return b""
        if self._change is not None:
            return self._put_change(self._change, now)
        frame = self._session.encode(self._encoder, self._pace, now)
        if not frame and self._session.closed:
            self._end(Cause.CLOSED, BOTH_ENDED)
            return self._give(self._encoder.encode(bytes((RESET, self._session.receiving.ack))), now)
        return frame

    def _put_change(self, change: RateChange, now: float) -> bytes:
        step = change.say
        if step is None:
            return b""
        frame = self._give(self._encoder.encode(change.encode()), now)
        change.said(step, self._pace.free)
        return frame

    def _give(self, frame: bytes, now: float) -> bytes:
        self._pace.carry(len(frame), now)
        return frame

    # -- time

    def deadline(self) -> float | None:
        """When to call handle_timeout and data_to_send, even if nothing has happened; None if never."""
        at = min(self._send_at(), self._act_at())
        return at if at < inf else None

    def _send_at(self) -> float:
        """When there will be something to send, and the line is free for it."""
        if self._control:
            at = 0.0
        elif self.state is State.DOWN:
            return inf
        else:
            at = min(self._greeter.say_at(), self._session_at())
        return max(at, self._pace.near)

    def _session_at(self) -> float:
        if self.state is not State.UP:
            return inf
        if self._change is not None:
            return inf if self._change.say is None else 0.0
        return self._session.say_at()

    def _act_at(self) -> float:
        if self.state is State.GREETING:
            return self._greeter.give_up_at()
        if self.state is State.DOWN:
            return inf
        if self._change is not None:
            return self._change.deadline()
        return max(self._session.deadline(), self._pace.near)  # what is to be done then is to send something

    def handle_timeout(self, now: float) -> None:
        """It is so late: ask again, or give up."""
        if self.state is State.GREETING and now >= self._greeter.give_up_at():
            begun = self._lines.unfinished
            said = begun if begun and is_text(begun) else self._noise
            self._end(Cause.SILENT, describe_silence(said, self._damaged + bool(begun)))
        if self.state is not State.UP:
            return
        if self._change is not None:
            if now >= self._change.deadline():
                self._change.handle_timeout(now)
                self._settle_change()
            return
        reason = self._session.handle_timeout(now)
        if reason:
            self._end(Cause.SILENT, reason)
