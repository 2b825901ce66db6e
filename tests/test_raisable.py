"""What a peer may say of an exception, or of a class of them, that is a value: it becomes one, or a protocol error."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import ProtocolError, SessionClosed
from rpyc_gateway.held import Held, held_by, is_proxy
from rpyc_gateway.program import Face
from rpyc_gateway.proto.facts import ExportDraft, HomeDraft
from rpyc_gateway.proto.kinds import StandIn
from rpyc_gateway.proto.messages import ClassInfo
from rpyc_gateway.proto.raised import Way, way_home
from rpyc_gateway.proto.values import Described, Payload, Reader, Undecided, Writer
from rpyc_gateway.raisable import Raisables, is_raisable
from rpyc_gateway.steps import Step

MRO = (("far", "Away"), ("builtins", "ValueError"), ("builtins", "Exception"), ("builtins", "object"))
PLAIN = [
    [list(name) for name in MRO[:3]],
    [1],
    [["x", 2]],
    ["n"],
    None,
    None,
    False,
    None,
    "trace",
    "it broke",
    ["lab"],
]


class Gone:
    """A session that is over."""

    peer_vat = b"f" * 16
    drop = staticmethod(id)

    def ask(self, number: int, steps: Sequence[Step]) -> Any:
        raise SessionClosed("over")


def room() -> Raisables:
    raisables = Raisables("hq", b"n" * 16, lambda: nullcontext(), lambda: ("lab",))
    raisables.caller = Gone()  # type: ignore[assignment]
    return raisables


def hold(caller: Any, flags: int = 0, mro: tuple[tuple[str, str], ...] = MRO, name: str = "Away") -> Held:
    return Held(caller, 7, ClassInfo(module="far", name=name, mro=mro, flags=ClassInfo.EXCEPTION | flags), None, None)


def become(raisables: Raisables, held: Held, description: object, face: Face = Face.BLOCKING) -> Any:
    undecided = raisables.show(held, face, {})
    assert type(undecided) is Undecided
    return undecided.become(Reader(Payload(b"")), description)


def test_what_is_raisable() -> None:
    assert is_raisable(ValueError())
    assert is_raisable(KeyboardInterrupt)
    assert not is_raisable("ValueError")
    assert not is_raisable(int)


@pytest.mark.parametrize("face", Face)
@pytest.mark.parametrize("description", [PLAIN, None], ids=["described", "bare"])
def test_an_exception_has_the_class_it_is_said_to_have(face: Face, description: object) -> None:
    raisables = room()
    held = hold(raisables.caller)
    error = become(raisables, held, description, face)
    assert isinstance(error, ValueError)
    assert is_proxy(error) == (face is Face.BLOCKING)
    assert (held_by(error) if is_proxy(error) else way_home(error)) is held
    assert raisables.reference(error) == HomeDraft(7)
    if description:
        assert (str(error), error.args, error.x) == ("it broke", (1,), 2)


def test_there_is_one_live_proxy_and_one_copy_for_each_message() -> None:
    raisables = room()
    held = hold(raisables.caller)
    proxy = become(raisables, held, PLAIN)
    assert become(raisables, held, None) is proxy
    made: dict[int, BaseException] = {}
    first, second = (raisables.show(held, Face.ASYNC, made).become(Reader(Payload(b"")), PLAIN) for _ in range(2))  # type: ignore[attr-defined]
    assert first is second
    assert become(raisables, held, PLAIN, Face.ASYNC) is not first


def test_one_that_is_passed_on_keeps_its_origin_and_goes_with_what_was_said_of_it() -> None:
    raisables, other = room(), room()
    error = become(raisables, hold(raisables.caller), PLAIN)
    passed: Any = other.reference(error)
    assert type(passed) is Described
    assert passed.reference == ExportDraft(error, held_by(error).info, Gone.peer_vat, 7)


def test_a_class_is_known_or_stands_in_and_goes_home() -> None:
    raisables = room()
    assert become(raisables, hold(raisables.caller, ClassInfo.IS_CLASS), [["builtins", "KeyError"]]) is KeyError
    for description in ([["far", "Away"], ["builtins", "ValueError"]], None):
        held = hold(raisables.caller, ClassInfo.IS_CLASS)
        kind = become(raisables, held, description)
        assert type(kind) is StandIn
        assert issubclass(kind, ValueError)
        assert raisables.reference(kind) == HomeDraft(7)
        assert type(room().reference(kind)) is Described  # in another session it is named
        assert kind(1).args == (1,)  # the session is over


def test_a_ticket_is_a_way_home() -> None:
    raisables = room()
    held = hold(raisables.caller, ClassInfo.TICKET)
    way = raisables.show(held, Face.BLOCKING, {})
    assert type(way) is Way
    assert way.held is held


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.binary(max_size=3)
structures = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=12)
names = st.lists(
    st.sampled_from([["builtins", "OSError"], ["far", "Away"], ["builtins", "ExceptionGroup"], ["trio", "Cancelled"]]),
    max_size=3,
)


@given(
    face=st.sampled_from(Face),
    flags=st.sampled_from([0, ClassInfo.IS_CLASS]),
    mro=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3).map(tuple),
    name=st.text(max_size=5),
    spoiled=st.none() | structures | st.dictionaries(st.integers(0, 10), structures | names, max_size=3),
)
def test_whatever_is_said_becomes_an_exception_or_a_protocol_error(
    face: Face, flags: int, mro: Any, name: str, spoiled: Any
) -> None:
    description = [spoiled.get(place, part) for place, part in enumerate(PLAIN)] if type(spoiled) is dict else spoiled
    raisables = room()
    undecided = raisables.show(hold(raisables.caller, flags, mro, name), face, {})
    packed = msgspec.msgpack.encode(msgspec.msgpack.Ext(12, msgspec.msgpack.encode([0, description])))
    try:
        value = Reader(Payload(packed), [undecided]).read()
    except ProtocolError:
        return
    if flags:
        assert issubclass(value, BaseException)
    else:
        assert isinstance(value, Exception)
        assert isinstance(str(value), str)
    writer = Writer(room().reference)
    assert writer.finish(writer.value(value)).refs
