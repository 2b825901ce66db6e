"""What has no spelling in trio code: the same as the operators and builtins do where the originals live."""

from __future__ import annotations

import builtins
import copy
import math
import operator
import os
from collections.abc import Callable
from fractions import Fraction
from textwrap import dedent
from typing import Any

import pytest

import rpyc_gateway as gw
from rpyc_gateway.operations import HINTS, OPERATORS
from tests.house import HOPS, messages_sent, open_lab

FAR = """
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
class Vector:
    def __init__(self, *parts): self.parts = parts
    def __matmul__(self, other): return sum(a * b for a, b in zip(self.parts, other.parts))
    def __imatmul__(self, other): self.parts = (self @ other,); return self
    def __eq__(self, other): return self.parts == other.parts if isinstance(other, Vector) else NotImplemented
    __hash__ = None
class Bits:
    def __init__(self, n): self.n = n
    def __index__(self): return self.n
    def __lshift__(self, other): return self.n << other
"""


async def test_what_has_no_spelling_in_trio_code_is_in_ops() -> None:
    async with open_lab() as lab:
        table = await lab.eval("{'a': 1}")
        await gw.ops.setitem(table, "b", 2)
        assert await gw.ops.len(table) == 2
        assert await gw.ops.contains(table, "b") is True
        await gw.ops.delitem(table, "a")
        assert await gw.ops.getitem(table, "b") == 2
        assert await gw.ops.repr(table) == "{'b': 2}"
        thing = await lab.eval("type('Thing', (), {})()")
        await gw.ops.setattr(thing, "x", 5)
        assert await thing.x == 5
        assert await gw.ops.hasattr(thing, "x") is True
        await gw.ops.delattr(thing, "x")
        with pytest.raises(AttributeError):
            await thing.x
        assert await gw.ops.hasattr(thing, "x") is False
        assert await gw.ops.repr(gw.ops.call(lab.builtins.dict, a=1)) == "{'a': 1}"


def test_it_mirrors_operator_and_the_builtins() -> None:
    assert len(gw.ops.__all__) == len(set(gw.ops.__all__))
    own = {"awaited", "iterate", "copy", "deepcopy", "fspath", "trunc", "floor", "ceil"}
    for name in gw.ops.__all__:
        function = getattr(gw.ops, name)
        assert function.__name__ == name
        assert function.__doc__
        assert name in own or hasattr(operator, name) or hasattr(builtins, name), name
    left_out = {"attrgetter", "itemgetter", "methodcaller", "inv", "is_none", "is_not_none"}  # the last two are of 3.14
    assert set(operator.__all__) - left_out <= set(gw.ops.__all__)
    assert set(OPERATORS) <= set(gw.ops.__all__)
    for spelled in HINTS.values():
        assert spelled.partition("(")[0] in gw.ops.__all__


UNARY: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("len", "[1, 2]", len),
    ("str", "[1, 2]", str),
    ("repr", "['a']", repr),
    ("bytes", "bytearray(b'ab')", bytes),
    ("int", "Fraction(7, 2)", int),
    ("int", "'12'", int),
    ("float", "Fraction(7, 2)", float),
    ("complex", "Fraction(7, 2)", complex),
    ("bool", "[]", bool),
    ("truth", "[1]", bool),
    ("not_", "[1]", operator.not_),
    ("hash", "Fraction(7, 2)", hash),
    ("round", "Fraction(7, 2)", round),
    ("trunc", "Fraction(7, 2)", math.trunc),
    ("floor", "Fraction(7, 2)", math.floor),
    ("ceil", "Fraction(7, 2)", math.ceil),
    ("index", "True", operator.index),
    ("length_hint", "iter([1, 2])", operator.length_hint),
]


@pytest.mark.parametrize(("name", "text", "local"), UNARY, ids=lambda value: value if isinstance(value, str) else "")
async def test_what_is_asked_of_one_object(name: str, text: str, local: Callable[[Any], Any]) -> None:
    async with open_lab() as lab:
        await lab.execute(dedent(FAR))
        expected = local(eval(text, {"Fraction": Fraction}))
        got = await getattr(gw.ops, name)(lab.eval(text))
        assert got == expected
        assert type(got) is type(expected)


@pytest.mark.parametrize("name", ["abs", "neg", "pos"])
async def test_what_makes_another_object_of_one(name: str) -> None:
    async with open_lab() as lab:
        await lab.execute(dedent(FAR))
        expected = getattr(builtins, name, None) or getattr(operator, name)
        assert await gw.ops.str(getattr(gw.ops, name)(lab.eval("Fraction(-7, 2)"))) == str(expected(Fraction(-7, 2)))


ROWS = [
    ("add", [1], [2]), ("sub", {1, 2}, {2}), ("and_", {1, 2}, {2}), ("or_", {1}, {2}), ("xor", {1, 2}, {2}), ("mul", [1], 2), ("concat", [1], [2]),
    ("countOf", [1, 1, 2], 1), ("indexOf", [3, 4], 4), ("eq", [1], [1]), ("ne", [1], [1]), ("lt", [1], [2]), ("le", [1], [1]), ("gt", [1], [2]),
    ("ge", [1], [1]),
    ("iadd", [1], [2]), ("isub", {1, 2}, {2}), ("iand", {1, 2}, {2}), ("ior", {1}, {2}), ("ixor", {1, 2}, {2}), ("imul", [1], 2), ("iconcat", [1], [2]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "a", "b"), ROWS)
