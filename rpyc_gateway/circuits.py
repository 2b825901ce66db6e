"""The ends of a session's two circuits: stream handlers that speak to the session."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from rpyc_gateway.connection import Connection
from rpyc_gateway.errors import Code
from rpyc_gateway.proto.frames import CircuitClass, Failure, Open
from rpyc_gateway.proto.rpc import Rpc

__all__ = ["BulkCircuit", "CallCircuit", "Listener"]

BULK_QUEUE = 262_144
"""Bytes of bodies handed to the link ahead of the wire: enough to fill its writes, little enough that bodies take turns."""


class Listener(Protocol):
    """The session, with the link's turn held: bytes in whichever thread steps, `accepted` and `circuit_ended` in the trio thread."""

    def accepted(self, path: tuple[str, ...]) -> None: ...
    def call_heard(self, data: bytes) -> None: ...
    def call_received(self, data: bytes) -> None: ...
    def bulk_received(self, data: bytes | memoryview) -> int: ...
    def bulk_drained(self) -> None: ...
    def circuit_ended(self, failure: Failure) -> None: ...


class _Circuit:
    """One stream of the session's link, opened by us (no label yet) or by the peer."""

    kind = CircuitClass.CALL

    def __init__(self, session: Listener, connection: Connection, label: int = 0) -> None:
        self._session = session
        self._connection = connection
        self.label = label

    def open(self, request: Open) -> None:
        """Open the stream. Raises LimitExceeded, LinkLost."""
        self.label = self._connection.open(request, self.kind, self)

    def send(self, data: bytes | memoryview) -> None:
        """Queue bytes."""
        self._connection.mux.send(self.label, data)

    @property
    def queued(self) -> int:
        """Bytes that have not left for the wire."""
        return self._connection.mux.queued(self.label)

    def end(self) -> None:
        """End our direction when what is queued is sent."""
        self._connection.mux.finish(self.label)

    def abort(self, failure: Failure) -> None:
        """End both directions now."""
        self._connection.mux.reset(self.label, failure)

    # -- what the stream says ---------------------------------------------------------------------------------------

    def accepted(self, path: tuple[str, ...]) -> None:
        """The far side took the stream."""

    def received(self, data: bytes | memoryview) -> None:
        """Bytes came."""

    def received_alone(self, data: bytes) -> None:
        """The same, where they are one small frame."""
        self.received(data)

    def refused(self, failure: Failure) -> None:
        """The far side, or a gateway, did not take the stream."""
        self._session.circuit_ended(failure)

    def reset(self, failure: Failure) -> None:
        """Both directions are over."""
        self._session.circuit_ended(failure)

    def stopped(self, failure: Failure) -> None:
        """The far side reads no more."""
        self._session.circuit_ended(failure)

    def finished(self) -> None:
        """The far side sends no more."""
        self._session.circuit_ended(Failure(code=Code.DONE, text="the far side closed the session"))

    def drained(self, count: int) -> None:
        """Bytes have left the queue."""


class CallCircuit(_Circuit):
    """Messages, in order."""

    def __init__(self, session: Listener, connection: Connection, label: int = 0) -> None:
        super().__init__(session, connection, label)
        # Not methods that call them: it is what most calls come and go through.
        self.received_alone = session.call_heard  # type: ignore[method-assign]
        if label:
            self.send = partial(connection.say, label)  # type: ignore[method-assign,assignment]

    def open(self, request: Open) -> None:
        """Open the stream. Raises LimitExceeded, LinkLost."""
        super().open(request)
        self.send = partial(self._connection.say, self.label)  # type: ignore[method-assign,assignment]

    def accepted(self, path: tuple[str, ...]) -> None:
        """The session is open."""
        self._session.accepted(path)

    def mute(self) -> None:
        """Nobody waits for the queue to drain: a message is on its way when it is queued."""
        self._connection.mux.mute(self.label)

    def received(self, data: bytes | memoryview) -> None:
        """Bytes of messages: taken at once, the machine's bounds hold them."""
        self._session.call_received(bytes(data))  # as a rule they are that already
        self._connection.mux.consume(self.label, len(data))


class BulkCircuit(_Circuit):
    """Long bodies."""

    kind = CircuitClass.BULK

    def received(self, data: bytes | memoryview) -> None:
        """Chunks: credit is given back for what was consumed only."""
        self._connection.mux.consume(self.label, self._session.bulk_received(data))

    def consumed(self, count: int) -> None:
        """Chunks that had waited for their message were taken."""
        self._connection.mux.consume(self.label, count)

    def pump(self, rpc: Rpc) -> None:
        """Hand chunks to the link while its queue is short."""
        mux = self._connection.mux
        while mux.queued(self.label) < BULK_QUEUE:
            parts = rpc.bulk_to_send()
            if not parts:
                return
            for part in parts:
                mux.send(self.label, part)

    def drained(self, count: int) -> None:
        """There is room for more."""
        self._session.bulk_drained()
