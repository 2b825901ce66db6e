"""Binary messages of an open WebSocket, with as few copies as Python allows. Control frames are wsproto's.

wsproto copies a payload five times on its way out and four times on its way in. Here it is once each way at most, and twice where a mask
is laid on it or taken from it (client to server); what comes is passed on as it comes, without waiting for the end of its message.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Generator
from typing import TypeAlias

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Pong
from wsproto.frame_protocol import CloseReason, Opcode, ParseFailed, XorMaskerSimple

__all__ = ["MAX_MESSAGE", "Messages"]

Buffer: TypeAlias = bytes | bytearray | memoryview

MAX_MESSAGE = 1 << 20  # bytes of one that comes in; ours have a quarter of that

FIN, RESERVED, OPCODE = 0x80, 0x70, 0x0F  # in the first byte of a frame
MASKED, SIZE = 0x80, 0x7F  # in the second
TWO_BYTES, EIGHT_BYTES = 126, 127  # instead of a size: so many follow, with the size
MAX_CONTROL = 125
OPCODES = set(map(int, Opcode))
GOODBYES = (1000, 1001, 1005)  # normal closure; going away; none of those that say why


class Messages(Connection):
    """What trio-websocket takes for its wsproto connection. `rest` is what came behind the handshake.

    What the peer does wrong ends the connection, with a close frame that says so; the `fault` says it here.
    """

    def __init__(self, kind: ConnectionType, rest: bytes = b"") -> None:
        super().__init__(kind)
        self.fault = ""
        self._data = rest
        self._at = 0  # where in it reading goes on
        self._left = 0  # bytes to come of the payload of a binary frame
        self._mask: Mask | None = None
        self._size = 0  # bytes of a message that goes on in the next frame
        self._unfinished = False  # there is such a message

    @property
    def idle(self) -> bool:
        """Whether nothing has come yet."""
        return not self._data

    def send(self, event: Event) -> bytes:
        if type(event) is BytesMessage and self.state is ConnectionState.OPEN:
            return self.frame(event.data)
        if isinstance(event, Pong) and self.state is not ConnectionState.OPEN:
            return b""  # its ping crossed our close frame
        return super().send(event)

    def frame(self, data: Buffer) -> bytes:
        """A whole message."""
        size, masked = len(data), MASKED if self.client else 0
        if size < TWO_BYTES:
            header = struct.pack("!BB", FIN | Opcode.BINARY, masked | size)
        elif size < 1 << 16:
            header = struct.pack("!BBH", FIN | Opcode.BINARY, masked | TWO_BYTES, size)
        else:
            header = struct.pack("!BBQ", FIN | Opcode.BINARY, masked | EIGHT_BYTES, size)
        if not masked:
            return header + data
        key = os.urandom(4)
        return b"".join((header, key, Mask(key).lay(data)))

    def receive_data(self, data: bytes | None) -> None:
        if not data or self.state not in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            super().receive_data(data)
        elif self._at < len(self._data):
            self._data, self._at = self._data[self._at :] + data, 0
        else:
            self._data, self._at = data, 0

    def events(self) -> Generator[Event, None, None]:
        pieces: list[Buffer] = []
        try:
            while not self.fault:
                if self._left:
                    if self._at == len(self._data):
                        break
                    pieces.append(self._payload())
                    continue
                control = self._next_frame()
                if control is None:
                    break
                if control:
                    if pieces:
                        yield BytesMessage(b"".join(pieces))
                        pieces.clear()
                    yield from self._control_events(control)
        except ParseFailed as exc:
            if pieces:
                yield BytesMessage(b"".join(pieces))
            yield self._failed(exc.code, str(exc))
        else:
            if pieces:
                yield BytesMessage(b"".join(pieces))

    def is_goodbye(self, code: int) -> bool:
        """Whether an end with this code is one in order."""
        return not self.fault and code in GOODBYES

    def why(self, code: int, reason: str | None) -> str:
        """What an end with this code was, in words."""
        if self.fault:
            return f"the peer broke the protocol of WebSocket: {self.fault}"
        if code == CloseReason.ABNORMAL_CLOSURE:
            return "the connection broke off, without the goodbye of WebSocket"
        names = [known.name.lower().replace("_", " ") for known in CloseReason if known == code]
        said = f": {reason}" if reason else ""
        return f"the peer has closed the WebSocket ({', '.join([str(code), *names])}{said})"

    def _payload(self) -> Buffer:
        """What is there of the payload of the frame that is being read."""
        data, start = self._data, self._at
        end = self._at = min(start + self._left, len(data))
        self._left -= end - start
        piece = data if end - start == len(data) else memoryview(data)[start:end]
        return piece if self._mask is None else self._mask.lay(piece)

    def _next_frame(self) -> bytes | None:
        """Read the head of a frame: b"" if payload follows, the whole of a control frame, None if there is not enough yet.

        Raises ParseFailed.
        """
        data, start = self._data, self._at
        there = len(data) - start
        if there < 2:
            return None
        first, second = data[start], data[start + 1]
        size, masked, opcode = second & SIZE, bool(second & MASKED), first & OPCODE
        head = {TWO_BYTES: 4, EIGHT_BYTES: 10}.get(size, 2) + 4 * masked
        self._check(first, opcode, masked)
        if opcode >= Opcode.CLOSE:
            if size > MAX_CONTROL or not first & FIN:
                raise ParseFailed("a control frame that is long or in parts")
            if there < head + size:
                return None
            self._at = start + head + size
            return data[start : self._at]
        if there < head:
            return None
        if size > MAX_CONTROL:
            size = int.from_bytes(data[start + 2 : start + (4 if size == TWO_BYTES else 10)])
        self._size += size
        if self._size > MAX_MESSAGE:
            raise ParseFailed(f"a message has {MAX_MESSAGE} bytes at most here", CloseReason.MESSAGE_TOO_BIG)
        self._unfinished = not first & FIN
        if not self._unfinished:
            self._size = 0
        self._at = start + head
        self._left = size
        self._mask = Mask(data[self._at - 4 : self._at]) if masked else None
        return b""

    def _check(self, first: int, opcode: int, masked: bool) -> None:  # noqa: FBT001
        if first & RESERVED or opcode not in OPCODES:
            raise ParseFailed("a frame of an extension that nobody asked for")
        if masked is self.client:
            raise ParseFailed(
                f"a frame that is {'' if masked else 'not '}masked, from a {'server' if masked else 'client'}"
            )
        if opcode == Opcode.TEXT:
            raise ParseFailed("only binary messages are spoken here", CloseReason.UNSUPPORTED_DATA)
        if opcode < Opcode.CLOSE and self._unfinished is not (opcode == Opcode.CONTINUATION):
            raise ParseFailed("a message within a message, or the end of none")

    def _control_events(self, frame: bytes) -> Generator[Event, None, None]:
        self._proto.receive_bytes(frame)
        for event in super().events():
            if isinstance(event, CloseConnection) and self.state is ConnectionState.OPEN:
                yield self._failed(event.code, event.reason or "")  # wsproto's way to say that it could not read it
            else:
                yield event

    def _failed(self, code: int, reason: str) -> CloseConnection:
        """Whoever gets this answers the peer with the same: for that it has to look as if the peer had wanted to close."""
        self.fault = reason
        if self.state is ConnectionState.OPEN:
            self._state = ConnectionState.REMOTE_CLOSING
        return CloseConnection(code=code, reason=reason)


class Mask:
    """Four bytes, again and again, on what a client sends."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def lay(self, data: Buffer) -> Buffer:
        """Lay it on the next piece of a payload, or take it off: that is the same."""
        laid = lay_mask(data, self._key)
        turn = len(data) % 4
        self._key = self._key[turn:] + self._key[:turn]
        return laid


def lay_mask_slowly(data: Buffer, key: bytes) -> Buffer:
    """For a mask at its beginning. In Python."""
    return XorMaskerSimple(key).process(data)  # type: ignore[arg-type]  # any buffer will do


lay_mask: Callable[[Buffer, bytes], Buffer] = lay_mask_slowly
"""In C where the package `websockets` is installed: it takes a thirtieth of the time."""
try:
    from websockets.speedups import apply_mask

    lay_mask = apply_mask
except ImportError:
    pass
