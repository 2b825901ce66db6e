"""What counts as plain data, and what the builtin base of a derived class holds."""

from __future__ import annotations

import datetime as dt
from array import array
from collections import Counter, OrderedDict, deque
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest

from rpyc_gateway.proto.plain import base_value, is_key, plain_kind

VALUES: list[Any] = [
    [1], (1, 2), "text", b"bytes", 5, 1.5, 2j, deque([1], 3), {1}, frozenset({1}), {1: 2}, OrderedDict(a=1), Counter("aab"),
    bytearray(b"x"), dt.date(2024, 1, 1), dt.time(2, 3, fold=1), dt.datetime(2024, 10, 27, 2, fold=1), dt.timedelta(1, 2, 3),
    Decimal("1.50"), Fraction(1, 3), UUID(int=7), array("i", [1, 2]),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_the_base_of_a_derived_class_is_the_value_without_the_class(value: Any) -> None:
    kind = type(value)
    derived = type("Derived", (kind,), {"__repr__": lambda _self: "derived"})
    arguments = {dt.date: (2024, 1, 1), dt.datetime: (2024, 10, 27, 2), dt.time: (2, 3), dt.timedelta: (1, 2, 3)}
    fold = {"fold": 1} if kind in (dt.datetime, dt.time) else {}
    if kind is UUID:
        made = derived(int=7)
    elif kind is array:
        made = derived("i", [1, 2])
    elif kind is deque:
        made = derived([1], 3)
    else:
        made = derived(*arguments.get(kind, (value,)), **fold)
    base = base_value(made)
    assert type(base) is kind
    assert repr(base) == repr(value)
    assert plain_kind(derived) is kind
    assert base_value(value) is value


def test_what_is_derived_from_nothing_plain_has_no_base() -> None:
    thing = object()
    assert base_value(thing) is thing
    assert plain_kind(object) is None
    assert plain_kind(type) is None


def test_a_key_is_what_can_be_hashed_without_a_call() -> None:
    for key in (1, "x", (1, dt.date(2024, 1, 1)), frozenset({Decimal(1)}), UUID(int=1), dt.UTC, None):
        assert is_key(key)
        hash(key)
    for other in (object(), (object(),), [1], bytearray(), type("Text", (str,), {})("x")):
        assert not is_key(other)
