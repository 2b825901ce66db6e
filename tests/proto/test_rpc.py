"""Questions and answers between two machines: closed exactly once, counted to nought, whatever crosses on the wire."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import Cancelled, Code, LimitExceeded, ProtocolError
from rpyc_gateway.proto import facts
from rpyc_gateway.proto import messages as m
from rpyc_gateway.proto.facts import Answered, Broken, BulkConsumed, Called, Dismissed, Failed, Rejected
from rpyc_gateway.proto.frames import Failure
from rpyc_gateway.proto.messages import Ref, RefKind, SessionInfo, SessionLimits
from tests.proto.rpc_pair import EMPTY, HELLO, LONG, THING, Held, Pair, Side, Thing, greeted, said, stranger

# -- the beginning ------------------------------------------------------------------------------------------------------


def test_the_first_call_travels_with_hello() -> None:
    pair = Pair()
    question = pair.near.call("adc.read")
    pair.pull(pair.near)
    pair.deliver(pair.far)
    greeting, called = pair.far.listen()
    assert isinstance(greeting, facts.Greeted)
    assert greeting.info.name == "near"
    assert isinstance(called, Called)
    assert (called.question, called.target, pair.far.value(called.payload)) == (question, pair.far.root, "adc.read")


@pytest.mark.parametrize(
    "first",
    [m.Cancel(1), m.Bye(Failure(code=0)), m.Hello(SessionInfo(vat=b"somebody's vat--", version=(2, 0)))],
    ids=["CANCEL", "BYE", "another version"],
)
def test_a_session_begins_with_a_hello_of_this_version(first: m.Message) -> None:
    with pytest.raises(ProtocolError):
        Side("ours").receive(first)


@pytest.mark.parametrize("message", [HELLO, m.Finish(1), m.WantBulk()], ids=["HELLO", "FINISH", "WANT_BULK"])
def test_what_has_no_place_here_ends_the_session(message: m.Message) -> None:
    with pytest.raises(ProtocolError, match="unexpected"):
        stranger().receive(message)


# -- questions ----------------------------------------------------------------------------------------------------------


def test_a_question_is_answered() -> None:
    pair = greeted()
    question = pair.near.rpc.call(0, pair.near.draft("adc.read"), cause=5, affinity=6, deadline=7)
    pair.settle()
    (called,) = pair.far.listen()
    assert isinstance(called, Called)
    assert (called.cause, called.affinity, called.deadline) == (5, 6, 7)
    assert pair.far.rpc.is_serving(question)
    pair.far.answer(question, 42)
    pair.settle()
    (answered,) = pair.near.listen()
    assert isinstance(answered, Answered)
    assert (answered.question, pair.near.value(answered.payload)) == (question, 42)
    assert pair.near.counts == pair.far.counts == (0, 0, 0, 0)


def test_a_question_comes_to_an_exception_of_a_step() -> None:
    pair = greeted()
    question = pair.near.call()
    pair.settle()
    pair.far.rpc.raised(question, pair.far.draft("it broke"), 3)
    pair.settle()
    (failed,) = pair.near.listen()
    assert isinstance(failed, Failed)
    assert (failed.question, pair.near.value(failed.payload), failed.step) == (question, "it broke", 3)


@pytest.mark.parametrize("bulk", [(), (1, 9000)], ids=["at once", "while its bodies come"])
def test_a_peer_that_answers_twice_has_broken_the_rules(bulk: tuple[int, ...]) -> None:
    ours = stranger(opener=True)
    question = ours.call()
    ours.receive(m.Answer(question, EMPTY, (), bulk))
    with pytest.raises(ProtocolError, match="not open"):
        ours.receive(m.Answer(question, EMPTY))


def test_a_peer_that_asks_twice_under_one_number_has_broken_the_rules() -> None:
    ours = stranger()
    ours.receive(m.Call(1, 0, EMPTY))
    with pytest.raises(ProtocolError, match="open already"):
        ours.receive(m.Call(1, 0, EMPTY))


# -- cancelling ---------------------------------------------------------------------------------------------------------


def test_a_cancelled_question_is_closed_by_its_answer_which_nobody_hears() -> None:
    pair = greeted()
    question = pair.near.call("adc.read")
    pair.settle()
    pair.near.rpc.cancel(question)
    pair.near.rpc.cancel(question)
    pair.settle()
    assert pair.far.listen()[1:] == [facts.CancelRequested(question)]
    assert pair.near.counts.asked == 1
    pair.far.answer(question, 42)
    pair.settle()
    assert pair.near.listen() == []
    assert pair.near.counts == pair.far.counts == (0, 0, 0, 0)


def test_a_cancel_may_cross_the_answer() -> None:
    pair = greeted()
    question = pair.near.call("adc.read")
    pair.settle()
    pair.far.answer(question, Thing(pair.far))
    pair.near.rpc.cancel(question)
    pair.settle()
    assert pair.near.listen() == []
    assert [type(event) for event in pair.far.listen()] == [Called, facts.Released]
    assert pair.far.counts == (0, 0, 0, 0)


@pytest.mark.parametrize("long", [b"", LONG], ids=["small", "large"])
def test_what_a_late_answer_carried_is_given_back(long: bytes) -> None:
    pair = greeted()
    question = pair.near.call()
    pair.settle()
    pair.near.rpc.cancel(question)
    pair.far.answer(question, (Thing(pair.far), long))
    assert pair.far.counts.exports == 1
    pair.settle()
    assert pair.far.counts == (0, 0, 0, 0)


def test_a_call_that_is_cancelled_while_its_bodies_come_is_never_made() -> None:
    pair = greeted()
    question = pair.near.call((Thing(pair.near), LONG))
    pair.near.rpc.cancel(question)
    pair.pull(pair.near)
    pair.deliver(pair.far)
    (rejected,) = pair.far.listen()
    assert isinstance(rejected, facts.Rejected)
    assert rejected.question == question
    assert isinstance(rejected.error, Cancelled)
    pair.far.rpc.raised(question, pair.far.draft("cancelled"))
    pair.settle()
    assert pair.far.listen() == []
    assert pair.near.counts == pair.far.counts == (0, 0, 0, 0)  # the object that came along went home


def test_the_bodies_of_a_cancelled_call_do_not_belong_to_the_next_call_of_its_number() -> None:
    ours = stranger()
    (rejected,) = ours.receive(m.Call(1, 0, EMPTY, (), (1, 3)), m.Cancel(1))
    assert isinstance(rejected, Rejected)
    ours.rpc.raised(1, ours.draft("cancelled"))
    assert [type(event) for event in ours.receive(m.Call(1, 0, EMPTY))] == [Called]
    ours.rpc.receive_bulk(b"\0\0\0\1\0\0\0\3abc")
    assert ours.rpc.events() == []
    assert ours.rpc.is_serving(1)


def test_a_cancel_of_an_answer_whose_bodies_come_is_for_nobody_but_us() -> None:
    ours = stranger(opener=True)
    question = ours.call()
    ours.receive(m.ClassMessage(1, THING), m.Answer(question, EMPTY, (Ref(RefKind.EXPORT, 9, 1),), (1, 3)))
    said(ours)
    ours.rpc.cancel(question)
    assert said(ours) == []
    ours.rpc.receive_bulk(b"\0\0\0\1\0\0\0\3abc")
    assert ours.rpc.events() == []
    assert said(ours) == [m.Release((9, 1))]


# -- references ---------------------------------------------------------------------------------------------------------


def test_an_object_that_comes_home_is_itself() -> None:
    pair = greeted()
    thing = Thing(pair.near)
    pair.near.call((thing, thing))
    pair.settle()
    (called,) = pair.far.listen()
    assert isinstance(called, Called)
    held = pair.far.value(called.payload)[0]
    pair.far.call(held, number=held.number)
    pair.settle()
    (called,) = pair.near.listen()
    assert isinstance(called, Called)
    assert called.target is thing
    assert pair.near.value(called.payload) is thing


def test_a_dropped_object_goes_home_before_the_next_question() -> None:
    pair = greeted()
    pair.near.call(Thing(pair.near))
    pair.settle()
    (called,) = pair.far.listen()
    assert isinstance(called, Called)
    pair.far.value(called.payload)  # and drops it
    pair.far.call()
    assert [type(message) for message in said(pair.far)] == [m.Release, m.Call]


def test_what_a_call_names_is_held_although_a_release_is_right_behind_it() -> None:
    """Its bodies are still on their way: by then the peer holds neither the target nor the argument any more."""
    pair = greeted()
    thing, target = Thing(pair.near), Thing(pair.near)
    question = pair.near.call((thing, target))
    pair.settle()
    (called,) = pair.far.listen()
    assert isinstance(called, Called)
    held, held_target = pair.far.value(called.payload)
    pair.far.call((held, LONG), number=held_target.number)
    pair.far.answer(question)
    del called, held, held_target
    gc.collect()
    pair.far.rpc.flush_releases()
    pair.pull(pair.far)
    pair.deliver(pair.near)
    assert pair.near.counts.exports == 0
    pair.settle()
    (late,) = [event for event in pair.near.listen() if isinstance(event, Called)]
    assert late.target is target
    assert pair.near.value(late.payload)[0] is thing


@pytest.mark.parametrize(
    "call",
    [
        m.Call(1, 77, EMPTY),
        m.Call(1, 0, EMPTY, (Ref(RefKind.HOME, 77),)),
        m.Call(1, 0, EMPTY, (Ref(RefKind.EXPORT, 9, 5),)),
        m.Call(1, 0, EMPTY, (Ref(RefKind.PROMISE, 1),)),
        m.Call(1, 0, EMPTY, flags=1),
    ],
    ids=["a target", "an argument", "a class", "a promise", "a flag"],
)
def test_a_call_that_names_what_its_sender_was_never_given_fails_alone(call: m.Call) -> None:
    ours = stranger()
    (rejected, called) = ours.receive(call, m.Call(2, 0, EMPTY))
    assert isinstance(rejected, Rejected)
    assert isinstance(rejected.error, ProtocolError)
    assert isinstance(called, Called)
    ours.rpc.raised(1, ours.draft("no"))
    returned = [message for message in said(ours) if isinstance(message, m.Release)]
    assert returned == ([m.Release((9, 1))] if call.refs and call.refs[0].kind is RefKind.EXPORT else [])


def test_an_answer_that_names_what_its_sender_was_never_given_is_an_error_of_its_question() -> None:
    ours = stranger(opener=True)
    first, second = ours.call(), ours.call()
    refs = (Ref(RefKind.HOME, 77), Ref(RefKind.EXPORT, 9, 1))
    broken, answered = ours.receive(m.ClassMessage(1, THING), m.Answer(first, EMPTY, refs), m.Raise(second, EMPTY))
    assert isinstance(broken, Broken)
    assert broken.question == first
    assert isinstance(answered, Failed)
    assert m.Release((9, 1)) in said(ours)


@pytest.mark.parametrize("pairs", [(1,), (1, 1), (1, 0)], ids=["half a pair", "never given", "none"])
def test_a_release_of_what_is_not_held_ends_the_session(pairs: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolError):
        stranger().receive(m.Release(pairs))


# -- bulk ---------------------------------------------------------------------------------------------------------------


def test_a_small_call_does_not_wait_for_a_large_one() -> None:
    pair = greeted()
    large, small = pair.near.call(LONG), pair.near.call("small")
    pair.pull(pair.near)
    pair.deliver(pair.far)
    assert [event.question for event in pair.far.listen()] == [small]  # type: ignore[union-attr]
    pair.settle()
    assert [event.question for event in pair.far.listen()] == [large]  # type: ignore[union-attr]


def test_bodies_may_come_before_the_message_that_names_them() -> None:
    """They are held without credit until then, and paid for when the message comes on the other circuit."""
    pair = greeted()
    pair.near.call(LONG)
    pair.settle()
    pair.far.listen()
    question, before = pair.near.call(LONG), pair.far.consumed
    pair.pull(pair.near)
    pair.deliver_bulk(pair.far)
    assert pair.far.consumed == before
    pair.deliver(pair.far)
    called, consumed = sorted(pair.far.listen(), key=lambda event: type(event).__name__, reverse=True)
    assert isinstance(called, Called)
    assert called.question == question
    assert consumed == BulkConsumed(len(LONG) + 8)


def test_a_body_that_will_not_come_costs_its_message_only() -> None:
    ours = stranger(opener=True)
    question = ours.call()
    ours.receive(
        m.Call(1, 0, EMPTY, (), (1, 3)), m.Answer(question, EMPTY, (), (2, 3)), m.Call(2, 0, EMPTY, (), (3, 1))
    )
    ours.rpc.receive_bulk(b"\0\0\0\1\0\0\0\0" + b"\0\0\0\2\0\0\0\0" + b"\0\0\0\3\0\0\0\1x")
    rejected, broken, called = ours.rpc.events()
    assert isinstance(rejected, Rejected)
    assert isinstance(broken, Broken)
    assert isinstance(called, Called)


# -- bounds -------------------------------------------------------------------------------------------------------------


def test_one_question_too_many_ends_the_session() -> None:
    ours = stranger(limits=SessionLimits(questions=2))
    ours.receive(m.Call(1, 0, EMPTY), m.Call(2, 0, EMPTY))
    with pytest.raises(LimitExceeded):
        ours.receive(m.Call(3, 0, EMPTY))


@pytest.mark.parametrize("bulk", [(1, 101), (1, 60, 2, 60)])
def test_a_message_with_too_much_on_bulk_ends_the_session(bulk: tuple[int, ...]) -> None:
    ours = stranger(limits=SessionLimits(body=100))
    with pytest.raises(LimitExceeded):
        ours.receive(m.Call(1, 0, EMPTY, (), bulk))


def test_one_class_too_many_ends_the_session() -> None:
    ours = stranger(limits=SessionLimits(classes=1))
    with pytest.raises(LimitExceeded):
        ours.receive(m.ClassMessage(1, THING), m.ClassMessage(2, THING))


# -- the end ------------------------------------------------------------------------------------------------------------


def test_goodbye_announces_an_orderly_end() -> None:
    pair = greeted()
    question = pair.near.call()
    pair.settle()
    pair.far.listen()
    pair.near.rpc.bye(Code.SHUTDOWN, "the lab closes", "near")
    pair.settle()
    assert pair.far.listen() == [Dismissed(Code.SHUTDOWN, "the lab closes", "near")]
    pair.far.answer(question)
    pair.settle()
    assert [type(event) for event in pair.near.listen()] == [Answered]
    pair.near.call()
    with pytest.raises(ProtocolError, match="after BYE"):
        pair.settle()


def test_a_thread_that_has_ended_is_told_of() -> None:
    pair = greeted()
    pair.near.rpc.end(12)
    pair.settle()
    assert pair.far.listen() == [facts.Ended(12)]


def test_the_end_gives_back_what_was_lent_and_forgets_the_rest() -> None:
    pair = greeted()
    thing = Thing(pair.near)
    pair.near.call((thing, LONG))
    pair.near.rpc.bulk_open = True
    assert pair.near.rpc.close() == [thing]
    assert pair.near.counts == (0, 0, 0, 0)
    assert pair.near.rpc.data_to_send() == b""
    assert pair.near.rpc.bulk_to_send() == []


# -- noise --------------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=30), max_size=6))
def test_noise_ends_the_session_in_order(noise: list[bytes]) -> None:
    ours = stranger()
    try:
        for piece in noise:
            ours.rpc.receive_data(len(piece).to_bytes(4, "big") + piece)
            ours.rpc.receive_bulk(piece)
    except (ProtocolError, LimitExceeded):
        return


small = st.integers(0, 3)
refs = st.lists(st.builds(Ref, st.sampled_from(RefKind), small, small), max_size=3).map(tuple)
bulk = st.just(()) | st.lists(st.integers(0, 5), max_size=4).map(tuple)
packed = st.none() | st.binary(max_size=3)
messages = st.one_of(
    st.builds(m.Call, small, small, packed, refs, bulk, small, small, small, st.sampled_from([0, 0, 0, 1])),
    st.builds(m.Answer, small, packed, refs, bulk),
    st.builds(m.Raise, small, packed, refs, bulk, small),
    st.builds(m.Cancel, small),
    st.builds(m.Release, st.lists(small, max_size=4).map(tuple)),
    st.builds(m.ClassMessage, small, st.just(THING)),
    st.builds(m.End, small),
    st.just(m.WantBulk()),
)
chunks = st.binary(max_size=5).map(lambda piece: bytes([0, 0, 0, len(piece) % 4, 0, 0, 0, len(piece)]) + piece)


@given(st.lists(messages | chunks, max_size=12), st.booleans())
def test_a_peer_that_says_anything_gets_order(heard: list[m.Message | bytes], opener: bool) -> None:  # noqa: FBT001
    """Whatever is said, in whichever order: a question is told of once, and nothing is raised but what ends a session."""
    ours = stranger(opener=opener)
    thing = Thing(ours)
    ours.call(thing)
    closed: Counter[int] = Counter()
    try:
        for word in heard:
            if isinstance(word, bytes):
                ours.rpc.receive_bulk(word)
            else:
                ours.rpc.receive_data(m.encode(word))
            for event in ours.rpc.events():
                if isinstance(event, Answered | Failed | Broken):
                    closed[event.question] += 1
                elif isinstance(event, Called | Rejected):
                    ours.answer(event.question)
    except (ProtocolError, LimitExceeded):
        pass
    assert set(closed.values()) <= {1}
    assert ours.rpc.close() in ([], [thing])
    assert ours.counts == (0, 0, 0, 0)


# -- the law ------------------------------------------------------------------------------------------------------------


class Player:
    """One side that asks, answers, cancels and drops as it is told, and notes how its questions were closed."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.open: list[int] = []
        self.cancelled: set[int] = set()
        self.closed: Counter[int] = Counter()
        self.serving: list[int] = []
        self.held: list[Held] = []
        self.lent: list[Thing] = []

    def hear(self) -> None:
        for event in self.side.listen():
            if isinstance(event, Called):
                self.serving.append(event.question)
                assert isinstance(event.target, Thing)
                assert event.target.owner is self.side
                self.keep(self.side.value(event.payload))
            elif isinstance(event, Rejected):
                assert isinstance(event.error, Cancelled)
                self.side.rpc.raised(event.question, self.side.draft("cancelled"))
            elif isinstance(event, Answered | Failed):
                self.closed[event.question] += 1
                self.keep(self.side.value(event.payload))
            else:
                assert not isinstance(event, Broken)

    def keep(self, value: tuple[Any, ...]) -> None:
        for item in value:
            if isinstance(item, Held):
                self.held.append(item)
            elif isinstance(item, Thing):
                assert item.owner is self.side  # it came home as itself

    def something(self, choice: int) -> tuple[object, ...]:
        parts: list[object] = [LONG if choice & 1 else choice]
        if choice & 2:
            self.lent.append(Thing(self.side))
            parts.append(self.lent[-1])
        if choice & 4 and self.lent:
            parts.append(self.lent[choice % len(self.lent)])
        if choice & 8 and self.held:
            parts.append(self.held[choice % len(self.held)])
        return tuple(parts)

    def ask(self, choice: int) -> None:
        number = self.held[choice % len(self.held)].number if choice & 16 and self.held else 0
        self.open.append(self.side.call(self.something(choice), number))

    def answer(self, choice: int) -> None:
        if self.serving:
            self.side.answer(self.serving.pop(choice % len(self.serving)), self.something(choice))

    def fail(self, choice: int) -> None:
        if self.serving:
            question = self.serving.pop(choice % len(self.serving))
            self.side.rpc.raised(question, self.side.draft(self.something(choice)), 1)

    def cancel(self, choice: int) -> None:
        if self.open:
            question = self.open[choice % len(self.open)]
            if not self.closed[question]:
                self.cancelled.add(question)
                self.side.rpc.cancel(question)

    def drop(self, choice: int) -> None:
        if self.held:
            del self.held[choice % len(self.held)]

    def flush(self, _choice: int) -> None:
        self.side.rpc.flush_releases()


