"""Session messages <-> bytes (docs/protocol.md, sections 6 to 9)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Annotated

import msgspec

from rpyc_gateway.errors import EncodeError, ProtocolError
from rpyc_gateway.proto.frames import Failure

__all__ = [
    "ANSWER",
    "CALL",
    "MESSAGE_LIMIT",
    "RAISE",
    "Answer",
    "Bye",
    "Call",
    "Cancel",
    "ClassInfo",
    "ClassMessage",
    "End",
    "Finish",
    "Hello",
    "Message",
    "Raise",
    "Ref",
    "RefKind",
    "Release",
    "SessionInfo",
    "SessionLimits",
    "Splitter",
    "Verb",
    "WantBulk",
    "encode",
]

MESSAGE_LIMIT = 2**20
"""Bytes of one message on `call`; only references in great number (8 bytes each) come near it, long values leave for bulk."""

U8 = Annotated[int, msgspec.Meta(ge=0, lt=2**8)]
U16 = Annotated[int, msgspec.Meta(ge=0, lt=2**16)]
U32 = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
U64 = Annotated[int, msgspec.Meta(ge=0)]
Vat = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Verb(IntEnum):
    """What a step of a program does (docs/protocol.md, section 9)."""

    GET = 0
    SET = 1
    DEL = 2
    CALL = 3
    OP = 4
    TAKE = 5
    VALUE = 6
    COPY = 7
    ITER = 8
    ENTER = 9


class RefKind(IntEnum):
    """What the number of a reference means."""

    EXPORT = 0
    HOME = 1
    PROMISE = 2


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds a side announces: more than this costs the session."""

    questions: int = 1024
    depth: int = 64
    body: int = 2**30
    exports: int = 1_000_000
    classes: int = 65536


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the HELLO of a session says."""

    version: tuple[U16, U16] = (1, 0)
    features: tuple[str, ...] = ()
    vat: Vat
    name: str = ""
    limits: SessionLimits = SessionLimits()
    software: str = ""
    methods: tuple[str, ...] = ()


class ClassInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, cache_hash=True):
    """The description of a class, or of an object that is a class itself. Equal descriptions are one class."""

    module: str
    name: str
    mro: tuple[tuple[str, str], ...] = ()
    special: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    flags: int = 0
    ids: tuple[U64, ...] = ()
    closed: tuple[str, ...] = ()
    version: int = 0

    OWN_GETATTR = 1
    IS_CLASS = 2
    IDENTITY = 4
    UNHASHABLE = 8
    EXCEPTION = 16
    BUFFER = 32
    TICKET = 64
    QUIET = 128

    def derives_from(self, other: ClassInfo) -> bool:
        """Whether this is the class `other`, or inherits from it. Two classes of one name differ by their numbers in their vat."""
        number = other.ids[0] if other.ids else 0
        ids = self.ids or (0,) * len(self.mro)
        return any(
            number == each and name == (other.module, other.name) for name, each in zip(self.mro, ids, strict=False)
        )


class Ref(msgspec.Struct, frozen=True, array_like=True):
    """A reference in a message."""

    kind: RefKind
    number: U64
    cls: U32 = 0
    vat: Vat | None = None
    origin: U64 | None = None


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """The first message of each side: who speaks, and its bounds."""

    info: SessionInfo


class Call(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A question: run these steps on the receiver's object `number`."""

    question: U32
    number: U64
    steps: bytes | None
    refs: tuple[Ref, ...] = ()
    bulk: tuple[U64, ...] = ()
    cause: U64 = 0
    affinity: U32 = 0
    deadline: U32 = 0
    flags: U8 = 0


class Answer(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A question has this value."""

    question: U32
    value: bytes | None
    refs: tuple[Ref, ...] = ()
    bulk: tuple[U64, ...] = ()


class Raise(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """A question came to this exception, raised by `step`."""

    question: U32
    exception: bytes | None
    refs: tuple[Ref, ...] = ()
    bulk: tuple[U64, ...] = ()
    step: U16 = 0


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The asker has lost interest in its question."""

    question: U32


class Release(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """References that are given back: number, count, number, count ..."""

    pairs: tuple[U64, ...]


class ClassMessage(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Describes a class before the first reference that uses it."""

    number: U32
    info: ClassInfo


class End(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """The thread that called with this affinity is gone."""

    affinity: U32


class WantBulk(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """The acceptor needs the bulk circuit, which the opener opens."""


class Finish(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """The kept result of a question is not needed any more (later)."""

    question: U32


class Bye(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """No call will come any more, and why."""

    failure: Failure


Message = Hello | Call | Answer | Raise | Cancel | Release | ClassMessage | End | WantBulk | Finish | Bye

CALL, ANSWER, RAISE = 1, 2, 3
"""What the arrays of these messages begin with."""

pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(Message).decode
_length = struct.Struct(">I")
pack_length = _length.pack
unpack_length = _length.unpack_from
"""What `encode` and Splitter are made of: the short ways put a small message together themselves."""

UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What `unpack` raises."""


def encode(message: Message | tuple[object, ...]) -> bytes:
    """A message, or the array that it is, with its length in front. Raises EncodeError if it cannot be written, or is longer than MESSAGE_LIMIT."""
    try:
        body = pack(message)
    except (UnicodeEncodeError, OverflowError) as error:
        raise EncodeError(f"a session message cannot be written: {error}") from error
    if len(body) > MESSAGE_LIMIT:
        raise EncodeError(
            f"message of {len(body)} bytes exceeds limit of {MESSAGE_LIMIT}: it holds too many references"
        )
    return pack_length(len(body)) + body


class Splitter:
    """Cuts the bytes of a `call` circuit into messages."""

    __slots__ = ("_wanted", "begun")

    def __init__(self) -> None:
        self.begun = bytearray()  # what is here of a message that is not complete
        self._wanted = 4  # bytes without which there is nothing to do

    def receive_data(self, data: bytes) -> list[Message]:
        """The messages that are complete now. Raises ProtocolError for one that is too long or cannot be read."""
        if self.begun:
            self.begun += data
            if len(self.begun) < self._wanted:
                return []
            data = bytes(self.begun)
            self.begun.clear()
        messages: list[Message] = []
        position = 0
        size = len(data)
        self._wanted = 4
        try:
            while size - position >= 4:
                length: int = unpack_length(data, position)[0]
                if length > MESSAGE_LIMIT:
                    raise ProtocolError(f"message of {length} bytes exceeds limit of {MESSAGE_LIMIT}")
                end = position + 4 + length
                if end > size:
                    self._wanted = 4 + length
                    break
                messages.append(unpack(data[position + 4 : end]))
                position = end
        except UNREADABLE as error:
            raise ProtocolError(f"a session message cannot be read: {error}") from error
        if position < size:
            self.begun += data[position:]
        return messages

    @property
    def pending(self) -> int:
        """Bytes of a message that is not complete."""
        return len(self.begun)
