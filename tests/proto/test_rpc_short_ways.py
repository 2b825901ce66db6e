"""The short ways of an Rpc come to the same as the long ones, or to nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from rpyc_gateway.errors import GatewayError, LimitExceeded, ProtocolError
from rpyc_gateway.proto import messages as m
from rpyc_gateway.proto.facts import ExportDraft
from rpyc_gateway.proto.frames import Failure
from rpyc_gateway.proto.messages import encode
from rpyc_gateway.proto.rpc import Rpc
from rpyc_gateway.proto.values import LARGE, Draft
from tests.proto.rpc_pair import THING, Pair, Side, Thing


def prepared(situation: Callable[[Pair], object]) -> tuple[Pair, int]:
    """A pair in which near has asked two questions and been lent an object, and then what the situation says."""
    both = Pair()
    both.settle()
    asked = both.near.call("first")
    both.settle()
    both.far.answer(asked, Thing(both.far))
    both.settle()
    (answered,) = [event for event in both.near.listen() if hasattr(event, "payload")]
    number = answered.payload.refs[0].number
    for word in ("second", "third"):
        both.near.call(word)
    both.settle()
    both.near.listen()
    both.far.listen()
    situation(both)
    return both, number


def state(rpc: Rpc) -> Any:
    """All that can be seen of a machine."""
    seen = (rpc.statistics(), dict(rpc._asked), dict(rpc._serving), rpc._splitter.pending, rpc._dismissed)
    return seen, [str(event) for event in rpc.events()], rpc.data_to_send()


SITUATIONS: dict[str, Callable[[Pair], object]] = {
    "at rest": lambda both: None,
    "before the greeting": lambda both: [setattr(side.rpc, "peer", None) for side in (both.near, both.far)],
    "something to be told": lambda both: [side.receive_without_telling() for side in wrapped(both)],
    "a message has begun": lambda both: [side.rpc.receive_data(b"\0\0") for side in (both.near, both.far)],
    "cancelled": lambda both: [both.near.rpc.cancel(question) for question in (2, 3)],
    "dismissed": lambda both: both.far.receive(m.Bye(Failure(code=0))),
    "many questions": lambda both: [
        both.far.receive(m.Call(question, 0, b"\x90")) for question in range(100, 100 + 1024 - 2)
    ],
}


class Wrapped:
    """A side to which something has happened that nobody has taken."""

    def __init__(self, side: Side) -> None:
        self.side = side

    def receive_without_telling(self) -> None:
        self.side.rpc.receive_data(encode(m.End(5)))


def wrapped(both: Pair) -> list[Wrapped]:
    return [Wrapped(both.near), Wrapped(both.far)]


ANSWERS: dict[str, bytes] = {
    "an answer": encode(m.Answer(2, b"\x03")),
    "two answers": encode(m.Answer(2, b"\x03")) + encode(m.Answer(3, b"\x03")),
    "half of one": encode(m.Answer(2, b"\x03"))[:-1],
    "one and a bit": encode(m.Answer(2, b"\x03")) + b"\0",
    "nothing": b"",
    "three bytes": b"\0\0\0",
    "to nobody": encode(m.Answer(77, b"\x03")),
    "with a reference": encode(m.Answer(2, b"\x03", (m.Ref(m.RefKind.EXPORT, 9, 1),))),
    "with one that cannot be": encode(m.Answer(2, b"\x03", (m.Ref(m.RefKind.EXPORT, 9, 77),))),
    "whose body comes": encode(m.Answer(2, None, (), (1, 9000))),
    "a part of which comes": encode(m.Answer(2, b"\x03", (), (1, 9000))),
    "with nothing": encode(m.Answer(2, None)),
    "an exception": encode(m.Raise(2, b"\x03")),
    "no message": b"\0\0\0\1\xc1",
    "a release in front": encode(m.Release(())) + encode(m.Answer(2, b"\x03")),
    "a release in front of a reference": encode(m.Release(()))
    + encode(m.Answer(2, b"\x03", (m.Ref(m.RefKind.EXPORT, 9, 1),))),
    "a release and nothing": encode(m.Release(())) + b"\0\0",
    "a release that is none": encode((5, "?")) + encode(m.Answer(2, b"\x03")),
}

CALLS: dict[str, Callable[[int], bytes]] = {
    "a call": lambda number: encode(m.Call(50, number, b"\x90", (), (), 7, 8, 9)),
    "of the root": lambda _: encode(m.Call(50, 0, b"\x90")),
    "of nothing": lambda number: encode(m.Call(50, number + 1000, b"\x90")),
    "open already": lambda number: encode(m.Call(2, number, b"\x90")),
    "with flags": lambda number: encode(m.Call(50, number, b"\x90", flags=1)),
    "with a reference": lambda number: encode(m.Call(50, number, b"\x90", (m.Ref(m.RefKind.HOME, number),))),
    "with one that cannot be": lambda number: encode(
        m.Call(50, number, b"\x90", (m.Ref(m.RefKind.HOME, number + 999),))
    ),
    "whose body comes": lambda number: encode(m.Call(50, number, None, (), (1, 9000))),
    "two calls": lambda number: encode(m.Call(50, number, b"\x90")) + encode(m.Call(51, number, b"\x90")),
    "a cancellation": lambda _: encode(m.Cancel(2)),
    "a release": lambda number: encode(m.Release((number, 1))),
    "an end": lambda _: encode(m.End(8)),
    "a release in front": lambda number: encode(m.Release(())) + encode(m.Call(50, number, b"\x90")),
    "a release in front of two": lambda number: (
        encode(m.Release(())) + encode(m.Call(50, number, b"\x90")) + encode(m.Call(51, number, b"\x90"))
    ),
    "a release in front of a half": lambda number: encode(m.Release(())) + encode(m.Call(50, number, b"\x90"))[:-1],
    "its target released": lambda number: encode(m.Release((number, 1))) + encode(m.Call(50, number, b"\x90")),
    "a reference released": lambda number: (
        encode(m.Release(())) + encode(m.Call(50, number, b"\x90", (m.Ref(m.RefKind.HOME, number),)))
    ),
    "a release and an end": lambda _: encode(m.Release(())) + encode(m.End(8)),
}


def compare(short: Side, long: Side, data: bytes) -> object:
    """Let one side hear what the other receives; what the first has heard."""
    event = short.rpc.hear(data)
    if event is not None:
        long.rpc.receive_data(data)
        *before, told = long.rpc.events()
        assert short.rpc.events() == before
        assert type(told) is type(event)
        assert [getattr(told, name) for name in told.__struct_fields__ if name != "target"] == [
            getattr(event, name) for name in event.__struct_fields__ if name != "target"
        ]
    assert state(short.rpc) == state(long.rpc)
    return event


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_answer_that_is_heard_the_short_way_is_what_is_received(situation: str, answer: str) -> None:
    (short, _), (long, _) = prepared(SITUATIONS[situation]), prepared(SITUATIONS[situation])
    heard = compare(short.near, long.near, ANSWERS[answer])
    if situation == "at rest":
        assert (heard is not None) == (answer in ("an answer", "with a reference", "a release in front"))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_call_that_is_heard_the_short_way_is_what_is_received(situation: str, call: str) -> None:
    (short, number), (long, other) = prepared(SITUATIONS[situation]), prepared(SITUATIONS[situation])
    heard = short.far.rpc.hear(CALLS[call](number))
    if heard is not None:
        meant = 0 if call == "of the root" else number
        assert heard.target is short.far.rpc.exports.resolve(meant)  # type: ignore[union-attr]
        long.far.rpc.receive_data(CALLS[call](other))
        (told,) = long.far.rpc.events()
        for name in ("question", "cause", "affinity", "deadline"):
            assert getattr(told, name) == getattr(heard, name)
        assert told.payload.packed == heard.payload.packed
        assert list(map(type, told.payload.refs)) == list(
            map(type, heard.payload.refs)
        )  # each pair has things of its own
    assert state(short.far.rpc) == state(long.far.rpc)
    if situation == "at rest":
        assert (heard is not None) == (call in ("a call", "of the root", "with a reference", "a release in front"))


def test_what_was_given_back_in_front_of_a_call_is_told_before_it() -> None:
    (short, kept), (long, other) = prepared(lambda _: None), prepared(lambda _: None)
    for both, number in ((short, kept), (long, other)):
        asked = both.near.call("another")
        both.settle()
        both.far.answer(asked, Thing(both.far))
        both.settle()
        (given,) = [event for event in both.near.listen() if hasattr(event, "payload")]
        data = encode(m.Release((given.payload.refs[0].number, 1))) + encode(m.Call(50, number, b"\x90"))
        both.far.listen()
        if both is short:
            heard = both.far.rpc.hear(data)
            events = [*both.far.rpc.events(), heard]
        else:
            both.far.rpc.receive_data(data)
            events = [*both.far.rpc.events()]
        assert [type(event).__name__ for event in events] == ["Released", "Called"]
    assert state(short.far.rpc) == state(long.far.rpc)


def test_a_release_of_what_is_not_held_costs_the_session_either_way() -> None:
    (short, number), (long, other) = prepared(lambda _: None), prepared(lambda _: None)
    for side, receive, known in (
        (short.far, short.far.rpc.hear, number),
        (long.far, long.far.rpc.receive_data, other),
    ):
        data = encode(m.Release((10**9, 1))) + encode(m.Call(50, known, b"\x90"))
        with pytest.raises(ProtocolError, match="release of 1 references"):
            receive(data)
        assert side.rpc.events() == []
    assert state(short.far.rpc) == state(long.far.rpc)


def something_dies(both: Pair) -> None:
    """Each side was given one of the other's objects, and holds it no more."""
    for side, other in ((both.near, both.far), (both.far, both.near)):
        dies(both, side, other)


