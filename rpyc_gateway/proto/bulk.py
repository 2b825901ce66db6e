"""Long bodies in chunks on a session's `bulk` circuit (docs/protocol.md, section 7)."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence

from rpyc_gateway.errors import ProtocolError

__all__ = ["CHUNK", "Body", "BulkReceiver", "BulkSender"]

CHUNK = 65536
"""Bytes of one chunk: bodies take turns at this grain."""

_HEADER = struct.Struct(">II")
Buffer = bytes | memoryview


class BulkSender:
    """Numbers outgoing bodies and cuts them into chunks, one body after the other's chunk."""

    __slots__ = ("_next", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, memoryview]] = deque()
        self._next = 1

    def announce(self, bodies: Sequence[Buffer]) -> tuple[int, ...]:
        """What a message says of the bodies that will be added next: number, size, number, size ..."""
        return tuple(part for number, body in enumerate(bodies, self._next) for part in (number, len(body)))

    def add(self, bodies: Sequence[Buffer]) -> None:
        """Queue bodies (each at least one byte). The buffers must not change until they are sent."""
        for body in bodies:
            self._waiting.append((self._next, memoryview(body).cast("B")))
            self._next += 1

    def data_to_send(self) -> list[Buffer]:
        """The next chunk as [header, bytes], or [] if nothing waits. The bytes are not copied."""
        if not self._waiting:
            return []
        number, rest = self._waiting.popleft()
        piece, rest = rest[:CHUNK], rest[CHUNK:]
        if rest:
            self._waiting.append((number, rest))
        return [_HEADER.pack(number, len(piece)), piece]

    def clear(self) -> None:
        """Drop what waits: the session is over."""
        self._waiting.clear()

    def __bool__(self) -> bool:
        return bool(self._waiting)


class Body:
    """A body that is coming in. `data` is None until it is complete."""

    __slots__ = ("_left", "_parts", "aborted", "data")

    def __init__(self, size: int) -> None:
        self._parts: list[bytes] = []
        self._left = size
        self.data: bytes | None = None
        self.aborted = False

    def receive(self, piece: bytes) -> None:
        """Take the next bytes. Raises ProtocolError beyond the announced size."""
        self._left -= len(piece)
        if self._left < 0:
            raise ProtocolError("a body is longer than its message said")
        self._parts.append(piece)
        if self._left == 0:
            self.data = b"".join(self._parts)
            self._parts.clear()

    @property
    def done(self) -> bool:
        """Whether nothing more will come for it."""
        return self.data is not None or self.aborted


class BulkReceiver:
    """Puts chunks back together. Bytes for a body that no message has named yet are left unconsumed, so that credit stops the sender."""

    __slots__ = ("_bodies", "_buffer", "_current", "_missing", "_number")

    def __init__(self) -> None:
        self._bodies: dict[int, Body] = {}
        self._buffer = bytearray()
        self._current: Body | None = None
        self._missing = 0  # bytes of the current chunk that are still to come
        self._number = 0

    def expect(self, number: int, size: int) -> Body:
        """A message has named a body. Raises ProtocolError if it was named before or is empty."""
        if number in self._bodies or size < 1:
            raise ProtocolError(f"body {number} of {size} bytes cannot be announced")
        body = self._bodies[number] = Body(size)
        return body

    def receive_data(self, data: bytes) -> int:
        """Take bytes of the circuit; returns how many were consumed (of these and of earlier ones), for the credit. Raises ProtocolError."""
        held = len(self._buffer)
        if held:
            self._buffer += data
            data = bytes(self._buffer)
            self._buffer.clear()
        position = 0
        while position < len(data):
            step = self._take(data, position)
            if step == 0:
                self._buffer += data[position:]
                break
            position += step
        return position

    def _take(self, data: bytes, position: int) -> int:
        if self._missing:
            assert self._current is not None
            piece = data[position : position + self._missing]
            self._missing -= len(piece)
            self._give(self._current, piece)
            return len(piece)
        if len(data) - position < _HEADER.size:
            return 0
        number, length = _HEADER.unpack_from(data, position)
        if length > CHUNK:
            raise ProtocolError(f"chunk of {length} bytes exceeds limit of {CHUNK}")
        body = self._bodies.get(number)
        if body is None:
            return 0
        self._current, self._missing, self._number = body, length, number
        if length == 0:
            body.aborted = True
            del self._bodies[number]
        return _HEADER.size

    def _give(self, body: Body, piece: bytes) -> None:
        body.receive(piece)
        if body.done:
            del self._bodies[self._number]

    @property
    def held(self) -> int:
        """Bytes that wait for the message that names their body."""
        return len(self._buffer)
