"""Frame boundaries on a byte stream: frames out of what arrives, and into as few buffers as one write takes."""

from __future__ import annotations

from collections.abc import Sequence

from rpyc_gateway.proto.frames import HEADER, HELLO_FRAME, MAGIC, Frame, FrameType

LARGE = 4096
"""A payload as long as this goes out as it is; a shorter one is copied next to its neighbours: that is cheaper than a buffer of its own."""

_unpack = HEADER.unpack_from


def gather(pieces: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """The same bytes in few buffers: what is short is joined, what is long is not copied."""
    if len(pieces) < 2:
        return list(pieces)
    buffers: list[bytes | memoryview] = []
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

    Frames that came before an error are still given out, so that fragmentation never changes what is seen. After an
    error nothing more is read: `error` says what is wrong, `stranger` holds the first bytes of a peer that does not
    begin with HELLO (or, towards a dialler, with ERROR).
    """

    __slots__ = ("_dialler", "_first", "_limit", "_need", "_now_limit", "_rest", "error", "stranger")

    def __init__(self, limit: int, *, dialler: bool) -> None:
        self.error = ""
        self.stranger = b""
        self._limit = limit
        self._now_limit = HELLO_FRAME
        self._dialler = dialler
        self._first = True
        self._rest = bytearray()
        self._need = HEADER.size

    def receive(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, in order."""
        frames: list[Frame] = []
        if self.error:
            return frames
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return frames
            data = bytes(self._rest)
            self._rest.clear()
        offset = 0
        size = len(data)
        self._need = HEADER.size
        while size - offset >= 8:
            kind, flags, length, label = _unpack(data, offset)
            if self._first and not self._begins(kind, label, data):
                return frames
            if length > self._now_limit:
                self.error = f"a frame of {length} bytes exceeds the limit of {self._now_limit}"
                return frames
            end = offset + 8 + length
            if end > size:
                self._need = 8 + length
                break
            frames.append((kind, flags, label, data[offset + 8 : end]))
            offset = end
            if self._first:
                self._first = False
                self._now_limit = self._limit
        if offset < size:
            self._rest += memoryview(data)[offset:]
        return frames

    def _begins(self, kind: int, label: int, data: bytes) -> bool:
        if kind == FrameType.HELLO and label == MAGIC:
            return True
        if kind == FrameType.ERROR and label == 0 and self._dialler:
            return True
        self.stranger = data
        self.error = "the first bytes are not a HELLO"
        return False
