"""What a session does about what it hears: bytes of its circuits, and what its machine makes of them."""

from __future__ import annotations

import logging
from abc import abstractmethod
from functools import partial
from typing import ClassVar

import trio
from msgspec.structs import replace

from rpyc_gateway.answering import Answering
from rpyc_gateway.circuits import BulkCircuit, CallCircuit
from rpyc_gateway.classes import SPECIAL
from rpyc_gateway.desk import SessionDesk
from rpyc_gateway.errors import Code, GatewayError, LimitExceeded
from rpyc_gateway.held import Held
from rpyc_gateway.proto import facts
from rpyc_gateway.proto.frames import Failure, Open
from rpyc_gateway.proto.messages import ClassInfo
from rpyc_gateway.started import Starting
from rpyc_gateway.waiters import Outcome

__all__ = ["ROOT", "Hearing"]

logger = logging.getLogger("rpyc_gateway.session")

UNREAD = 2**26
"""Bytes that may wait for a peer that asks and does not read: more than all the answers to its open questions."""

ROOT = ClassInfo(module="rpyc_gateway", name="root", flags=ClassInfo.IDENTITY)


class Hearing(SessionDesk):
    """The middle floor of a Session, which has its life."""

    asking: Starting
    held_root: Held
    _answering: Answering
    _request: Open
    _opened: trio.Event
    _delays = 0  # of what its link was to send, when somebody has looked how much waits
    _failing = False  # the session will be aborted; what still comes is dropped

    @abstractmethod
    def abort(self, failure: Failure) -> None:
        """End the session at once, and tell the peer why. In the trio thread."""

    @abstractmethod
    def circuit_ended(self, failure: Failure) -> None:
        """A circuit was refused, finished or reset by the other side. In the trio thread, with the turn held."""

    # -- what the circuits say (turn held, in whichever thread steps, where nothing else is said) ------------------------------------------------------------------------------

    def accepted(self, path: tuple[str, ...]) -> None:
        """The far side took the `call` circuit."""
        self.path = path

    def call_heard(self, data: bytes) -> None:
        """Bytes of the `call` circuit that are one short message, as a rule: the short way of `call_received`."""
        if self.error is not None or self._failing:
            return
        assert self.circuit is not None
        try:
            rpc = self.rpc
            event = rpc.hear(data)
            released = rpc.untold and event is not None
            if released:  # what came in front of it
                for told in rpc.events():
                    self.HANDLERS[type(told)](self, told)
            if type(event) is facts.Answered:
                self.asking.complete(event.question, Outcome(event.payload))
            elif type(event) is facts.Called:
                if self._connection.delays != self._delays:
                    self._check_read(self.circuit)
                self._answering.serve(event)
            else:
                self.call_received(data)
                return
            if rpc.out or rpc.imports.dropped:
                rpc.flush_releases()
                self.push()
            if released:
                self._answering.sweep()
            if self.asking.queue:
                self.asking.make_room()
        except Exception as error:  # noqa: BLE001  # logged there, if it is a defect
            self._blame(error)

    def call_received(self, data: bytes) -> None:
        """Bytes of the `call` circuit, in whichever thread reads."""
        if self.error is not None or self._failing:
            return
        assert self.circuit is not None
        try:
            self._check_read(self.circuit)
            self.rpc.receive_data(data)
            self.rpc.flush_releases()
            self.push()
            self._answering.sweep()
            self.asking.make_room()
        except Exception as error:  # noqa: BLE001  # logged there, if it is a defect
            self._blame(error)

    def _ask_together(self) -> None:
        try:
            self.asking.send_unsent()
        except Exception as error:  # noqa: BLE001  # logged there
            self._blame(error)

    def _answer_together(self) -> None:
        try:
            self._answering.send_unsaid()
        except Exception as error:  # noqa: BLE001  # logged there
            self._blame(error)

    def _check_read(self, circuit: CallCircuit) -> None:
        self._delays = self._connection.delays
        queued = circuit.queued
        if queued > UNREAD:
            raise LimitExceeded(f"{queued} bytes of answers wait for a peer that does not read them")

    def bulk_received(self, data: bytes | memoryview) -> int:
        """Bytes of the `bulk` circuit; how many were consumed."""
        consumed = len(data)
        if self.error is None and not self._failing:
            try:
                consumed = self.rpc.receive_bulk(data)
                self.push()
            except Exception as error:  # noqa: BLE001  # logged there, if it is a defect
                self._blame(error)
        return consumed

    def _blame(self, error: Exception) -> None:
        """What goes wrong with received bytes ends this session, with the reason, and nobody else's."""
        if isinstance(error, GatewayError):
            failure = Failure(code=error.code, text=str(error), hop=self.local)
        else:
            logger.error("%s: a defect ends the session %r", self.local, self, exc_info=error)
            failure = Failure(code=Code.INTERNAL, text=f"{type(error).__name__} in {self.local}", hop=self.local)
        self._failing = True
        self.in_trio(self.abort, failure)

    def bulk_drained(self) -> None:
        """The bulk circuit can take more."""
        self.push()

    def _end_dismissed(self, failure: Failure) -> None:
        """The far side has said goodbye. In the trio thread, perhaps a moment later: the turn is taken for it."""
        with self.step():
            self.circuit_ended(failure)

    # -- what the machine says (turn held, in whichever thread steps) ---------------------------------------------------

    def _handle_answered(self, event: facts.Answered) -> None:
        self.asking.complete(event.question, Outcome(event.payload))

    def _handle_failed(self, event: facts.Failed) -> None:
        self.asking.complete(event.question, Outcome(raised=event.payload))

    def _handle_broken(self, event: facts.Broken) -> None:
        self.asking.complete(event.question, Outcome(error=event.error))

    def _handle_called(self, called: facts.Called) -> None:
        self._answering.serve(called)

    def _handle_rejected(self, event: facts.Rejected) -> None:
        self._answering.reject(event.question, event.error)

    def _handle_cancel(self, event: facts.CancelRequested) -> None:
        self._answering.cancel(event.question)

    def _handle_released(self, event: facts.Released) -> None:
        self._answering.discard(event.values)

    def _handle_ended(self, event: facts.Ended) -> None:
        self._answering.end_thread(event.affinity)

    def _handle_greeted(self, event: facts.Greeted) -> None:
        self.asking.peer_vat = event.info.vat
        self.held_root.info = _root_info(event.info.methods)
        self.in_trio(self._opened.set)

    def _handle_bulk_wanted(self, _event: facts.BulkWanted) -> None:
        bulk = BulkCircuit(self, self._connection)
        try:
            bulk.open(replace(self._request, circuit="bulk"))
        except GatewayError as error:  # without it every long value would wait for ever
            failure = Failure(code=error.code, text=f"no bulk circuit can be opened: {error}", hop=self.local)
            self._soon(partial(self.abort, failure))
            return
        self.bulk = bulk
        self.rpc.bulk_open = True

    def _handle_bulk_consumed(self, event: facts.BulkConsumed) -> None:
        if self.bulk is not None:
            self.bulk.consumed(event.size)

    def _handle_dismissed(self, event: facts.Dismissed) -> None:
        text = event.text or "the far side closed the session"
        self.in_trio(self._end_dismissed, Failure(code=event.code, text=text, hop=event.hop))

    HANDLERS: ClassVar = {
        facts.Answered: _handle_answered,
        facts.Failed: _handle_failed,
        facts.Broken: _handle_broken,
        facts.Called: _handle_called,
        facts.Rejected: _handle_rejected,
        facts.CancelRequested: _handle_cancel,
        facts.Released: _handle_released,
        facts.Ended: _handle_ended,
        facts.Greeted: _handle_greeted,
        facts.BulkWanted: _handle_bulk_wanted,
        facts.BulkConsumed: _handle_bulk_consumed,
        facts.Dismissed: _handle_dismissed,
    }


def _root_info(names: tuple[str, ...]) -> ClassInfo:
    """What the class of a root is, by the names that its peer's HELLO has of its methods."""
    special = tuple(name for name in names if name in SPECIAL)
    flags = 0 if "__eq__" in special else ClassInfo.IDENTITY
    return replace(ROOT, methods=tuple(name for name in names if name not in SPECIAL), special=special, flags=flags)
