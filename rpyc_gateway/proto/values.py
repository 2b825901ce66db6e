"""Values <-> bytes: immutables by value, the rest by reference (docs/protocol.md, section 8).

Encoding has two halves. A Writer walks values and leaves the objects that must go by reference in a list, touching no table; what it
makes is a Draft, which the session's machine commits. So an encoding that fails has changed nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from rpyc_gateway.errors import Denied, EncodeError, ProtocolError
from rpyc_gateway.proto.atoms import ATOMS, all_atoms, are_rows, items_in, pack_many
from rpyc_gateway.proto.packed import (
    BODIES,
    DEPTH,
    ITEMS,
    LARGE,
    NESTED,
    Described,
    Draft,
    Ext,
    Payload,
    Result,
    Undecided,
)

__all__ = [
    "BODIES",
    "BY_VALUE",
    "DEPTH",
    "ITEMS",
    "LARGE",
    "ONE_REF",
    "READERS",
    "UNREADABLE",
    "WRITERS",
    "Described",
    "Draft",
    "Ext",
    "Payload",
    "Reader",
    "Result",
    "Undecided",
    "Writer",
    "by_value",
    "read_structure",
    "travels",
    "unpack",
    "write_bytes",
]

_pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder().decode
"""What `read_structure` is made of: a short way reads a small value itself. It raises UNREADABLE."""
UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_Packed = msgspec.msgpack.Ext


_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_SINGLETONS: dict[object, bytes] = {Ellipsis: b"\0", NotImplemented: b"\1"}
_BY_SINGLETON: dict[bytes, object] = {code: value for value, code in _SINGLETONS.items()}


def _no_pickle(_value: object) -> Any:
    raise Denied("pickle is not allowed here")


class Writer:
    """Walks values for one message. `reference` is asked for each object that cannot go by value; what it returns goes to the Draft's refs.

    `pickle` makes the pickle of an object, or raises Denied. With `snapshot` set, buffers that can change are copied: nobody waits
    until they have been sent.
    """

    __slots__ = ("_described", "_items", "_nested", "_reference", "bodies", "pickle", "refs", "snapshot")

    def __init__(self, reference: Callable[[object], object], pickle: Callable[[object], bytes] = _no_pickle) -> None:
        self._reference = reference
        self.pickle = pickle
        self.snapshot = False
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
        write = WRITERS.get(kind)
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
            return _Packed(Ext.DESCRIBED, _pack([read_structure(item.data), reference.describe(self)]))
        finally:
            self._nested -= 1

    def attach(self, reference: object) -> Any:
        """What stands for a reference that was made already."""
        self.refs.append(reference)
        return _Packed(Ext.REF, _pack(len(self.refs) - 1))

    def coded(self, name: str, structure: Any) -> Any:
        """What stands for a value that the reader of this name rebuilds from `structure` (ext 11)."""
        return _Packed(Ext.CODEC, _pack([name, structure]))

    def mark(self) -> tuple[int, int, set[int]]:
        """Where the writer is now, for `rewind`."""
        return len(self.refs), len(self.bodies), set(self._described)

    def rewind(self, mark: tuple[int, int, set[int]]) -> None:
        """Forget what has been written since `mark`: it will not be part of the message."""
        refs, bodies, self._described = mark
        del self.refs[refs:]
        del self.bodies[bodies:]

    def finish(self, structure: Any) -> Draft:
        """Pack what `value` returned (or a list of such) into a Draft. Raises EncodeError for a name with lone surrogates."""
        try:
            return Draft(_pack(structure), tuple(self.refs), tuple(self.bodies))
        except UnicodeEncodeError as error:
            raise EncodeError(f"a name cannot be sent: {error}") from error


ONE_REF = _pack(_Packed(Ext.REF, _pack(0)))
"""The packed part of a value that is nothing but a reference."""


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


def write_bytes(writer: Writer, value: bytes | memoryview, _depth: int) -> Any:
    """What stands for bytes, or for a view of some (which the reader gets as bytes): long ones become bodies of their own, uncopied."""
    if len(value) <= LARGE or len(writer.bodies) >= BODIES - 1:
        return bytes(value)
    writer.bodies.append(value)
    return _Packed(Ext.BODY, _pack(len(writer.bodies) - 1))


def _write_complex(_writer: Writer, value: complex, _depth: int) -> Any:
    return _Packed(Ext.COMPLEX, struct.pack(">dd", value.real, value.imag))


def _write_singleton(_writer: Writer, value: object, _depth: int) -> Any:
    return _Packed(Ext.SINGLETON, _SINGLETONS[value])


def _write_items(writer: Writer, items: Iterable[object], depth: int) -> Any:
    if depth >= DEPTH:
        raise EncodeError(
            f"value nested deeper than {DEPTH} levels; send a list or dict (they go by reference) instead"
        )
    known = tuple(items)
    writer.count(len(known))
    packed = pack_many(known, ITEMS if depth + 1 < DEPTH else -1)
    if packed is not None:
        if type(known[0]) is tuple:
            writer.count(items_in(known))
        return msgspec.Raw(packed)
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
WRITERS: dict[type, Callable[[Writer, Any, int], Any]] = {
    int: _write_int,
    str: _write_str,
    bytes: write_bytes,
    tuple: _write_items,
    complex: _write_complex,
    type(Ellipsis): _write_singleton,
    type(NotImplemented): _write_singleton,
    frozenset: _write_frozenset,
    slice: _write_slice,
    range: _write_range,
    Result: _write_result,
}


BY_VALUE = frozenset({*_PLAIN, *WRITERS}) - {frozenset, Result}
"""Types whose values always travel by value, if not with all that is in them."""

_ATOMIC = BY_VALUE - {tuple, slice}


def travels(kind: type) -> bool:
    """Whether values of this type go by value, as a rule: builtin ones, and those that a codec is registered for."""
    return kind in _PLAIN or kind in WRITERS


def by_value(value: object, depth: int = 0) -> bool:
    """Whether a value travels by value with all that is in it."""
    kind = type(value)
    if kind is tuple or kind is frozenset:
        return depth < DEPTH and all(by_value(item, depth + 1) for item in value)  # type: ignore[attr-defined]
    if kind is slice:
        return by_value((value.start, value.stop, value.step), depth)  # type: ignore[attr-defined]
    return kind in _ATOMIC


class Reader:
    """Turns a received Payload into values. `refs` are the objects its references stand for, `results` those of the steps done so far.

    `node` is where it is read, for errors; `unpickle` rebuilds what came as a pickle, or raises Denied.
    """

    __slots__ = ("_items", "_packed", "bodies", "nested", "node", "refs", "results", "unpickle")

    def __init__(self, payload: Payload, refs: Sequence[object] = (), results: Sequence[object] = ()) -> None:
        self._packed = payload.packed
        self.bodies = payload.bodies
        self.refs = refs
        self.results = results
        self.nested = 0
        self.node = ""
        self.unpickle: Callable[[bytes], object] = _no_pickle
        self._items = 0

    def count(self, items: int) -> None:
        """Items of a tuple, set or the like are to be read. Raises ProtocolError beyond ITEMS in one message."""
        self._items += items
        if self._items > ITEMS:
            raise ProtocolError(f"a value of more than {ITEMS} items")

    def structure(self) -> Any:
        """The packed structure, unread: lists, atoms and extensions. Raises ProtocolError."""
        return read_structure(self._packed)

    def read(self) -> Any:
        """The whole value. Raises ProtocolError."""
        return self.value(self.structure())

    def value(self, item: Any, depth: int = 0) -> Any:
        """The value of one item of the structure. Raises ProtocolError."""
        kind = type(item)
        if kind in ATOMS:
            return item
        if kind is list:
            return _read_items(self, item, depth)
        if kind is not _Packed:
            raise ProtocolError(f"a {kind.__name__} in a value")
        read = READERS.get(item.code)
        if read is None:
            raise ProtocolError(f"unknown extension {item.code} in a value")
        try:
            return read(self, bytes(item.data), depth)
        except (ValueError, TypeError, IndexError, KeyError, ArithmeticError, struct.error) as error:
            raise ProtocolError(f"extension {item.code} is malformed: {error}") from error


def read_structure(packed: bytes) -> Any:
    """What is packed, unread. Raises ProtocolError."""
    try:
        return unpack(packed)
    except UNREADABLE as error:
        raise ProtocolError(f"a value cannot be read: {error}") from error


def _read_items(reader: Reader, items: Any, depth: int, count: int | None = None) -> tuple[Any, ...]:
    if type(items) is not list or (count is not None and len(items) != count):
        raise ValueError("wrong number of items")
    if depth >= DEPTH:
        raise ProtocolError(f"value nested deeper than {DEPTH} levels")
    reader.count(len(items))
    if all_atoms(items):
        return tuple(items)
    below = depth + 1
    if below < DEPTH and are_rows(items, list):
        reader.count(items_in(items))
        return tuple(map(tuple, items))
    return tuple([reader.value(item, below) for item in items])


def _read_index(data: bytes) -> int:
    index = read_structure(data)
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
    items = _read_items(reader, read_structure(data), depth)
    if not all(map(by_value, items)):  # the hash of anything else runs code, here or at the peer
        raise ValueError("an item that does not travel by value")
    return frozenset(items)


def _read_slice(reader: Reader, data: bytes, depth: int) -> slice:
    return slice(*_read_items(reader, read_structure(data), depth, 3))


def _read_range(reader: Reader, data: bytes, _depth: int) -> range:
    parts = _read_items(reader, read_structure(data), 0, 3)
    if any(type(part) is not int for part in parts):  # range would ask their __index__
        raise ValueError("a part that is not an int")
    return range(*parts)


def _read_ref(reader: Reader, data: bytes, _depth: int) -> object:
    ref = reader.refs[_read_index(data)]
    return ref.become(reader, None) if type(ref) is Undecided else ref


def _read_described(reader: Reader, data: bytes, _depth: int) -> object:
    index, description = read_structure(data)
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


READERS: dict[int, Callable[[Reader, bytes, int], Any]] = {
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