ACTIONS = ["ask", "answer", "fail", "cancel", "drop", "flush", "pull", "deliver", "bulk", "deliver", "bulk"]
steps = st.lists(st.tuples(st.sampled_from(ACTIONS), st.booleans(), st.integers(0, 31)), max_size=60)


@given(steps)
def test_every_question_is_closed_once_and_every_count_returns_to_nought(
    plan: list[tuple[str, bool, int]],
) -> None:
    pair = Pair()
    players = Player(pair.near), Player(pair.far)
    for action, which, choice in plan:
        player = players[which]
        if action == "pull":
            pair.pull(player.side)
        elif action == "deliver":
            pair.deliver(player.side, choice * 10)
        elif action == "bulk":
            pair.deliver_bulk(player.side, choice * 1000)
        else:
            getattr(player, action)(choice)
        player.hear()
    settle(pair, *players)
    for player in players:
        assert player.closed == Counter(question for question in player.open if question not in player.cancelled)
        assert player.side.counts == (0, 0, 0, 0)


def settle(pair: Pair, *players: Player) -> None:
    """Answer what is open, drop what is held, let everything through."""
    for _ in range(3):
        pair.settle()
        for player in players:
            player.hear()
            while player.serving:
                player.answer(0)
            player.held.clear()
            player.flush(0)