def dies(both: Pair, side: Side, other: Side) -> None:
    other.call(Thing(other))
    both.settle()
    (called,) = [event for event in side.listen() if hasattr(event, "target")]
    side.value(called.payload)


def send_body(side: Side) -> None:
    side.rpc.bulk_open = True
    side.call(b"y" * 9000)
    side.rpc.data_to_send()
    side.rpc.events()


SPEAKING: dict[str, Callable[[Pair], object]] = SITUATIONS | {
    "something has died": something_dies,
    "something near has died": lambda both: dies(both, both.near, both.far),
    "a body is on its way": lambda both: [send_body(both.near), send_body(both.far)],
    "something lingers": lambda both: [side.rpc.imports.lingering.append(9) for side in (both.near, both.far)],
    "something waits": lambda both: [side.rpc.end(5) for side in (both.near, both.far)],
    "a body waits": lambda both: [both.near.call(b"y" * 9000), both.far.answer(2, b"y" * 9000)],
    "the numbers begin again": lambda both: setattr(both.near.rpc, "_next_question", 2**32 - 1),
    "its number is taken": lambda both: setattr(both.near.rpc, "_next_question", 3),
    "closed": lambda both: [side.rpc.close() for side in (both.near, both.far)],
}


@pytest.mark.parametrize("size", [1, 100, LARGE, LARGE + 1])
@pytest.mark.parametrize("situation", SPEAKING)
def test_what_is_asked_the_short_way_is_what_would_be_sent(situation: str, size: int) -> None:
    (short, _), (long, _) = prepared(SPEAKING[situation]), prepared(SPEAKING[situation])
    question, data = short.near.rpc.ask(7, Draft(bytes(size)), cause=5, affinity=6, deadline=8)
    assert long.near.rpc.call(7, Draft(bytes(size)), cause=5, affinity=6, deadline=8) == question
    if data is not None:
        assert messages(data) == messages(long.near.rpc.data_to_send())
        assert short.near.rpc.at_rest
    if data is not None or situation != "something near has died":  # each pair has objects of its own
        assert state(short.near.rpc) == state(long.near.rpc)
    if situation in ("at rest", "something near has died", "the numbers begin again"):
        assert (data is not None) == (size <= LARGE)


