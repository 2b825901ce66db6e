"""Forward one circuit through a node: two streams on two links, tied end to end. What they carry is not looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpyc_gateway.connection import Connection
from rpyc_gateway.proto.frames import CircuitClass, Failure, Open
from rpyc_gateway.transport import Buffer


class SplicedStream:
    """The handler of one of a circuit's two streams, that on `near`: says on the other, `label` of `other`, whatever it hears.

    It does so when the turn of `near` has been given back, before anything else is read there: nobody waits for a turn who holds one.
    Only where nothing stands in its way a small frame leaves at once.
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
        self._say(_accept, path)

    def refused(self, failure: Failure) -> None:
        self._say(_reject, failure)

    def received(self, data: Buffer) -> None:
        self._say(_send, data)

    def received_alone(self, data: bytes) -> None:
        """A small frame leaves at once, if nothing has to leave before it, and the other link has its turn to spare for us."""
        near, other = self._near, self._other
        has_left = None if near.errands.busy else other.pass_on(self._label, data)
        if has_left is None:
            self._say(_send, data)
        elif has_left:  # no event will tell of it
            near.mux.consume(self.own, len(data))
        if other.errands.waiting:
            self._say(_run_errands, None)

    def drained(self, count: int) -> None:
        self._say(_consume, count)

    def finished(self) -> None:
        self._say(_finish, None)

    def reset(self, failure: Failure) -> None:
        self._say(_reset, failure)

    def stopped(self, failure: Failure) -> None:
        self._say(_stop, failure)

    def _say(self, act: Callable[[Connection, int, Any], object], value: object) -> None:
        self._near.errands.add(self._other, act, self._label, value)


def _accept(link: Connection, label: int, path: tuple[str, ...]) -> None:
    link.mux.accept(label, path)


def _reject(link: Connection, label: int, failure: Failure) -> None:
    link.mux.reject(label, failure)


def _send(link: Connection, label: int, data: Buffer) -> None:
    link.mux.send(label, data)


def _consume(link: Connection, label: int, count: int) -> None:
    link.mux.consume(label, count)


def _finish(link: Connection, label: int, _: object) -> None:
    link.mux.finish(label)


def _reset(link: Connection, label: int, failure: Failure) -> None:
    link.mux.reset(label, failure)


def _run_errands(_link: Connection, _label: int, _: object) -> None:
    """Nothing: it is the end of its turn that does it."""


def _stop(link: Connection, label: int, failure: Failure) -> None:
    link.mux.stop(label, failure)


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
