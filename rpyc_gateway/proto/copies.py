"""Copies of plain containers and the like, made where they are asked for (docs/protocol.md, section 8).

Writing one runs no code of the objects in it; reading one runs none of anybody. Only what its owner allows to be pickled is pickled.
"""

from __future__ import annotations

import array
import datetime as dt
import re
import sys
import zoneinfo
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

from rpyc_gateway.errors import Denied, EncodeError
from rpyc_gateway.proto.codecs import add_reader, write_buffer
from rpyc_gateway.proto.facts import HomeDraft
from rpyc_gateway.proto.plain import ATOMS, KINDS, NESTS, ZONES, base_value, is_key
from rpyc_gateway.proto.values import DEPTH, WRITERS, Reader, Result, Writer, by_value, travels, write_bytes

__all__ = ["BASE", "DEEP", "FRACTION", "PICKLE", "Copied", "write_parts"]

DEEP = 1
"""Containers in the copy are copied too."""

PICKLE = 2
"""Nothing in the copy is a reference, but for objects that come home; what is not plain makes a pickle of the whole, or an error."""

BASE = 4
"""What the builtin type that the value's class is derived from would see of it."""

FRACTION = 2**18
"""Bits of a fraction's parts. What they have in common takes time that grows with their square, and no other thread runs meanwhile."""


class Copied(NamedTuple):
    """Stands for a copy of a value, among the operands of a step or as its result."""

    value: object
    flags: int = 0


class _NotPlain(EncodeError):
    """Something in the value is not plain data; `path` leads to it."""


# -- writing ------------------------------------------------------------------------------------------------------------


def _write_copied(writer: Writer, copied: Copied, depth: int) -> Any:
    value, flags = copied
    if flags & BASE:
        value = base_value(value)
    if type(value) is Result:
        raise EncodeError("a copy of a step's result is made by COPY")
    walk = _Walk(writer, flags)
    if not flags & PICKLE:
        return walk.whole(value, depth)
    mark = writer.mark()
    try:
        return walk.whole(value, depth)
    except _NotPlain as problem:
        writer.rewind(mark)
        try:
            pickled = writer.pickle(value)
        except Denied as refusal:
            raise EncodeError(f"{problem}. {refusal}") from None
    return writer.coded("pickle", write_bytes(writer, pickled, 0))


def write_parts(writer: Writer, structure: object, depth: int) -> Any:
    """What a codec made of a value: views as bytes, containers as deep copies, the rest like any value."""
    return _Walk(writer, DEEP).part(structure, depth)


