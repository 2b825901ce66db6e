"""What a peer is told of a class: what it would find out anyway, and no more."""

from __future__ import annotations

import abc
import functools
import gc
import json
import weakref
from collections import Counter, deque, namedtuple
from enum import Enum
from typing import Any

import pytest

from rpyc_gateway.classes import METHODS, SPECIAL, describe, local_class, walks_quietly
from rpyc_gateway.proto.messages import ClassInfo, ClassMessage, encode
from tests.naming import named


class Adc:
    """A plain class of a lab."""

    gain = 2

    def read(self) -> int:
        return 1

    def _calibrate(self) -> None: ...

    @property
    def level(self) -> int:
        return 1

    @staticmethod
    def count() -> int:
        return 1

    @classmethod
    def open(cls) -> Adc:
        return cls()


class FastAdc(Adc):
    """One more generation."""

    def sweep(self) -> None: ...


def test_names_and_ancestors_are_told_in_order() -> None:
    info = describe(FastAdc())
    assert (info.module, info.name) == (__name__, "FastAdc")
    assert info.mro == ((__name__, "FastAdc"), (__name__, "Adc"), ("builtins", "object"))


def test_methods_are_public_plain_functions_only() -> None:
    assert describe(FastAdc()).methods == ("read", "sweep")
    assert "append" in describe([]).methods


def test_a_name_that_hides_a_method_hides_it_from_the_peer_too() -> None:
    class Quiet(Adc):
        read = 5  # type: ignore[assignment]

    assert describe(Quiet()).methods == ()


@pytest.mark.parametrize(
    ("value", "has", "has_not"),
    [
        (
            [],
            "__len__ __iter__ __getitem__ __setitem__ __contains__ __add__ __reversed__ __eq__",
            "__call__ __hash__ __next__",
        ),
        (iter([]), "__iter__ __next__ __length_hint__", "__len__ __getitem__"),
        (len, "__call__", "__iter__ __len__"),
        (Adc(), "", "__eq__ __hash__ __call__ __bool__ __repr__"),
        (open, "__call__", "__enter__"),
        (object(), "", "__eq__ __repr__ __hash__ __str__ __dir__ __format__"),
    ],
    ids=["list", "iterator", "builtin", "plain", "open", "object"],
)
def test_exactly_the_special_methods_that_instances_have_are_told(value: object, has: str, has_not: str) -> None:
    special = set(describe(value).special)
    assert special >= set(has.split())
    assert not special & set(has_not.split())
    assert special <= SPECIAL


def test_what_a_subclass_takes_back_is_not_there() -> None:
    class Sealed(list):  # type: ignore[type-arg]
        __iter__ = None  # type: ignore[assignment]
        __len__ = None  # type: ignore[assignment]

    special = describe(Sealed()).special
    assert "__iter__" not in special
    assert "__len__" not in special
    assert "__getitem__" in special


def test_what_only_the_machinery_uses_never_crosses() -> None:
    for name in (
        "__getattribute__",
        "__setattr__",
        "__reduce_ex__",
        "__class__",
        "__del__",
        "__new__",
        "__init_subclass__",
    ):
        assert name not in SPECIAL


class Valued:
    """Compares by value."""

    def __eq__(self, other: object) -> bool:
        return True


class Hashed:
    """Has a hash of its own."""

    def __hash__(self) -> int:
        return 1


class Answering:
    """Answers to every name."""

    def __getattr__(self, name: str) -> str:
        return name


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (Adc(), ClassInfo.IDENTITY),
        (Valued(), ClassInfo.UNHASHABLE),
        (Hashed(), 0),
        ([], ClassInfo.UNHASHABLE),
        (Answering(), ClassInfo.IDENTITY),
        (ValueError(), ClassInfo.IDENTITY | ClassInfo.EXCEPTION),
        (Adc, ClassInfo.IDENTITY | ClassInfo.IS_CLASS),
        (ValueError, ClassInfo.IDENTITY | ClassInfo.IS_CLASS | ClassInfo.EXCEPTION),
    ],
    ids=named,
)
def test_flags_say_how_it_compares_and_what_it_is(value: object, flags: int) -> None:
    assert describe(value).flags & ~(ClassInfo.OWN_GETATTR | ClassInfo.QUIET) == flags


