"""Forward one circuit through a node: two streams on two links, tied end to end. What they carry is not looked at."""

from __future__ import annotations

from rpyc_gateway.connection import Connection
from rpyc_gateway.proto.frames import CircuitClass, Failure, Open


class SplicedStream:
    """The handler of one of a circuit's two streams: says on the other whatever it hears, in the reader's own step.

    Nothing is stored here. Bytes wait in the queue of the link they leave by, and the link they came from is given
    credit for them only when they have left it: so a node holds of a circuit what it granted, and no more. An end
    waits behind the data before it; only a failure drops what is queued. A link that dies resets its streams
    (LINK_LOST, with this node as the hop) like a peer.
    """

    __slots__ = ("_label", "_other")

    def __init__(self, other: Connection, label: int) -> None:
        self._other = other
        self._label = label

    def accepted(self, path: tuple[str, ...]) -> None:
        with self._other.step() as mux:
            mux.accept(self._label, path)

    def refused(self, failure: Failure) -> None:
        with self._other.step() as mux:
            mux.reject(self._label, failure)

    def received(self, data: bytes | memoryview) -> None:
        with self._other.step() as mux:
            mux.send(self._label, data)

    def drained(self, count: int) -> None:
        with self._other.step() as mux:
            mux.consume(self._label, count)

    def finished(self) -> None:
        with self._other.step() as mux:
            mux.finish(self._label)

    def reset(self, failure: Failure) -> None:
        with self._other.step() as mux:
            mux.reset(self._label, failure)

    def stopped(self, failure: Failure) -> None:
        with self._other.step() as mux:
            mux.stop(self._label, failure)


def splice(near: Connection, label: int, far: Connection, request: Open, kind: CircuitClass) -> SplicedStream:
    """Open `request` on `far` and tie it to the stream `label` of `near`, whose handler is returned.

    Raises LimitExceeded or LinkLost if `far` takes no more streams; then nothing has been opened.
    """
    return SplicedStream(far, far.open(request, kind, SplicedStream(near, label)))
