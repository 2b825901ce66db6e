"""What is awaited over there before it is a result, and what is a result although it could be awaited."""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import AsyncIterator, Callable
from textwrap import dedent
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.awaiting import Later, is_async, later
from rpyc_gateway.session import Session
from tests.house import HOPS, open_lab, wait_until

FAR = """
import asyncio, trio, types
log = []
async def double(n):
    await trio.lowlevel.checkpoint()
    return 2 * n
@types.coroutine
def by_generator(n):
    yield from trio.lowlevel.checkpoint().__await__()
    return 2 * n
class Job:
    def __init__(self, n): self.n = n
    def __await__(self):
        return double(self.n).__await__()
class Caller:
    async def __call__(self, callback):
        return await callback(20)
async def echo():
    try:
        got = yield 'begin'
        while True:
            got = yield await got(1) if callable(got) else got
    except KeyError as error:
        yield error.args
    finally:
        await trio.lowlevel.checkpoint()
        log.append('closed')
loop = asyncio.new_event_loop()
future = loop.create_future()
async def wait_for_asyncio(): return await future
async def sleep_in_asyncio(): await asyncio.sleep(0)
"""


@contextlib.asynccontextmanager
async def far(hops: int = 1) -> AsyncIterator[Session]:
    async with open_lab(hops) as lab:
        await lab.execute(dedent(FAR))
        yield lab
        await lab.execute("loop.close()")


async def test_a_call_that_returns_a_coroutine_of_any_make_is_over_when_that_is() -> None:
    async with far() as lab:
        for text in ("double(21)", "by_generator(21)"):
            assert await lab.eval(text) == 42
        assert await lab.namespace["by_generator"](21) == 42
        assert await (await lab.eval("lambda n: double(n)"))(21) == 42


async def test_an_object_that_could_be_awaited_is_an_object() -> None:
    async with far() as lab:
        job = await lab.namespace["Job"](21)
        assert await job is job
        assert await job.n == 21
        assert await gw.ops.awaited(job) == 42
        assert await gw.ops.awaited(lab.namespace["Job"](4)) == 8
        held = await lab.eval("[double(3)]")
        assert await gw.ops.awaited(held[0]) == 6
        with pytest.raises(TypeError, match="await"):
            await gw.ops.awaited(held)


async def test_an_async_generator_is_driven_from_here() -> None:
    async with far() as lab:
        generator = await lab.namespace["echo"]()
        assert await generator.asend(None) == "begin"
        assert await generator.asend(5) == 5
        assert await gw.ops.anext(generator) is None

        async def answer(n: int) -> int:
            return n + 1

        assert await generator.asend(answer) == 2
        assert await generator.athrow(lab.builtins.KeyError("k")) == ("k",)
        await generator.aclose()
        assert await lab.builtins.tuple(lab.namespace["log"]) == ("closed",)
        with pytest.raises(StopAsyncIteration):
            await gw.ops.anext(generator)
        assert await gw.ops.anext(generator, "over") == "over"


async def test_plain_generators_too() -> None:
    async with far() as lab:
        await lab.execute("def tell():\n    got = yield 1\n    return got\n")
        generator = await lab.namespace["tell"]()
        assert await gw.ops.next(generator) == 1
        with pytest.raises(StopAsyncIteration) as caught:
            await generator.send("the value")
        assert caught.value.args == ("the value",)
        assert await gw.ops.next(generator, "over") == "over"
        assert await gw.ops.anext(await lab.eval("iter('ab')")) == "a"


async def test_a_dropped_async_generator_is_closed_without_a_warning() -> None:
    async with far() as lab:
        generator = await lab.namespace["echo"]()
        assert await gw.ops.anext(generator) == "begin"
        del generator
        while not await gw.ops.len(lab.namespace["log"]):
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("name", ["wait_for_asyncio", "sleep_in_asyncio"])
async def test_what_waits_for_asyncio_fails_and_says_so(name: str) -> None:
    async with far() as lab:
        with pytest.raises((TypeError, RuntimeError), match=r"asyncio|no running event loop"):
            await lab.namespace[name]()
        with pytest.raises(TypeError, match="asyncio"):
            await gw.ops.awaited(lab.eval("[loop.create_future()]")[0])
        assert await lab.ping("alive") == "alive"


