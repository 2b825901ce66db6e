"""The front's side of a conversation as a value: calls, answers, callbacks, and boards that do not keep to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.device.codec import Ref, encode
from rpyc_gateway.device.conversation import (
    Answered,
    Broken,
    Called,
    Conversation,
    Dropped,
    Failed,
    Failure,
    Notified,
    Oversized,
    Primitive,
    Step,
)
from rpyc_gateway.errors import EncodeError, LimitExceeded, PeerRestarted

ONE = [Step(Primitive.EVAL, ("1",))]


def say(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return bytes((len(body),)) + body


def test_a_call_is_four_bytes_and_its_answer_three() -> None:
    front = Conversation()
    assert front.call([Step(Ref(20, front), (41,))]) == 1
    assert front.data_to_send() == b"\x03\x01\x14\x29"
    assert front.data_to_send() == b""
    front.receive_data(b"\x02\x81\x2a")
    assert front.facts() == [Answered(1, 42)]


@given(cuts=st.lists(st.integers(1, 5)))
def test_answers_survive_any_fragmentation(cuts: list[int]) -> None:
    front = Conversation()
    calls = [front.call(ONE) for _ in range(5)]
    stream = b"".join(say(bytes((0x80 | call,)), encode("x" * call)) for call in calls)
    while stream:
        cut = cuts.pop() if cuts else 3
        front.receive_data(stream[:cut])
        stream = stream[cut:]
    assert front.facts() == [Answered(call, "x" * call) for call in calls]


def test_what_cannot_fit_a_board_is_refused_and_nothing_of_it_is_said() -> None:
    front = Conversation()
    front.free = 100
    lent = front.lend(len)
    with pytest.raises(Oversized, match="a message of 101 bytes, for a board that had 100 free"):
        front.call([Step(Primitive.SAME, (b"x" * 97,))])
    assert front.data_to_send() == b""
    assert front.room == 31
    front.call([Step(Primitive.SAME, (b"x" * 96,))])
    front.receive_data(say(bytes((1, lent.number))))
    with pytest.raises(Oversized):
        front.answer(1, b"x" * 200)
    front.fail(1, "MemoryError", "it was too long")  # it is still to be answered


def test_a_failure_says_what_the_board_knew() -> None:
    front = Conversation()
    first, second, third = (front.call(ONE) for _ in range(3))
    front.receive_data(say(bytes((0xA0 | first,)), *map(encode, (0, "OSError", "no", "Traceback", 5))))
    front.receive_data(say(bytes((0xA0 | second,)), *map(encode, (1, "MemoryError", "a message of 9 bytes"))))
    front.receive_data(say(bytes((0xA0 | third,))))
    assert front.facts() == [
        Failed(first, Failure(0, "OSError", "no", "Traceback", 5)),
        Failed(second, Failure(1, "MemoryError", "a message of 9 bytes")),
        Failed(third, Failure()),
    ]


def test_objects_that_are_let_go_are_released_together_with_what_is_said_next() -> None:
    told: list[str] = []
    front = Conversation(released=lambda: told.append("released"))
    call = front.call(ONE)
    front.data_to_send()
    front.receive_data(say(bytes((0x80 | call,)), b"\xcc\x02\xc6\x0b\xc6\x0c"))
    (fact,) = front.facts()
    assert front.data_to_send() == b""
    del fact
    assert told == ["released"] * 2
    said = front.data_to_send()
    assert said[:3] == b"\x04\x00\x00"
    assert sorted(said[3:]) == [11, 12]


def test_an_object_lives_until_the_call_that_it_is_for_is_answered() -> None:
    front = Conversation()
    ref = front._borrow(11)
    call = front.call([Step(Primitive.SAME, ([{"k": ref}],))])
    del ref
    front.data_to_send()
    front.receive_data(say(bytes((0x80 | call,)), b"\xc0"))
    assert front.data_to_send() == b"\x03\x00\x00\x0b"


def test_callbacks_are_named_by_the_board_and_answered_once() -> None:
    front = Conversation()
    target = print
    host = front.lend(target)
    assert front.lend(target).number == host.number == 1
    front.receive_data(say(b"\x41\x01", encode(5), encode({"end": ""})))
    assert front.facts() == [Called(1, target, (5,), {"end": ""})]
    with pytest.raises(EncodeError):
        front.answer(1, object())
    front.answer(1, None)
    assert front.data_to_send() == b"\x02\x81\xc0"
    front.receive_data(say(b"\x02\x01"))
    front.fail(2, "KeyError", "\ud800")
    assert b"KeyError" in front.data_to_send()


def test_what_was_withdrawn_raises_and_breaks_nothing() -> None:
    front = Conversation()
    front.lend(print)
    front.withdraw(print)
    front.receive_data(say(b"\x01\x01"))
    (called,) = front.facts()
    assert isinstance(called, Called)
    with pytest.raises(ReferenceError):
        called.target()


def test_events_and_how_many_were_dropped() -> None:
    front = Conversation()
    got: list[Any] = []
    front.lend(got.append, event=True)
    front.receive_data(say(b"\xc0\x01", encode(5)) + say(b"\xc0\x00", encode(68)))
    assert front.facts() == [Notified(got.append, (5,)), Dropped(68)]


def test_the_call_that_runs_is_on_top_of_those_that_wait_for_callbacks() -> None:
    front = Conversation()
    front.lend(print)
    assert front.running is None
    first, second = front.call(ONE), front.call(ONE)
    assert front.running == first
    front.receive_data(say(b"\x01\x01"))
    assert front.running == second
    front.receive_data(say(bytes((0x80 | second,)), b"\xc0"))
    assert front.running == first
    front.answer(1, None)
    assert front.running == first


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"\x02\x85\xc0", "answers call 5, which is not open"),
        (b"\x02\x80\xc0", "answers call 0"),
        (b"\x02\x01\x09", "object 9 of its front, which it was not given"),
        (b"\x02\x00\x01", "not free"),
        (b"\x00", "0 bytes"),
        (b"\xff\xff\xff\xff", "256 MB"),
        (b"\xff\xff\xff\x00", "at most"),
        (b"\x01\xe0", "no message"),
        (b"\x03\xc0\x00\xdf", "no value"),
    ],
)
def test_a_board_that_does_not_keep_to_it_is_told_from_one_that_does(said: bytes, why: str) -> None:
    front = Conversation()
    front.receive_data(said)
    (fact,) = front.facts()
    assert isinstance(fact, Broken)
    assert why in fact.reason
    front.receive_data(b"\x02\x81\x2a")
    assert front.facts() == []


@given(st.binary(max_size=200))
def test_any_bytes_are_facts_or_the_end(data: bytes) -> None:
    front = Conversation()
    front.lend(print)
    for _ in range(31):
        front.call(ONE)
    front.receive_data(data)
    assert not any(isinstance(fact, Broken) for fact in front.facts()[:-1])
    assert len(front.data_to_send()) < 1000


def test_what_is_too_much_is_refused_here() -> None:
    front = Conversation()
    with pytest.raises(LimitExceeded, match="64 steps"):
        front.call([])
    with pytest.raises(LimitExceeded, match="64 steps"):
        front.call(ONE * 65)
    with pytest.raises(EncodeError, match="255 arguments"):
        front.call([Step(Primitive.SAME, (1,) * 256)])
    with pytest.raises(EncodeError):
        front.call([Step(Primitive.SAME, (object(),))])
    for _ in range(31):
        front.call(ONE)
    assert not front.room
    with pytest.raises(LimitExceeded, match="31 calls"):
        front.call(ONE)


def test_an_object_of_another_life_is_never_taken_for_one_of_this() -> None:
    before, after = Conversation(), Conversation()
    ref = before._borrow(11)
    with pytest.raises(PeerRestarted, match="another life"):
        after.call([Step(ref)])
    with pytest.raises(PeerRestarted, match="another life"):
        after.call([Step(Primitive.SAME, ([{"k": ref}],))])
    after.lend(print)
    after.receive_data(say(b"\x01\x01"))
    with pytest.raises(PeerRestarted):
        after.answer(1, ref)
    after.answer(1, None)
