"""What calls of the peer came to, on its way back: answers of one thread leave together."""

from __future__ import annotations

import logging
from collections import deque

from rpyc_gateway.asking import Asking
from rpyc_gateway.calls import Keep, ServedCall
from rpyc_gateway.errors import EncodeError, GatewayError
from rpyc_gateway.program import Done, Outcome, RaisedAt
from rpyc_gateway.proto.atoms import pack_atom
from rpyc_gateway.proto.facts import ExportDraft
from rpyc_gateway.proto.values import LARGE, ONE_REF, Draft
from rpyc_gateway.references import Desk, References
from rpyc_gateway.stack import STEP_ROOM, check_room
from rpyc_gateway.stays import abandon

__all__ = ["Replying"]

logger = logging.getLogger("rpyc_gateway.session")


class Replying:
    """The ground floor of Answering: the calls that are served, and their answers."""

    def __init__(self, desk: Desk, references: References, asking: Asking) -> None:
        self.asking = asking
        self._desk = desk
        self._references = references
        self._served: dict[int, ServedCall] = {}
        self._running: set[ServedCall] = set()  # until they have really ended, cancelled or not
        self._unsaid: deque[tuple[int, bytes]] = deque()  # answers that wait for each other
        self.keep_error: Keep | None = None
        self._will_say = False  # somebody will call `send_unsaid`

    def answer(self, call: ServedCall, outcome: Outcome) -> None:
        """Encode what a call came to, and send it if anybody still waits; in whichever thread served it."""
        if call.parting is not None:
            call.parting()
        self._running.discard(call)
        if type(outcome) is Done and self._answer_alone(call, outcome.value):
            return
        draft, step = self._outcome_draft(outcome, call.cause)
        with self._desk.step():
            if not call.affinity:
                self._desk.say_later()
            self.asking.send_readings()
            self._served.pop(call.question, None)
            is_sent = self._send(call.question, draft, step) and step is None
        if not is_sent and type(outcome) is Done and type(outcome.value) is tuple:
            abandon(outcome.value[:1])  # what was entered for a caller that has gone
        # An exception that may come home is in there, and its traceback keeps this frame: without this the two would keep each other.
        del draft

    def _answer_alone(self, call: ServedCall, value: object) -> bool:
        """The short way of `answer`, for an atom or a reference; whether that was all there is to send. If not, nothing has changed."""
        packed = pack_atom(value)
        refs: tuple[ExportDraft, ...] = ()
        if packed is not None:
            if not call.affinity and len(packed) <= LARGE and self._desk.goes_on:
                self._answer_later(call, packed)
                return True
        else:
            try:
                lent = self._references.lend_one(value)
            except Exception:  # noqa: BLE001  # what the object has of its own may raise: the long way tells of it
                return False
            if lent is None:
                return False
            packed, refs = ONE_REF, (lent,)
        if not call.bound:  # else there is room: the thread has nothing else on its stack
            check_room(STEP_ROOM)
        desk = self._desk
        with desk.turn:
            if self._unsaid and not refs and len(packed) <= LARGE:  # with those that have waited for it
                self._served.pop(call.question, None)
                self._unsaid.append((call.question, packed))
                self.send_unsaid()
                return True
            if self.asking.readings:
                return False
            if refs and not call.affinity:
                desk.say_later()
            try:
                message = desk.rpc.answer_alone(call.question, packed, refs)
            except GatewayError:  # the long way tells of it
                return False
            if message is None:
                return False
            self._served.pop(call.question, None)
            desk.circuit.send(message)
        return True

    def _answer_later(self, call: ServedCall, packed: bytes) -> None:
        """Let an answer wait for those to the calls that this thread serves next: they leave together, after the last of them or in a few milliseconds."""
        self._served.pop(call.question, None)
        self._unsaid.append((call.question, packed))
        if not self._will_say:  # looked at last: whoever sends them unsets it first
            self._will_say = True
            self._desk.speak_later()

    def send_unsaid(self) -> None:
        """Send the answers that have waited for each other. With the turn held."""
        self._will_say = False
        unsaid, desk = self._unsaid, self._desk
        answers: list[tuple[int, bytes]] = []
        while unsaid:
            answers.append(unsaid.popleft())
        if not answers or desk.error is not None:
            return
        if self.asking.readings:
            self.asking.send_readings()
        message = desk.rpc.answer_together(answers)
        if message is not None:
            if message:  # else nobody waits for them any more
                desk.circuit.send(message)
            return
        for question, packed in answers:
            desk.rpc.answer(question, Draft(packed))
        desk.speak()

    def _send(self, question: int, draft: Draft, step: int | None) -> bool:
        """Whether anybody still waited for it."""
        if not self._desk.rpc.is_serving(question):
            return False
        try:
            if step is None:
                self._desk.rpc.answer(question, draft)
            else:
                self._desk.rpc.raised(question, draft, step)
        except GatewayError as error:  # a bound of the tables: the caller learns of it
            self.reject(question, error)
            return False
        return True

    def _outcome_draft(self, outcome: Outcome, cause: int) -> tuple[Draft, int | None]:
        """What to send, and the step that raised or None."""
        if type(outcome) is RaisedAt:
            if self.keep_error is not None:
                self.keep_error(outcome.error)
            return self._exception_draft(outcome.error, cause), outcome.step
        assert type(outcome) is Done
        atom = pack_atom(outcome.value)
        if atom is not None:
            return Draft(atom), None
        writer = self._references.writer()
        writer.snapshot = True  # served code goes on while the answer is sent
        try:
            return writer.finish(writer.value(outcome.value)), None
        except Exception as error:  # noqa: BLE001  # a value that cannot be sent fails its call, whatever it raised
            return self._exception_draft(error, cause), 0

    def _exception_draft(self, error: BaseException, cause: int) -> Draft:
        raisables = self._references.raisables
        write = raisables.raised_in_callback if cause and self.asking.has_asked(cause) else raisables.raised
        writer = self._references.writer()
        try:
            return writer.finish(write(error, writer))
        except Exception as problem:  # noqa: BLE001  # the caller gets at least the name of what happened
            name = type(error).__qualname__
            logger.warning("%s: an exception of type %s cannot be sent: %s", self._desk.local, name, problem)
            plain = EncodeError(f"the call raised {name}, which cannot be sent ({type(problem).__qualname__})")
            writer = self._references.writer()
            return writer.finish(raisables.raised(plain, writer))

    def reject(self, question: int, error: GatewayError) -> None:
        """Answer a call that cannot be served."""
        self._desk.rpc.raised(question, self._exception_draft(error, 0))
