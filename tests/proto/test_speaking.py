"""What a session's machine says: one question after the other, within the bounds of its peer, and all of it or nothing."""

from __future__ import annotations

import pytest

from rpyc_gateway.errors import EncodeError, LimitExceeded
from rpyc_gateway.proto import facts
from rpyc_gateway.proto import messages as m
from rpyc_gateway.proto.facts import BulkWanted, Called, Failed
from rpyc_gateway.proto.messages import SessionLimits
from rpyc_gateway.proto.values import Draft
from tests.proto.rpc_pair import EMPTY, LONG, THING, Pair, Thing, greeted, said, stranger


def test_chains_of_calls_are_numbered_odd_by_the_opener_and_even_by_the_acceptor() -> None:
    pair = Pair()
    assert [pair.near.rpc.new_cause() for _ in range(3)] == [1, 3, 5]
    assert [pair.far.rpc.new_cause() for _ in range(3)] == [2, 4, 6]


def test_a_number_is_free_when_its_question_is_closed() -> None:
    ours = stranger()
    for _ in range(3):
        (called,) = ours.receive(m.Call(1, 0, EMPTY))
        assert isinstance(called, Called)
        ours.answer(1)


def test_a_second_answer_is_not_sent() -> None:
    pair = greeted()
    question = pair.near.call()
    pair.settle()
    pair.far.answer(question, 1)
    pair.far.answer(question, 2)
    pair.far.rpc.raised(question, pair.far.draft("late"))
    pair.settle()
    assert len(pair.near.listen()) == 1


def test_many_releases_are_sent_in_short_messages() -> None:
    ours = stranger()
    ours.rpc.release([(number, 1) for number in range(1, 5002)])
    assert [len(message.pairs) for message in said(ours)] == [4000, 4000, 2002]  # type: ignore[union-attr]


def test_a_long_structure_is_a_body_itself() -> None:
    pair = greeted()
    value = tuple(range(20_000))
    pair.near.call((value, LONG))
    (message,) = said(pair.near)
    assert isinstance(message, m.Call)
    assert message.steps is None
    pair.far.receive(message)
    pair.near.rpc.bulk_open = True
    pair.settle()
    (called,) = pair.far.listen()
    assert isinstance(called, Called)
    assert pair.far.value(called.payload) == (value, LONG)


def test_the_acceptor_asks_the_opener_for_the_bulk_circuit_once() -> None:
    pair = greeted()
    pair.far.call(LONG)
    pair.far.call(LONG)
    pair.near.call(LONG)
    pair.pull(pair.far)
    assert pair.far.rpc.bulk_to_send() == []
    messages = m.Splitter().receive_data(pair.near.coming)
    assert [type(message) for message in messages] == [m.WantBulk, m.Call, m.Call]
    pair.settle()
    assert [type(event) for event in pair.near.listen()] == [BulkWanted, Called, Called]


def test_the_bound_of_the_peer_counts_for_questions() -> None:
    pair = Pair(far=SessionLimits(questions=2))
    pair.settle()
    first = pair.near.call()
    pair.near.call()
    with pytest.raises(LimitExceeded, match="2 questions"):
        pair.near.call(Thing(pair.near))
    assert pair.near.counts.exports == 0
    pair.settle()
    pair.far.answer(first)
    pair.settle()
    pair.near.call()


def test_what_the_peer_would_not_take_fails_its_call_only() -> None:
    pair = Pair(far=SessionLimits(body=10_000))
    pair.settle()
    with pytest.raises(LimitExceeded, match="10000"):
        pair.near.call((Thing(pair.near), LONG, LONG))
    assert pair.near.counts == (0, 0, 0, 0)
    question = pair.near.call(LONG)
    pair.settle()
    assert pair.far.rpc.is_serving(question)


def test_too_many_objects_fail_their_answer_which_can_still_be_an_exception() -> None:
    pair = Pair(far=SessionLimits(exports=2))
    pair.settle()
    question = pair.near.call()
    pair.settle()
    with pytest.raises(LimitExceeded):
        pair.far.answer(question, tuple(Thing(pair.far) for _ in range(3)))
    assert pair.far.counts == (0, 1, 0, 0)
    pair.far.rpc.raised(question, pair.far.draft("too many"))
    pair.settle()
    assert [type(event) for event in pair.near.listen()] == [facts.Greeted, Failed]


def test_a_message_that_is_too_long_was_not_sent_at_all() -> None:
    """More references than a message can hold: the question stays open for an exception, nothing is lent, bulk does not stall."""
    pair = greeted()
    question = pair.near.call()
    pair.settle()
    vat, origin = b"the vat of a third", 2**63
    things = tuple(facts.ExportDraft(Thing(pair.far), THING, vat[:16], origin) for _ in range(35_000))
    with pytest.raises(EncodeError, match="too many references"):
        pair.far.rpc.answer(question, Draft(LONG, things))
    assert pair.far.counts == (0, 1, 0, 0)
    pair.far.rpc.raised(question, pair.far.draft(LONG))
    pair.settle()
    assert [type(event) for event in pair.near.listen() if type(event) is not BulkWanted] == [Failed]
