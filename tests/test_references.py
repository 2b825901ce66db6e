"""Objects on their way through a session: who they are, and that they are given back."""

from __future__ import annotations

import gc

import pytest

import rpyc_gateway as gw
from tests.house import open_house, open_lab, wait_until


async def test_an_object_that_comes_home_is_itself() -> None:
    async with open_lab(3) as lab:
        mine = object()
        identity = await lab.eval("lambda x: x")
        assert await identity(mine) is mine
        assert await identity((mine, 1)) == (mine, 1)
        theirs = await lab.eval("[]")
        assert await identity(theirs) is theirs


async def test_an_expression_that_was_not_awaited_is_not_taken_for_another_object() -> None:
    async with open_lab() as lab:
        with pytest.raises(gw.EncodeError, match="not awaited"):
            await gw.deliver(lab, [lab.namespace])
        assert await gw.deliver(lab, (await lab.eval("5"),)) == (5,)


async def test_dropped_proxies_give_everything_back() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab:
        far = next(iter(nodes[1]._serving._sessions.values()))[0]
        held = [await lab.eval("[]") for _ in range(50)]
        assert far.statistics().exports == 50
        for index in range(0, 50, 2):
            held[index] = await lab.eval("lambda x: x")
        del held
        gc.collect()
        await lab.ping()
        assert far.statistics().exports == 0
        assert lab.statistics().imports <= 1  # the root


async def test_what_a_callback_was_given_is_given_back_too() -> None:
    async with open_lab() as lab:
        results: list[object] = []
        await (await lab.eval("lambda f: f([1], {}, object())"))(lambda *things: results.append(len(things)))
        gc.collect()
        await lab.ping()
        await wait_until(lambda: lab.statistics().exports == 0)
        assert results == [3]
        assert lab.statistics().imports <= 2


async def test_a_proxy_passed_on_is_served_by_the_middle_and_keeps_its_origin() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as one, nodes[0].session("lab") as other:
        table = await one.eval("{'a': 1}")
        await other.execute("def look(t): return t['a'], type(t).__name__, isinstance(t, dict)")
        assert await other.namespace["look"](table) == (1, "dict", True)
        same = await other.eval("lambda x, y: x is y")
        assert await same(table, table) is True


async def test_one_object_met_over_two_paths_is_equal() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as one, nodes[0].session("lab") as other:
        name = "__import__('sys').modules['trio']"
        assert await one.eval(name) is await one.eval(name)
        thing = await one.eval("__import__('threading').main_thread()")
        keep: list[object] = []
        await (await other.eval("lambda keep, x: keep(x)"))(keep.append, thing)
        assert keep[0] is not thing or keep[0] == thing
