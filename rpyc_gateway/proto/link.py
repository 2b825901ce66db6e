"""One hop: handshake, limits, signs of life, going away. Streams live in the mux above it."""

from __future__ import annotations

from enum import Enum
from math import inf

from rpyc_gateway.errors import Code, LimitExceeded, ProtocolError
from rpyc_gateway.proto import frames
from rpyc_gateway.proto.events import Established, Event, Greeted, Leaving, Probed, Routed
from rpyc_gateway.proto.frames import Failure, Frame, FrameType, GoAway, Hello, Routes
from rpyc_gateway.proto.framing import Framer

HANDSHAKE = 10.0  # seconds from the connection to a whole HELLO, unless there is a reason for more, and from there to a decision
IDLE = 15.0  # seconds of silence before a PING
ANSWER = 5.0  # seconds a PING may stay without any frame
HELD = 1 << 20  # bytes a peer may send before this side has decided about it
SLACK = 1024  # bytes that may be on their way, each way, before what is waited for
QUOTED = 300  # bytes of text from a stranger that an error quotes: a usage message
BACKLOG = 4 << 20  # bytes of control frames that may wait for a peer that reads nothing

_HTTP = (b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PATCH ", b"TRACE ", b"PRI ")
_HTTP_TEXT = (
    b"This port speaks the link protocol of rpyc-gateway, not HTTP. Use rpyc-gw or rpyc_gateway to connect to it.\n"
)
_HTTP_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
)


class State(Enum):
    """Where a link is in its life; it only moves down this list."""

    GREETING = "waiting for the peer's HELLO"
    DECIDING = "waiting for this side's decision"
    UP = "up"
    DOWN = "down"


UP = State.UP  # read with every frame: an attribute of an Enum takes its time


