"""What is fed with bytes: each takes any, raises nothing but what a peer may bring about, and holds no more than it was given."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio
from trio.testing import memory_stream_pair
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import BytesMessage, Ping

from rpyc_gateway.config import Config
from rpyc_gateway.device.codec import Decoder, Ref
from rpyc_gateway.device.conversation import Conversation, Primitive, Step
from rpyc_gateway.errors import ConfigError, LimitExceeded, NoCodec, ProtocolError
from rpyc_gateway.proto import facts, frames
from rpyc_gateway.proto.bulk import BulkReceiver
from rpyc_gateway.proto.events import Greeted
from rpyc_gateway.proto.framing import Framer
from rpyc_gateway.proto.line import Line
from rpyc_gateway.proto.lineevents import Received
from rpyc_gateway.proto.lineframes import NONCE, Greeting
from rpyc_gateway.proto.messages import Splitter
from rpyc_gateway.proto.mux import Mux
from rpyc_gateway.proto.raised import read_exception
from rpyc_gateway.proto.values import Payload, Reader
from rpyc_gateway.transport import entry_points, find_transport
from rpyc_transports import proxies
from rpyc_transports.advice import advise, asks
from rpyc_transports.certificates import Certificate
from rpyc_transports.lines import LONGEST_LINE, Lines
from rpyc_transports.preamble import Preamble
from rpyc_transports.secured import HandshakeFailed, TlsStream
from rpyc_transports.telnet import Telnet
from rpyc_transports.websocket_messages import Messages
from rpyc_transports.websocket_upgrade import Question, Request, UpgradeFailed
from tests.proto.pair import START, hello, pair, pulled
from tests.proto.rpc_pair import HELLO, Side

__all__ = ["TARGETS", "Target", "seeds"]

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {}

EXPECTED = (ProtocolError, LimitExceeded, NoCodec)
"""What reading from a peer may raise."""

VECTORS = Path(__file__).parents[1] / "vectors"


def target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


def pieces(data: bytes) -> Iterator[bytes]:
    """Data cut into records: each begins with its length, in one byte; so a fuzzer decides on the cuts too."""
    while data:
        size = data[0]
        yield data[1 : 1 + size]
        data = data[1 + size :]


@target
def framer(data: bytes) -> None:
    """Frame boundaries, in any cuts."""
    for dialler in (True, False):
        one = Framer(1000, dialler=dialler)
        given = 0
        for piece in pieces(data):
            given += len(piece)
            frames_out = one.receive(piece)
            assert sum(len(frame[3]) for frame in frames_out) <= given


@target
def payloads(data: bytes) -> None:
    """The payloads of frames."""
    readers = (
        frames.decode_version,
        frames.decode_hello,
        frames.decode_open,
        frames.decode_opened,
        frames.decode_failure,
        frames.decode_goaway,
        frames.decode_routes,
        frames.decode_offset,
        frames.decode_token,
    )
    for read in readers:
        with suppress(ProtocolError):
            read(data)


@target
def handshake(data: bytes) -> None:
    """A link that has not heard anything, at either side."""
    for dialler in (True, False):
        mux = Mux(hello("near"), dialler=dialler, now=START)
        _feed(mux, pieces(data))


@target
def link(data: bytes) -> None:
    """A link that is up, with a stream of each side."""
    both = pair()
    _open_streams(both)
    _feed(both.far.mux, pieces(data))


@target
def link_frames(data: bytes) -> None:
    """The same, with every record a whole frame: its first byte is the type, its second the label."""
    both = pair()
    _open_streams(both)
    _feed(
        both.far.mux,
        (frames.encode_frame(piece[0] % 20, piece[1] % 8, piece[2:]) for piece in pieces(data) if len(piece) >= 2),
    )


def _open_streams(both: Any) -> None:
    for side, other in ((both.near, both.far), (both.far, both.near)):
        label = side.mux.open(frames.Open(service="classic"), frames.CircuitClass.NORMAL)
        both.exchange()
        other.mux.accept(label, ())
        both.exchange()


def _feed(mux: Mux, data: Iterator[bytes]) -> None:
    now = START
    for piece in data:
        mux.receive_data(piece, now)
        for event in mux.events():
            if isinstance(event, Greeted):
                mux.welcome(now)
        mux.events()
        mux.over()
        pulled(mux, now)
        now += 0.001
        if mux.down:
            break
    deadline = mux.deadline()
    if deadline is not None:
        mux.handle_timeout(deadline)
        pulled(mux, deadline)


@target
def session(data: bytes) -> None:
    """A session that has greeted: each record is a message, or what comes on its bulk circuit."""
    for opener in (True, False):
        side = Side("ours", opener)
        side.receive(HELLO)
        side.call()
        try:
            for piece in pieces(data):
                if piece[:1] < b"\xf0":
                    side.rpc.receive_data(len(piece).to_bytes(4) + piece)
                else:
                    side.rpc.receive_bulk(piece[1:])
                _hear(side)
                side.rpc.data_to_send()
        except EXPECTED:
            pass
        side.rpc.close()


def _hear(side: Side) -> None:
    for event in side.rpc.events():
        if isinstance(event, facts.Called | facts.Answered | facts.Failed):
            with suppress(*EXPECTED):
                side.value(event.payload)
        if isinstance(event, facts.Called | facts.Rejected):
            side.answer(event.question)


@target
def messages(data: bytes) -> None:
    """Session messages out of a stream, in any cuts."""
    splitter = Splitter()
    given = 0
    try:
        for piece in pieces(data):
            given += len(piece)
            splitter.receive_data(piece)
            assert splitter.pending <= given
    except EXPECTED:
        pass


@target
def bulk(data: bytes) -> None:
    """Long bodies out of a stream, in any cuts."""
    receiver = BulkReceiver()
    given = 0
    try:
        receiver.expect(1, 100)
        receiver.expect(2, 1 << 20)
        for piece in pieces(data):
            given += len(piece)
            receiver.receive_data(piece)
            assert receiver.held <= given + 4096
    except EXPECTED:
        pass


@target
def values(data: bytes) -> None:
    """Values and exceptions out of a payload."""
    reader = Reader(Payload(data, ("a reference",), (b"a body",)), results=(1, "x"))
    try:
        value = reader.read()
        hash(type(value))
    except EXPECTED:
        pass
    reader = Reader(Payload(data, ("a reference",), (b"a body",)))
    with suppress(*EXPECTED):
        read_exception(reader.structure(), reader, ("lab", "hq"))


def _line_pair() -> tuple[Line, Line]:
    """Both ends of a serial line that has been established."""
    near = Line(Greeting(nonce=b"n" * NONCE, mtu=1024), dialler=True, now=START)
    far = Line(Greeting(nonce=b"f" * NONCE, mtu=1024), dialler=False, now=START)
    moved = True
    while moved:
        moved = False
        for one, other in ((near, far), (far, near)):
            while data := one.data_to_send(START):
                other.receive_data(data, START)
                moved = True
    return near, far


def _feed_line(line: Line, data: Iterator[bytes]) -> None:
    now = START
    given = taken = 0
    for piece in data:
        given += len(piece)
        line.receive_data(piece, now)
        for event in line.events():
            if isinstance(event, Received):
                taken += len(event.data)
                line.consume(len(event.data), now)
        now += 0.001
        line.data_to_send(now)
    assert taken <= given
    deadline = line.deadline()
    if deadline is not None:
        line.handle_timeout(deadline)
        line.data_to_send(deadline)


@target
def serial_line(data: bytes) -> None:
    """A serial line, before and after its two ends have met. Nothing that comes raises."""
    _feed_line(Line(Greeting(nonce=b"f" * NONCE), dialler=False, now=START), pieces(data))
    _feed_line(Line(Greeting(nonce=b"n" * NONCE), dialler=True, now=START), pieces(data))
    _feed_line(_line_pair()[1], pieces(data))


@target
def serial_line_frames(data: bytes) -> None:
    """The same, with every record the body of a frame whose checksum is right."""
    for dialler in (True, False):
        near, far = _line_pair()
        sender, receiver = (near, far) if dialler else (far, near)
        sender.send(b"something that is not acknowledged")
        sender.data_to_send(START)
        encode_line = sender._encoder.encode
        _feed_line(receiver, map(encode_line, pieces(data)))


@target
def websocket_upgrade(data: bytes) -> None:
    """What comes before a WebSocket, at either side."""
    question = Question()
    with suppress(UpgradeFailed):
        for piece in (*pieces(data), b""):
            if question.receive(piece):
                refusal = question.refusal("/gw", ("https://here.example",))
                assert refusal is None or refusal.as_bytes()
                break
    request = Request("relay", "/gw")
    with suppress(UpgradeFailed):
        for piece in (*filter(None, pieces(data)), b""):
            if request.receive(piece):
                break


@target
def websocket_messages(data: bytes) -> None:
    """An open WebSocket, at either side."""
    for kind in (ConnectionType.CLIENT, ConnectionType.SERVER):
        ours = Messages(kind)
        given = taken = 0
        for piece in pieces(data):
            given += len(piece)
            if ours.state is not ConnectionState.OPEN:
                break
            ours.receive_data(piece)
            for event in ours.events():
                taken += len(event.data) if isinstance(event, BytesMessage) else 0
                if isinstance(event, Ping):
                    ours.send(event.response())
        assert taken <= given


@target
def certificates(data: bytes) -> None:
    """What a peer shows, as DER."""
    with suppress(ValueError):
        Certificate.read(data)


@target
def preamble(data: bytes) -> None:
    """What a program prints before its link begins: nothing of it is lost, whatever the cuts."""
    found = Preamble()
    text = link = b""
    for piece in pieces(data):
        more_text, more_link = found.receive(piece)
        text, link = text + more_text, link + more_link
    text += b"" if found.found else found.rest()
    assert text + link == b"".join(pieces(data))
    assert len(found.beginning) <= 300


@target
def printed(data: bytes) -> None:
    """What a program prints on its standard error: it is fit for a log, and what to do about it is found."""
    lines = Lines()
    said: list[str] = []
    for piece in pieces(data):
        said += lines.split(piece)
        asks(lines.unfinished)
    said += lines.rest()
    assert all(line.isprintable() and len(line) <= 10 * LONGEST_LINE for line in said)
    advise("\n".join(said), 1, "ssh far rpyc-gw stdio")


@target
def port_server(data: bytes) -> None:
    """What a port server says (RFC 2217), as telnet."""
    telnet = Telnet()
    given = taken = 0
    with suppress(ValueError):
        for piece in pieces(data):
            given += len(piece)
            taken += sum(map(len, telnet.receive(piece)))
    assert taken <= given


@target
def proxy_answers(data: bytes) -> None:
    """What a proxy on the way out says, in HTTP and in SOCKS5, with and without a password."""
    for speak in (proxies._speak_http, proxies._speak_socks):
        for way in (proxies.Proxy("", "proxy", 1), proxies.Proxy("", "proxy", 1, b"user", b"secret")):
            with suppress(OSError):
                trio.run(_hear_proxy, speak, way, data)


async def _hear_proxy(speak: Any, way: proxies.Proxy, data: bytes) -> None:
    near, far = socket.socketpair()
    with far:
        far.sendall(data[:16_384])
        far.shutdown(socket.SHUT_WR)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(near)) as stream:
            await speak(stream, way, "lab", 18860)


@target
def tls(data: bytes) -> None:
    """A TLS handshake, at either side."""
    for name in (None, "relay"):
        with suppress(HandshakeFailed):
            trio.run(_shake_hands, name, data)


async def _shake_hands(name: str | None, data: bytes) -> None:
    near, far = memory_stream_pair()
    for piece in pieces(data):
        await far.send_all(piece)
    await far.send_eof()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if name else ssl.PROTOCOL_TLS_SERVER)
    await TlsStream(near, context, server_hostname=name).shake_hands()


@target
def board(data: bytes) -> None:
    """What a board with the agent says, while calls wait for its answers."""
    front = Conversation()
    front.lend(print)
    for _ in range(5):
        front.call([Step(Primitive.SAME, (1,))])
    for piece in pieces(data):
        front.receive_data(piece)
        front.facts()
    front.data_to_send()


@target
def board_values(data: bytes) -> None:
    """The values of a board."""
    with suppress(ProtocolError):
        Decoder(data, Ref, {1: "ours"}.__getitem__).values()


@target
def urls(data: bytes) -> None:
    """Whatever follows the name of a transport in a URL."""
    rest = data.decode(errors="surrogateescape")
    for scheme in SCHEMES:
        url = f"{scheme}:{rest}"
        transport = find_transport(url)
        with suppress(ConfigError):  # a file that it names is not here
            problem = transport.check(url)
            assert problem is None or problem.strip()
        assert transport.is_private(url) in (True, False)
        assert transport.is_guarded(url) in (True, False)


SCHEMES = sorted({entry.name for entry in entry_points()})


@target
def configuration(data: bytes) -> None:
    """A configuration file."""
    with suppress(ConfigError):
        Config.parse(data.decode(errors="replace"))


def seeds() -> list[bytes]:
    """Good bytes to begin with: those of the vectors, as one record each where they are short enough."""
    found = []
    for file in sorted(VECTORS.glob("*.json")):
        for row in _rows(json.loads(file.read_text())):
            data = bytes.fromhex(row)
            found.append(data)
            if len(data) < 256:
                found.append(bytes([len(data)]) + data)
                found.append(bytes([max(0, len(data) - 4)]) + data[4:])
    return found


def _rows(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "hex" and isinstance(value, str):
                yield value
            else:
                yield from _rows(value)
    elif isinstance(document, list):
        for value in document:
            yield from _rows(value)
