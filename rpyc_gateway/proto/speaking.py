"""The half of a session's machine that speaks: questions, answers, what is given back, and the bytes of all that.

What it sends was encoded before (values.Draft): no step of it runs user code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from rpyc_gateway.errors import Code, GatewayError, LimitExceeded
from rpyc_gateway.proto import messages as m
from rpyc_gateway.proto.bulk import BulkSender
from rpyc_gateway.proto.facts import BulkWanted, Event, RpcStatistics
from rpyc_gateway.proto.frames import Failure
from rpyc_gateway.proto.lending import Lending
from rpyc_gateway.proto.messages import SessionInfo
from rpyc_gateway.proto.tables import Classes, Exports, Imports
from rpyc_gateway.proto.values import LARGE, Draft

__all__ = ["ARRIVING", "DROPPED", "Coming", "Question", "Speaker"]

Question = tuple[int, bytes, int, int, int]
"""What is asked: the peer's object, a packed program without references and bodies, cause, affinity and deadline."""

_RELEASE_BATCH = 2000
"""Pairs in one RELEASE, so that it stays a short message."""


DROPPED, ARRIVING = 1, 2
"""What a question of ours may be: nobody is interested any more; its answer is here, without its bodies yet."""


class Coming:
    """A question of the peer whose bodies are under way. `told`: an event has said all the same that it is over."""

    __slots__ = ("told",)

    def __init__(self) -> None:
        self.told = False


