"""obtain and deliver: copies of plain data in one round trip, and a clear word about what is none."""

from __future__ import annotations

import contextlib
import datetime as dt
import heapq
import io
import json
import operator
import re
import sys
from collections import OrderedDict
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.held import is_proxy
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.serving import Offer
from tests.house import HOPS, open_house, open_lab
from tests.telling import Costs, settled, told

DATA = "[1, {'a': (2, [dt.date(2024, 1, 1)])}, {4}, bytearray(b'x'), OrderedDict(b=b'y' * 20_000)]"
HERE: list[Any] = eval(DATA, {"dt": dt, "OrderedDict": OrderedDict})


@HOPS
async def test_plain_data_is_obtained_and_delivered_in_one_round_trip(hops: int) -> None:
    def story(lab: Any, costs: Costs) -> None:
        remote = lab.eval(DATA)
        costs.calls()
        copy = gw.obtain(remote)
        assert costs.calls() == 1
        assert copy == HERE
        assert [type(item) for item in copy] == [type(item) for item in HERE]
        there = gw.deliver(lab, HERE)
        assert costs.calls() == 1
        assert is_proxy(there)
        assert gw.obtain(there) == HERE
        there.append(5)
        assert len(HERE) == 5

    await told(story, "import datetime as dt\nfrom collections import OrderedDict", hops=hops)


@HOPS
async def test_the_same_in_trio_code(hops: int) -> None:
    async with open_lab(hops) as lab:
        costs = Costs(lab)
        assert await gw.obtain(lab.eval("[1, [2]]")) == [1, [2]]
        assert await gw.obtain(lab.eval("5")) == 5
        there = await gw.deliver(lab, [1, [2]])
        assert costs.calls() == 3
        assert await gw.obtain(there) == [1, [2]]
        assert await gw.obtain(await gw.deliver(there, {"a": {1}})) == {"a": {1}}
        with pytest.raises(TypeError, match="awaited"):
            gw.deliver(lab.builtins, [])
        del there
        await settled(lab)


async def test_what_is_no_proxy_is_there_already() -> None:
    value = [1]
    assert gw.obtain(value) is value

    def story(lab: Any) -> None:
        assert gw.deliver(lab, (1, "x")) == (1, "x")

    await told(story)


async def test_objects_that_come_home_are_themselves() -> None:
    class Thing:
        pass

    def story(lab: Any) -> None:
        mine, theirs = Thing(), lab.eval("object()")
        remote = lab.eval("lambda thing: [thing, [thing]]")(mine)
        copy = gw.obtain(remote)
        assert copy[0] is mine
        assert copy[1] == [mine]
        assert type(copy[1]) is list
        assert lab.eval("lambda items, thing: items[0] is thing")(gw.deliver(lab, [theirs]), theirs)

    await told(story)


async def test_what_is_no_plain_data_is_named_and_so_are_the_ways_out() -> None:
    class Thing:
        pass

    def story(lab: Any) -> None:
        with pytest.raises(gw.EncodeError) as caught:
            gw.obtain(lab.eval("{'a': [Thing()]}"))
        assert "value['a'][0] is no plain data but a __rpyc_gateway__.Thing" in str(caught.value)
        assert "gw.register_codec" in str(caught.value)
        assert "lab and hq must allow" in str(caught.value)
        with pytest.raises(gw.EncodeError, match=r"value\[1\] is no plain data"):
            gw.deliver(lab, [1, Thing()])
        with pytest.raises(gw.EncodeError, match="holds itself"):
            gw.obtain(lab.eval("(lambda items: items.append(items) or items)([])"))
        items: list[Any] = []
        items.append(items)
        with pytest.raises(gw.EncodeError, match="holds itself"):
            gw.deliver(lab, items)
        assert gw.obtain(lab.eval("[1]")) == [1]  # the session goes on

    await told(story, "class Thing: pass")


async def test_what_the_far_side_holds_of_another_node_is_fetched_on_the_way() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as one, nodes[0].session("lab") as two:

        def story() -> None:
            here, there = blocking_proxy(one.held_root), blocking_proxy(two.held_root)
            theirs = here.eval("[1, [2]]")
            type_there = there.eval("lambda items: type(__import__('rpyc_gateway').obtain(items)[1])")
            assert type_there(theirs) is there.builtins.list
            with pytest.raises(gw.EncodeError, match=r"value\[0\] is a proxy of a builtins\.list .* obtain that"):
                gw.deliver(there, [theirs])

        await trio.to_thread.run_sync(story)