class _Walk:
    """Writes one copy. `path` is where it is, for errors; `inside` the containers around that."""

    __slots__ = ("deep", "inside", "path", "strict", "writer")

    def __init__(self, writer: Writer, flags: int) -> None:
        self.writer = writer
        self.deep = bool(flags & (DEEP | PICKLE))
        self.strict = bool(flags & PICKLE)
        self.path: list[object] = []
        self.inside: set[int] = set()

    def whole(self, value: object, depth: int) -> Any:
        """The value that a copy is asked of."""
        kind = type(value)
        if kind in _COPIERS:
            return self.copy(kind, value, depth)
        if kind in NESTS and self.deep:
            return self.part(value, depth)
        if travels(kind):
            return self.writer.value(value, depth)
        raise self.not_plain(value)

    def part(self, value: object, depth: int) -> Any:
        """What is in a copy, where that is not a key."""
        kind = type(value)
        if not self.deep:
            return self.writer.value(value, depth)
        if kind in _COPIERS and not (kind is frozenset and by_value(value)):
            return self.copy(kind, value, depth)
        if kind is tuple:
            return self.parts(value, depth)  # type: ignore[arg-type]
        if kind is memoryview and not self.strict:
            return write_buffer(self.writer, value)  # type: ignore[arg-type]
        if not self.strict or by_value(value) or (travels(kind) and kind not in NESTS):
            return self.writer.value(value, depth)
        return self._reference(value)

    def parts(self, items: Iterable[object], depth: int) -> list[Any]:
        """Items in a row."""
        known = list(items)
        self._enter(depth, len(known))
        self.path.append(0)
        written = []
        for position, item in enumerate(known):
            self.path[-1] = position
            written.append(self.part(item, depth + 1))
        self.path.pop()
        return written

    def keys(self, items: Iterable[object], depth: int) -> list[Any]:
        """Items of a set."""
        known = list(items)
        self._enter(depth, len(known))
        return [self.key(item, depth + 1) for item in known]

    def pairs(self, items: Iterable[tuple[object, object]], depth: int) -> list[Any]:
        """The items of a dict."""
        known = list(items)
        self._enter(depth, 2 * len(known))
        self.path.append(None)
        written = []
        for key, value in known:
            self.path[-1] = key
            written.append([self.key(key, depth + 1), self.part(value, depth + 1)])
        self.path.pop()
        return written

    def key(self, value: object, depth: int) -> Any:
        """A key, whose hash must not be a call."""
        kind = type(value)
        if by_value(value):
            return self.writer.value(value, depth)
        if kind is tuple:
            return self.keys(value, depth)  # type: ignore[arg-type]
        if not is_key(value):
            raise self.not_plain(value, "has a key that is")
        if kind in _COPIERS:
            return self.copy(kind, value, depth)
        return self.writer.value(value, depth)

    def copy(self, kind: type, value: object, depth: int) -> Any:
        """A value that has a copier."""
        if kind in ATOMS:
            return self.writer.coded(kind.__name__, _COPIERS[kind](self, value, depth))
        if id(value) in self.inside:
            raise _NotPlain(f"{self._place()} is a container that holds itself: it has no copy")
        self.inside.add(id(value))
        structure = _COPIERS[kind](self, value, depth)
        self.inside.discard(id(value))
        return self.writer.coded(kind.__name__, structure)

    def _enter(self, depth: int, items: int) -> None:
        if depth >= DEPTH:
            raise _NotPlain(f"{self._place()} is nested deeper than {DEPTH} levels")
        self.writer.count(items)

    def _reference(self, value: object) -> Any:
        before = len(self.writer.refs)
        written = self.writer.refer(value)
        if len(self.writer.refs) == before or type(self.writer.refs[before]) is not HomeDraft:
            raise self.not_plain(value)
        return written

    def not_plain(self, value: object, role: str = "is") -> EncodeError:
        """What to say of a value that there is no copy of."""
        kind = type(value)
        if hasattr(kind, "__gw_kind__"):
            what = f"{kind.__module__}.{kind.__qualname__}"
            return _NotPlain(f"{self._place()} {role} a proxy of a {what} of another process: obtain that by itself")
        text = f"{self._place()} {role} no plain data but a {kind.__module__}.{kind.__qualname__}"
        return _NotPlain(f"{text}; a codec (gw.register_codec at both ends) would make a value of it")

    def _place(self) -> str:
        return "value" + "".join(f"[{_shown(step)}]" for step in self.path) if self.path else "the value"


def _shown(step: object) -> str:
    return repr(step)[:50] if by_value(step) else f"<{type(step).__qualname__}>"


def _zone(walk: _Walk, zone: dt.tzinfo | None, depth: int) -> Any:
    if zone is not None and type(zone) not in _COPIERS:
        raise walk.not_plain(zone, "has a time zone that is")
    return None if zone is None else walk.copy(type(zone), zone, depth + 1)


def _datetime(walk: _Walk, at: dt.datetime, depth: int) -> list[Any]:
    fields = [at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond]
    return [*fields, _zone(walk, at.tzinfo, depth), at.fold]


def _time(walk: _Walk, at: dt.time, depth: int) -> list[Any]:
    return [at.hour, at.minute, at.second, at.microsecond, _zone(walk, at.tzinfo, depth), at.fold]


