"""Link frames and their payloads <-> bytes (docs/protocol.md, sections 1 to 5)."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from struct import Struct as Layout
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from rpyc_gateway.errors import GatewayError, LimitExceeded, ProtocolError, error_for

HEADER = Layout(">BBHI")
_OFFSET_FRAME = Layout(">BBHIQ")
MAGIC = 0x52504757  # "RPGW", the label of HELLO
LARGEST_FRAME = 65535  # what the length field can say
FULL_FRAME = 65528  # the most of data that one frame brings: 64 KiB with its header, like a read
LARGE = 4096  # fewer bytes are copied: that is cheaper than a buffer of their own, and a view keeps all that arrived with it
LEAST_FRAME = 256  # what every node must be able to take
LEAST_EARLY = 256  # bytes that every node takes on a dialler's first stream before it has answered anything
HELLO_FRAME = 4096  # what may be sent before HELLO is through
LONGEST_TEXT = 1000
LONGEST_PATH = 16
VERSION = (1, 0)

U8 = Annotated[int, Meta(ge=0, le=255)]
U16 = Annotated[int, Meta(ge=0, le=65535)]
Natural = Annotated[int, Meta(ge=0)]


class FrameType(IntEnum):
    """What a frame says (docs/protocol.md, section 1)."""

    HELLO = 1
    OPEN = 2
    OPENED = 3
    REFUSED = 4
    DATA = 5
    CREDIT = 6
    FIN = 7
    RESET = 8
    STOP = 9
    PING = 10
    PONG = 11
    GOAWAY = 12
    ROUTE = 13
    ERROR = 14
    RESUME = 15


DATA = int(FrameType.DATA)
"""The type of most frames, for whom an IntEnum is too slow."""


class CircuitClass(IntEnum):
    """Who goes first on a link; fixed when a stream is opened."""

    CONTROL = 0
    CALL = 1
    NORMAL = 2
    BULK = 3


# One frame as it was read: type, flags, label, payload. Nobody has looked at the payload yet, or whether the type exists.
# Only the payload of DATA may be a view. A long frame of DATA may come in pieces: see framing.py.
Frame: TypeAlias = tuple[int, int, int, Any]


class Limits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the sender of a HELLO is ready to take."""

    frame: Annotated[int, Meta(ge=LEAST_FRAME)] = LARGEST_FRAME
    streams: Annotated[int, Meta(ge=1)] = 4096
    early_stream: Natural = 4096
    early_link: Natural = 262144
    routes: Natural = 4096


class Hello(Struct, frozen=True, kw_only=True):
    """Who a node is. Making one with an impossible name or vat raises ValueError."""

    name: str
    vat: bytes
    epoch: Natural = 0
    version: tuple[U16, U16] = VERSION
    features: tuple[str, ...] = ()
    announce: bool = True
    routes: bool = True
    limits: Limits = field(default_factory=Limits)
    software: str = ""

    def __post_init__(self) -> None:
        _check_names((self.name,))
        if len(self.vat) != 16:
            raise ValueError(f"a vat has 16 bytes, not {len(self.vat)}")


class Failure(Struct, frozen=True):
    """Why a stream or link ended, as it travels."""

    code: U16
    text: str = ""
    hop: str = ""

    def __str__(self) -> str:
        return self.text or f"code {int(self.code)}"

    def error(self, here: str = "") -> GatewayError:
        """The exception for this failure, as the node `here` reads it."""
        return error_for(self.code, self.text, self.hop, here=here)


class GoAway(Struct, frozen=True):
    """A failure with the seconds that are left."""

    code: U16
    text: str = ""
    hop: str = ""
    grace: float = 0.0


class Stamp(Struct, frozen=True, array_like=True):
    """What the node `by` knows of the neighbour from whom an OPEN came."""

    by: str
    peer: str
    identity: str


