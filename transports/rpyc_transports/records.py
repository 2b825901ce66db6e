"""TLS as bytes in and bytes out: `ssl` on two buffers, for trio's SSLStream, and beside it for threads that do not wait."""

from __future__ import annotations

import ssl
import threading
from typing import Any

from rpyc_gateway.transport import Buffer, Pipe

__all__ = ["AT_LEAST", "Bounds", "Records"]

HEADER = 5
TEXT = 16_384  # bytes of it in the longest record
RECORD = HEADER + TEXT + 256  # bytes of the longest there is
CHUNK = 65_536  # bytes that are encrypted at a time: what the wire does not take of them waits in memory

AT_LEAST = CHUNK + RECORD
"""Whoever polls after `receive_nowait` without having been told None has to ask for so many bytes: then nothing is kept back
that the descriptor would not tell of."""


class Records:
    """A context of `ssl` for one SSLStream, and the connection that it makes, which any thread may use.

    An object of `ssl` is not made for several threads at once, and they meet here: a thread may be reading while trio says goodbye.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._unsent: Buffer = b""  # what the wire has not taken of the last chunk
        self._failure: ssl.SSLError | None = None  # what `receive_nowait` met; it is told after what was right
        self.owed = 0  # bytes of text in that chunk: they were not taken yet, and will be offered again

    # -- for SSLStream

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **how: Any) -> Records:
        self._incoming, self._outgoing = incoming, outgoing
        self._tls = self._context.wrap_bio(incoming, outgoing, **how)
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)  # there is no connection yet
        return getattr(self._tls, name)

    def do_handshake(self) -> None:
        with self._lock:
            self._tls.do_handshake()

    def read(self, limit: int) -> bytes:
        with self._lock:
            return self._tls.read(limit)

    def write(self, data: Buffer) -> int:
        with self._lock:
            return self._tls.write(data)

    def unwrap(self) -> None:
        with self._lock:
            self._tls.unwrap()

    @property
    def ahead(self) -> bool:
        """Whether more was read than what has been asked for, so that the descriptor does not tell of it."""
        return self._incoming.pending > 0

    def rest_of_chunk(self) -> bytes:
        """What goes before everything else: the rest of what `send_nowait` has sent in part."""
        with self._lock:
            unsent, self._unsent, self.owed = bytes(self._unsent), b"", 0
            return unsent

    def take_unsent(self) -> bytes:
        """What `ssl` has to say and nobody has sent, at the end."""
        with self._lock:
            return self._outgoing.read()

    # -- without waiting

    def speak_on(self, below: Pipe) -> None:
        """Use the non-blocking side of what is below."""
        assert below.send_nowait is not None
        assert below.receive_nowait is not None
        self._send, self._receive = below.send_nowait, below.receive_nowait

    def send_nowait(self, *buffers: Buffer) -> int:
        """Send so much of these as the wire takes. What was not taken must be offered again, before anything else."""
        with self._lock:
            if not self._flush():
                return 0
            data = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
            taken, self.owed = self.owed, 0
            while taken < len(data):
                chunk = data[taken : taken + CHUNK]
                self._tls.write(chunk)
                self._unsent = self._outgoing.read()
                if not self._flush():
                    self.owed = len(chunk)
                    break
                taken += len(chunk)
            return taken

    def receive_nowait(self, limit: int) -> bytes | None:
        """Read up to so many bytes: b"" at the end, None if nothing is there. Raises OSError."""
        with self._lock:
            data = self._decrypt(limit)
            if data is None:
                raw = self._receive(limit - RECORD if limit >= AT_LEAST else RECORD)
                if raw is None:
                    return None
                if raw:
                    self._incoming.write(raw)
                else:
                    self._incoming.write_eof()
                data = self._decrypt(limit)
            return data

    def _flush(self) -> bool:
        """Send what is encrypted; whether all of it has gone."""
        if self._unsent:
            taken = self._send(self._unsent)
            self._unsent = memoryview(self._unsent)[taken:] if taken < len(self._unsent) else b""
        return not self._unsent

    def _decrypt(self, limit: int) -> bytes | None:
        """All that is there of up to so many bytes, b"" at the end of it all, None if nothing is there."""
        pieces: list[bytes] = []
        while limit > 0 and self._failure is None:
            try:
                piece = self._tls.read(min(limit, TEXT))
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as exc:
                self._failure = exc
                break
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            limit -= len(piece)
        if pieces:
            return b"".join(pieces)
        if self._failure is not None:
            raise self._failure
        return None


class Bounds:
    """Where the records end in what is read, for a reader who may not read into the next one."""

    def __init__(self) -> None:
        self.due = HEADER  # bytes until the next bound: of a header, or of what follows it
        self._header = b""

    def follow(self, data: bytes | bytearray) -> None:
        """So much was read."""
        at = 0
        while at < len(data):
            part = data[at : at + self.due]
            at += len(part)
            self.due -= len(part)
            if len(self._header) < HEADER:
                self._header += part
                if not self.due:
                    self.due = int.from_bytes(self._header[3:], "big")
            if not self.due:
                self._header, self.due = b"", HEADER