def test_no_more_is_asked_the_short_way_than_the_long_one() -> None:
    (short, _), (long, _) = prepared(lambda _: None), prepared(lambda _: None)
    for side, ask in ((short.near, short.near.rpc.ask), (long.near, long.near.rpc.call)):
        side.rpc._most_asked = len(side.rpc._asked)
        with pytest.raises(LimitExceeded):
            ask(7, Draft(b"\x90"), cause=5)  # type: ignore[operator]
    assert state(short.near.rpc) == state(long.near.rpc)


@pytest.mark.parametrize("sizes", [(1,), (1, 100, LARGE), (5,) * 20])
@pytest.mark.parametrize("situation", SPEAKING)
def test_what_is_asked_together_is_what_would_be_sent(situation: str, sizes: tuple[int, ...]) -> None:
    (short, _), (long, _) = prepared(SPEAKING[situation]), prepared(SPEAKING[situation])
    asked = short.near.rpc.ask_together([(7, bytes(size), 5 * (size % 2), 6, 8) for size in sizes])
    if asked is not None:
        questions, data = asked
        assert questions == [
            long.near.rpc.call(7, Draft(bytes(size)), cause=5 * (size % 2), affinity=6, deadline=8) for size in sizes
        ]
        assert messages(data) == messages(long.near.rpc.data_to_send())
        assert short.near.rpc.at_rest
    assert state(short.near.rpc) == state(long.near.rpc)
    if situation in ("at rest", "something near has died", "the numbers begin again", "its number is taken"):
        assert asked is not None
    if situation in (
        "something to be told",
        "a body waits",
        "a body is on its way",
    ):  # there is more to do than to send
        assert asked is None


