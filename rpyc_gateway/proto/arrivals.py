"""Messages that wait for their bodies, and the bodies that come for them on `bulk` (docs/protocol.md, section 7)."""

from __future__ import annotations

from collections.abc import Callable

from rpyc_gateway.errors import LimitExceeded, ProtocolError
from rpyc_gateway.proto.bulk import Body, BulkReceiver
from rpyc_gateway.proto.values import BODIES

__all__ = ["Arrivals", "Deliver"]

WAITING = 1024
"""Messages that may wait for bodies: as many as questions may be open, cancelled ones too."""

PACKED = 2**27
"""Bytes of a packed part. Unlike long bytes it is taken apart into objects, which are many times its size."""

Deliver = Callable[[bytes, tuple[bytes, ...], ProtocolError | None], None]
"""What is called once for a message: its packed part and its bodies; or why they will not come."""


class _Waiting:
    __slots__ = ("bodies", "deliver", "packed")

    def __init__(self, packed: bytes | None, bodies: list[Body], deliver: Deliver) -> None:
        self.packed = packed
        self.bodies = bodies
        self.deliver = deliver


class Arrivals:
    """Delivers each message when all its bodies are there; a small one overtakes those that wait. `limit` bounds the bodies of one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._receiver = BulkReceiver()
        self._waiting: list[_Waiting] = []

    def add(self, packed: bytes | None, bulk: tuple[int, ...], deliver: Deliver) -> int:
        """A message has come that names these bodies (body, size, body, size ...); without any it is delivered now.

        Returns how many bytes were consumed that had waited for it. Raises ProtocolError, LimitExceeded.
        """
        if not bulk:
            if packed is None:
                raise ProtocolError("a message without its packed part")
            deliver(packed, (), None)
            return 0
        if len(bulk) % 2:
            raise ProtocolError("half a pair in `bulk`")
        sizes = bulk[1::2]
        if len(sizes) > BODIES or sum(sizes) > self._limit:
            text = f"{len(sizes)} bodies of {sum(sizes)} bytes exceed limit of {BODIES} with {self._limit} bytes"
            raise LimitExceeded(text)
        if len(self._waiting) >= WAITING:
            raise LimitExceeded(f"more than {WAITING} messages wait for their bodies")
        if packed is None and sizes[0] > PACKED:
            raise LimitExceeded(f"a packed part of {sizes[0]} bytes exceeds limit of {PACKED}")
        bodies = [self._receiver.expect(number, size) for number, size in zip(bulk[::2], sizes, strict=True)]
        self._waiting.append(_Waiting(packed, bodies, deliver))
        return self.receive_data(b"")

    def receive_data(self, data: bytes | memoryview) -> int:
        """Bytes of the `bulk` circuit; returns how many were consumed. Raises ProtocolError."""
        consumed = self._receiver.receive_data(data)
        if self._receiver.ended:
            self._receiver.ended = False
            self._deliver_complete()
        return consumed

    def _deliver_complete(self) -> None:
        complete = [message for message in self._waiting if all(body.done for body in message.bodies)]
        if not complete:
            return
        self._waiting = [message for message in self._waiting if message not in complete]
        for message in complete:
            bodies = tuple(body.data or b"" for body in message.bodies)
            packed = message.packed
            if packed is None:
                packed, bodies = bodies[0], bodies[1:]
            aborted = any(body.aborted for body in message.bodies)
            lost = ProtocolError("the rest of a body of this message will not come") if aborted else None
            message.deliver(packed, bodies, lost)

    def clear(self) -> None:
        """Forget what waits: the session is over."""
        self._waiting.clear()
