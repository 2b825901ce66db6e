"""Frame boundaries on a byte stream: frames out of what arrives, and into as few buffers as one write takes."""

from __future__ import annotations

from collections.abc import Sequence

from rpyc_gateway.proto.frames import DATA, HEADER, HELLO_FRAME, LARGE, MAGIC, Frame, FrameType

BEGUN = -1
"""Instead of a type: a frame of DATA whose rest is still to come. Its flags are the length of the whole, its payload is what is here of it."""

REST = -2
"""Instead of a type: what comes next of the frame that was BEGUN."""

PINNED = 4
"""A view keeps at most so many times its own bytes from being freed."""

Buffer = bytes | memoryview

_unpack = HEADER.unpack_from


def gather(pieces: Sequence[Buffer]) -> list[Buffer]:
    """The same bytes in few buffers: what is short is joined, what is long is not copied."""
    buffers: list[Buffer] = []
    start = 0
    for at, piece in enumerate(pieces):
        if len(piece) >= LARGE:
            if at > start:
                buffers.append(b"".join(pieces[start:at]))
            buffers.append(piece)
            start = at + 1
    if start < len(pieces):
        buffers.append(b"".join(pieces[start:]))
    return buffers


class Framer:
    """Cuts what arrives into frames.

    A frame of DATA that is long is given out in pieces as it comes, at least LARGE bytes each time (or the end of it);
    every other frame is given out whole. Frames that came before an error are still given out, so that fragmentation
    never changes what is seen. After an error nothing more is read: `error` says what is wrong, `stranger` holds the
    first bytes of a peer that does not begin with HELLO (or, towards a dialler, with ERROR).
    """

    __slots__ = ("_agreed", "_dialler", "_flags", "_kind", "_label", "_limit", "awaited", "begun", "error", "stranger")

    def __init__(self, limit: int, *, dialler: bool) -> None:
        self.error = ""
        self.stranger = b""
        self._agreed = limit
        self._limit = -1  # before the first frame: every length is looked at twice
        self._dialler = dialler
        self.begun = bytearray()  # half a header, or what is here of a payload
        self.awaited = 0  # bytes of the frame below that have not come; 0 between frames
        self._kind = 0
        self._flags = 0
        self._label = 0

    @property
    def missing(self) -> int:
        """How many bytes of a long frame that has begun have not come."""
        return self.awaited if self._kind == REST else 0

    def receive(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes or goes on with, in order. Long payloads are views of it."""
        arrived: list[Frame] = []
        if self.error:
            return arrived
        offset = self._resume(data, arrived) if self.awaited or self.begun else 0
        size = len(data)
        while size - offset >= 8:
            kind, flags, length, label = _unpack(data, offset)
            if length > self._limit and not self._admits(kind, length, label, data[offset:]):
                return arrived
            start = offset + 8
            offset = start + length
            if offset > size:
                self._begin(kind, flags, length, label, arrived)
                self._go_on(data, start, arrived)
                return arrived
            payload = data[start:offset] if length < LARGE or kind != DATA else _cut(data, start, offset)
            arrived.append((kind, flags, label, payload))
        if offset < size:
            self.begun += data[offset:]
        return arrived

    def _resume(self, data: bytes, arrived: list[Frame]) -> int:
        """Go on with what has begun; says how far that went."""
        offset = 0
        if not self.awaited:
            offset = 8 - len(self.begun)
            self.begun += data[:offset]
            if len(self.begun) < 8:
                return len(data)
            header = bytes(self.begun)
            kind, flags, length, label = _unpack(header)
            if length > self._limit and not self._admits(kind, length, label, header + data[offset:]):
                return len(data)
            self.begun.clear()
            if not length:
                arrived.append((kind, flags, label, b""))
                return offset
            self._begin(kind, flags, length, label, arrived)
        return self._go_on(data, offset, arrived)

    def _begin(self, kind: int, flags: int, length: int, label: int, arrived: list[Frame]) -> None:
        """Not all of a frame is here."""
        self._kind, self._flags, self._label, self.awaited = kind, flags, label, length
        if kind == DATA and length >= LARGE:
            self._kind = REST
            arrived.append((BEGUN, length, label, b""))

    def _go_on(self, data: bytes, start: int, arrived: list[Frame]) -> int:
        """Take what there is of the payload that has begun; says where that ends."""
        there = min(self.awaited, len(data) - start)
        end = start + there
        held = self.begun
        self.awaited -= there
        in_pieces = self._kind == REST
        if self.awaited and not (in_pieces and len(held) + there >= LARGE):
            held += data[start:end]
            return end
        if not in_pieces:
            held += data[start:end]
            arrived.append((self._kind, self._flags, self._label, bytes(held)))
            held.clear()
            return end
        if held:
            arrived.append((REST, 0, self._label, bytes(held)))
            held.clear()
        if there:
            arrived.append((REST, 0, self._label, _cut(data, start, end)))
        return end

    def _admits(self, kind: int, length: int, label: int, data: bytes) -> bool:
        """Whether a frame with this header may come. `data` begins with it."""
        limit = self._limit
        if limit < 0:
            if not (kind == FrameType.HELLO and label == MAGIC) and not (
                kind == FrameType.ERROR and label == 0 and self._dialler
            ):
                self.stranger = data
                self.error = "the first bytes are not a HELLO"
                return False
            limit = HELLO_FRAME
            self._limit = self._agreed
        if length > limit:
            self.error = f"a frame of {length} bytes exceeds the limit of {limit}"
            return False
        return True


def _cut(data: bytes, start: int, end: int) -> Buffer:
    """Part of what arrived: a view, unless that would keep much more in memory than it shows."""
    size = end - start
    if size < LARGE or size * PINNED < len(data):
        return data[start:end]
    return data if size == len(data) else memoryview(data)[start:end]