def test_no_more_is_asked_together_than_the_peer_takes() -> None:
    (both, _), (untouched, _) = prepared(lambda _: None), prepared(lambda _: None)
    for side in (both.near, untouched.near):
        side.rpc._most_asked = len(side.rpc._asked) + 2
    assert both.near.rpc.ask_together([(7, b"\x90", 0, 0, 0)] * 3) is None
    assert state(both.near.rpc) == state(untouched.near.rpc)
    assert both.near.rpc.ask_together([(7, b"\x90", 0, 0, 0)] * 2) is not None


ANSWERED = [(3, b"\x03"), (77, b"\x04"), (2, bytes(100)), (3, b"\x05")]
"""Nobody asks the second; the last one comes twice."""


@pytest.mark.parametrize("situation", SPEAKING)
def test_what_is_answered_together_is_what_would_be_sent(situation: str) -> None:
    (short, _), (long, _) = prepared(SPEAKING[situation]), prepared(SPEAKING[situation])
    data = short.far.rpc.answer_together(ANSWERED)
    if data is not None:
        for question, packed in ANSWERED:
            long.far.rpc.answer(question, Draft(packed))
        assert data == long.far.rpc.data_to_send()
    if situation == "something has died":  # as above
        assert data is None
        return
    assert state(short.far.rpc) == state(long.far.rpc)
    if situation == "at rest":
        assert data is not None
    if situation in ("something to be told", "a body waits", "a body is on its way"):
        assert data is None


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_answer_in_a_row_of_messages_is_what_it_is_to_a_machine_that_looks_twice(
    situation: str, answer: str
) -> None:
    (short, _), (long, _) = prepared(SITUATIONS[situation]), prepared(SITUATIONS[situation])
    told, raised = outcome_of(short, lambda rpc: rpc.receive_data(ANSWERS[answer] + b"\0"))

    def slowly(rpc: Rpc) -> None:
        for message in rpc._splitter.receive_data(ANSWERS[answer] + b"\0"):
            if rpc.peer is None:
                rpc._receive_hello(message)
            else:
                rpc._RECEIVE[type(message)](rpc, message)

    assert (told, raised) == outcome_of(long, slowly)
    assert state(short.near.rpc) == state(long.near.rpc)


