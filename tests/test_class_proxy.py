"""Proxies of classes: they judge instances and subclasses of both sides, and are judged."""

from __future__ import annotations

import collections.abc
import inspect
import types

import pytest

from tests.counting import Counted, told

SETUP = """
import abc, collections, decimal, enum, functools
def twin(n):
    class Twin: pass
    return Twin
First, Second = twin(1), twin(2)
class Shape(abc.ABC): pass
class Round(Shape): pass
class Square: pass
Shape.register(Square)
class Colour(enum.Enum): RED = 1; BLUE = 2
class Box(list): pass
class Deep(Box): pass
class Table(collections.UserDict): pass
"""


def _setup(lab: Counted) -> None:
    lab.root.execute(SETUP)


async def test_two_classes_of_one_name_are_two() -> None:
    def story(lab: Counted) -> None:
        _setup(lab)
        first, second = lab.root.eval("First, Second")
        one, two = first(), second()
        assert isinstance(one, first)
        assert isinstance(two, second)
        assert not isinstance(one, second)
        assert not issubclass(first, second)
        assert type(one) is not type(two)

    await told(1, story)


async def test_an_unknown_class_passes_for_what_it_inherits_from() -> None:
    def story(lab: Counted) -> None:
        _setup(lab)
        deep = lab.root.eval("Deep([1, 2])")
        assert isinstance(deep, list)
        assert isinstance(deep, collections.abc.MutableSequence)
        assert not isinstance(deep, dict)
        assert deep.__class__.__name__ == "Deep"
        table = lab.root.eval("Table(a=1)")
        assert isinstance(table, collections.UserDict)
        assert isinstance(table, collections.abc.Mapping)
        assert issubclass(lab.root.eval("Deep"), list)
        assert issubclass(lab.root.eval("Deep"), lab.root.eval("Box"))
        assert not issubclass(lab.root.eval("Box"), lab.root.eval("Deep"))
        assert isinstance(lab.root.eval("Deep"), type)

    await told(3, story)


async def test_classes_that_have_no_name_in_builtins_are_known_all_the_same() -> None:
    def story(lab: Counted) -> None:
        assert isinstance(lab.root.eval("lambda: 0"), types.FunctionType)
        assert inspect.isgenerator(lab.root.eval("(n for n in ())"))
        assert isinstance(lab.root.modules.os, types.ModuleType)
        assert callable(lab.root.eval("len"))

    await told(1, story)


async def test_a_class_that_judges_instances_by_itself_is_asked() -> None:
    def story(lab: Counted) -> None:
        _setup(lab)
        shape, square, circle = lab.root.eval("Shape, Square(), Round()")
        assert isinstance(circle, shape)
        with lab.trips(1):
            assert isinstance(square, shape)
        with lab.trips(1):
            assert not isinstance(lab, shape)
        assert issubclass(lab.root.eval("Square"), shape)
        with pytest.raises(TypeError, match="must be a class"):
            issubclass(circle, lab.root.eval("Square"))

    await told(1, story)


async def test_local_objects_are_instances_of_remote_builtins() -> None:
    def story(lab: Counted) -> None:
        with lab.trips(0):
            pass
        remote_list, remote_int = lab.root.eval("list, int")
        assert isinstance([], remote_list)
        assert isinstance(3, remote_int)
        assert issubclass(bool, remote_int)
        assert not isinstance("3", remote_int)

    await told(1, story)


async def test_a_class_does_what_its_metaclass_can() -> None:
    def story(lab: Counted) -> None:
        _setup(lab)
        colour = lab.root.eval("Colour")
        assert len(colour) == 2
        assert [member.name for member in colour] == ["RED", "BLUE"]
        assert colour["RED"] is colour.RED
        assert colour.RED in colour
        assert repr(lab.root.eval("list")[lab.root.eval("int")]) == "list[int]"
        with pytest.raises(TypeError):
            lab.root.eval("int")["x"]

    await told(1, story)


async def test_lists_and_dicts_match_patterns() -> None:
    def story(lab: Counted) -> None:
        _setup(lab)

        def shape(value: object) -> object:
            match value:
                case [first, *rest]:
                    return "sequence", first, len(rest)
                case {"a": found}:
                    return "mapping", found
                case _:
                    return "other"

        assert shape(lab.root.eval("[1, 2, 3]")) == ("sequence", 1, 2)
        assert shape(lab.root.eval("Deep([1])")) == ("sequence", 1, 0)
        assert shape(lab.root.eval("collections.deque([1, 2])")) == ("sequence", 1, 1)
        assert shape(lab.root.eval("{'a': 5}")) == ("mapping", 5)
        assert shape(lab.root.eval("Table(a=6)")) == ("mapping", 6)
        assert shape(lab.root.eval("{1, 2}")) == "other"
        assert shape(lab.root.eval("bytearray(b'ab')")) == "other"

    await told(1, story)


async def test_what_a_class_learns_later_its_proxies_know_when_they_are_met_again() -> None:
    def story(lab: Counted) -> None:
        _setup(lab)
        square = lab.root.eval("globals().setdefault('square', Square())")
        with pytest.raises(TypeError):
            len(square)
        lab.root.execute("Square.__len__ = lambda self: 4")
        assert lab.root.eval("square") is square
        assert len(square) == 4
        assert len(lab.root.eval("Square()")) == 4

    await told(1, story)


async def test_unions_of_classes_judge_too() -> None:
    def story(lab: Counted) -> None:
        _setup(lab)
        square, shape, box = lab.root.eval("Square, Shape, Box")
        assert isinstance(lab.root.eval("Box()"), square | box)
        assert isinstance(None, square | None)
        assert isinstance(5, square | int)
        assert not isinstance(lab.root.eval("Box()"), square | int)
        assert issubclass(square, shape | box)
        assert (square | int) == (square | int)
        assert repr(square | None).endswith("Square | None")

    await told(1, story)