async def test_whatever_is_trio_code_gets_awaitable_proxies() -> None:
    async with far() as lab:
        caller = await lab.namespace["Caller"]()

        async def double(n: int) -> int:
            return 2 * n

        assert await caller(double) == 40


@HOPS
async def test_a_far_coroutine_uses_what_is_here(hops: int) -> None:
    entered: list[object] = []

    class Here:
        async def __aenter__(self) -> str:
            entered.append("in")
            return "inside"

        async def __aexit__(self, *reason: object) -> None:
            entered.append(reason[0])

    async def numbers() -> AsyncIterator[int]:
        for n in range(3):
            yield n

    async with far(hops) as lab:
        await lab.execute(
            dedent(
                """
                import rpyc_gateway as gw
                async def use(items, make_numbers, manager, callback):
                    seen = [item async for item in items]
                    seen += [n async for n in make_numbers()]
                    async with manager as what:
                        seen.append(what)
                    seen.append(await callback(len(seen)))
                    seen.append(await gw.ops.len(items))
                    return tuple(seen)
                """
            )
        )

        async def callback(n: int) -> int:
            return n * 100

        got = await lab.namespace["use"](["a", "b"], numbers, Here(), callback)
        assert got == ("a", "b", 0, 1, 2, "inside", 600, 2)
        assert entered == ["in", None]


@HOPS
async def test_cancelling_here_crosses_to_the_far_coroutine_and_back_to_what_it_waits_for_here(hops: int) -> None:
    async with far(hops) as lab:
        events: list[str] = []
        await lab.execute(
            dedent(
                """
                async def ask(callback):
                    try: await callback()
                    except trio.Cancelled: log.append('cancelled there'); raise
                """
            )
        )

        async def wait() -> None:
            events.append("waiting here")
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                events.append("cancelled here")
                raise

        async with trio.open_nursery() as nursery:
            nursery.start_soon(_await, lab.namespace["ask"](wait))
            await wait_until(lambda: events)
            nursery.cancel_scope.cancel()
        await wait_until(lambda: len(events) == 2)
        assert events == ["waiting here", "cancelled here"]
        while not await gw.ops.len(lab.namespace["log"]):
            await trio.lowlevel.checkpoint()


async def _await(expression: Any) -> None:
    await expression


async def test_a_function_that_returns_an_expression_returns_what_that_comes_to() -> None:
    async with far() as lab:

        def forward(text: str) -> Any:
            return lab.eval(text)

        assert await (await lab.eval("lambda f: f('6 * 7')"))(forward) == 42


# -- by the kind --------------------------------------------------------------------------------------------------------


async def trio_code(_thing: object) -> None: ...


async def generator(_thing: object) -> AsyncIterator[int]:
    yield 1


@contextlib.asynccontextmanager
async def managed(_thing: object) -> AsyncIterator[int]:
    yield 1


@types.coroutine
def old(_thing: object) -> Any:
    yield


class Manager:
    async def __aenter__(self) -> None: ...


class Function:
    async def __call__(self, _thing: object) -> None: ...


class Plain:
    def __call__(self, _thing: object) -> None: ...

    def __getattribute__(self, name: str) -> Any:
        pytest.fail("it was asked")


@pytest.mark.parametrize(
    "function", [trio_code, generator, managed, old, Manager, Function(), functools.partial(managed)]
)
def test_trio_code_is_told_by_its_kind(function: Callable[..., object]) -> None:
    assert is_async(function)


def test_other_code_too_and_nothing_is_asked() -> None:
    for function in (len, list, Plain(), Plain, lambda: None, contextlib.contextmanager(lambda: iter("a"))):
        assert not is_async(function)


def test_a_class_that_lies_is_not_asked() -> None:
    class Liar(type):
        def __getattribute__(cls, name: str) -> Any:
            pytest.fail("it was asked")

    class Thing(metaclass=Liar):
        pass

    assert later(object.__new__(Thing)) is None

    class Own:
        def __await__(self) -> Any: ...
        def send(self, _value: object) -> Any: ...
        def throw(self, *_error: object) -> Any: ...
        def close(self) -> None: ...

    waiting = later(Own())
    assert waiting is not None
    waiting.coroutine.close()


def test_values_wait_for_nothing() -> None:
    for value in (1, "a", [], (n for n in ()), iter([]), generator(1)):
        assert later(value) is None
    coroutine = trio_code(1)
    assert later(coroutine) == Later(coroutine)
    coroutine.close()
