"""Forward one circuit through a node: two streams on two links, tied end to end. What they carry is not looked at."""

from __future__ import annotations

from rpyc_gateway.connection import Connection
from rpyc_gateway.proto.frames import CircuitClass, Failure, Open
from rpyc_gateway.proto.mux import Mux
from rpyc_gateway.transport import Buffer


class SplicedStream:
    """The handler of one of a circuit's two streams, that on `near`: says on the other, `label` of `other`, whatever it hears.

    It does so when the turn of `near` has been given back, before anything else is read there: nobody holds two turns.
    Nothing is stored here. Bytes wait in the queue of the link they leave by, and the link they came from is given
    credit for them only when they have left it: so a node holds of a circuit what it granted, and no more. An end
    waits behind the data before it; only a failure drops what is queued. A link that dies resets its streams
    (LINK_LOST, with this node as the hop) like a peer.
    """

    __slots__ = ("_label", "_near", "_other", "own")

    def __init__(self, near: Connection, other: Connection, label: int, own: int = 0) -> None:
        self._near = near
        self._other = other
        self._label = label
        self.own = own  # its label on `near`

    def accepted(self, path: tuple[str, ...]) -> None:
        self._near.afterwards(self._other, Mux.accept, self._label, path)

    def refused(self, failure: Failure) -> None:
        self._near.afterwards(self._other, Mux.reject, self._label, failure)

    def received(self, data: Buffer) -> None:
        self._near.afterwards(self._other, Mux.send, self._label, data)

    def received_alone(self, data: bytes) -> None:
        self._near.forward = self._pass_on, data

    def _pass_on(self, data: bytes) -> None:
        """Forward a small frame, as a rule at once: then there is credit for it without waiting for an event that says so."""
        with self._other.turn:
            gone = self._other.say(self._label, data)
        if gone:
            with self._near.turn as mux:
                mux.consume(self.own, len(data))

    def drained(self, count: int) -> None:
        self._near.afterwards(self._other, Mux.consume, self._label, count)

    def finished(self) -> None:
        self._near.afterwards(self._other, _finish, self._label, None)

    def reset(self, failure: Failure) -> None:
        self._near.afterwards(self._other, Mux.reset, self._label, failure)

    def stopped(self, failure: Failure) -> None:
        self._near.afterwards(self._other, Mux.stop, self._label, failure)


def _finish(mux: Mux, label: int, _: object) -> None:
    mux.finish(label)


def splice(near: Connection, label: int, far: Connection, request: Open, kind: CircuitClass) -> SplicedStream:
    """Open `request` on `far` and tie it to the stream `label` of `near`, whose handler is returned. In the trio thread.

    Raises LimitExceeded or LinkLost if `far` takes no more streams; then nothing has been opened.
    """
    back = SplicedStream(far, near, label)
    back.own = far.open(request, kind, back)
    handler = SplicedStream(near, far, back.own, label)
    near.read_for_threads()
    far.read_for_threads()
    return handler
