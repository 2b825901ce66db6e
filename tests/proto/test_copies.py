"""Copies arrive as what they were, to the exact type; what is no plain data is named; nothing that is read runs code."""

from __future__ import annotations

import datetime as dt
import json
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import Denied, EncodeError, ProtocolError
from rpyc_gateway.proto.copies import BASE, DEEP, FRACTION, PICKLE, Copied
from rpyc_gateway.proto.facts import HomeDraft
from rpyc_gateway.proto.plain import KINDS, copyable
from rpyc_gateway.proto.values import DEPTH, ITEMS, Draft, Ext, Payload, Reader, Writer

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/values.json").read_text())["copies"]
NAMES = {
    "date": dt.date, "time": dt.time, "datetime": dt.datetime, "timedelta": dt.timedelta, "timezone": dt.timezone,
    "ZoneInfo": ZoneInfo, "array": array, "deque": deque, "OrderedDict": OrderedDict, "Counter": Counter,
    "Decimal": Decimal, "Fraction": Fraction, "UUID": UUID,
}  # fmt: skip


class Thing:
    """No plain data."""


def write(value: object, flags: int = 0, writer: Writer | None = None) -> Draft:
    writer = writer or Writer(lambda thing: thing)
    return writer.finish(writer.value(Copied(value, flags)))


def read(draft: Draft) -> Any:
    return Reader(Payload(draft.packed, (), tuple(map(bytes, draft.bodies))), draft.refs).read()


def there(value: object, flags: int = 0) -> Any:
    return read(write(value, flags))


def shape(value: Any) -> Any:
    """A value with the types and the order of all that is in it, for comparison."""
    kind = type(value)
    if isinstance(value, dict):
        pairs = [(shape(key), shape(item)) for key, item in value.items()]
        return kind, pairs
    if kind in (set, frozenset):
        return kind, sorted(map(repr, map(shape, value)))
    if kind in (list, tuple, deque):
        return kind, getattr(value, "maxlen", None), [shape(item) for item in value]
    if isinstance(value, dt.datetime | dt.time):
        return kind, repr(value), value.fold
    return kind, repr(value)


# -- the bytes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["value"])
def test_each_copy_of_the_table_has_its_bytes_and_the_bytes_their_meaning(vector: dict[str, Any]) -> None:
    value = eval(vector["value"], dict(NAMES))
    draft = write(value, DEEP)
    assert draft.packed.hex() == vector["hex"]
    assert shape(read(draft)) == shape(value)


def test_the_table_is_complete() -> None:
    assert {vector["row"] for vector in VECTORS} == {kind.__name__ for kind in KINDS}


# -- copies -------------------------------------------------------------------------------------------------------------

offsets = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
zones = st.none() | offsets.map(dt.timezone) | st.sampled_from(["UTC", "Europe/Berlin"]).map(ZoneInfo)
keys = (
    st.integers()
    | st.text()
    | st.dates()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.datetimes(timezones=zones)
    | st.tuples(st.integers(), st.dates())
    | st.frozensets(st.dates(), max_size=2)
)
atoms = (
    keys
    | st.none()
    | st.binary().map(bytearray)
    | st.times(timezones=zones)
    | st.timedeltas()
    | st.decimals()
    | st.lists(st.integers(-9, 9)).map(lambda items: array("q", items))
)
trees = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner, max_size=4).map(lambda items: deque(items, 4))
        | st.sets(keys)
        | st.dictionaries(keys, inner)
        | st.dictionaries(keys, inner).map(OrderedDict)
        | st.dictionaries(keys, st.integers()).map(Counter)
    ),
    max_leaves=20,
)


@given(trees)
def test_a_deep_copy_is_equal_to_the_type_of_all_that_is_in_it(value: object) -> None:
    draft = write(value, DEEP | PICKLE)
    assert draft.refs == ()
    assert shape(read(draft)) == shape(value)


def test_a_shallow_copy_holds_the_same_objects() -> None:
    inner, thing = [1], Thing()
    copy = there([inner, thing, (thing,), 5])
    assert copy == [inner, thing, (thing,), 5]
    assert copy[0] is inner
    assert copy[1] is thing


def test_a_deep_copy_holds_what_is_no_plain_data_by_reference() -> None:
    inner, thing = [1], Thing()
    copy = there({"a": [inner, thing]}, DEEP)
    assert copy == {"a": [[1], thing]}
    assert copy["a"][0] is not inner


