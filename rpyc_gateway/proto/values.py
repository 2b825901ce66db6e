"""Values <-> bytes: immutables by value, the rest by reference (docs/protocol.md, section 8).

Encoding has two halves. A Writer walks values and leaves the objects that must go by reference in a list, touching no table; what it
makes is a Draft, which the session's machine commits. So an encoding that fails has changed nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from rpyc_gateway.errors import EncodeError, ProtocolError

__all__ = [
    "BODIES",
    "BY_VALUE",
    "LARGE",
    "Described",
    "Draft",
    "Ext",
    "Payload",
    "Reader",
    "Result",
    "Undecided",
    "Writer",
    "by_value",
]

LARGE = 8192
"""Bytes above which a body leaves the `call` circuit for `bulk` (docs/protocol.md, section 7)."""

BODIES = 1000
"""Bodies of one message, the packed part included: a bound on what a receiver must keep open."""

ITEMS = 1_000_000
"""Items of all tuples and sets of one message: one tuple that holds another twice, and so on, doubles with each step."""

DEPTH = 64
"""How many containers may be inside each other: enough for data, far from the interpreter's recursion limit."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_Packed = msgspec.msgpack.Ext


class Ext:
    """The MessagePack extension codes."""

    INT = 1
    STR = 2
    COMPLEX = 3
    SINGLETON = 4
    FROZENSET = 5
    SLICE = 6
    RANGE = 7
    REF = 8
    RESULT = 9
    BODY = 10
    CODEC = 11
    DESCRIBED = 12


class Result(NamedTuple):
    """Stands for the result of step `step` (from 1) of the program it is an operand of."""

    step: int


class Described(NamedTuple):
    """A reference that goes with a description, once in a message: what an exception says, for instance."""

    reference: object
    describe: Callable[[Writer], Any]


class Undecided:
    """Among the objects that references stand for: one whose description says what it becomes here; None where there is none."""

    __slots__ = ("become",)

    def __init__(self, become: Callable[[Reader, Any], object]) -> None:
        self.become = become


NESTED = 4
"""Descriptions inside each other; further in there are only references."""


class Draft(NamedTuple):
    """A packed value, the objects it refers to (in order of their index) and its long bytes."""

    packed: bytes
    refs: tuple[object, ...] = ()
    bodies: tuple[bytes | memoryview, ...] = ()


class Payload(NamedTuple):
    """A packed value as it was received: `refs` are wire references, `bodies` complete."""

    packed: bytes
    refs: tuple[Any, ...] = ()
    bodies: tuple[bytes, ...] = ()


_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_SINGLETONS: dict[object, bytes] = {Ellipsis: b"\0", NotImplemented: b"\1"}
_BY_SINGLETON: dict[bytes, object] = {code: value for value, code in _SINGLETONS.items()}