def _timezone(walk: _Walk, zone: dt.timezone, depth: int) -> list[Any]:
    offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
    return [
        walk.writer.coded("timedelta", _timedelta(walk, offset, depth)),
        walk.writer.value(name[0] if name else None),
    ]


def _timedelta(_walk: _Walk, span: dt.timedelta, _depth: int) -> list[int]:
    return [span.days, span.seconds, span.microseconds]


def _zone_info(walk: _Walk, zone: zoneinfo.ZoneInfo, _depth: int) -> Any:
    if zone.key is None:
        raise walk.not_plain(zone, "is a time zone without a key:")
    return walk.writer.value(zone.key)


def _array(walk: _Walk, values: array.array[Any], _depth: int) -> list[Any]:
    return [values.typecode, write_bytes(walk.writer, values.tobytes(), 0), sys.byteorder]


def _fraction(walk: _Walk, value: Fraction, _depth: int) -> Any:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > FRACTION:
        raise walk.not_plain(value, f"is longer than {FRACTION} bits:")
    return walk.writer.value((value.numerator, value.denominator))


_COPIERS: dict[type, Callable[[_Walk, Any, int], Any]] = {
    list: lambda walk, value, depth: walk.parts(value, depth),
    deque: lambda walk, value, depth: [walk.parts(value, depth), value.maxlen],
    set: lambda walk, value, depth: walk.keys(value, depth),
    frozenset: lambda walk, value, depth: walk.keys(value, depth),
    dict: lambda walk, value, depth: walk.pairs(value.items(), depth),
    OrderedDict: lambda walk, value, depth: walk.pairs(value.items(), depth),
    Counter: lambda walk, value, depth: walk.pairs(value.items(), depth),
    bytearray: lambda walk, value, depth: write_bytes(walk.writer, bytes(value), 0),
    array.array: _array,
    dt.date: lambda walk, value, depth: [value.year, value.month, value.day],
    dt.time: _time,
    dt.datetime: _datetime,
    dt.timedelta: _timedelta,
    dt.timezone: _timezone,
    zoneinfo.ZoneInfo: _zone_info,
    Decimal: lambda walk, value, depth: str(value),
    Fraction: _fraction,
    UUID: lambda walk, value, depth: str(value),
}
assert _COPIERS.keys() == KINDS
WRITERS[Copied] = _write_copied


# -- reading ------------------------------------------------------------------------------------------------------------


def _items(reader: Reader, structure: Any, count: int | None = None) -> list[Any]:
    if type(structure) is not list or (count is not None and len(structure) != count):
        raise ValueError("wrong number of items")
    reader.count(len(structure))
    return structure


def _read_items(reader: Reader, structure: Any, depth: int) -> list[Any]:
    return [reader.value(item, depth) for item in _items(reader, structure)]


def _read_key(reader: Reader, item: Any, depth: int) -> Any:
    value = reader.value(item, depth)
    if not is_key(value):
        raise ValueError("a key whose hash would be a call")
    return value


def _read_keys(reader: Reader, structure: Any, depth: int) -> list[Any]:
    return [_read_key(reader, item, depth) for item in _items(reader, structure)]


def _read_pairs(reader: Reader, structure: Any, depth: int) -> dict[Any, Any]:
    pairs = (_items(reader, pair, 2) for pair in _items(reader, structure))
    return {_read_key(reader, key, depth): reader.value(item, depth) for key, item in pairs}


def _read_bytes(reader: Reader, item: Any, depth: int) -> bytes:
    value = reader.value(item, depth)
    if type(value) is not bytes:
        raise ValueError("no bytes")
    return value


def _read_counter(reader: Reader, structure: Any, depth: int) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    dict.update(counter, _read_pairs(reader, structure, depth))  # not Counter's own, which adds
    return counter