class Link:
    """The state of one hop.

    `receive_data` and `welcome` give out the frames of a link that is up; what is not for a stream comes back by `handle`.
    Control frames wait in `control` until somebody takes them with `take`. `longest` is how many bytes of data one frame may have for
    the sake of the medium; that carries `rate` bytes per second.
    """

    def __init__(
        self,
        hello: Hello,
        *,
        dialler: bool,
        now: float,
        jitter: float,
        rate: float = inf,
        longest: int = frames.FULL_FRAME,
        patience: float = HANDSHAKE,
    ) -> None:
        self.hello = hello
        self.dialler = dialler
        self.peer: Hello | None = None
        self.state = State.GREETING
        self.lost: Failure | None = None
        self.leaving: Failure | None = None  # said by this side
        self.left: Failure | None = None  # said by the peer
        self.rtt: float | None = None
        self.events: list[Event] = []
        self.frame_limit = frames.HELLO_FRAME  # how long a payload the peer takes
        # The same for data, which has no reason to be any longer than a read.
        self.data_limit = min(frames.HELLO_FRAME, longest)
        self._longest = longest
        self._slack = 2 * SLACK / rate  # seconds
        self.hurried = True  # the deadline may be earlier than when it was last asked for
        self.frames_in = 0
        self.frames_out = 0
        self.backlog = 0
        self.framer = Framer(hello.limits.frame, dialler=dialler)
        self._control: list[bytes] = []
        self._held: list[Frame] = []
        self._held_bytes = 0
        self._made = now
        self._patience = patience  # seconds for the peer's HELLO
        self._decide_by = 0.0
        self.heard = now
        self._idle = IDLE * (1 - 0.2 * jitter)
        self._pings = 0
        self._pinged: tuple[bytes, float] | None = None  # the PING that waits for its PONG
        self.answer_by: float | None = None
        self.probe_by: float | None = None
        self._grace = 0.0
        self._leave_by: float | None = None
        if dialler:
            self.put(frames.encode_hello(hello))

    # -- bytes in

    def receive_data(self, data: bytes, now: float) -> list[Frame]:
        """Read. Raises ProtocolError or LimitExceeded: the caller answers with `end`."""
        arrived = self.framer.receive(data)
        if arrived:
            self.frames_in += len(arrived)
            self.heard = now
            if self.answer_by is not None or self.probe_by is not None:
                self._relieve()
        if self.state is UP:
            return arrived
        for frame in arrived:
            self._take_early(frame, now)
        return []

    def _relieve(self) -> None:
        """The sign of life that was waited for."""
        self.answer_by = None
        if self.probe_by is not None:
            self.probe_by = None
            self.events.append(Probed())

    def complain(self) -> None:
        """What is wrong with what was read, besides its frames. Raises ProtocolError, LimitExceeded."""
        if self.framer.error and self.state is not State.DOWN:
            self._misread()
        if self.backlog > BACKLOG:
            raise LimitExceeded(f"{self.backlog} bytes of answers wait for a peer that does not read them")

    def _take_early(self, frame: Frame, now: float) -> None:
        kind, _, _, payload = frame
        if self.state is State.DOWN:
            return
        if kind == FrameType.ERROR:
            self.end(frames.decode_failure(payload))
        elif self.state is State.DECIDING:
            self._hold(frame)
        else:
            self._greet(payload, now)

    def receive_eof(self) -> None:
        if self.left is not None:
            self.end(self.left)
        elif self.state is State.GREETING:
            self.end(self._failure(Code.LINK_LOST, "closed by the peer before it said HELLO"))
        else:
            self.end(self._failure(Code.LINK_LOST, "closed by the peer"))

    def _hold(self, frame: Frame) -> None:
        self._held.append(frame)
        self._held_bytes += frames.HEADER.size + len(frame[3])
        if self._held_bytes > HELD:
            raise LimitExceeded(f"{self._held_bytes} bytes came before the handshake was through")

    def _greet(self, payload: bytes, now: float) -> None:
        theirs = frames.decode_version(payload).version
        if theirs[0] != self.hello.version[0]:
            ours = ".".join(map(str, self.hello.version))
            text = f"this node speaks version {ours} of the protocol, the peer {theirs[0]}.{theirs[1]}: update the older one"
            self.end(self._failure(Code.VERSION, text), tell=True)
            return
        self.peer = frames.decode_hello(payload)
        self.frame_limit = min(self.peer.limits.frame, frames.LARGEST_FRAME)
        self.data_limit = min(self.frame_limit, frames.FULL_FRAME, self._longest)
        self.state = State.DECIDING
        self._decide_by = now + HANDSHAKE + self._slack
        self.hurried = True
        if self.dialler:
            self.rtt = max(now - self._made, 0.0)
        self.events.append(Greeted(self.peer))

    def _misread(self) -> None:
        """What came is no frame. Raises ProtocolError, or has answered a peer that speaks something else altogether."""
        start = _start(self.framer.stranger)
        if not start:
            raise ProtocolError(self.framer.error)
        if self.dialler:
            text = f"the peer does not speak the protocol of rpyc-gateway; it began with {start!r}"
        elif start.startswith(_HTTP):
            self.put(_HTTP_ANSWER % (len(_HTTP_TEXT), _HTTP_TEXT))
            self.end(self._failure(Code.PROTOCOL, f"an HTTP request came to a port for links: {start!r}"))
            return
        else:
            text = f"a caller does not speak the protocol of rpyc-gateway; it began with {start!r}"
        self.end(self._failure(Code.PROTOCOL, text), tell=True)

    def handle(self, kind: int, payload: bytes, now: float) -> None:
        """A frame that belongs to the link, which is up. Raises ProtocolError."""
        if kind == FrameType.PING:
            self.put(frames.encode_frame(FrameType.PONG, 0, frames.decode_token(payload)))
        elif kind == FrameType.PONG:
            self._take_pong(frames.decode_token(payload), now)
        elif kind == FrameType.ROUTE:
            self.events.append(Routed(frames.decode_routes(payload)))
        elif kind == FrameType.GOAWAY:
            said = frames.decode_goaway(payload)
            self.left = Failure(said.code, said.text, said.hop)
            self.events.append(Leaving(self.left, max(said.grace, 0.0)))
        elif kind == FrameType.HELLO:
            raise ProtocolError("a second HELLO")
        elif kind == FrameType.RESUME:
            self.end(self._failure(Code.UNSUPPORTED, "this node does not resume circuits"), tell=True)
        elif kind == FrameType.ERROR:
            self.end(frames.decode_failure(payload))
        else:
            raise ProtocolError(f"unknown frame type {kind}")

    def _take_pong(self, token: bytes, now: float) -> None:
        if self._pinged is None or self._pinged[0] != token:
            return
        sample = max(now - self._pinged[1], 0.0)
        if self.rtt is None or sample < self.rtt:  # whatever takes longer has waited for something
            self.rtt = sample
        else:
            self.rtt += (sample - self.rtt) / 8
        self._pinged = None

    # -- intentions

    def welcome(self, now: float) -> list[Frame]:
        """Take the peer in; gives out what came too early."""
        if self.state is not State.DECIDING:
            return []
        if not self.dialler:
            self.put(frames.encode_hello(self.hello))
        self.state = UP
        self.heard = now
        self.hurried = True
        self.events.append(Established())
        held, self._held = self._held, []
        return held

    def refuse(self, failure: Failure) -> None:
        if self.state is State.DECIDING:
            self.end(failure, tell=True)

    def announce(self, routes: Routes) -> None:
        """Tell the peer, in as many frames as it takes, if it wants to know. A route too long for its frames is left out."""
        if self.state is not State.UP or self.peer is None or not self.peer.routes:
            return
        try:
            self.put(frames.encode_map(FrameType.ROUTE, 0, routes, self.frame_limit))
        except LimitExceeded:
            for part in _halves(routes):
                self.announce(part)

    def leave(self, failure: Failure, grace: float) -> None:
        """Say GOAWAY. The seconds count from the next moment this machine hears of."""
        if self.state is not State.UP:
            self.end(failure, tell=self.state is not State.DOWN)
        elif self.leaving is None:
            self.leaving = failure
            self._grace = grace
            self.hurried = True
            goaway = GoAway(failure.code, failure.text, failure.hop, grace)
            self.put(frames.encode_failure(FrameType.GOAWAY, 0, goaway, self.frame_limit))

    def probe(self, now: float, within: float) -> None:
        """Find out whether the peer is there: Probed follows, or Lost after `within` seconds."""
        if self.state is State.UP:
            self.probe_by = now + within
            self.hurried = True
            self._ping(now)

    def measure(self, now: float) -> None:
        """Find out how long a round trip takes, unless somebody has asked before: the greeting alone says too much, if anything."""
        if not self._pings:
            self._ping(now)

    def end(self, failure: Failure, *, tell: bool = False) -> None:
        """The link is over; with `tell` the peer gets an ERROR, after the control frames that wait."""
        if self.state is State.DOWN:
            return
        if tell:
            self.put(frames.encode_failure(FrameType.ERROR, 0, failure, self.frame_limit))
        self.state = State.DOWN
        self.lost = failure
        self._held.clear()

    # -- bytes out

    def put(self, frame: bytes) -> None:
        """Queue a control frame."""
        self._control.append(frame)
        self.backlog += len(frame)

    def take(self, now: float) -> list[bytes]:
        """The control frames that wait; they are the caller's now."""
        if self.leaving is not None:
            self._arm(now)
        control = self._control
        if control:
            self._control = []
            self.backlog = 0
            self.frames_out += len(control)
        return control

    def drop_control(self) -> None:
        """Nothing can be sent any more."""
        self._control.clear()
        self.backlog = 0

    # -- time

    def deadline(self) -> float | None:
        self.hurried = False
        if self.state is State.DOWN:
            return None
        if self.state is State.GREETING:
            return self._made + self._patience + self._slack
        if self.state is State.DECIDING:
            return self._decide_by
        if self.leaving is not None and self._leave_by is None:
            return self.heard  # long ago: the grace begins when the driver says what time it is
        if self.answer_by is None and self.probe_by is None and self._leave_by is None:
            return self.heard + self._idle
        moments = (
            self.heard + self._idle if self.answer_by is None else self.answer_by,
            self.probe_by,
            self._leave_by,
        )
        return min(moment for moment in moments if moment is not None)

    def handle_timeout(self, now: float) -> None:
        self._arm(now)
        if self.state is State.GREETING:
            self._give_up(now)
        elif self.state is State.DECIDING and now >= self._decide_by:
            self.end(self._failure(Code.TIMEOUT, f"no decision within {HANDSHAKE:g} s"), tell=True)
        elif self.state is State.UP:
            self._watch(now)

    def _give_up(self, now: float) -> None:
        if now < self._made + self._patience + self._slack:
            return
        text = f"the peer did not say HELLO within {self._patience:g} s; does it speak the protocol of rpyc-gateway?"
        # A listener has said nothing yet and may not begin now; its caller may be waiting for another protocol.
        self.end(self._failure(Code.TIMEOUT, text), tell=self.dialler)

    def _watch(self, now: float) -> None:
        if self._leave_by is not None and now >= self._leave_by and self.leaving is not None:
            self.end(self.leaving, tell=True)
        elif self.probe_by is not None and now >= self.probe_by:
            self.end(self._failure(Code.LINK_LOST, "no answer to a probe"))
        elif self.answer_by is not None and now >= self.answer_by:
            self.end(self._failure(Code.LINK_LOST, f"no frame for {now - self.heard:.0f} s"))
        elif self.answer_by is None and now >= self.heard + self._idle:
            self.answer_by = now + ANSWER + self._slack
            self._ping(now)

    def _ping(self, now: float) -> None:
        self._pings += 1
        token = self._pings.to_bytes(8, "big")
        self._pinged = (token, now)
        self.put(frames.encode_frame(FrameType.PING, 0, token))

    def _arm(self, now: float) -> None:
        if self.leaving is not None and self._leave_by is None:
            self._leave_by = now + self._grace

    def _failure(self, code: Code, text: str) -> Failure:
        return Failure(code, text, self.hello.name)


def _start(stranger: bytes) -> bytes:
    """What to quote of a stranger: enough to know a program by, and all of a message that one left there for people."""
    text = bytes(stranger[:QUOTED])
    return text if text.isascii() and text.replace(b"\n", b"").replace(b"\r", b"").decode().isprintable() else text[:24]


def _halves(routes: Routes) -> list[Routes]:
    if routes.announce and routes.withdraw:
        return [Routes(withdraw=routes.withdraw), Routes(announce=routes.announce)]
    middle = max(len(routes.announce), len(routes.withdraw)) // 2
    if middle == 0:
        return []
    if routes.announce:
        return [Routes(announce=routes.announce[:middle]), Routes(announce=routes.announce[middle:])]
    return [Routes(withdraw=routes.withdraw[:middle]), Routes(withdraw=routes.withdraw[middle:])]