class Open(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The request for a stream. Names that cannot exist raise ValueError. `credit` is filled by the mux."""

    target: str = ""
    service: str = ""
    circuit: str = "call"
    token: bytes = b""
    via: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    hops: U8 = 16
    origin: tuple[Stamp, ...] = ()
    credit: Natural = 0
    extra: dict[str, object] = {}

    def __post_init__(self) -> None:
        _check_names(self.via)
        _check_names(self.path)
        if self.target:
            _check_names((self.target,))


class Opened(Struct, frozen=True, omit_defaults=True):
    """The answer yes."""

    credit: Natural = 0
    path: tuple[str, ...] = ()


class Route(Struct, frozen=True, array_like=True):
    """A way to the last node of `path`."""

    path: tuple[str, ...]
    cost: Natural
    epoch: Natural


class Routes(Struct, frozen=True, omit_defaults=True):
    """What has changed in the ways the sender offers."""

    announce: tuple[Route, ...] = ()
    withdraw: tuple[str, ...] = ()


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def valid_name(name: str) -> bool:
    """Whether a node may be called this."""
    return _NAME.fullmatch(name) is not None


def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if not valid_name(name):
            raise ValueError(
                f"{name[:80]!r} is not a node name (1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first)"
            )


# -- to bytes


_encode = msgspec.msgpack.Encoder().encode
_OFFSET = Layout(">Q")


def encode_frame(kind: int, label: int, payload: bytes = b"", *, flags: int = 0) -> bytes:
    """A whole frame; the payload must fit into what the peer takes."""
    return HEADER.pack(kind, flags, len(payload), label) + payload


def encode_hello(hello: Hello) -> bytes:
    """A whole HELLO."""
    return encode_frame(FrameType.HELLO, MAGIC, _encode(hello))


def encode_offset(kind: int, label: int, offset: int) -> bytes:
    """CREDIT or FIN."""
    return _OFFSET_FRAME.pack(kind, 0, 8, label, offset)


def encode_map(kind: FrameType, label: int, value: Struct, limit: int, *, flags: int = 0) -> bytes:
    """OPEN, OPENED or ROUTE. Raises LimitExceeded if the peer takes no frame of that length."""
    payload = _encode(value)
    if len(payload) > limit:
        raise LimitExceeded(f"{kind.name} would need a frame of {len(payload)} bytes; the peer takes {limit}")
    return encode_frame(kind, label, payload, flags=flags)


def encode_failure(kind: int, label: int, failure: Failure | GoAway, limit: int) -> bytes:
    """REFUSED, RESET, STOP, ERROR or GOAWAY, its text shortened to what the peer takes."""
    text = _sendable(failure.text[:LONGEST_TEXT])
    payload = _encode(msgspec.structs.replace(failure, text=text, hop=_sendable(failure.hop[:64])))
    if len(payload) > limit:
        kept = max(len(text.encode()) - (len(payload) - limit), 0)
        text = text.encode()[:kept].decode(errors="ignore")
        payload = _encode(msgspec.structs.replace(failure, text=text, hop=_sendable(failure.hop[:64])))
    return encode_frame(kind, label, payload)


def _sendable(text: str) -> str:
    """The text of an error may come from anywhere, lone surrogates and all."""
    return text.encode(errors="replace").decode()


# -- from bytes


T = TypeVar("T")


def _reader(kind: type[T], name: str) -> Callable[[bytes], T]:
    decode = msgspec.msgpack.Decoder(kind).decode

    def read(payload: bytes) -> T:
        try:
            return decode(payload)
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as exc:
            raise ProtocolError(f"{name} cannot be read: {exc}"[:200]) from exc

    return read


class _Versioned(Struct):
    version: tuple[U16, U16] = VERSION


decode_version = _reader(_Versioned, "HELLO")
decode_hello = _reader(Hello, "HELLO")
decode_open = _reader(Open, "OPEN")
decode_opened = _reader(Opened, "OPENED")
decode_failure = _reader(Failure, "a failure")
decode_goaway = _reader(GoAway, "GOAWAY")
decode_routes = _reader(Routes, "ROUTE")


def decode_offset(payload: bytes) -> int:
    """The number in CREDIT or FIN."""
    if len(payload) != 8:
        raise ProtocolError(f"an offset has 8 bytes, not {len(payload)}")
    offset: int = _OFFSET.unpack(payload)[0]
    return offset


def decode_token(payload: bytes) -> bytes:
    """The bytes of PING or PONG."""
    if len(payload) != 8:
        raise ProtocolError(f"PING and PONG have 8 bytes, not {len(payload)}")
    return payload
