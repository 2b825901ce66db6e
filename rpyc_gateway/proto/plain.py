"""Plain data: the builtin types whose values a copy can be made of without running anybody's code."""

from __future__ import annotations

import array
import datetime as dt
import zoneinfo
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from rpyc_gateway.proto.known import mro_of
from rpyc_gateway.proto.values import BY_VALUE, Result, by_value, travels

__all__ = ["ATOMS", "BY_NAME", "KINDS", "NESTS", "ZONES", "base_value", "copyable", "is_key", "plain_kind"]

ZONES = frozenset({dt.timezone, zoneinfo.ZoneInfo})
"""Time zones that know their offset without a call."""

ATOMS = ZONES | {bytearray, array.array, dt.date, dt.time, dt.datetime, dt.timedelta, Decimal, Fraction, UUID}
"""Plain types that hold nothing else."""

KINDS = ATOMS | {list, deque, set, frozenset, dict, OrderedDict, Counter}
"""Types that a copy can be made of. (Builtin values need none.)"""

BY_NAME = {(kind.__module__, kind.__qualname__): kind for kind in KINDS | BY_VALUE}
"""Plain types and those that travel by value: what is particular about its operands where it is implemented in C."""

NESTS = frozenset({tuple, frozenset, slice})
"""Builtin values that may hold what is none."""

_KEYS = ATOMS - {bytearray, array.array}
_HASHED = frozenset({dict, OrderedDict, Counter, set, frozenset})
_MANY = 100_000  # items that are sent before anybody has asked for them


def is_key(value: object) -> bool:
    """Whether the hash of a value is no call: builtin values, copies of immutable ones, what a codec is registered for."""
    kind = type(value)
    if kind is tuple or kind is frozenset:
        return all(map(is_key, value))  # type: ignore[call-overload]
    return kind in _KEYS or by_value(value) or (travels(kind) and kind is not slice and kind is not Result)


def copyable(value: object) -> bool:
    """Whether a shallow copy can be made of a value that does not travel by value itself, and is worth it."""
    kind = type(value)
    if kind in KINDS - ATOMS and len(value) > _MANY:  # type: ignore[arg-type]
        return False
    if kind in _HASHED:
        return all(map(is_key, value))  # type: ignore[call-overload]
    return kind in KINDS


def plain_kind(kind: type) -> type | None:
    """The builtin type that a class is, or is derived from, if values of that can be copied or travel."""
    for base in mro_of(kind):
        if base in KINDS or base in _BASES:
            return base
    return None


def base_value(value: Any) -> object:
    """What the builtin type that the value's class is derived from would see of it; the value itself if there is none."""
    kind = plain_kind(type(value))
    if kind is None or type(value) is kind:
        return value
    return _BASES[kind](value)


_BASES: dict[type, Callable[[Any], object]] = {
    list: list.copy,
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    deque: lambda value: deque(deque.__iter__(value), value.maxlen),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    dict: dict.copy,
    OrderedDict: lambda value: OrderedDict(OrderedDict.items(value)),
    Counter: lambda value: Counter(dict.copy(value)),
    bytearray: lambda value: bytearray.__getitem__(value, slice(None)),
    array.array: lambda value: array.array.__getitem__(value, slice(None)),
    dt.date: lambda value: dt.date(value.year, value.month, value.day),
    dt.time: lambda value: dt.time(
        value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold
    ),
    dt.datetime: lambda value: dt.datetime.combine(dt.datetime.date(value), dt.datetime.timetz(value)),
    dt.timedelta: dt.timedelta.__pos__,
    Decimal: Decimal,
    Fraction: lambda value: Fraction(value.numerator, value.denominator),
    UUID: lambda value: UUID(int=value.int),
}
