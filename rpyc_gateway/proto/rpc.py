"""Questions and answers of one session: call, answer, cancel, release (docs/protocol.md, sections 6 to 10).

A pure machine: bytes of the `call` and `bulk` circuits and intentions go in, events and bytes come out. What it receives it does not
decode beyond references, and what it sends was encoded before (values.Draft): a step of this machine runs no user code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

from rpyc_gateway.errors import Cancelled, Code, GatewayError, LimitExceeded, ProtocolError
from rpyc_gateway.proto import messages as m
from rpyc_gateway.proto.arrivals import Arrivals
from rpyc_gateway.proto.bulk import BulkSender
from rpyc_gateway.proto.facts import (
    Answered,
    Broken,
    BulkConsumed,
    BulkWanted,
    Called,
    CancelRequested,
    Dismissed,
    Ended,
    Event,
    Failed,
    Greeted,
    Rejected,
    Released,
    RpcStatistics,
)
from rpyc_gateway.proto.frames import Failure
from rpyc_gateway.proto.lending import Lending
from rpyc_gateway.proto.messages import Ref, RefKind, SessionInfo
from rpyc_gateway.proto.tables import Classes, Exports, Imports
from rpyc_gateway.proto.values import LARGE, Draft, Payload

__all__ = ["Rpc"]

_RELEASE_BATCH = 2000
"""Pairs in one RELEASE, so that it stays a short message."""


_DROPPED, _ARRIVING = 1, 2
"""What a question of ours may be: nobody is interested any more; its answer is here, without its bodies yet."""


class _Coming:
    """A question of the peer whose bodies are under way. `told`: an event has said all the same that it is over."""

    __slots__ = ("told",)

    def __init__(self) -> None:
        self.told = False


class Rpc:
    """One side of a session."""

    def __init__(self, info: SessionInfo, *, opener: bool, root: object, numbers: Iterator[int]) -> None:
        self.info = info
        self.opener = opener
        self.peer: SessionInfo | None = None
        self.exports = Exports(root, numbers, info.limits.exports)
        self.imports = Imports()
        self.classes = Classes(info.limits.classes)
        self._lending = Lending(self.exports, self.classes, self._send)
        self.bulk_open = False
        self._splitter = m.Splitter()
        self._bulk_out = BulkSender()
        self._arrivals = Arrivals(info.limits.body)
        self._events: list[Event] = []
        self._out: list[bytes] = [m.encode(m.Hello(info))]
        self._bulk_asked = False
        self._asked: dict[int, int] = {}
        self._serving: dict[int, _Coming | None] = {}  # None: an event has said of it
        self._most_asked = info.limits.questions
        self._next_question = 1
        self._next_cause = 1 if opener else 2
        self._dismissed = False

    # -- bytes in ---------------------------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Bytes of the `call` circuit. Raises ProtocolError or LimitExceeded, which cost the session."""
        for message in self._splitter.receive_data(data):
            if self.peer is None:
                self._receive_hello(message)
                continue
            receive = self._RECEIVE.get(type(message))
            if receive is None:
                raise ProtocolError(f"unexpected {type(message).__name__} message")
            receive(self, message)

    def hear(self, data: bytes) -> Answered | Called | None:
        """The event of the one short message that these bytes of the `call` circuit are: a call or an answer without references.

        None, and nothing has changed, for anything else: `receive_data` takes that. The short way of `receive_data`, and of nothing but it.
        """
        if self.peer is None or self._events:
            return None
        message = self._splitter.read_whole(data)
        if type(message) is m.Answer:
            question, value = message.question, message.value
            if value is None or message.refs or message.bulk or self._asked.get(question) != 0:
                return None
            del self._asked[question]
            return Answered(question, Payload(value))
        if type(message) is not m.Call:
            return None
        question, steps, serving = message.question, message.steps, self._serving
        if (
            steps is None
            or message.refs
            or message.bulk
            or message.flags
            or self._dismissed
            or question in serving
            or len(serving) >= self.info.limits.questions
        ):
            return None
        number = message.number
        if not number or number not in self.exports:
            return None
        serving[question] = None
        target = self.exports.resolve(number)
        return Called(question, target, Payload(steps), message.cause, message.affinity, message.deadline)

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
        self._events.append(Greeted(info))

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
            coming = self._serving[question] = _Coming()
            self._take(call.steps, call.bulk, partial(self._called, call, target, refs, error, coming))
        elif error is not None:
            self._called(call, target, refs, error, _Coming(), call.steps)
        else:  # as a rule
            self._serving[question] = None
            payload = Payload(call.steps, refs)
            self._events.append(Called(question, target, payload, call.cause, call.affinity, call.deadline))

    def _called(
        self,
        call: m.Call,
        target: object,
        refs: tuple[object, ...],
        error: ProtocolError | None,
        coming: _Coming,
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
            self._events.append(Rejected(call.question, problem))
            return
        payload = Payload(packed, refs, bodies)
        self._events.append(Called(call.question, target, payload, call.cause, call.affinity, call.deadline))

    def _receive_outcome(self, answer: m.Answer | m.Raise) -> None:
        question = answer.question
        packed = answer.value if type(answer) is m.Answer else answer.exception  # type: ignore[union-attr]
        state = self._asked.get(question)
        if state is None or state & _ARRIVING:
            raise ProtocolError(f"an answer to question {question}, which is not open")
        refs: tuple[object, ...] = ()
        error: ProtocolError | None = None
        if answer.refs:
            refs, error = self._lending.resolve(answer.refs)
        if packed is None or answer.bulk:
            self._asked[question] = state | _ARRIVING
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
        if self._asked.pop(question) & _DROPPED:
            self._return_refs(answer.refs)  # a late answer: what it carried is nobody's
        elif problem is not None:
            self._return_refs(answer.refs)
            self._events.append(Broken(question, problem))
        elif type(answer) is m.Answer:
            self._events.append(Answered(question, Payload(packed, refs, bodies)))
        else:
            self._events.append(Failed(question, Payload(packed, refs, bodies), answer.step))  # type: ignore[union-attr]

    def _take(
        self,
        packed: bytes | None,
        bulk: tuple[int, ...],
        deliver: Callable[[bytes, tuple[bytes, ...], ProtocolError | None], None],
    ) -> None:
        consumed = self._arrivals.add(packed, bulk, deliver)
        if consumed:
            self._events.append(BulkConsumed(consumed))

    def _receive_cancel(self, cancel: m.Cancel) -> None:
        question = cancel.question
        if question not in self._serving:
            return  # our answer crossed it; nobody's fault
        coming = self._serving[question]
        if coming is None:
            self._events.append(CancelRequested(question))
            return
        coming.told = True
        self._serving[question] = None
        self._events.append(Rejected(question, Cancelled("the call was cancelled before all of it had arrived")))

    def _receive_class(self, message: m.ClassMessage) -> None:
        self.classes.hear(message.number, message.info)

    def _receive_end(self, end: m.End) -> None:
        self._events.append(Ended(end.affinity))

    def _receive_want_bulk(self, _wanted: m.WantBulk) -> None:
        if not self.opener:
            raise ProtocolError("unexpected WantBulk message")
        self._want_bulk()

    def _receive_bye(self, bye: m.Bye) -> None:
        self._dismissed = True
        failure = bye.failure
        self._events.append(Dismissed(failure.code, failure.text, failure.hop))

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
                self._events.append(Released(values))

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

    # -- facts out --------------------------------------------------------------------------------------------------

    def events(self) -> list[Event]:
        """What happened since the last time."""
        events, self._events = self._events, []
        return events

    # -- intentions in ----------------------------------------------------------------------------------------------

    def new_cause(self) -> int:
        """A number for a chain of calls that begins here."""
        cause, self._next_cause = self._next_cause, self._next_cause + 2
        return cause

    @property
    def room(self) -> int:
        """How many more questions the peer takes now."""
        return self._most_asked - len(self._asked)

    def call(self, number: int, draft: Draft, *, cause: int, affinity: int = 0, deadline: int = 0) -> int:
        """Ask: run the steps of `draft` on the peer's object `number`; returns the question.

        Raises LimitExceeded, EncodeError, and changes nothing then.
        """
        if len(self._asked) >= self._most_asked:
            raise LimitExceeded(f"{self._most_asked} questions are open already")
        if self.imports.dropped or self.imports.lingering:
            self.flush_releases()
        question = self._next_question
        if question in self._asked:
            question = self._allot()
        self._next_question = question % (2**32 - 1) + 1
        packed = draft.packed
        if draft.refs or draft.bodies or len(packed) > LARGE:
            self._commit((m.CALL, question, number), draft, (cause, affinity, deadline, 0))
        else:  # as a rule
            self._out.append(m.encode((m.CALL, question, number, packed, (), (), cause, affinity, deadline, 0)))
        self._asked[question] = 0
        return question

    def answer(self, question: int, draft: Draft) -> None:
        """Answer a question of the peer; too late is no harm. Raises LimitExceeded, EncodeError, and changes nothing then."""
        if question in self._serving:
            packed = draft.packed
            if draft.refs or draft.bodies or len(packed) > LARGE:
                self._commit((m.ANSWER, question), draft)
            else:  # as a rule
                self._out.append(m.encode((m.ANSWER, question, packed, (), ())))
            del self._serving[question]

    def raised(self, question: int, draft: Draft, step: int = 0) -> None:
        """Answer a question of the peer with an exception; as `answer`."""
        if question in self._serving:
            self._commit((m.RAISE, question), draft, (min(step, 65535),))
            del self._serving[question]

    def is_serving(self, question: int) -> bool:
        """Whether a question of the peer still waits for its answer."""
        return question in self._serving

    def cancel(self, question: int) -> None:
        """Lose interest in one of our questions; it stays open until its answer has come, which is dropped."""
        state = self._asked.get(question)
        if state is None or state & _DROPPED:
            return
        self._asked[question] = state | _DROPPED
        if not state & _ARRIVING:
            self._send(m.Cancel(question))

    def release(self, pairs: list[tuple[int, int]]) -> None:
        """Give references back."""
        for start in range(0, len(pairs), _RELEASE_BATCH):
            batch = pairs[start : start + _RELEASE_BATCH]
            self._send(m.Release(tuple(part for pair in batch for part in pair)))

    def flush_releases(self) -> None:
        """Queue the releases of proxies that have died."""
        dropped = self.imports.take_dropped()
        if dropped:
            self.release(dropped)

    def end(self, affinity: int) -> None:
        """A thread that called with this affinity is gone."""
        self._send(m.End(affinity))

    def bye(self, code: int = Code.DONE, text: str = "", hop: str = "") -> None:
        """Say that no further call will come."""
        self._send(m.Bye(Failure(code=code, text=text, hop=hop)))

    def _allot(self) -> int:
        question = self._next_question
        while question in self._asked:
            question = question % (2**32 - 1) + 1
        self._next_question = question % (2**32 - 1) + 1
        return question

    def _commit(self, head: tuple[object, ...], draft: Draft, tail: tuple[object, ...] = ()) -> None:
        """Queue the message [*head, packed part, refs, bulk, *tail]: number what its draft refers to, and queue its bodies. All or nothing."""
        packed: bytes | None = draft.packed
        bodies = draft.bodies
        if len(draft.packed) > LARGE:
            packed, bodies = None, (draft.packed, *bodies)
        size = sum(map(len, bodies))
        limit = (self.peer or self.info).limits.body
        if size > limit:
            raise LimitExceeded(f"a message with {size} bytes exceeds limit of {limit}")
        refs = self._lending.lend(draft.refs)
        try:
            data = m.encode((*head, packed, refs, self._bulk_out.announce(bodies) if bodies else (), *tail))
        except GatewayError:
            self._lending.take_back(refs)
            raise
        if bodies:
            self._want_bulk()
            self._bulk_out.add(bodies)
        self._out.append(data)

    def _want_bulk(self) -> None:
        if self.bulk_open or self._bulk_asked:
            return
        self._bulk_asked = True
        if self.opener:
            self._events.append(BulkWanted())
        else:
            self._send(m.WantBulk())

    def _send(self, message: m.Message) -> None:
        self._out.append(m.encode(message))

    # -- bytes out --------------------------------------------------------------------------------------------------

    def one_message(self) -> bytes | None:
        """Bytes for the `call` circuit if they are one message, and all that there is to do; None, and nothing has changed, otherwise."""
        out = self._out
        return out.pop() if len(out) == 1 and not self._events and not self._bulk_out else None

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to tell and nothing to send, and nothing has died."""
        return not (self._events or self._out or self.imports.dropped)

    def data_to_send(self) -> bytes:
        """Bytes for the `call` circuit."""
        out = self._out
        if len(out) == 1:
            return out.pop()
        data = b"".join(out)
        out.clear()
        return data

    def bulk_to_send(self) -> list[bytes | memoryview]:
        """The next chunk for the `bulk` circuit once it is open: [header, bytes] or []."""
        return self._bulk_out.data_to_send() if self.bulk_open else []

    # -- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> list[object]:
        """The session is over: forget everything. Returns the objects that were lent, to be dropped by the caller."""
        self._asked.clear()
        self._serving.clear()
        self._arrivals.clear()
        self._bulk_out.clear()
        self._out.clear()
        lent = self.exports.clear()
        for event in self._events:  # what nobody was told of holds objects too: they must not die here either
            if isinstance(event, Released):
                lent += event.values
            elif isinstance(event, Called):
                lent += (event.target, event.payload)
        self._events.clear()
        return lent

    def statistics(self) -> RpcStatistics:
        """What the session holds now."""
        return RpcStatistics(len(self._asked), len(self._serving), len(self.exports), len(self.imports))
