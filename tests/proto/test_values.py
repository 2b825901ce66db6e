"""What goes by value arrives as what it was, to the exact type; the rest goes by reference; nonsense is a ProtocolError."""

from __future__ import annotations

import json
import math
import sys
from collections import namedtuple
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rpyc_gateway.errors import EncodeError, NoCodec, ProtocolError
from rpyc_gateway.proto.atoms import MANY
from rpyc_gateway.proto.values import BODIES, DEPTH, LARGE, Draft, Ext, Payload, Reader, Result, Writer, by_value
from tests.naming import named

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/values.json").read_text())["values"]

UNHASHABLE_SLICES = sys.version_info < (3, 12)


class Level(IntEnum):
    """An int to isinstance, with a class of its own."""

    LOW = 1


class Thing:
    """Has no value that could travel."""

    def __init__(self, number: int) -> None:
        self.number = number


def write(value: object) -> Draft:
    writer = Writer(lambda thing: thing)
    return writer.finish(writer.value(value))


def read(packed: bytes, refs: tuple[object, ...] = (), bodies: tuple[bytes, ...] = (), results: Any = ()) -> Any:
    return Reader(Payload(packed, (), bodies), refs, results).read()


def there(value: object) -> Any:
    """A value as it arrives at the other side; a reference arrives as what it stands for."""
    draft = write(value)
    return read(draft.packed, draft.refs, tuple(bytes(body) for body in draft.bodies))


def meaning(vector: dict[str, Any], things: list[Thing]) -> Any:
    return eval(vector["value"], {"inf": math.inf, "nan": math.nan, "thing": things.__getitem__, "Result": Result})


def alike(one: object, other: object) -> bool:
    """Equal to the type, to the sign of zero and to the bits of a nan."""
    if type(one) is not type(other):
        return False
    if type(one) is float:
        return (one == other and math.copysign(1, one) == math.copysign(1, other)) or (one != one and other != other)
    if type(one) is complex:
        return alike(one.real, other.real) and alike(one.imag, other.imag)
    if type(one) is tuple:
        return len(one) == len(other) and all(map(alike, one, other))
    if type(one) is slice:
        return alike((one.start, one.stop, one.step), (other.start, other.stop, other.step))
    return one == other


def nested(levels: int, core: object = 7) -> object:
    value = core
    for _ in range(levels):
        value = (value,)
    return value


atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**200), 2**200)
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(), max_size=20)  # lone surrogates too
    | st.binary(max_size=40)
    | st.sampled_from([..., NotImplemented])
    | st.builds(range, st.integers(), st.integers(), st.integers(1))
)
hashable = st.recursive(
    atoms.filter(lambda atom: atom == atom and type(atom) is not complex),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
values = st.recursive(
    atoms | st.frozensets(hashable, max_size=4),
    lambda inner: st.lists(inner, max_size=5).map(tuple) | st.builds(slice, inner, inner, inner),
    max_leaves=20,
)


# -- the bytes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["value"])
def test_each_value_of_the_table_has_its_bytes(vector: dict[str, Any]) -> None:
    draft = write(meaning(vector, [Thing(0), Thing(1)]))
    assert draft.packed.hex() == vector["hex"]
    assert len(draft.refs) == vector.get("refs", 0)
    assert [len(body) for body in draft.bodies] == vector.get("bodies", [])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["value"])
def test_the_bytes_of_the_table_have_their_meaning(vector: dict[str, Any]) -> None:
    things = [Thing(0), Thing(1)]
    bodies = tuple(b"x" * size for size in vector.get("bodies", []))
    value = read(bytes.fromhex(vector["hex"]), tuple(things), bodies, ("first", "second", Result(3)))
    assert alike(value, meaning(vector, things))


def test_the_table_is_complete() -> None:
    # exceptions.json has the one, test_copies.py the other.
    codes = {code for name, code in vars(Ext).items() if name.isupper()} - {Ext.CODEC, Ext.DESCRIBED}
    seen: set[int] = set()
    for vector in VECTORS:
        item = msgspec.msgpack.decode(bytes.fromhex(vector["hex"]))
        seen |= {part.code for part in (item if type(item) is list else [item]) if type(part) is msgspec.msgpack.Ext}
    assert seen == codes


# -- by value -----------------------------------------------------------------------------------------------------------


@given(values)
@example(10**5000)
@example(-(2**63) - 1)
@example("\ud800 and \udfff")
@example((-0.0, math.nan, -math.inf, complex(-0.0, math.nan)))
@example(frozenset({frozenset({1, (2, "x")}), range(3)}))
def test_a_value_arrives_as_what_it_was(value: object) -> None:
    assert alike(there(value), value)
    assert by_value(value)