def test_a_copy_of_what_travels_anyway_is_itself() -> None:
    assert there(5) == 5
    assert there(("a", None), DEEP) == ("a", None)
    assert shape(there(([1],), DEEP | PICKLE)) == shape(([1],))


def test_long_bytes_of_a_copy_leave_the_message() -> None:
    data = bytearray(b"x" * 100_000)
    draft = write([data], DEEP)
    assert len(draft.packed) < 100
    assert read(draft) == [data]


def test_the_base_of_a_subclass_is_what_its_builtin_type_holds() -> None:
    class Items(list[Any]):
        def __iter__(self) -> Any:
            raise AssertionError("its own methods are not asked")

    class Text(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise AssertionError("its own methods are not asked")

    assert shape(there(Items([1, 2]), BASE)) == shape([1, 2])
    assert shape(there(Text("x"), BASE)) == shape("x")
    assert shape(there(type("D", (dt.datetime,), {})(2024, 10, 27, 2, fold=1), BASE)) == shape(
        dt.datetime(2024, 10, 27, 2, fold=1)
    )
    for kind, value in {set: {1}, dict: {1: 2}, OrderedDict: OrderedDict(a=1), Decimal: Decimal("1.5")}.items():
        derived: Any = type("Derived", (kind,), {})(value)
        assert shape(there(derived, BASE)) == shape(value)


# -- what has no copy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Thing(), "the value"),
        ([1, [Thing()]], "value[1][0]"),
        ({"a": (Thing(),)}, "value['a'][0]"),
        (type("Items", (list,), {})(), "the value"),
        (defaultdict(list), "the value"),
        ([len], "value[0]"),
        ([Fraction(1, 2**FRACTION)], "value[0]"),
        (dt.datetime(2000, 1, 1, tzinfo=type("Zone", (dt.tzinfo,), {})()), "the value"),
        ([{Thing()}], "value[0]"),
        ({Thing(): 1}, "value[<Thing>]"),
    ],
    ids=lambda value: value if type(value) is str else type(value).__name__,
)
def test_what_is_no_plain_data_is_named_with_its_place(value: object, place: str) -> None:
    with pytest.raises(EncodeError) as caught:
        write(value, DEEP | PICKLE)
    assert str(caught.value).startswith(place + " ")
    assert "gw.register_codec" in str(caught.value)


@pytest.mark.parametrize("flags", [DEEP, DEEP | PICKLE])
def test_a_container_that_holds_itself_has_no_deep_copy(flags: int) -> None:
    items: list[Any] = [1]
    items.append({"again": (items,)})
    with pytest.raises(EncodeError, match=r"value\[1\]\['again'\]\[0\] is a container that holds itself"):
        write(items, flags)
    assert there(items)[1] is items[1]


def test_depth_and_items_are_bounded_on_both_sides() -> None:
    value: Any = []
    for _ in range(DEPTH - 1):
        value = [value]
    assert there(value, DEEP) == value
    with pytest.raises(EncodeError, match="nested deeper than 64"):
        write([value], DEEP)
    with pytest.raises(EncodeError, match="items"):
        write([0] * (ITEMS + 1))
    packed = msgspec.msgpack.encode(1)
    for _ in range(DEPTH + 1):
        packed = msgspec.msgpack.encode(msgspec.msgpack.Ext(Ext.CODEC, b"\x92\xa4list\x91" + packed))
    with pytest.raises(ProtocolError, match="deeper"):
        read(Draft(packed))
    many = msgspec.msgpack.encode([0] * (ITEMS + 1))
    with pytest.raises(ProtocolError, match="items"):
        read(Draft(msgspec.msgpack.encode(msgspec.msgpack.Ext(Ext.CODEC, b"\x92\xa4list" + many))))


def test_where_pickles_are_allowed_what_is_not_plain_goes_as_one_pickle_and_nothing_else() -> None:
    pickled: list[object] = []

    def dumps(value: object) -> bytes:
        pickled.append(value)
        return b"pickled"

    value = [bytes(10_000), Thing()]
    draft = write(value, DEEP | PICKLE, Writer(lambda thing: thing, dumps))
    assert (draft.refs, draft.bodies) == ((), ())
    assert pickled == [value]
    reader = Reader(Payload(draft.packed))
    with pytest.raises(Denied):
        reader.read()
    reader.unpickle = lambda data: data + b"!"
    assert reader.read() == b"pickled!"


