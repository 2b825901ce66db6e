"""How many round trips things cost: counted in writes that carry a question, at one hop and at three alike."""

from __future__ import annotations

import gc

import pytest

import rpyc_gateway as gw
from rpyc_gateway.proto.messages import Release
from tests.counting import Counted, counted, told
from tests.house import HOPS


@HOPS
async def test_a_chain_of_attributes_and_a_call_in_trio_is_one(hops: int) -> None:
    async with counted(hops) as lab:
        with lab.trips(1):
            assert await lab.session.modules.os.path.join("a", "b") == "a/b"
        with lab.trips(1):
            assert await lab.session.namespace["user"].rename("eve").greet().upper() == "HELLO EVE"


@HOPS
async def test_a_method_call_is_one(hops: int) -> None:
    def story(lab: Counted) -> None:
        user = lab.root.namespace["user"]
        items = lab.root.eval("[3, 1, 2]")
        with lab.trips(1):
            assert user.greet("hi") == "hi ada"
        with lab.trips(1):
            items.sort(reverse=True)
        with lab.trips(3):
            greet = user.greet
            assert [greet(), greet("hi"), greet()] == ["hello ada", "hi ada", "hello ada"]

    await told(hops, story)


@HOPS
async def test_a_missing_attribute_is_one_and_a_method_that_is_there_none(hops: int) -> None:
    def story(lab: Counted) -> None:
        user = lab.root.namespace["user"]
        with lab.trips(1):
            assert not hasattr(user, "missing")
        with lab.trips(1), pytest.raises(AttributeError):
            _ = user.missing
        with lab.trips(0):
            assert hasattr(user, "greet")
            assert callable(user.greet)

    await told(hops, story)


@HOPS
async def test_a_tuple_of_a_hundred_objects_is_one(hops: int) -> None:
    def story(lab: Counted) -> None:
        user = lab.root.namespace["user"]
        with lab.trips(1):
            assert len(user.children()) == 100

    await told(hops, story)


@HOPS
async def test_a_list_of_a_hundred_is_two_and_the_items_of_a_dict_three(hops: int) -> None:
    def story(lab: Counted) -> None:
        items, table = lab.root.eval("list(range(100))"), lab.root.eval("{n: -n for n in range(100)}")
        with lab.trips(2):
            assert list(items) == list(range(100))
        with lab.trips(1):
            assert sum(item for item in items) == 4950
        with lab.trips(1):
            assert sum(item for item in reversed(items)) == 4950
        with lab.trips(3):
            assert list(table.items())[99] == (99, -99)

    await told(hops, story)


@HOPS
async def test_a_list_of_ten_thousand_is_four_and_a_generator_in_batches_sixteen(hops: int) -> None:
    def story(lab: Counted) -> None:
        items = lab.root.eval("list(range(10_000))")
        for way in (iter, reversed):
            with lab.trips(4):
                assert sum(way(items)) == 49_995_000
        numbers = lab.root.eval("(n for n in range(10_000))")
        with lab.trips(16):
            assert sum(gw.buffiter(numbers)) == 49_995_000

    await told(hops, story)


@HOPS
async def test_a_list_of_ten_thousand_is_four_in_trio_too(hops: int) -> None:
    async with counted(hops) as lab:
        items = await lab.session.eval("list(range(10_000))")
        with lab.trips(4):
            assert sum([item async for item in items]) == 49_995_000


@HOPS
async def test_dropping_a_hundred_proxies_is_none_and_one_message(hops: int) -> None:
    def story(lab: Counted) -> None:
        children = lab.root.namespace["user"].children()
        with lab.trips(1):
            del children
            gc.collect()
            lab.root.eval("1")
        releases = [message for write in lab.messages() for message in write if isinstance(message, Release)]
        assert len(releases) == 1
        assert len(releases[0].pairs) >= 200

    await told(hops, story)


@HOPS
async def test_passing_a_function_and_calling_it_ten_times_is_one_and_ten(hops: int) -> None:
    calls: list[int] = []

    def story(lab: Counted) -> None:
        ten_times = lab.root.namespace["ten_times"]
        with lab.trips(1):
            ten_times(calls.append)
        assert lab.session.rpc.statistics().asked == 0

    await told(hops, story)
    assert calls == list(range(10))


@HOPS
async def test_isinstance_is_none_once_the_class_is_known(hops: int) -> None:
    def story(lab: Counted) -> None:
        user_class, base, ordered = lab.root.eval("User, object, collections.OrderedDict")
        user, table = lab.root.eval("user, collections.OrderedDict()")
        with lab.trips(0):
            assert isinstance(user, user_class)
            assert isinstance(user, base)
            assert not isinstance(table, user_class)
            assert isinstance(table, ordered)
            assert isinstance(table, dict)
            assert not isinstance(user, dict)
            assert not isinstance(3, user_class)
            assert issubclass(user_class, base)
            assert issubclass(type(user), user_class)
            assert issubclass(ordered, dict)
            assert not issubclass(user_class, ordered)

    await told(hops, story)


@HOPS
async def test_what_displays_look_for_on_everything_costs_nothing(hops: int) -> None:
    def story(lab: Counted) -> None:
        user = lab.root.namespace["user"]
        with lab.trips(0):
            for name in ("_repr_html_", "_ipython_display_", "_ipython_canary_method_should_not_exist_", "__rich__"):
                assert not hasattr(user, name)

    await told(hops, story)
