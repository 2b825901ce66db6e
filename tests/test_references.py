"""Objects on their way through a session: who they are, and that they are given back."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway import references
from rpyc_gateway.asking import Asking
from rpyc_gateway.held import held_by
from rpyc_gateway.proto.values import ONE_REF
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.references import References
from tests.blocking_house import open_blocking_lab
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


LENT: list[Any] = [
    [],
    {},
    len,
    gc,
    lambda: 1,
    (1,),
    (1, []),
    2**70,
    "\ud800",
    slice(1),
    ...,
    int,
    KeyError,
    KeyError(1),
]


@pytest.mark.parametrize("value", LENT, ids=lambda value: type(value).__name__)
async def test_an_object_that_is_lent_the_short_way_is_what_a_writer_would_lend(value: object) -> None:
    async with open_lab() as lab:
        lent = lab._references.lend_one(value)
        writer = lab._references.writer()
        draft = writer.finish(writer.value(value))
        if lent is not None:
            assert (ONE_REF, (lent,)) == (draft.packed, draft.refs)
        assert (lent is not None) == isinstance(value, list | dict | FunctionType | BuiltinFunctionType | ModuleType)


async def test_a_proxy_is_not_lent_the_short_way_since_it_may_be_going_home() -> None:
    async with open_lab() as lab:
        theirs = await lab.eval("[]")
        assert lab._references.lend_one(theirs) is None
        assert lab._references.lend_one(blocking_proxy(held_by(theirs))) is None


@pytest.mark.parametrize("short", [True, False])
async def test_an_object_that_is_taken_the_short_way_is_what_would_be_taken(
    monkeypatch: pytest.MonkeyPatch,
    short: bool,  # noqa: FBT001
) -> None:
    taken: list[object] = []
    take_one: Callable[..., object] = References.take_one

    def take(self: References, ref: object) -> object:
        taken.append(take_one(self, ref) if short else None)
        return taken[-1]

    monkeypatch.setattr(References, "take_one", take)
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as lab:
        far = next(iter(nodes[1]._serving._sessions.values()))[0]
        await lab.execute(
            "def give(what): return known[what]\nknown = {'list': [1], 'error': KeyError(5), 'class': KeyError}"
        )
        give = blocking_proxy(held_by(await lab.namespace["give"]))

        def story(give: Any) -> None:
            first, same = give("list"), give("list")
            assert first is same
            assert (type(first).__name__, first[0], held_by(first).count) == ("list", 1, 2)
            assert give("class") is KeyError
            assert isinstance(give("error"), KeyError)
            assert lab.is_holding

        await trio.to_thread.run_sync(story, give)
        assert [one is not None for one in taken] == [short, short]  # the others go with a description
        taken.clear()
        del give
        gc.collect()
        await lab.ping()
        assert far.statistics().exports == 0


@pytest.mark.parametrize("text", ["Thing()", "(Thing(), 5)"])
def test_what_cannot_be_shown_goes_back(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_held: object) -> None:
        raise MemoryError

    with open_blocking_lab() as house, house.connect() as conn:
        conn.execute("class Thing: pass")
        make = conn.eval(f"lambda: {text}")
        make()  # its class is known
        conn.ping()
        held = conn._session.statistics().imports
        with monkeypatch.context() as patch:
            patch.setattr(references, "blocking_proxy", fail)
            with pytest.raises(MemoryError):
                make()
        conn.ping()
        assert conn._session.statistics().imports == held


@pytest.mark.parametrize("text", ["(Thing(), Thing())", "fail()"])
def test_what_an_interrupt_kept_from_being_read_goes_back(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with open_blocking_lab() as house, house.connect() as conn:
        conn.execute("class Thing: pass\ndef fail(): raise LookupError(Thing())\n")
        make = conn.eval(f"lambda: {text}")
        with suppress(LookupError):
            make()
        gc.collect()
        conn.ping()
        (far,) = house.sessions()
        lent = far.statistics().exports
        with monkeypatch.context() as patch:
            patch.setattr(Asking, "_value", interrupt)  # it may come at the first line of it
            with pytest.raises(KeyboardInterrupt):
                make()
        gc.collect()
        conn.ping()
        assert far.statistics().exports == lent
