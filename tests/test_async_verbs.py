"""What async code does to objects of a service: judged by its policy, and good for plain objects too."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.proto.messages import Verb
from rpyc_gateway.service import Service, expose
from rpyc_gateway.serving import Offer
from rpyc_gateway.session import Session
from tests.house import open_house


class Secret:
    def __init__(self) -> None:
        self.left: list[object] = []

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2, 3))

    def __enter__(self) -> str:
        return "inside"

    def __exit__(self, kind: object, *_reason: object) -> None:
        self.left.append(kind)


class Vault(Service):
    """Iterable, and a context manager, without saying so to peers."""

    def __iter__(self) -> Iterator[int]:
        return iter((1,))

    def __aiter__(self) -> AsyncIterator[int]:
        raise AssertionError

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_reason: object) -> None: ...

    def __await__(self) -> Any:
        yield

    @expose
    def names(self) -> tuple[str, ...]:
        return ("a", "b")

    @expose
    def secret(self) -> Secret:
        return Secret()

    @expose
    async def ticks(self) -> Any:
        async def ticks() -> AsyncIterator[int]:
            yield 1
            yield 2

        return ticks()


@contextlib.asynccontextmanager
async def vault() -> AsyncIterator[Session]:
    async with (
        open_house("hq", "lab", services={"vault": Offer(Vault, ("*",))}) as nodes,
        nodes[0].session("lab", service="vault") as session,
    ):
        yield session


async def test_what_a_service_gives_is_iterated_and_entered() -> None:
    async with vault() as session:
        assert [name async for name in session.root.names()] == ["a", "b"]
        assert [n async for n in session.root.secret()] == [1, 2, 3]
        assert [n async for n in session.root.ticks()] == [1, 2]
        secret = await session.root.secret()
        async with secret as what:
            assert what == "inside"
        assert await gw.ops.len(await secret.left) == 1


async def test_a_service_itself_only_if_it_says_so() -> None:
    async with vault() as session:
        with pytest.raises(gw.NotExposed):
            [n async for n in session.root]
        with pytest.raises(gw.NotExposed):
            async with session.root:
                pass
        for name in ("__aiter__", "__anext__", "__aenter__", "__aexit__", "__await__"):
            with pytest.raises(gw.NotExposed):
                await session.root.__gw_held__.caller.ask_async(0, ((Verb.OP, 0, name, ()),))


async def test_a_walk_and_a_stay_give_nothing_away() -> None:
    async with vault() as session:
        caller = session.held_root.caller
        secret = await session.root.secret()
        _, _, walk = await caller.ask_async(secret.__gw_held__.number, ((Verb.ITER, 0, 1, 1),))
        stay, _ = await caller.ask_async(secret.__gw_held__.number, ((Verb.ENTER, 0),))
        for handle in (walk, stay):
            for name in ("_iterator", "_manager", "__class__"):
                with pytest.raises(gw.NotExposed):
                    await gw.ops.getattr(handle, name)
        await caller.ask_async(stay.__gw_held__.number, ((Verb.OP, 0, "__aexit__", ()),))
        with pytest.raises(RuntimeError, match="left already"):
            await caller.ask_async(stay.__gw_held__.number, ((Verb.OP, 0, "__aexit__", ()),))


@pytest.mark.parametrize("counts", [(), (0, 1), (1,), (1, 0), (1, "a"), (1, 10**6)])
async def test_counts_that_are_none_are_refused(counts: tuple[object, ...]) -> None:
    async with vault() as session:
        secret = await session.root.secret()
        with pytest.raises(gw.ProtocolError, match="a batch of"):
            await session.held_root.caller.ask_async(secret.__gw_held__.number, ((Verb.ITER, 0, *counts),))
        assert await session.ping("alive") == "alive"


async def test_plain_objects_are_good_for_async_code_one_verb_at_a_time() -> None:
    async with vault() as session:
        secret = await session.root.secret()
        caller, number = session.held_root.caller, secret.__gw_held__.number
        iterator = await gw.ops.aiter(secret)
        assert await gw.ops.anext(iterator) == 1
        assert await caller.ask_async(number, ((Verb.OP, 0, "__aenter__", ()),)) == "inside"
        assert await caller.ask_async(number, ((Verb.OP, 0, "__aexit__", (ValueError(),)),)) is False
        assert await gw.ops.len(await secret.left) == 1


FAR = """
import contextlib, trio
log = []
async def ticks():
    try:
        for n in range(3):
            yield n
    finally:
        await trio.lowlevel.checkpoint()
        log.append('closed')
@contextlib.asynccontextmanager
async def opened():
    async with trio.open_nursery():
        yield 'inside'
    log.append('left')
class Job:
    def __await__(self):
        yield from trio.lowlevel.checkpoint().__await__()
        return 42
"""
USE = """
import rpyc_gateway as gw
async def use(ticks, opened, job, items):
    seen = [n async for n in ticks()]
    async with opened() as what:
        seen.append(what)
    seen.append(await gw.ops.awaited(job))
    seen += [n async for n in items]
    generator = await ticks()
    seen.append(await gw.ops.anext(await gw.ops.aiter(generator)))
    return tuple(seen)
async def fail(opened):
    async with opened():
        raise ValueError('mine')
"""


async def test_what_is_for_async_code_passes_through_a_third_process() -> None:
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as one, nodes[0].session("lab") as other:
        await one.execute(FAR)
        await other.execute(USE)
        ticks, opened = await one.namespace["ticks"], await one.namespace["opened"]
        job, items = await one.namespace["Job"](), await one.eval("[7, 8]")
        seen = await other.namespace["use"](ticks, opened, job, items)
        assert seen == (0, 1, 2, "inside", 42, 7, 8, 0)
        with pytest.raises(BaseExceptionGroup) as caught:
            await other.namespace["fail"](opened)
        assert caught.group_contains(ValueError, match="mine")
        log = await one.namespace["log"]
        while await gw.ops.len(log) < 3:
            await trio.lowlevel.checkpoint()
        assert await one.builtins.tuple(log) == ("closed", "left", "closed")