class Writer:
    """Walks values for one message. `reference` is asked for each object that cannot go by value; what it returns goes to the Draft's refs."""

    __slots__ = ("_described", "_items", "_nested", "_reference", "bodies", "refs")

    def __init__(self, reference: Callable[[object], object]) -> None:
        self._reference = reference
        self.refs: list[object] = []
        self.bodies: list[bytes | memoryview] = []
        self._items = 0
        self._nested = 0
        self._described: set[int] = set()

    def count(self, items: int) -> None:
        """Items of a tuple, set or the like are to be walked. Raises EncodeError beyond ITEMS in one message."""
        self._items += items
        if self._items > ITEMS:
            raise EncodeError(
                f"a value of more than {ITEMS} items; send a list (it goes by reference) or bytes instead"
            )

    def value(self, value: object, depth: int = 0) -> Any:
        """What stands for `value` in a packed structure. Raises EncodeError, or whatever `reference` raises."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        write = _WRITERS.get(kind)
        return self.refer(value) if write is None else write(self, value, depth)

    def refer(self, value: object) -> Any:
        """What stands for an object that goes by reference. Raises whatever `reference` raises."""
        reference = self._reference(value)
        if type(reference) is Result:
            return _write_result(self, reference, 0)
        if type(reference) is not Described:
            return self.attach(reference)
        item = self.attach(reference.reference)
        if id(value) in self._described or self._nested >= NESTED:
            return item
        self._described.add(id(value))  # `refs` keeps it alive
        self._nested += 1
        try:
            return _Packed(Ext.DESCRIBED, _pack([_structure(item.data), reference.describe(self)]))
        finally:
            self._nested -= 1

    def attach(self, reference: object) -> Any:
        """What stands for a reference that was made already."""
        self.refs.append(reference)
        return _Packed(Ext.REF, _pack(len(self.refs) - 1))

    def finish(self, structure: Any) -> Draft:
        """Pack what `value` returned (or a list of such) into a Draft."""
        return Draft(_pack(structure), tuple(self.refs), tuple(self.bodies))


def _write_int(_writer: Writer, value: int, _depth: int) -> Any:
    if _INT_MIN <= value <= _INT_MAX:
        return value
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1  # one bit more, for the sign
    return _Packed(Ext.INT, value.to_bytes(size, "big", signed=True))


def _write_str(_writer: Writer, value: str, _depth: int) -> Any:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return _Packed(Ext.STR, value.encode("utf-8", "surrogatepass"))
    return value


def _write_bytes(writer: Writer, value: bytes, _depth: int) -> Any:
    if len(value) <= LARGE or len(writer.bodies) >= BODIES - 1:
        return value
    writer.bodies.append(value)
    return _Packed(Ext.BODY, _pack(len(writer.bodies) - 1))


def _write_complex(_writer: Writer, value: complex, _depth: int) -> Any:
    return _Packed(Ext.COMPLEX, struct.pack(">dd", value.real, value.imag))


def _write_singleton(_writer: Writer, value: object, _depth: int) -> Any:
    return _Packed(Ext.SINGLETON, _SINGLETONS[value])


def _write_items(writer: Writer, items: Iterable[object], depth: int) -> list[Any]:
    if depth >= DEPTH:
        raise EncodeError(
            f"value nested deeper than {DEPTH} levels; send a list or dict (they go by reference) instead"
        )
    known = tuple(items)
    writer.count(len(known))
    return [writer.value(item, depth + 1) for item in known]


def _write_frozenset(writer: Writer, value: frozenset[object], depth: int) -> Any:
    # Rebuilding a set hashes its items, and the hash of a reference would be a call: such a set stays at home.
    if not all(map(by_value, value)):
        return writer.refer(value)
    return _Packed(Ext.FROZENSET, _pack(_write_items(writer, value, depth)))


def _write_slice(writer: Writer, value: slice, depth: int) -> Any:
    return _Packed(Ext.SLICE, _pack(_write_items(writer, (value.start, value.stop, value.step), depth)))


def _write_range(writer: Writer, value: range, depth: int) -> Any:
    parts = [_write_int(writer, part, depth) for part in (value.start, value.stop, value.step)]
    return _Packed(Ext.RANGE, _pack(parts))


def _write_result(_writer: Writer, value: Result, _depth: int) -> Any:
    return _Packed(Ext.RESULT, _pack(value.step))


_PLAIN = frozenset({type(None), bool, float})
_WRITERS: dict[type, Callable[[Writer, Any, int], Any]] = {
    int: _write_int,
    str: _write_str,
    bytes: _write_bytes,
    tuple: _write_items,
    complex: _write_complex,
    type(Ellipsis): _write_singleton,
    type(NotImplemented): _write_singleton,
    frozenset: _write_frozenset,
    slice: _write_slice,
    range: _write_range,
    Result: _write_result,
}


BY_VALUE = frozenset({*_PLAIN, *_WRITERS}) - {frozenset, Result}
"""Types whose values always travel by value, if not with all that is in them."""


def by_value(value: object, depth: int = 0) -> bool:
    """Whether a value travels by value with all that is in it."""
    kind = type(value)
    if kind is tuple or kind is frozenset:
        return depth < DEPTH and all(by_value(item, depth + 1) for item in value)  # type: ignore[attr-defined]
    if kind is slice:
        return by_value((value.start, value.stop, value.step), depth)  # type: ignore[attr-defined]
    return kind in _PLAIN or (kind in _WRITERS and kind is not Result)


class Reader:
    """Turns a received Payload into values. `refs` are the objects its references stand for, `results` those of the steps done so far."""

    __slots__ = ("_packed", "bodies", "nested", "refs", "results")

    def __init__(self, payload: Payload, refs: Sequence[object] = (), results: Sequence[object] = ()) -> None:
        self._packed = payload.packed
        self.bodies = payload.bodies
        self.refs = refs
        self.results = results
        self.nested = 0

    def structure(self) -> Any:
        """The packed structure, unread: lists, atoms and extensions. Raises ProtocolError."""
        return _structure(self._packed)

    def read(self) -> Any:
        """The whole value. Raises ProtocolError."""
        return self.value(self.structure())

    def value(self, item: Any, depth: int = 0) -> Any:
        """The value of one item of the structure. Raises ProtocolError."""
        kind = type(item)
        if kind in _ATOMS:
            return item
        if kind is list:
            return _read_items(self, item, depth)
        if kind is not _Packed:
            raise ProtocolError(f"a {kind.__name__} in a value")
        read = _READERS.get(item.code)
        if read is None:
            raise ProtocolError(f"unknown extension {item.code} in a value")
        try:
            return read(self, bytes(item.data), depth)
        except (ValueError, TypeError, IndexError, KeyError, struct.error) as error:
            raise ProtocolError(f"extension {item.code} is malformed: {error}") from error


_ATOMS = frozenset({type(None), bool, int, float, str, bytes})


def _structure(packed: bytes) -> Any:
    try:
        return _unpack(packed)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a value cannot be read: {error}") from error


def _read_items(reader: Reader, items: Any, depth: int, count: int | None = None) -> tuple[Any, ...]:
    if type(items) is not list or (count is not None and len(items) != count):
        raise ValueError("wrong number of items")
    if depth >= DEPTH:
        raise ProtocolError(f"value nested deeper than {DEPTH} levels")
    below = depth + 1
    return tuple([reader.value(item, below) for item in items])


def _read_index(data: bytes) -> int:
    index = _structure(data)
    if type(index) is not int or index < 0:
        raise ValueError(f"index {index!r}")
    return index


def _read_int(_reader: Reader, data: bytes, _depth: int) -> int:
    return int.from_bytes(data, "big", signed=True)


def _read_str(_reader: Reader, data: bytes, _depth: int) -> str:
    return data.decode("utf-8", "surrogatepass")


def _read_complex(_reader: Reader, data: bytes, _depth: int) -> complex:
    return complex(*struct.unpack(">dd", data))


def _read_singleton(_reader: Reader, data: bytes, _depth: int) -> object:
    return _BY_SINGLETON[data]


def _read_frozenset(reader: Reader, data: bytes, depth: int) -> frozenset[object]:
    items = _read_items(reader, _structure(data), depth)
    if not all(map(by_value, items)):  # the hash of anything else runs code, here or at the peer
        raise ValueError("an item that does not travel by value")
    return frozenset(items)


def _read_slice(reader: Reader, data: bytes, depth: int) -> slice:
    return slice(*_read_items(reader, _structure(data), depth, 3))


def _read_range(reader: Reader, data: bytes, _depth: int) -> range:
    parts = _read_items(reader, _structure(data), 0, 3)
    if any(type(part) is not int for part in parts):  # range would ask their __index__
        raise ValueError("a part that is not an int")
    return range(*parts)


def _read_ref(reader: Reader, data: bytes, _depth: int) -> object:
    ref = reader.refs[_read_index(data)]
    return ref.become(reader, None) if type(ref) is Undecided else ref


def _read_described(reader: Reader, data: bytes, _depth: int) -> object:
    index, description = _structure(data)
    if type(index) is not int or index < 0:
        raise ValueError(f"index {index!r}")
    ref = reader.refs[index]
    if type(ref) is not Undecided:
        return ref
    if reader.nested >= NESTED:
        raise ProtocolError(f"more than {NESTED} descriptions inside each other")
    reader.nested += 1
    try:
        return ref.become(reader, description)
    finally:
        reader.nested -= 1


def _read_result(reader: Reader, data: bytes, _depth: int) -> object:
    step = _read_index(data)
    if step == 0:
        raise ValueError("results are counted from 1")
    return reader.results[step - 1]


def _read_body(reader: Reader, data: bytes, _depth: int) -> bytes:
    return reader.bodies[_read_index(data)]


_READERS: dict[int, Callable[[Reader, bytes, int], Any]] = {
    Ext.INT: _read_int,
    Ext.STR: _read_str,
    Ext.COMPLEX: _read_complex,
    Ext.SINGLETON: _read_singleton,
    Ext.FROZENSET: _read_frozenset,
    Ext.SLICE: _read_slice,
    Ext.RANGE: _read_range,
    Ext.REF: _read_ref,
    Ext.RESULT: _read_result,
    Ext.BODY: _read_body,
    Ext.DESCRIBED: _read_described,
}