async def test_what_code_written_in_c_cannot_see_and_what_to_write_instead() -> None:
    """The table at the end of docs/values.md, line by line."""

    def story(lab: Any) -> None:
        def fails(*attempts: Any) -> None:
            for attempt in attempts:
                with pytest.raises(TypeError):
                    attempt()

        items, table, text, pair = lab.eval("[]"), lab.eval("{'a': 1}"), lab.eval("Text('1')"), lab.eval("Pair(1, 2)")
        memory, day, numbers = lab.eval("bytearray(b'x')"), lab.eval("dt.date(2024, 1, 1)"), lab.eval("{1}")
        assert type(items) is not list
        assert isinstance(items, list)
        fails(lambda: json.dumps(table), lambda: heapq.heappush(items, 1))
        assert json.dumps(gw.obtain(table)) == lab.modules.json.dumps(table)
        lab.modules.heapq.heappush(items, 1)
        fails(lambda: dt.datetime.combine(day, dt.time()))
        assert dt.datetime.combine(gw.obtain(day), dt.time()) == dt.datetime(2024, 1, 1)
        fails(lambda: "".join([text]), lambda: int(text), lambda: re.match("1", text))
        assert int(str(text)) == 1
        fails(lambda: "%s %s" % pair)  # noqa: UP031
        assert "%s %s" % tuple(pair) == "1 2"  # noqa: UP031
        if sys.version_info < (3, 12):
            file = lab.modules.io.BytesIO()
            fails(lambda: b"".join([memory]), lambda: io.BytesIO().write(memory), lambda: file.write(bytearray(b"x")))
        assert b"".join([bytes(memory)]) == b"x"
        assert lab.modules.io.BytesIO().write(bytes(bytearray(b"x"))) == 1
        fails(lambda: numbers in {frozenset({1}), 2})
        assert gw.obtain(numbers) in {frozenset({1}), 2}
        mine: dict[str, int] = {}
        mine.update(table)
        assert mine == {**table} == {"a": 1}
        assert operator.iadd(kept := [1], items) is not kept

    setup = "import datetime as dt\nfrom collections import namedtuple\nclass Text(str): pass\nPair = namedtuple('Pair', 'a b')"
    await told(story, setup)


class Shelf(gw.Service):
    def __init__(self) -> None:
        self.books = ["a", "b"]

    @gw.expose
    def plain(self) -> list[str]:
        return self.books

    @gw.expose
    def hiding(self) -> Any:
        return Hiding([1, 2])

    @gw.expose
    def secret(self) -> Any:
        return Secret()


class Hiding(list[int]):
    def __iter__(self) -> Any:
        return iter(())


class Secret:
    def __init__(self) -> None:
        self._key = 42


async def test_a_service_gives_copies_of_the_plain_data_it_hands_out_and_of_nothing_else() -> None:
    services = {"shelf": Offer(Shelf, ("*",))}
    async with open_house("hq", "lab", services=services) as nodes, nodes[0].session("lab", service="shelf") as lab:
        root = lab.root
        assert await gw.obtain(root.plain()) == ["a", "b"]
        with pytest.raises(gw.NotExposed):
            await gw.obtain(root)
        with pytest.raises(gw.EncodeError, match="Secret"):
            await gw.obtain(root.secret())

        def story() -> None:
            shelf = blocking_proxy(lab.held_root)
            with pytest.raises(TypeError):
                [0] + shelf.hiding()  # noqa: RUF005  # what its class hides stays hidden
            assert [0] + shelf.plain() == [0, "a", "b"]  # noqa: RUF005

        await trio.to_thread.run_sync(story)


class Loud:
    """Raises while it is encoded."""

    def __init__(self, failure: BaseException) -> None:
        self.failure = failure

    def __reduce__(self) -> Any:
        raise self.failure


@pytest.mark.parametrize("failure", [ValueError("no"), SystemExit(3), GeneratorExit()], ids=repr)
async def test_values_that_cannot_be_sent_fail_their_call_and_nothing_else(failure: BaseException) -> None:
    deep: Any = ()
    for _ in range(2000):
        deep = (deep,)
    async with open_house("hq", "lab", pickle=True) as nodes, nodes[0].session("lab", pickle=True) as lab:

        def story() -> None:
            root = blocking_proxy(lab.held_root)
            identity = root.eval("lambda x: x")
            for value in ("\ud800", 10**5000, -(10**5000), ("\udfff", "x")):
                assert identity(value) == value
                assert gw.obtain(gw.deliver(root, [value])) == [value]
                assert gw.obtain(root.eval("lambda x: [x]")(value)) == [value]
            with pytest.raises(gw.EncodeError, match="deeper"):
                identity(deep)
            with contextlib.suppress(gw.EncodeError):  # as a pickle it goes, where Python can make that
                gw.deliver(root, [deep])
            with pytest.raises(gw.EncodeError):
                root.eval("(lambda d: [d := (d,) for _ in range(2000)][-1])(())")
            with pytest.raises(gw.EncodeError, match="Loud"):
                gw.deliver(root, Loud(failure))
            with pytest.raises(gw.EncodeError, match="Loud"):
                gw.obtain(root.namespace["loud"])
            assert identity(1) == 1

        await lab.execute(f"class Loud:\n def __reduce__(self): raise {type(failure).__name__}('there')\nloud = Loud()")
        await trio.to_thread.run_sync(story)
        await settled(lab)


async def test_what_is_no_session_is_delivered_nothing() -> None:
    def story(lab: Any) -> None:
        with pytest.raises(TypeError, match=r"deliver\(conn, value\), not to a list"):
            gw.deliver([1], lab)

    await told(story)
