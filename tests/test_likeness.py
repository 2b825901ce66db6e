"""What remote classes look like here: their namesakes, or classes under their ancestors; no code runs to make them."""

from __future__ import annotations

import collections
import enum
from typing import Generic, TypeVar

import pytest

from rpyc_gateway.classes import describe
from rpyc_gateway.likeness import ancestors, likeness, patterns
from rpyc_gateway.proto.messages import ClassInfo

T = TypeVar("T")


class Loud:
    """Notices who inherits from it."""

    heirs: list[type] = []  # noqa: RUF012

    def __init_subclass__(cls) -> None:
        cls.heirs.append(cls)


class Typed(Generic[T]):
    """Inherits from something that notices, too."""


def unknown(*bases: type, name: str = "Unknown") -> ClassInfo:
    mro = [("far", name)]
    for base in bases:
        mro += [(kind.__module__, kind.__qualname__) for kind in base.__mro__ if kind is not object]
    return ClassInfo(module="far", name=name, mro=(*mro, ("builtins", "object")))


def test_an_unknown_class_is_made_under_the_nearest_known_ancestors() -> None:
    made = likeness(unknown(collections.OrderedDict))
    assert made is not None
    assert made.__mro__[1] is collections.OrderedDict
    assert (made.__module__, made.__qualname__) == ("far", "Unknown")


def test_nothing_known_is_nothing() -> None:
    assert likeness(unknown()) is None


def test_what_cannot_be_inherited_from_stands_for_itself() -> None:
    assert likeness(unknown(bool)) is bool


@pytest.mark.parametrize("base", [Loud, Typed, enum.Enum])
def test_nobody_hears_of_it(base: type) -> None:
    heirs = len(Loud.heirs)
    assert likeness(unknown(base)) is None
    assert len(Loud.heirs) == heirs


def test_names_may_be_anything() -> None:
    made = likeness(unknown(dict, name="a.\0b.<locals>.\0"))
    assert made is not None
    assert made.__name__ == ""


def test_ancestors_come_nearest_first() -> None:
    assert list(ancestors(describe(collections.Counter()))) == [collections.Counter, dict, object]


def test_patterns_are_for_objects_not_for_classes() -> None:
    assert len(patterns(describe([]))) == len(patterns(describe({}))) == 1
    assert patterns(describe(list)) == patterns(describe("")) == ()