async def test_what_is_done_with_two_objects_that_are_there(name: str, a: Any, b: Any) -> None:
    async with open_lab() as lab:
        left = await lab.eval(repr(a))
        got = getattr(gw.ops, name)(left, lab.eval(repr(b)))
        assert await gw.ops.repr(got) == repr(getattr(operator, name)(copy.copy(a), b))
        if name.startswith("i") and name != "indexOf":
            changed = copy.copy(a)
            getattr(operator, name)(changed, b)
            assert await gw.ops.repr(left) == repr(changed)


NUMBERS = ["add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow"]


@pytest.mark.parametrize("name", NUMBERS)
async def test_either_operand_may_be_here(name: str) -> None:
    async with open_lab() as lab:
        await lab.execute(dedent(FAR))
        local = getattr(operator, name, None) or getattr(builtins, name)
        far = await lab.eval("Fraction(7, 2)")
        sent = messages_sent(lab)
        assert await gw.ops.str(getattr(gw.ops, name)(far, 2)) == str(local(Fraction(7, 2), 2))
        assert await gw.ops.str(getattr(gw.ops, name)(2, far)) == str(local(2, Fraction(7, 2)))
        assert len(sent) == 2
    with pytest.raises(TypeError, match="here already"):
        getattr(gw.ops, name)(1, 2)


async def test_the_operands_decide_as_they_would_there() -> None:
    async with open_lab() as lab:
        await lab.execute(dedent(FAR))
        a, b = await lab.eval("Vector(1, 2)"), await lab.eval("Vector(3, 4)")
        assert await gw.ops.matmul(a, b) == 11
        assert await gw.ops.eq(a, b) is False
        assert await gw.ops.eq(a, 5) is False  # both say NotImplemented
        assert await gw.ops.imatmul(a, b) is a
        assert await gw.ops.is_(a, a) is True
        assert await gw.ops.is_not(a, b) is True
        with pytest.raises(TypeError, match="unsupported operand"):
            await gw.ops.add(a, b)
        with pytest.raises(TypeError, match="not supported between"):
            await gw.ops.lt(a, 5)
        assert await gw.ops.lshift(lab.namespace["Bits"](1), 3) == 8
        assert await gw.ops.pow(lab.eval("3"), 4, 5) == 1
        assert await gw.ops.pow(3, lab.eval("4"), 5) == 1
        assert await gw.ops.invert(lab.eval("5")) == ~5
        for name in ("ilshift", "irshift", "ifloordiv", "itruediv", "imod", "ipow", "rshift"):
            assert await getattr(gw.ops, name)(lab.eval("9"), 2) == getattr(operator, name)(9, 2)


async def test_a_local_object_may_answer_for_the_operator() -> None:
    class Meter:
        def __radd__(self, other: Any) -> str:
            return "meter"

    async with open_lab() as lab:
        items = await lab.eval("object()")
        assert await gw.ops.add(items, Meter()) == "meter"


async def test_other_builtins() -> None:
    async with open_lab() as lab:
        await lab.execute(dedent(FAR))
        assert await gw.ops.format(lab.eval("Decimal('3.14159')"), ".2f") == "3.14"
        assert await gw.ops.str(gw.ops.round(lab.eval("Decimal('3.14159')"), 1)) == "3.1"
        assert await gw.ops.fspath(lab.eval("PurePosixPath('/a')")) == os.fspath("/a")
        assert "append" in await gw.ops.dir(lab.eval("[]"))
        iterator = await gw.ops.iter(lab.eval("[1]"))
        assert await gw.ops.next(iterator) == 1
        assert await gw.ops.next(iterator, None) is None
        assert [n async for n in gw.ops.reversed(lab.eval("[1, 2]"))] == [2, 1]
        items = await lab.eval("[[1]]")
        shallow, deep = await gw.ops.copy(items), await gw.ops.deepcopy(items)
        assert shallow != items
        assert await shallow[0] is await items[0]
        assert await deep[0] != await items[0]
        assert await gw.ops.getattr(gw.ops.type(items), "__name__") == "list"


@HOPS
async def test_isinstance_knows_classes_of_both_sides(hops: int) -> None:
    async with open_lab(hops) as lab:
        await lab.execute(dedent(FAR))
        items, vector, far_list = await lab.eval("[1]"), await lab.eval("Vector()"), await lab.builtins.list
        far_vector = await lab.namespace["Vector"]
        sent = messages_sent(lab)
        assert await gw.ops.isinstance(items, list)
        assert await gw.ops.isinstance(items, (int, far_list))
        assert not await gw.ops.isinstance(items, (dict, far_vector))
        assert await gw.ops.isinstance(vector, far_vector)
        assert await gw.ops.isinstance(vector, object)
        assert await gw.ops.isinstance(far_vector, type)
        assert not await gw.ops.isinstance(far_vector, far_vector)
        assert await gw.ops.isinstance(5, int)
        assert not sent
        assert await gw.ops.isinstance(lab.eval("5"), int)
        assert len(sent) == 1


async def test_a_step_of_ops_is_an_operand_like_any_other_expression() -> None:
    async with open_lab() as lab:
        sent = messages_sent(lab)
        assert await gw.ops.add(gw.ops.len(lab.eval("[1, 2]")), gw.ops.len(lab.eval("[3]"))) == 3
        assert len(sent) == 1
        with pytest.warns(RuntimeWarning, match="never awaited") as caught:
            gw.ops.setitem(lab.namespace, "a", 1)
        assert caught[0].filename == __file__
        with pytest.warns(RuntimeWarning, match="never awaited") as caught:
            gw.ops.add(lab.namespace, 1)
        assert caught[0].filename == __file__
    with pytest.raises(TypeError, match="a list is here already"):
        gw.ops.len([1])
