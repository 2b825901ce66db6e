"""An open WebSocket for threads that do not wait: the same messages as in `websocket_stream.py`, on the non-blocking side of what is below."""

from __future__ import annotations

from collections.abc import Callable

from trio_websocket import CloseReason
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping

from rpyc_gateway.transport import Buffer, Pipe
from rpyc_transports.websocket_messages import Messages

__all__ = ["WithoutWaiting"]

CHUNK = 65_536  # bytes of a message that is sent like this: what the wire does not take of it waits in memory
MOST_UNSENT = 2 * CHUNK  # bytes that wait; then pings stay without an answer, as those of a peer who reads nothing may


class WithoutWaiting:
    """Send and receive as `Pipe` has it. `end` is how it ended, once that was heard."""

    def __init__(self, messages: Messages, below: Pipe, busy: Callable[[], bool]) -> None:
        assert below.send_nowait is not None
        assert below.receive_nowait is not None
        self.end: CloseReason | None = None
        self.fileno = below.fileno
        self._busy = busy  # trio is sending: what answers a ping has to wait
        self._messages = messages
        self._send, self._receive = below.send_nowait, below.receive_nowait
        self._unsent: Buffer = b""  # what the wire has not taken of the last frame, and of answers behind it
        self._owed = 0  # bytes of payload in that frame: they were not taken yet, and will be offered again

    def send_nowait(self, *buffers: Buffer) -> int:
        """Send so much of these as the wire takes. What was not taken must be offered again, before anything else."""
        if self._messages.state is not ConnectionState.OPEN:
            raise OSError("the WebSocket is closed")
        if not self._flush():
            return 0
        data = memoryview(buffers[0] if len(buffers) == 1 else b"".join(buffers))
        taken, self._owed = self._owed, 0
        while taken < len(data):
            chunk = data[taken : taken + CHUNK]
            self._unsent = self._messages.frame(chunk)
            if not self._flush():
                self._owed = len(chunk)
                break
            taken += len(chunk)
        return taken

    def receive_nowait(self, limit: int) -> bytes | None:
        """Read up to so many bytes: b"" after the goodbye of the peer, None if nothing is there. Raises OSError."""
        if self.end is not None:
            return self._over(self.end)
        raw = self._receive(limit)
        if raw is None:
            return None
        if not raw:
            self.end = CloseReason(1006, None)
            return self._over(self.end)
        self._messages.receive_data(raw)
        pieces: list[Buffer | bytearray] = []
        for event in self._messages.events():
            if isinstance(event, BytesMessage):
                pieces.append(event.data)
            elif isinstance(event, Ping) and len(self._unsent) < MOST_UNSENT:
                self._answer(self._messages.send(event.response()))
            elif isinstance(event, CloseConnection):
                if self._messages.state is ConnectionState.REMOTE_CLOSING:
                    self._answer(self._messages.send(event.response()))
                self.end = CloseReason(event.code, event.reason or None)
        if pieces:
            return b"".join(pieces)
        return self._over(self.end) if self.end is not None else None

    def take_unsent(self) -> tuple[bytes, int]:
        """For trio, which goes on: what has to be sent before anything else, and how many bytes of what is offered next are in it."""
        unsent, owed = bytes(self._unsent), self._owed
        self._unsent, self._owed = b"", 0
        return unsent, owed

    def _answer(self, frame: bytes) -> None:
        """Send it, or keep it for the next that is sent: a peer that takes nothing waits for no answer."""
        self._unsent = b"".join((self._unsent, frame))
        if not self._busy():
            self._flush()

    def _flush(self) -> bool:
        """Send what is there; whether all of it has gone."""
        if self._unsent:
            taken = self._send(self._unsent)
            self._unsent = memoryview(self._unsent)[taken:] if taken < len(self._unsent) else b""
        return not self._unsent

    def _over(self, end: CloseReason) -> bytes:
        if self._messages.is_goodbye(end.code):
            return b""
        raise OSError(self._messages.why(end.code, end.reason))