def outcome_of(both: Pair, receive: Callable[[Rpc], object]) -> tuple[list[str], str]:
    """What a machine tells, and what it raises."""
    raised = ""
    try:
        receive(both.near.rpc)
    except GatewayError as error:
        raised = str(error)
    return [str(event) for event in both.near.rpc.events()], raised


def messages(data: bytes) -> list[object]:
    """What is said; each pair has objects of its own, so that it does not matter which of them was given back."""
    return [
        type(message) if type(message) is m.Release else encode(message) for message in m.Splitter().receive_data(data)
    ]


NEW = m.ClassInfo(module="lab", name="New")
LENT: dict[str, Callable[[Pair], tuple[ExportDraft, ...]]] = {
    "nothing": lambda _: (),
    "an object": lambda both: (ExportDraft(Thing(both.far), THING),),
    "one of a class that is not known": lambda both: (ExportDraft(Thing(both.far), NEW),),
}


def kinds(data: bytes) -> list[object]:
    """What is said, but for the numbers of objects: each pair has objects of its own."""
    said = m.Splitter().receive_data(data)
    return [
        replace(message, refs=[ref.cls for ref in message.refs]) if type(message) is m.Answer else message
        for message in said
    ]


@pytest.mark.parametrize("lent", LENT.values(), ids=LENT)
@pytest.mark.parametrize("size", [1, 100, LARGE, LARGE + 1])
@pytest.mark.parametrize("situation", SPEAKING)
def test_what_is_answered_the_short_way_is_what_would_be_sent(
    situation: str, size: int, lent: Callable[[Pair], tuple[ExportDraft, ...]]
) -> None:
    (short, _), (long, _) = prepared(SPEAKING[situation]), prepared(SPEAKING[situation])
    data = short.far.rpc.answer_alone(3, bytes(size), lent(short))
    if data is not None:
        long.far.rpc.answer(3, Draft(bytes(size), lent(long)))
        assert kinds(data) == kinds(long.far.rpc.data_to_send())
    if situation == "something has died":  # each pair has objects of its own, whose numbers are others
        assert data is None
        return
    assert state(short.far.rpc) == state(long.far.rpc)
    if size <= LARGE and situation == "at rest":
        assert data is not None
    assert short.far.rpc.answer_alone(77, b"\x90") is None  # nobody asks, or not any more


def test_what_is_said_in_one_message_is_what_would_be_sent() -> None:
    (both, _), (other, _) = prepared(lambda _: None), prepared(lambda _: None)
    for pair in (both, other):
        pair.far.answer(2, "an atom")
    assert both.far.rpc.one_message() == other.far.rpc.data_to_send()
    assert both.far.rpc.at_rest
    assert both.far.rpc.one_message() is None  # there is nothing
    for question in (3, 2):
        both.far.answer(question, "x")
        both.near.call(question)
    both.near.call("more")
    assert both.near.rpc.one_message() is None  # there are two
    both.near.rpc.data_to_send()
    both.near.call(b"y" * 9000)
    assert both.near.rpc.one_message() is None  # its body must be sent, too


def test_a_machine_at_rest_has_nothing_to_tell_or_to_send() -> None:
    for name, situation in SITUATIONS.items():
        both, _ = prepared(situation)
        for side in (both.near, both.far):
            if side.rpc.at_rest:
                assert (side.rpc.events(), side.rpc.data_to_send()) == ([], b""), name


def test_bytes_that_are_no_message_are_the_fault_of_the_long_way() -> None:
    both, _ = prepared(lambda _: None)
    assert both.near.rpc.hear(ANSWERS["no message"]) is None
    with pytest.raises(GatewayError):
        both.near.rpc.receive_data(ANSWERS["no message"])