@pytest.mark.parametrize(("value", "own"), [(Adc(), False), (Answering(), True), (Adc, True)], ids=named)
def test_a_class_that_answers_for_itself_is_marked(value: object, own: bool) -> None:  # noqa: FBT001
    assert bool(describe(value).flags & ClassInfo.OWN_GETATTR) is own


def test_a_class_is_described_as_what_it_is_named_and_can_be_called() -> None:
    info = describe(Adc)
    assert (info.name, info.mro) == ("Adc", describe(Adc()).mro)
    assert "__call__" in info.special
    assert describe(Enum).special != info.special  # its metaclass iterates
    assert "__iter__" in describe(Enum).special


def test_a_description_is_made_once_and_dies_with_its_class() -> None:
    assert describe(Adc()) is describe(Adc())
    kind = type("Passing", (), {"method": lambda _self: None})
    made, gone = describe(kind()), weakref.ref(kind)
    del kind
    gc.collect()
    assert gone() is None
    again = type("Passing", (), {"more": lambda _self: None})
    assert describe(again()) != made


def test_a_metaclass_is_not_asked_for_anything() -> None:
    asked: list[str] = []

    class Curious(type):
        def __getattribute__(cls, name: str) -> object:
            asked.append(name)
            return type.__getattribute__(cls, name)

        def __eq__(cls, other: object) -> bool:
            asked.append("==")
            raise TypeError("compare the instances")

        __hash__ = None  # type: ignore[assignment]

    odd = Curious("Odd", (), {"__hash__": lambda _self: 1})
    value = odd()
    asked.clear()
    assert describe(value).name.endswith("Odd")
    assert describe(odd).flags & ClassInfo.IS_CLASS
    assert describe(value) is describe(value)
    assert asked == []


def test_odd_names_can_be_told() -> None:
    kind = type("Odd", (), {"__module__": 5, "__qualname__": "\ud800"})
    setattr(kind, "\ud800", lambda _self: None)
    setattr(kind, "not a name", lambda _self: None)
    info = describe(kind())
    assert (info.module, info.name, info.methods) == ("?", "\\ud800", ())
    assert encode(ClassMessage(1, info))


def test_a_class_may_have_no_module() -> None:
    scope: dict[str, type] = {}
    exec("Nameless = type('Nameless', (), {})", {}, scope)
    info = describe(scope["Nameless"]())
    assert (info.module, info.name) == ("?", "Nameless")


def test_a_description_is_bounded() -> None:
    kind = type("Wide", (), {f"method_{number}": lambda _self: None for number in range(METHODS + 10)})
    assert len(describe(kind()).methods) == METHODS


def test_a_local_class_is_one_that_is_imported_already() -> None:
    assert local_class(describe(Adc())) is Adc
    assert local_class(describe(json.JSONDecoder())) is json.JSONDecoder
    assert local_class(describe(functools.partial(len))) is functools.partial
    assert local_class(ClassInfo(module="no.such", name="Thing")) is None
    assert local_class(ClassInfo(module="__main__", name="Thing")) is None
    assert local_class(describe(abc.ABC)) is abc.ABC


PAIR = namedtuple("PAIR", "a b")  # noqa: PYI024


class Loud(list):  # type: ignore[type-arg]
    """Notices who iterates."""

    def __iter__(self) -> Any:
        return super().__iter__()


@pytest.mark.parametrize(
    ("value", "quiet"),
    [
        ([], True),
        (Counter(), True),
        (PAIR(1, 2), True),
        ({}.items(), True),
        (deque(), True),
        (Loud(), False),
        (iter([]), False),
        (Adc(), False),
        ((n for n in ""), False),
        (list, False),
    ],
)
def test_items_are_fetched_ahead_where_nobody_can_notice(value: object, quiet: bool) -> None:  # noqa: FBT001
    assert bool(describe(value).flags & ClassInfo.QUIET) is quiet
    assert walks_quietly(type(value)) is (quiet and value is not list)
