"""Questions and answers of one session: call, answer, cancel, release (docs/protocol.md, sections 6 to 10).

A pure machine: bytes of the `call` and `bulk` circuits and intentions go in, events and bytes come out. What it receives it does not
decode beyond references, and what it sends was encoded before (values.Draft): a step of this machine runs no user code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

from rpyc_gateway.errors import Cancelled, LimitExceeded, ProtocolError
from rpyc_gateway.proto import messages as m
from rpyc_gateway.proto.arrivals import Arrivals
from rpyc_gateway.proto.facts import (
    Answered,
    Broken,
    BulkConsumed,
    Called,
    CancelRequested,
    Dismissed,
    Ended,
    Failed,
    Greeted,
    Rejected,
    Released,
)
from rpyc_gateway.proto.messages import Ref, RefKind, SessionInfo
from rpyc_gateway.proto.speaking import ARRIVING, DROPPED, Coming, Speaker
from rpyc_gateway.proto.values import Payload

__all__ = ["Rpc"]

_RELEASE = b"\x92\x05"
"""How a RELEASE begins as MessagePack writes it. (It may be written in other ways too.)"""


class Rpc(Speaker):
    """One side of a session."""

    def __init__(self, info: SessionInfo, *, opener: bool, root: object, numbers: Iterator[int]) -> None:
        super().__init__(info, opener=opener, root=root, numbers=numbers)
        self._splitter = m.Splitter()
        self._arrivals = Arrivals(info.limits.body)
        self._dismissed = False

    # -- bytes in ---------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Bytes of the `call` circuit. Raises ProtocolError or LimitExceeded, which cost the session."""
        asked, untold = self._asked, self.untold
        for message in self._splitter.receive_data(data):
            if self.peer is None:
                self._receive_hello(message)
                continue
            kind = type(message)
            if kind is m.Answer:  # as a rule one that takes no second look
                question, value = message.question, message.value  # type: ignore[union-attr]
                if value is not None and not message.refs and not message.bulk and asked.get(question) == 0:  # type: ignore[union-attr]
                    del asked[question]
                    untold.append(Answered(question, Payload(value)))
                    continue
            elif kind is m.Call:
                self._receive_call(message)  # type: ignore[arg-type]
                continue
            receive = self._RECEIVE.get(kind)
            if receive is None:
                raise ProtocolError(f"unexpected {type(message).__name__} message")
            receive(self, message)

    def hear(self, data: bytes) -> Answered | Called | None:
        """The event of the one short message that these bytes of the `call` circuit are: a call, or an answer with a value.

        A RELEASE may be in front of it: what `events` tells has happened before. None, and nothing has changed, for anything else:
        `receive_data` takes that. The short way of `receive_data`, and of nothing but it.
        """
        size = len(data)
        if self.peer is None or self.untold or self._splitter.begun or size < 4:
            return None
        end: int = 4 + m.unpack_length(data)[0]
        release = None
        try:
            if end == size:
                message = m.unpack(data[4:])
            elif end + 4 <= size and data.startswith(_RELEASE, 4) and m.unpack_length(data, end)[0] == size - end - 4:
                release, message = m.unpack(data[4:end]), m.unpack(data[end + 4 :])
            else:
                return None
        except m.UNREADABLE:
            return None
        if type(message) is m.Answer:
            if release is None and not message.refs and message.value is not None and not message.bulk:  # as a rule
                question = message.question
                if self._asked.get(question) != 0:
                    return None
                del self._asked[question]
                return Answered(question, Payload(message.value))
            return self._hear_answer(message, release)
        if type(message) is m.Call:
            return self._hear_call(message, release)
        return None

    def _hear_answer(self, answer: m.Answer, release: m.Message | None) -> Answered | None:
        question, value, refs = answer.question, answer.value, answer.refs
        if value is None or answer.bulk or self._asked.get(question) != 0 or (release is not None and refs):
            return None
        resolved: tuple[object, ...] = ()
        if refs:
            resolved, error = self._lending.resolve(refs)
            if error is not None:
                return None
        if release is not None:
            self._receive_release(release)  # type: ignore[arg-type]  # so it began
        del self._asked[question]
        return Answered(question, Payload(value, resolved))

    def _hear_call(self, call: m.Call, release: m.Message | None) -> Called | None:
        question, number, steps, refs, serving = call.question, call.number, call.steps, call.refs, self._serving
        export = self.exports.by_number.get(number)
        if (
            (export is None and number)
            or steps is None
            or call.bulk
            or call.flags
            or self._dismissed
            or question in serving
            or len(serving) >= self.info.limits.questions
        ):
            return None
        resolved: tuple[object, ...] = ()
        if refs:
            resolved, error = self._lending.resolve(refs)
            if error is not None:
                return None
        if release is not None:
            if refs or number in release.pairs[::2]:  # type: ignore[union-attr]  # perhaps it is given back
                return None
            self._receive_release(release)  # type: ignore[arg-type]
        serving[question] = None
        target = self.exports.root if export is None else export.value
        return Called(question, target, Payload(steps, resolved), call.cause, call.affinity, call.deadline)

    def receive_bulk(self, data: bytes | memoryview) -> int:
        """Bytes of the `bulk` circuit; returns how many were consumed. Raises ProtocolError."""
        return self._arrivals.receive_data(data)

    def _receive_hello(self, message: m.Message) -> None:
        if not isinstance(message, m.Hello):
            raise ProtocolError("a session begins with HELLO")
        info = message.info
        if info.version[0] != self.info.version[0]:
            raise ProtocolError(f"session version {info.version}, ours is {self.info.version}")
        self.peer = info
        self._most_asked = info.limits.questions
        self.classes.limit_told(info.limits.classes)
        self.untold.append(Greeted(info))

    def _receive_call(self, call: m.Call) -> None:
        question = call.question
        if question in self._serving:
            raise ProtocolError(f"question {question} is open already")
        if len(self._serving) >= self.info.limits.questions:
            raise LimitExceeded(f"more than {self.info.limits.questions} questions open at once")
        if self._dismissed:
            raise ProtocolError("a CALL after BYE")
        refs: tuple[object, ...] = ()
        error: ProtocolError | None = None
        if call.refs:
            refs, error = self._lending.resolve(call.refs)
        target: object = None
        try:
            if call.flags:
                raise ProtocolError(f"call flags {call.flags} are not supported yet")
            target = self.exports.resolve(call.number)
        except ProtocolError as reason:
            error = error or reason
        if call.steps is None or call.bulk:
            coming = self._serving[question] = Coming()
            self._take(call.steps, call.bulk, partial(self._called, call, target, refs, error, coming))
        elif error is not None:
            self._called(call, target, refs, error, Coming(), call.steps)
        else:  # as a rule
            self._serving[question] = None
            payload = Payload(call.steps, refs)
            self.untold.append(Called(question, target, payload, call.cause, call.affinity, call.deadline))

    def _called(
        self,
        call: m.Call,
        target: object,
        refs: tuple[object, ...],
        error: ProtocolError | None,
        coming: Coming,
        packed: bytes,
        bodies: tuple[bytes, ...] = (),
        lost: ProtocolError | None = None,
    ) -> None:
        """All of a call is there, or what is missing will not come."""
        problem = error or lost
        if coming.told or problem is not None:
            self._return_refs(call.refs)
        if coming.told:  # it was cancelled while its bodies came
            return
        self._serving[call.question] = None
        if problem is not None:
            self.untold.append(Rejected(call.question, problem))
            return
        payload = Payload(packed, refs, bodies)
        self.untold.append(Called(call.question, target, payload, call.cause, call.affinity, call.deadline))

    def _receive_outcome(self, answer: m.Answer | m.Raise) -> None:
        question = answer.question
        packed = answer.value if type(answer) is m.Answer else answer.exception  # type: ignore[union-attr]
        state = self._asked.get(question)
        if state is None or state & ARRIVING:
            raise ProtocolError(f"an answer to question {question}, which is not open")
        refs: tuple[object, ...] = ()
        error: ProtocolError | None = None
        if answer.refs:
            refs, error = self._lending.resolve(answer.refs)
        if packed is None or answer.bulk:
            self._asked[question] = state | ARRIVING
            self._take(packed, answer.bulk, partial(self._answered, answer, refs, error))
        else:
            self._answered(answer, refs, error, packed)

    def _answered(
        self,
        answer: m.Answer | m.Raise,
        refs: tuple[object, ...],
        error: ProtocolError | None,
        packed: bytes,
        bodies: tuple[bytes, ...] = (),
        lost: ProtocolError | None = None,
    ) -> None:
        """All of an outcome is there, or what is missing will not come."""
        question = answer.question
        problem = error or lost
        if self._asked.pop(question) & DROPPED:
            self._return_refs(answer.refs)  # a late answer: what it carried is nobody's
        elif problem is not None:
            self._return_refs(answer.refs)
            self.untold.append(Broken(question, problem))
        elif type(answer) is m.Answer:
            self.untold.append(Answered(question, Payload(packed, refs, bodies)))
        else:
            self.untold.append(Failed(question, Payload(packed, refs, bodies), answer.step))  # type: ignore[union-attr]

    def _take(
        self,
        packed: bytes | None,
        bulk: tuple[int, ...],
        deliver: Callable[[bytes, tuple[bytes, ...], ProtocolError | None], None],
    ) -> None:
        consumed = self._arrivals.add(packed, bulk, deliver)
        if consumed:
            self.untold.append(BulkConsumed(consumed))

    def _receive_cancel(self, cancel: m.Cancel) -> None:
        question = cancel.question
        if question not in self._serving:
            return  # our answer crossed it; nobody's fault
        coming = self._serving[question]
        if coming is None:
            self.untold.append(CancelRequested(question))
            return
        coming.told = True
        self._serving[question] = None
        self.untold.append(Rejected(question, Cancelled("the call was cancelled before all of it had arrived")))

    def _receive_class(self, message: m.ClassMessage) -> None:
        self.classes.hear(message.number, message.info)

    def _receive_end(self, end: m.End) -> None:
        self.untold.append(Ended(end.affinity))

    def _receive_want_bulk(self, _wanted: m.WantBulk) -> None:
        if not self.opener:
            raise ProtocolError("unexpected WantBulk message")
        self._want_bulk()

    def _receive_bye(self, bye: m.Bye) -> None:
        self._dismissed = True
        failure = bye.failure
        self.untold.append(Dismissed(failure.code, failure.text, failure.hop))

    def _receive_release(self, release: m.Release) -> None:
        pairs = release.pairs
        if len(pairs) % 2:
            raise ProtocolError("RELEASE with half a pair")
        values: list[object] = []
        try:
            for i in range(0, len(pairs), 2):
                value = self.exports.release(pairs[i], pairs[i + 1])
                if value is not None:
                    values.append(value)
        finally:
            if values:  # whatever came after them, they die where the driver lets them
                self.untold.append(Released(values))

    def _return_refs(self, refs: tuple[Ref, ...]) -> None:
        """Give back what came with a message that nobody gets."""
        self.release([(ref.number, 1) for ref in refs if ref.kind is RefKind.EXPORT])

    _RECEIVE: ClassVar[dict[type, Callable[[Rpc, Any], None]]] = {
        m.Call: _receive_call,
        m.Answer: _receive_outcome,
        m.Raise: _receive_outcome,
        m.Cancel: _receive_cancel,
        m.Release: _receive_release,
        m.ClassMessage: _receive_class,
        m.End: _receive_end,
        m.WantBulk: _receive_want_bulk,
        m.Bye: _receive_bye,
    }
    """What a message does once the peer's HELLO is there; the others are out of place."""

    # -- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> list[object]:
        """The session is over: forget everything. Returns the objects that were lent, to be dropped by the caller."""
        self._asked.clear()
        self._serving.clear()
        self._arrivals.clear()
        self._bulk_out.clear()
        self.out.clear()
        lent = self.exports.clear()
        for event in self.untold:  # what nobody was told of holds objects too: they must not die here either
            if isinstance(event, Released):
                lent += event.values
            elif isinstance(event, Called):
                lent += (event.target, event.payload)
        self.untold.clear()
        return lent
