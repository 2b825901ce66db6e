"""Long bodies in chunks on a session's `bulk` circuit (docs/protocol.md, section 7)."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO

from rpyc_gateway.errors import ProtocolError
from rpyc_gateway.proto.frames import FULL_FRAME
from rpyc_gateway.proto.memory import FRESH, fresh_memory

__all__ = ["CHUNK", "Body", "BulkReceiver", "BulkSender"]

CHUNK = FULL_FRAME - 8
"""Bytes of one chunk, so that it is one frame on a link, with its header: bodies take turns at this grain."""

LONGEST = 65536
"""What a chunk of the peer may have."""

SHARE = 16
"""A long body has memory for all of it when this part of it is here: nobody can claim more than so many times what was sent."""

_HEADER = struct.Struct(">II")
Buffer = bytes | memoryview


class BulkSender:
    """Numbers outgoing bodies and cuts them into chunks, one body after the other's chunk."""

    __slots__ = ("_next", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[int, memoryview]] = deque()
        self._next = 1

    def announce(self, bodies: Sequence[Buffer]) -> tuple[int, ...]:
        """What a message says of the bodies that will be added next: number, size, number, size ..."""
        return tuple(part for number, body in enumerate(bodies, self._next) for part in (number, len(body)))

    def add(self, bodies: Sequence[Buffer]) -> None:
        """Queue bodies (each at least one byte). The buffers must not change until they are sent."""
        for body in bodies:
            self.waiting.append((self._next, memoryview(body).cast("B")))
            self._next += 1

    def data_to_send(self) -> list[Buffer]:
        """The next chunk as [header, bytes], or [] if nothing waits. The bytes are not copied."""
        if not self.waiting:
            return []
        number, rest = self.waiting.popleft()
        piece, rest = rest[:CHUNK], rest[CHUNK:]
        if rest:
            self.waiting.append((number, rest))
        return [_HEADER.pack(number, len(piece)), piece]

    def clear(self) -> None:
        """Drop what waits: the session is over."""
        self.waiting.clear()


class Body:
    """A body that is coming in. `data` is None until it is complete."""

    __slots__ = ("_growing", "_left", "_memory", "_size", "aborted", "data")

    def __init__(self, size: int) -> None:
        self._memory = BytesIO()  # its value is its memory, not a copy
        self._growing = size >= FRESH  # it may be had as a whole before it is needed
        self._size = self._left = size
        self.data: bytes | None = None
        self.aborted = False

    def receive(self, piece: Buffer) -> None:
        """Take the next bytes; they are copied. Raises ProtocolError beyond the announced size."""
        left = self._left - len(piece)
        if left < 0:
            raise ProtocolError("a body is longer than its message said")
        if self._growing and self._size - left >= self._size // SHARE:
            self._reserve()
        self._left = left
        self._memory.write(piece)
        if not left:
            self.data = self._memory.getvalue()
            self._memory = BytesIO()

    def _reserve(self) -> None:
        """Some of it is here: the size is more than a claim, and memory for all of it costs nothing before it is written."""
        self._growing = False
        with suppress(MemoryError):  # then it grows on
            memory = fresh_memory(self._size)
            memory.write(self._memory.getbuffer())
            self._memory = memory

    @property
    def done(self) -> bool:
        """Whether nothing more will come for it."""
        return self.data is not None or self.aborted


class BulkReceiver:
    """Puts chunks back together. Bytes for a body that no message has named yet are left unconsumed, so that credit stops the sender."""

    __slots__ = ("_bodies", "_current", "_held", "_missing", "_number", "_stuck", "ended")

    def __init__(self) -> None:
        self._bodies: dict[int, Body] = {}
        self._held = bytearray()  # what is not consumed: half a header, or chunks that wait for their message
        self._stuck = False  # `_held` begins with the header of a body that nobody has named
        self._current: Body | None = None
        self._missing = 0  # bytes of the current chunk that are still to come
        self._number = 0
        self.ended = False  # a body has ended since somebody looked

    def expect(self, number: int, size: int) -> Body:
        """A message has named a body. Raises ProtocolError if it was named before or is empty."""
        if number in self._bodies or size < 1:
            raise ProtocolError(f"body {number} of {size} bytes cannot be announced")
        body = self._bodies[number] = Body(size)
        if self._stuck and number == self._number:
            self._stuck = False
        return body

    def receive_data(self, data: Buffer) -> int:
        """Take bytes of the circuit; returns how many were consumed (of these and of earlier ones), for the credit. Raises ProtocolError."""
        held = self._held
        if self._stuck:
            held += data
            return 0
        if not held:
            return self._receive(data)
        if len(held) < _HEADER.size:  # half a header: as much as completes it, not all that follows
            before = len(held)
            needed = _HEADER.size - before
            held += data[:needed]
            if len(held) < _HEADER.size or not self._open(held, 0):
                held += data[needed:]
                return 0
            held.clear()
            return _HEADER.size + self._receive(data[needed:])
        held += data
        waited, self._held = bytes(held), bytearray()
        return self._receive(waited)

    def _receive(self, data: Buffer) -> int:
        """Take what can be taken, and hold the rest; says how much was taken."""
        view = memoryview(data)
        size = len(data)
        position = 0
        while position < size:
            if self._missing:
                assert self._current is not None
                piece = view[position : position + self._missing]
                self._current.receive(piece)
                self._missing -= len(piece)
                position += len(piece)
                if self._current.data is not None:
                    self._end()
            elif size - position >= _HEADER.size and self._open(view, position):
                position += _HEADER.size
            else:
                self._held += view[position:]
                break
        return position

    def _open(self, data: memoryview | bytearray, position: int) -> bool:
        """A chunk begins; False, and everything is stuck, if nobody has named its body."""
        number, length = _HEADER.unpack_from(data, position)
        if length > LONGEST:
            raise ProtocolError(f"chunk of {length} bytes exceeds limit of {LONGEST}")
        self._number = number
        body = self._bodies.get(number)
        if body is None:
            self._stuck = True
            return False
        self._current, self._missing = body, length
        if not length:
            body.aborted = True
            self._end()
        return True

    def _end(self) -> None:
        del self._bodies[self._number]
        self.ended = True

    @property
    def held(self) -> int:
        """Bytes that were not consumed yet."""
        return len(self._held)