class Speaker:
    """The ground floor of an Rpc: what is open, on both sides, and what leaves."""

    def __init__(self, info: SessionInfo, *, opener: bool, root: object, numbers: Iterator[int]) -> None:
        self.info = info
        self.opener = opener
        self.peer: SessionInfo | None = None
        self.exports = Exports(root, numbers, info.limits.exports)
        self.imports = Imports()
        self.classes = Classes(info.limits.classes)
        self._lending = Lending(self.exports, self.classes, self._send)
        self.bulk_open = False
        self._bulk_out = BulkSender()
        self.untold: list[Event] = []  # what `events` will tell
        self.out: list[bytes] = [m.encode(m.Hello(info))]
        self._bulk_asked = False
        self._asked: dict[int, int] = {}
        self._serving: dict[int, Coming | None] = {}  # None: an event has said of it
        self._most_asked = info.limits.questions
        self.reserved = 0  # questions that will be asked in a moment, and have their places already
        self._next_question = 1
        self.next_cause = 1 if opener else 2

    # -- intentions in

    def new_cause(self) -> int:
        """A number for a chain of calls that begins here."""
        cause = self.next_cause
        self.next_cause = cause + 2
        return cause

    @property
    def most(self) -> int:
        """How many questions the peer takes at a time."""
        return self._most_asked

    @property
    def room(self) -> int:
        """How many more questions the peer takes now."""
        return self._most_asked - len(self._asked) - self.reserved

    def call(self, number: int, draft: Draft, *, cause: int, affinity: int = 0, deadline: int = 0) -> int:
        """Ask: run the steps of `draft` on the peer's object `number`; returns the question. `cause` is the chain of calls, 0 for a new one.

        Raises LimitExceeded, EncodeError, and changes nothing then.
        """
        if len(self._asked) + self.reserved >= self._most_asked:
            raise LimitExceeded(f"{self._most_asked} questions are open already")
        if self.imports.dropped or self.imports.lingering:
            self.flush_releases()
        cause = cause or self.new_cause()
        question = self._next_question
        if question in self._asked:
            question = self._allot()
        self._next_question = question % (2**32 - 1) + 1
        packed = draft.packed
        if draft.refs or draft.bodies or len(packed) > LARGE:
            self._commit((m.CALL, question, number), draft, (cause, affinity, deadline, 0))
        else:  # as a rule
            self.out.append(m.encode((m.CALL, question, number, packed, (), (), cause, affinity, deadline, 0)))
        self._asked[question] = 0
        return question

    def ask(
        self, number: int, draft: Draft, *, cause: int, affinity: int = 0, deadline: int = 0
    ) -> tuple[int, bytes | None]:
        """Ask as `call` does: the question, and the bytes for the `call` circuit if they are all that there is to do.

        None for the bytes if there is more; then the question waits among what is to be sent. Raises what `call` raises.
        """
        question = self._next_question
        packed = draft.packed
        if (
            draft.refs
            or draft.bodies
            or len(packed) > LARGE
            or question in self._asked
            or len(self._asked) + self.reserved >= self._most_asked
            or self.out
            or self.untold
            or self._bulk_out.waiting
        ):
            return self.call(number, draft, cause=cause, affinity=affinity, deadline=deadline), None
        if self.imports.dropped or self.imports.lingering:
            self.flush_releases()
        if not cause:
            cause = self.next_cause
            self.next_cause = cause + 2
        body = m.pack((m.CALL, question, number, packed, (), (), cause, affinity, deadline, 0))
        data = m.pack_length(len(body)) + body
        self._next_question = question % (2**32 - 1) + 1
        self._asked[question] = 0
        return question, self._after_what_waits(data) if self.out else data

    def ask_together(self, asked: Sequence[Question]) -> tuple[list[int], bytes] | None:
        """Ask many small questions as `call` does: their numbers, and the bytes for the `call` circuit.

        None, and nothing has changed, if there is more to do than to send them, or the peer does not take so many.
        """
        if self.untold or self._bulk_out.waiting or len(asked) > self.room:
            return None
        if self.imports.dropped or self.imports.lingering:
            self.flush_releases()
        questions: list[int] = []
        out, open_ones, question = self.out, self._asked, self._next_question
        for number, packed, cause, affinity, deadline in asked:
            while question in open_ones:
                question = question % (2**32 - 1) + 1
            if not cause:
                cause = self.next_cause
                self.next_cause = cause + 2
            body = m.pack((m.CALL, question, number, packed, (), (), cause, affinity, deadline, 0))
            out.append(m.pack_length(len(body)) + body)
            open_ones[question] = 0
            questions.append(question)
            question = question % (2**32 - 1) + 1
        self._next_question = question
        return questions, self.data_to_send()

    def _after_what_waits(self, data: bytes) -> bytes:
        """All that there is to send, a message that was made last of all."""
        self.out.append(data)
        return self.data_to_send()

    def answer_alone(self, question: int, packed: bytes, refs: tuple[object, ...] = ()) -> bytes | None:
        """The bytes for the `call` circuit of an answer that is small and has no bodies: all that there is to send.

        None, and nothing has changed, if there is more to do than to send them. The short way of `answer` and `data_to_send`, and of
        nothing but them. Raises what `answer` raises.
        """
        if (
            len(packed) > LARGE
            or question not in self._serving
            or self.out
            or self.untold
            or self._bulk_out.waiting
            or self.imports.dropped
        ):
            return None
        lent = self._lending.lend(refs) if refs else ()
        del self._serving[question]
        body = m.pack((m.ANSWER, question, packed, lent, ()))
        data = m.pack_length(len(body)) + body
        return self._after_what_waits(data) if self.out else data

    def answer_together(self, answers: Sequence[tuple[int, bytes]]) -> bytes | None:
        """The bytes for the `call` circuit of many answers that are small and refer to nothing, as `answer` gives them: too late is no harm.

        None, and nothing has changed, if there is more to do than to send them.
        """
        if self.untold or self._bulk_out.waiting or self.imports.dropped:
            return None
        serving, out = self._serving, self.out
        for question, packed in answers:
            if question in serving:
                del serving[question]
                body = m.pack((m.ANSWER, question, packed, (), ()))
                out.append(m.pack_length(len(body)) + body)
        return self.data_to_send()

    def answer(self, question: int, draft: Draft) -> None:
        """Answer a question of the peer; too late is no harm. Raises LimitExceeded, EncodeError, and changes nothing then."""
        if question in self._serving:
            packed = draft.packed
            if draft.refs or draft.bodies or len(packed) > LARGE:
                self._commit((m.ANSWER, question), draft)
            else:  # as a rule
                self.out.append(m.encode((m.ANSWER, question, packed, (), ())))
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
        if state is None or state & DROPPED:
            return
        self._asked[question] = state | DROPPED
        if not state & ARRIVING:
            self._send(m.Cancel(question))

    def release(self, pairs: list[tuple[int, int]]) -> None:
        """Give references back."""
        for start in range(0, len(pairs), _RELEASE_BATCH):
            batch = pairs[start : start + _RELEASE_BATCH]
            self._send(m.Release(tuple(chain.from_iterable(batch))))

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
        self.out.append(data)

    def _want_bulk(self) -> None:
        if self.bulk_open or self._bulk_asked:
            return
        self._bulk_asked = True
        if self.opener:
            self.untold.append(BulkWanted())
        else:
            self._send(m.WantBulk())

    def _send(self, message: m.Message) -> None:
        self.out.append(m.encode(message))

    # -- facts and bytes out

    def events(self) -> list[Event]:
        """What happened since the last time."""
        events, self.untold = self.untold, []
        return events

    def one_message(self) -> bytes | None:
        """Bytes for the `call` circuit if they are one message, and all that there is to do; None, and nothing has changed, otherwise."""
        out = self.out
        return out.pop() if len(out) == 1 and not self.untold and not self._bulk_out.waiting else None

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to tell and nothing to send, and nothing has died."""
        return not (self.untold or self.out or self.imports.dropped)

    def data_to_send(self) -> bytes:
        """Bytes for the `call` circuit."""
        out = self.out
        if len(out) == 1:
            return out.pop()
        data = b"".join(out)
        out.clear()
        return data

    def bulk_to_send(self) -> list[bytes | memoryview]:
        """The next chunk for the `bulk` circuit once it is open: [header, bytes] or []."""
        return self._bulk_out.data_to_send() if self.bulk_open else []

    def statistics(self) -> RpcStatistics:
        """What the session holds now."""
        return RpcStatistics(len(self._asked), len(self._serving), len(self.exports), len(self.imports))