def _read_deque(reader: Reader, structure: Any, depth: int) -> deque[Any]:
    items, longest = _items(reader, structure, 2)
    return deque(_read_items(reader, items, depth), _of(int | None, longest))


def _read_array(reader: Reader, structure: Any, depth: int) -> array.array[Any]:
    code, item, order = _items(reader, structure, 3)
    values: array.array[Any] = array.array(_of(str, code))
    values.frombytes(_read_bytes(reader, item, depth))
    if order not in ("little", "big"):
        raise ValueError(f"byte order {order!r}")
    if order != sys.byteorder:
        values.byteswap()
    return values


def _read_fields(make: Callable[..., Any], count: int, zoned: type | None = None) -> Callable[[Reader, Any, int], Any]:
    """A reader for what is made of so many ints; with `zoned`, a time zone and `fold` follow."""

    def read(reader: Reader, structure: Any, depth: int) -> Any:
        fields = _items(reader, structure, count + (2 if zoned else 0))
        numbers = [_of(int, field) for field in fields[:count]]
        if zoned is None:
            return make(*numbers)
        zone = reader.value(fields[count], depth)
        if zone is not None and type(zone) not in ZONES:  # another one would be asked for its offset
            raise ValueError("a time zone of an unknown kind")
        return make(*numbers, zone, fold=_of(int, fields[count + 1]))

    return read


def _read_timezone(reader: Reader, structure: Any, depth: int) -> dt.timezone:
    offset, name = _read_items(reader, structure, depth)
    span = _of(dt.timedelta, offset)
    return dt.timezone(span) if name is None else dt.timezone(span, _of(str, name))


_KEY = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,3}")  # a name, never a way out of where the zones are


def _read_zone_info(reader: Reader, item: Any, depth: int) -> zoneinfo.ZoneInfo:
    key = _of(str, reader.value(item, depth))
    if not _KEY.fullmatch(key):
        raise ValueError("no name of a time zone")
    try:
        return zoneinfo.ZoneInfo(key)
    except OSError as error:  # a directory of zones
        raise ValueError("no time zone of this name") from error


def _read_fraction(reader: Reader, structure: Any, depth: int) -> Fraction:
    numerator, denominator = (_of(int, reader.value(item, depth)) for item in _items(reader, structure, 2))
    if max(numerator.bit_length(), denominator.bit_length()) > FRACTION:
        raise ValueError(f"a part of more than {FRACTION} bits")
    return Fraction(numerator, denominator)


def _read_pickle(reader: Reader, item: Any, depth: int) -> object:
    return reader.unpickle(_read_bytes(reader, item, depth))


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or type(value) is bool:
        raise ValueError(f"a {type(value).__name__} where it cannot be")
    return value


for _name, _read in {
    "list": _read_items,
    "deque": _read_deque,
    "set": lambda reader, structure, depth: set(_read_keys(reader, structure, depth)),
    "frozenset": lambda reader, structure, depth: frozenset(_read_keys(reader, structure, depth)),
    "dict": _read_pairs,
    "OrderedDict": lambda reader, structure, depth: OrderedDict(_read_pairs(reader, structure, depth)),
    "Counter": _read_counter,
    "bytearray": lambda reader, item, depth: bytearray(_read_bytes(reader, item, depth)),
    "array": _read_array,
    "date": _read_fields(dt.date, 3),
    "time": _read_fields(dt.time, 4, dt.time),
    "datetime": _read_fields(dt.datetime, 7, dt.datetime),
    "timedelta": _read_fields(dt.timedelta, 3),
    "timezone": _read_timezone,
    "ZoneInfo": _read_zone_info,
    "Decimal": lambda reader, item, depth: Decimal(_of(str, item)),
    "Fraction": _read_fraction,
    "UUID": lambda reader, item, depth: UUID(_of(str, item)),
    "pickle": _read_pickle,
}.items():
    add_reader(_name, _read)