@given(st.integers(1, 1000), st.booleans(), st.integers(-1, 1))
def test_an_int_of_any_size_takes_as_few_bytes_as_it_needs(bits: int, negative: bool, near: int) -> None:  # noqa: FBT001
    number = (-1 if negative else 1) * 2**bits + near
    assert there(number) == number
    item = msgspec.msgpack.decode(write(number).packed)
    if type(item) is msgspec.msgpack.Ext:
        shorter = len(item.data) - 1
        assert not -(2 ** (8 * shorter - 1)) <= number < 2 ** (8 * shorter - 1)


class Colour(IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


Point = namedtuple("Point", "x y")  # noqa: PYI024  # that untyped ones stay what they are, too


@pytest.mark.parametrize(
    "value", [Colour.RED, Point(1, 2), Text("x"), [1], {"a": 1}, {1}, bytearray(b"x"), datetime(2026, 1, 1), Thing, len]
)
def test_what_only_looks_like_a_value_goes_by_reference(value: object) -> None:
    assert not by_value(value)
    assert there((value, 1))[0] is value
    assert write((value, 1)).refs == (value,)


def test_a_set_with_an_object_in_it_stays_at_home_whole() -> None:
    mixed = frozenset({1, Thing(0)})
    assert write(mixed).refs == (mixed,)
    outer = frozenset({(mixed, 2)})
    assert write(outer).refs == (outer,)


def test_a_slice_may_hold_objects() -> None:
    thing = Thing(0)
    assert there(slice(None, thing)).stop is thing
    assert by_value(slice(None, 1))
    assert not by_value(slice(None, thing))


def test_an_object_may_stand_for_the_result_of_a_step() -> None:
    writer = Writer(lambda _thing: Result(2))
    draft = writer.finish(writer.value((Thing(0),)))
    assert draft.refs == ()
    assert read(draft.packed, results=("first", "second")) == ("second",)


# -- long bytes ---------------------------------------------------------------------------------------------------------


def test_bytes_leave_the_message_when_they_are_long() -> None:
    assert write(b"x" * LARGE).bodies == ()
    long = b"x" * (LARGE + 1)
    draft = write((long, 1, long))
    assert [body is long for body in draft.bodies] == [True, True]  # not copied
    assert there((long, 1, long)) == (long, 1, long)


def test_a_message_has_a_bounded_number_of_bodies() -> None:
    long = b"x" * (LARGE + 1)
    draft = write((long,) * (BODIES + 5))
    assert len(draft.bodies) == BODIES - 1  # the packed part, which is long itself now, is the last
    assert there((long,) * (BODIES + 5)) == (long,) * (BODIES + 5)


@given(
    st.lists(atoms, min_size=MANY, max_size=20)
    | st.lists(st.lists(atoms, max_size=3).map(tuple), min_size=MANY, max_size=20)
)
def test_many_items_arrive_as_what_they_were(items: list[object]) -> None:
    assert alike(there(tuple(items)), tuple(items))


@pytest.mark.parametrize(
    "odd", [Level.LOW, Thing(0), [1], 2**64, "\ud800", b"x" * (LARGE + 1), ((1,),)], ids=lambda odd: repr(odd)[:20]
)
@pytest.mark.parametrize("row", [False, True])
def test_one_odd_item_among_many_arrives_as_what_it_was(odd: object, row: bool) -> None:  # noqa: FBT001
    items = tuple((n, odd) if row and n == MANY else (n,) if row else odd if n == MANY else n for n in range(2 * MANY))
    assert alike(there(items), items)
    assert len(write(items).bodies) == (type(odd) is bytes)
    assert write(items).refs == ((odd,) if isinstance(odd, Level | Thing | list) else ())


@pytest.mark.parametrize("many", [(7,) * MANY, ((1, 2),) * MANY, ("a",) * MANY], ids=str)
def test_many_items_are_packed_like_few(many: tuple[object, ...]) -> None:
    assert write(many).packed == msgspec.msgpack.encode(many)
    assert write((many, None)).packed == msgspec.msgpack.encode((many, None))


# -- bounds -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", [7, 2**100, "\ud800", Thing(0), ()], ids=named)
def test_whatever_can_be_written_can_be_read(core: object) -> None:
    deepest = nested(DEPTH - 1, core) if core == () else nested(DEPTH, core)
    assert there(deepest) == deepest
    with pytest.raises(EncodeError, match="nested deeper"):
        write((deepest,))


def test_a_value_as_deep_as_python_allows_fails_like_any_other_that_is_too_deep() -> None:
    with pytest.raises(EncodeError):
        write(nested(100_000))
    far_too_deep = frozenset({nested(200)})
    assert write(far_too_deep).refs == (far_too_deep,)


def test_a_peer_may_not_nest_deeper_either() -> None:
    with pytest.raises(ProtocolError, match="nested deeper"):
        read(b"\x91" * (DEPTH + 1) + b"\x07")
    with pytest.raises(ProtocolError):
        read(b"\x91" * 100_000 + b"\x07")
    packed = b"\x07"
    for _ in range(DEPTH + 1):
        packed = msgspec.msgpack.encode([msgspec.msgpack.Ext(Ext.FROZENSET, packed)])
    with pytest.raises(ProtocolError):
        read(packed)


@pytest.mark.parametrize("many", [(7,) * MANY, ((1, 2),) * MANY, ((),) * MANY], ids=str)
def test_many_items_may_be_as_deep_as_few(many: tuple[object, ...]) -> None:
    inside = 2 if type(many[0]) is tuple else 1
    deepest = nested(DEPTH - inside, many)
    assert there(deepest) == deepest
    with pytest.raises(EncodeError, match="nested deeper"):
        write((deepest,))
    with pytest.raises(ProtocolError, match="nested deeper"):
        read(msgspec.msgpack.encode((deepest,)))


def test_rows_count_with_what_is_in_them() -> None:
    """One row that occurs many times costs nothing here, and all of it over there."""
    row = (7,) * 100_000
    with pytest.raises(EncodeError, match="more than"):
        write((row,) * 100_000)
    with pytest.raises(EncodeError, match="more than"):
        write(((row,) * 8, (row,) * 8))
    packed = msgspec.msgpack.encode(((row,) * 8, (row,) * 8))
    with pytest.raises(ProtocolError, match="more than"):
        read(packed)


# -- nonsense -----------------------------------------------------------------------------------------------------------


def ext(code: int, content: object) -> bytes:
    data = content if type(content) is bytes else msgspec.msgpack.encode(content)
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data))


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"\x01\x02",
        b"\x81\xa1a\x01",  # a map
        b"\xd6\xff\0\0\0\1",  # MessagePack's own timestamp
        b"\xa1\xff",
        b"\xdd\xff\xff\xff\xff",
        ext(Ext.STR, b"\xff"),
        ext(Ext.COMPLEX, b"123"),
        ext(Ext.SINGLETON, b"\2"),
        ext(Ext.FROZENSET, b"\x91" * 100_000),
        ext(Ext.FROZENSET, b"\x01"),
        *([ext(Ext.FROZENSET, [[], msgspec.msgpack.Ext(Ext.SLICE, b"\x93\xc0\xc0\xc0")])] if UNHASHABLE_SLICES else []),
        ext(Ext.SLICE, [1, 2]),
        ext(Ext.RANGE, [0, 1, 0]),
        ext(Ext.RANGE, [0, 1.5, 1]),
        ext(Ext.REF, [1]),
        ext(Ext.REF, -1),
        ext(Ext.REF, 1),
        ext(Ext.REF, b""),
        ext(Ext.REF, b"\x91" * 100_000),
        ext(Ext.RESULT, 0),
        ext(Ext.RESULT, 2),
        ext(Ext.BODY, 0),
        ext(Ext.CODEC, ["list"]),
        ext(Ext.CODEC, [["list"], 1]),
        ext(99, 1),
    ],
    ids=lambda packed: packed[:12].hex(),
)
def test_what_means_nothing_is_the_peers_fault(packed: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(packed, ("the only reference",), results=("first",))


@given(st.binary(max_size=60))
def test_noise_is_a_value_or_a_protocol_error(noise: bytes) -> None:
    try:
        value = read(noise, (Thing(0),), (b"body",), (1, "x"))
    except (ProtocolError, NoCodec):
        return
    there(value)


@given(st.sampled_from(range(1, 13)), st.binary(max_size=30))
def test_noise_in_an_extension_is_a_value_or_a_protocol_error(code: int, noise: bytes) -> None:
    try:
        value = read(ext(code, noise), (Thing(0),), (b"body",), (1, "x"))
    except (ProtocolError, NoCodec):
        return
    there(value)


class Trap:
    """Asks to be told of whoever wants to know anything of it."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked

    def __hash__(self) -> int:
        self.asked.append("hash")
        return 1

    def __index__(self) -> int:
        self.asked.append("index")
        return 1


@pytest.mark.parametrize("code", [Ext.FROZENSET, Ext.RANGE])
@pytest.mark.parametrize("kind", [Ext.REF, Ext.RESULT])
def test_reading_asks_no_object_for_its_hash_or_index(code: int, kind: int) -> None:
    """A reference among the items of a set would be hashed: a call to the peer, or code of ours that the peer chose."""
    asked: list[str] = []
    part = msgspec.msgpack.Ext(kind, b"\x00" if kind == Ext.REF else b"\x01")
    with pytest.raises(ProtocolError):
        read(ext(code, [part, 1, 1]), (Trap(asked),), (), (Trap(asked),))
    assert asked == []