def test_an_object_that_comes_home_is_itself_in_the_strictest_copy() -> None:
    assert write([Thing()], DEEP | PICKLE, Writer(lambda _thing: HomeDraft(7))).refs == (HomeDraft(7),)


# -- reading ------------------------------------------------------------------------------------------------------------


class Trap:
    def __hash__(self) -> int:
        raise AssertionError("a hash that was asked for")


def coded(name: str, structure: object) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(Ext.CODEC, msgspec.msgpack.encode([name, structure])))


REFERENCE = msgspec.msgpack.Ext(Ext.REF, b"\0")


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        ("list", 5),
        ("set", [REFERENCE]),
        ("set", [[REFERENCE]]),
        ("frozenset", [REFERENCE]),
        ("dict", [[REFERENCE, 1]]),
        ("dict", [[1]]),
        ("dict", {"a": 1}),
        ("OrderedDict", [[REFERENCE, 1]]),
        ("Counter", [[REFERENCE, 1]]),
        ("deque", [[], -1]),
        ("deque", [[], "x"]),
        ("bytearray", "x"),
        ("bytearray", 10**12),
        ("array", ["q", b"x", "little"]),
        ("array", ["?", b"x", "little"]),
        ("array", ["q", b"", "middle"]),
        ("date", [0, 1, 1]),
        ("date", [2000, 1, True]),
        ("date", [2000, 1, REFERENCE]),
        ("datetime", [2000, 1, 1, 0, 0, 0, 0, REFERENCE, 0]),
        ("time", [0, 0, 0, 0, None, 2]),
        ("timedelta", [10**10, 0, 0]),
        ("timezone", [5, None]),
        ("ZoneInfo", "../../etc/passwd"),
        ("ZoneInfo", "No/Such"),
        ("ZoneInfo", "America"),
        ("Decimal", "one"),
        ("Decimal", 1.5),
        ("Fraction", [1, 0]),
        ("Fraction", [msgspec.msgpack.Ext(Ext.INT, b"\x01" * (FRACTION // 8 + 1)), 7]),
        ("Fraction", [1, REFERENCE]),
        ("UUID", "x"),
        ("set", [msgspec.msgpack.Ext(Ext.CODEC, b"\x92\xa7Decimal\xa4sNaN")]),
    ],
)
def test_nonsense_is_the_peers_fault_and_asks_no_object_anything(name: str, structure: object) -> None:
    with pytest.raises(ProtocolError):
        read(Draft(coded(name, structure), (Trap(),)))


class Zone(dt.tzinfo):
    def utcoffset(self, _at: dt.datetime | None) -> Any:
        raise AssertionError("an offset that was asked for")


def test_a_time_zone_that_would_have_to_be_asked_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProtocolError, match="time zone"):
        read(Draft(coded("datetime", [2000, 1, 1, 0, 0, 0, 0, REFERENCE, 0]), (Zone(),)))
    monkeypatch.setattr("zoneinfo.ZoneInfo", None)
    with pytest.raises(ProtocolError, match="no name"):
        read(Draft(coded("ZoneInfo", "tzdata.zoneinfo/x")))


scalars = st.none() | st.integers(-3, 3000) | st.sampled_from(["q", "little", "1.5", "UTC"]) | st.binary(max_size=3)
structures = st.recursive(scalars, lambda inner: st.lists(inner, max_size=9), max_leaves=12)


@given(st.sampled_from(sorted(kind.__name__ for kind in KINDS)), structures)
def test_any_structure_is_a_value_or_a_protocol_error(name: str, structure: object) -> None:
    try:
        value = read(Draft(coded(name, structure)))
    except ProtocolError:
        return
    there(value, DEEP)


def test_what_can_be_copied_is_known_before() -> None:
    plain = [[Thing()], {1: Thing()}, {dt.date(2000, 1, 1)}, {(1, Decimal(1)): 1}, deque(), Decimal(1), bytearray()]
    for value in plain:
        assert copyable(value)
        there(value)
    for other in [[0] * 100_001, {Thing()}, {Thing(): 1}, {(Thing(),)}, Thing(), defaultdict(list), "text"]:
        assert not copyable(other)
