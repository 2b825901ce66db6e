"""copy and pickle of proxies: a copy is made where the original is, a pickle is one of the value."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import rpyc_gateway as gw
from rpyc_gateway.held import is_proxy
from tests.house import HOPS
from tests.telling import Costs, told

CLASSES = """
    class Box:
        def __init__(self, items): self.items = items
    class Counted(Box):
        def __copy__(self): return "copied"
        def __deepcopy__(self, memo): return ("deep", type(memo).__name__)
"""


@HOPS
async def test_a_copy_is_made_where_the_original_is(hops: int) -> None:
    def story(lab: Any, costs: Costs) -> None:
        box = lab.eval("Box([1])")
        costs.calls()
        shallow, deep = copy.copy(box), copy.deepcopy(box)
        assert costs.calls() == 2
        assert is_proxy(shallow)
        assert shallow is not box
        assert shallow.items is box.items
        assert deep.items is not box.items
        deep.items.append(2)
        assert gw.obtain(box.items) == [1]
        items = lab.eval("[1, [2]]")
        assert copy.copy(items) is not items
        assert copy.copy(items) == items
        assert copy.copy(items)[1] is items[1]

    await told(story, CLASSES, hops=hops)


async def test_a_class_decides_how_it_is_copied_and_some_are_not() -> None:
    def story(lab: Any) -> None:
        counted = lab.eval("Counted([])")
        assert copy.copy(counted) == "copied"
        assert copy.deepcopy(counted) == ("deep", "dict")
        function = lab.eval("lambda: 1")
        assert copy.copy(function) is function
        assert copy.deepcopy(lab.eval("Box")) is lab.eval("Box")
        with pytest.raises(TypeError):
            copy.copy(lab.eval("(n for n in ())"))

    await told(story, CLASSES)


async def test_a_local_structure_keeps_its_shape_when_it_is_deeply_copied() -> None:
    def story(lab: Any) -> None:
        box = lab.eval("Box([1])")
        first, (second,) = copy.deepcopy([box, [box]])
        assert first is second
        assert first is not box
        items = lab.eval("[1]")
        left, right = lab.namespace["Box"](items), lab.namespace["Box"](items)
        for left_copy, right_copy in (copy.deepcopy((left, right)), copy.deepcopy({1: left, 2: right}).values()):
            assert left_copy.items is right_copy.items
            assert left_copy.items is not items

    await told(story, CLASSES)


@HOPS
async def test_a_pickle_is_one_of_the_value(hops: int) -> None:
    def story(lab: Any, costs: Costs) -> None:
        remote = lab.eval("[1, {'a': {2}}, __import__('decimal').Decimal('1.5')]")
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            costs.calls()
            text = pickle.dumps(remote, protocol)
            assert costs.calls() == 1
            assert b"rpyc_gateway" not in text
            assert pickle.loads(text) == gw.obtain(remote)
        assert pickle.loads(pickle.dumps({"x": [remote]})) == {"x": [gw.obtain(remote)]}
        for value in ("{1}", "bytearray(b'x')", "__import__('collections').deque([1], 2)", "frozenset({(1,)})"):
            assert pickle.loads(pickle.dumps(lab.eval(value))) == lab.eval(value)

    await told(story, hops=hops)


async def test_what_is_no_plain_data_is_not_pickled_by_accident() -> None:
    def story(lab: Any) -> None:
        with pytest.raises(TypeError, match=r"no plain data but a __rpyc_gateway__\.Box"):
            pickle.dumps(lab.eval("Box([])"))

    await told(story, CLASSES)
