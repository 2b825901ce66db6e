"""`async for` over what is elsewhere: one message for the first items, nothing left behind when it is left early."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import AsyncIterator, Callable
from textwrap import dedent
from typing import Any

import pytest
import trio
import trio.testing

import rpyc_gateway as gw
from rpyc_gateway.held import held_by
from rpyc_gateway.iteration import MOST
from rpyc_gateway.proto.messages import Release, Splitter
from rpyc_gateway.proxy import blocking_proxy
from rpyc_gateway.service import Service, expose
from rpyc_gateway.serving import Offer
from rpyc_gateway.session import Session
from tests.house import HOPS, messages_sent, open_house, open_lab, wait_until

FAR = """
import trio
log = []
async def ticks(count):
    try:
        for n in range(count):
            log.append(n)
            yield n
        log.append('done')
    except BaseException as error:
        log.append(type(error).__name__)
        raise
    finally:
        await trio.lowlevel.checkpoint()
        log.append('closed')
def numbers(count):
    try:
        yield from range(count)
    finally:
        log.append('closed')
async def forever():
    try:
        yield 1
        log.append('waiting')
        await trio.sleep_forever()
    except trio.Cancelled:
        log.append('cancelled')
        raise
def broken():
    yield 1
    yield 2
    raise ValueError('third')
async def broken_async():
    yield 1
    yield 2
    raise ValueError('third')
class Channel:
    def __init__(self): self.n = 0
    def __aiter__(self): return self
    async def __anext__(self):
        await trio.lowlevel.checkpoint()
        self.n += 1
        if self.n > 3: raise StopAsyncIteration
        return self.n
class Counter:
    def __init__(self): self.n = 0
    def __iter__(self): return self
    def __next__(self):
        self.n += 1
        return self.n
counter = Counter()
rows = list(range(100))
class Indexed:
    def __getitem__(self, index): return 'abc'[index]
"""


@contextlib.asynccontextmanager
async def far(hops: int = 1) -> AsyncIterator[Session]:
    async with open_lab(hops) as lab:
        await lab.execute(dedent(FAR))
        yield lab
        # Nothing is left behind: of all that was lent only what the session's namespace gave is held, and that dies here.
        await wait_until(lambda: lab.statistics().asked == 0)


async def log_of(lab: Session) -> tuple[Any, ...]:
    return await lab.builtins.tuple(lab.namespace["log"])  # type: ignore[no-any-return]


@HOPS
async def test_a_list_of_a_hundred_is_one_message_at_any_number_of_hops(hops: int) -> None:
    async with far(hops) as lab:
        sent = messages_sent(lab)
        assert [row async for row in lab.namespace["rows"]] == list(range(100))
        assert len(sent) == 1
        rows = await lab.namespace["rows"]
        sent.clear()
        assert [row async for row in rows] == list(range(100))
        assert len(sent) == 1


@pytest.mark.parametrize(
    ("expression", "items"),
    [
        ("list(range(1000))", list(range(1000))),
        ("{'a': 1}.items()", [("a", 1)]),
        ("(1, 2)", [1, 2]),
        ("'ab'", ["a", "b"]),
        ("range(3)", [0, 1, 2]),
        ("b'ab'", [97, 98]),
        ("{1}", [1]),
        ("()", []),
        ("[]", []),
        ("Indexed()", ["a", "b", "c"]),
        ("numbers(3)", [0, 1, 2]),
        ("ticks(3)", [0, 1, 2]),
        ("Channel()", [1, 2, 3]),
        ("(n * n for n in range(4))", [0, 1, 4, 9]),
        ("memoryview(b'ab')", [97, 98]),
    ],
)
async def test_whatever_can_be_iterated_there_is_iterated_here(expression: str, items: list[object]) -> None:
    async with far() as lab:
        assert [item async for item in lab.eval(expression)] == items
        assert [item async for item in gw.ops.iterate(lab.eval(expression), prefetch=2)] == items
        held = await lab.eval(expression)
        if not isinstance(held, (str, bytes, tuple, range)):
            assert [item async for item in held] == items


async def test_what_came_by_value_is_iterated_here() -> None:
    async with far() as lab:
        pair = lab.eval("(1, 2)")
        assert await pair == (1, 2)
        assert [item async for item in pair] == [1, 2]
        number = lab.eval("5")
        await number
        with pytest.raises(TypeError, match="not iterable"):
            [item async for item in number]
        with pytest.raises(TypeError, match="not iterable"):
            [item async for item in lab.eval("5")]


async def test_items_that_can_be_seen_to_be_fetched_are_fetched_one_by_one() -> None:
    async with far() as lab:
        counter = await lab.namespace["counter"]
        async for n in counter:
            assert await counter.n == n
            if n == 5:
                break
        assert await counter.n == 5


async def test_prefetching_fetches_in_one_message_what_the_caller_allows() -> None:
    async with far() as lab:
        sent = messages_sent(lab)
        assert [n async for n in gw.ops.iterate(lab.namespace["numbers"](100), prefetch=50)] == list(range(100))
        assert len(sent) <= 3
        sent.clear()
        assert [n async for n in gw.ops.iterate(lab.namespace["ticks"](100), prefetch=1000)] == list(range(100))
        assert len(sent) <= 2
    with pytest.raises(ValueError, match="prefetch"):
        gw.ops.iterate(lab.root, prefetch=0)


async def test_a_slow_producer_is_not_waited_for_to_fill_a_batch() -> None:
    async with far() as lab:
        await lab.execute(
            dedent(
                """
                gate = trio.Event()
                async def open_gate(): gate.set()
                async def slow():
                    yield 1
                    await trio.sleep(0.2)
                    yield 2
                    await gate.wait()
                    yield 3
                """
            )
        )
        iteration = gw.ops.iterate(lab.namespace["slow"](), prefetch=10)
        assert [await anext(iteration), await anext(iteration)] == [1, 2]
        await lab.namespace["open_gate"]()
        assert [n async for n in iteration] == [3]


@pytest.mark.parametrize("producer", ["broken", "broken_async"])
@pytest.mark.parametrize("prefetch", [1, 2, 10])
async def test_an_exception_comes_behind_the_items_before_it(producer: str, prefetch: int) -> None:
    async with far() as lab:
        iteration = gw.ops.iterate(lab.namespace[producer](), prefetch=prefetch)
        assert [await anext(iteration), await anext(iteration)] == [1, 2]
        with pytest.raises(ValueError, match="third"):
            await anext(iteration)
        with pytest.raises(StopAsyncIteration):
            await anext(iteration)
        with pytest.raises(ZeroDivisionError):
            [n async for n in lab.eval("(1 // 0 for _ in '1')")]


@pytest.mark.parametrize("producer", ["ticks", "numbers"])
@pytest.mark.parametrize("prefetch", [1, 3])
async def test_leaving_early_closes_the_producer(producer: str, prefetch: int) -> None:
    async with far() as lab:
        async for _n in gw.ops.iterate(lab.namespace[producer](100), prefetch=prefetch):
            break
        while "closed" not in await log_of(lab):
            await trio.lowlevel.checkpoint()
        if producer == "ticks":
            assert (await log_of(lab))[-2:] == ("GeneratorExit", "closed")


async def test_a_generator_that_somebody_holds_goes_on_where_the_loop_was_left() -> None:
    async with far() as lab:
        for producer in ("ticks", "numbers"):
            held = await lab.namespace[producer](4)
            async for n in held:
                if n == 1:
                    break
            assert [n async for n in held] == [2, 3]


async def test_closing_an_iteration_tells_the_far_side_now() -> None:
    async with far() as lab:
        async with contextlib.aclosing(aiter(lab.namespace["ticks"](5))) as iteration:
            assert await anext(iteration) == 0
        assert (await log_of(lab))[:1] == (0,)
        while "closed" not in await log_of(lab):
            await trio.lowlevel.checkpoint()
        with pytest.raises(StopAsyncIteration):
            await anext(iteration)


@HOPS
async def test_cancelling_the_loop_cancels_the_producer(hops: int) -> None:
    async with far(hops) as lab:

        async def consume() -> None:
            async for n in lab.namespace["forever"]():
                assert n == 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume)
            while "waiting" not in await log_of(lab):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        while "cancelled" not in await log_of(lab):
            await trio.lowlevel.checkpoint()


async def test_a_cancelled_wait_for_the_next_item_loses_none() -> None:
    async with far() as lab:
        await lab.execute("send, receive = trio.open_memory_channel(10)")
        iteration = aiter(await lab.namespace["receive"])
        with trio.move_on_after(0.05) as scope:
            await anext(iteration)
        assert scope.cancelled_caught
        await lab.namespace["send"].send_nowait("late")
        assert await anext(iteration) == "late"


async def test_two_tasks_cannot_wait_for_the_next_item_of_one_iteration() -> None:
    async with far() as lab:
        iteration = aiter(lab.namespace["forever"]())
        assert await anext(iteration) == 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_swallow, iteration)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError, match="another task"):
                await anext(iteration)
            nursery.cancel_scope.cancel()


async def _swallow(iteration: Any) -> None:
    await anext(iteration)


async def test_the_client_going_away_in_the_middle_closes_the_producer() -> None:
    closed: list[str] = []

    class Feed(Service):
        @expose
        def ticks(self) -> Any:
            return _ticks(closed)

    async with open_house("hq", "relay", "lab", services={"feed": Offer(Feed, ("*",))}) as nodes:
        async with nodes[0].session("lab", service="feed") as feed:
            iteration = aiter(feed.root.ticks())
            assert await anext(iteration) == 0
        await wait_until(lambda: closed)
        assert closed == ["closed"]
        with pytest.raises(gw.SessionClosed):
            await anext(iteration)


# -- blocking code ------------------------------------------------------------------------------------------------------


async def in_thread(story: Callable[[Any], None]) -> None:
    """Tell a story of blocking code, with the root of a lab."""
    async with far() as lab:
        await trio.to_thread.run_sync(story, blocking_proxy(lab.held_root))


async def test_batches_of_any_iterable_are_its_items_in_order() -> None:
    def story(lab: Any) -> None:
        for text, items in (
            ("numbers(1000)", list(range(1000))),
            ("Indexed()", ["a", "b", "c"]),
            ("rows", list(range(100))),
            ("{'a': 1}.items()", [("a", 1)]),
            ("ticks(30)", list(range(30))),
            ("Channel()", [1, 2, 3]),
            ("iter(())", []),
        ):
            assert list(gw.buffiter(lab.eval(text))) == items
            assert list(gw.buffiter(lab.eval(text), chunk=1, max_chunk=1, factor=1)) == items
        assert list(gw.buffiter(lab.eval("(1, 2)"))) == [1, 2]
        assert list(gw.buffiter(n * n for n in range(3))) == [0, 1, 4]

    await in_thread(story)


async def test_a_generator_is_ahead_of_the_loop_by_a_batch_that_grows() -> None:
    def story(lab: Any) -> None:
        counter = lab.namespace["counter"]
        items = gw.buffiter(counter, chunk=2, max_chunk=5, factor=2)
        seen = [(n, counter.n) for n in itertools.islice(items, 12)]
        assert seen == [(1, 2), (2, 2), *((n, 6) for n in range(3, 7)), *((n, 11) for n in range(7, 12)), (12, 16)]

    await in_thread(story)


async def test_what_a_generator_raises_comes_behind_the_items_before_it() -> None:
    def story(lab: Any) -> None:
        for producer in ("broken", "broken_async"):
            items = gw.buffiter(lab.namespace[producer]())
            assert [next(items), next(items)] == [1, 2]
            with pytest.raises(ValueError, match="third"):
                next(items)
            assert list(items) == []
        with pytest.raises(TypeError, match="not iterable"):
            next(gw.buffiter(lab.eval("object()")))

    await in_thread(story)


async def test_closing_the_batches_closes_the_generator_now() -> None:
    async with far() as session:
        sent = messages_sent(session)

        def story(lab: Any) -> None:
            log = lab.namespace["log"]
            items = gw.buffiter(lab.namespace["numbers"](1000))
            assert next(items) == 0
            lab.eval("0")  # takes along what has died already
            sent.clear()
            items.close()
            (message,) = Splitter().receive_data(b"".join(sent))
            assert isinstance(message, Release)
            assert list(log) == ["closed"]
            assert list(items) == []
            items.close()

        await trio.to_thread.run_sync(story, blocking_proxy(session.held_root))


async def test_a_loop_over_batches_that_is_left_closes_the_generator() -> None:
    def story(lab: Any) -> None:
        for n in gw.buffiter(lab.namespace["numbers"](1000)):
            if n == 15:
                break
        lab.eval("0")  # with the next message
        assert "closed" in tuple(lab.namespace["log"])

    await in_thread(story)


async def test_a_loop_ends_where_its_batches_were_closed() -> None:
    def story(lab: Any) -> None:
        seen = []
        items = gw.buffiter(lab.namespace["numbers"](1000), chunk=100)
        for n in items:
            seen.append(n)
            if n == 5:
                items.close()
        assert seen == [0, 1, 2, 3, 4, 5]

    await in_thread(story)


async def test_a_generator_that_is_held_goes_on_behind_the_batch() -> None:
    def story(lab: Any) -> None:
        held = lab.namespace["numbers"](100)
        items = gw.buffiter(held, chunk=3)
        assert next(items) == 0
        items.close()
        assert next(held) == 3

    await in_thread(story)


@pytest.mark.parametrize(
    ("chunk", "most", "factor"), [(0, 1, 1), (1, 0, 1), (1, MOST + 1, 1), (1, 1, 0.5), (1, 1, math.nan)]
)
def test_sizes_that_make_no_batches_are_refused(chunk: int, most: int, factor: float) -> None:
    with pytest.raises(ValueError, match="batches"):
        gw.buffiter([], chunk, most, factor)


async def test_a_value_of_trio_code_is_not_for_blocking_batches() -> None:
    async with far() as lab:
        with pytest.raises(TypeError, match="async for"):
            gw.buffiter(await lab.namespace["rows"])


async def test_a_list_that_is_changed_meanwhile_is_seen_late_by_no_more_than_a_batch() -> None:
    def story(lab: Any) -> None:
        lab.execute("many = list(range(10_000))")
        many = lab.namespace["many"]
        items = iter(many)
        assert next(items) == 0
        lab.execute("many[256] = 'new'; del many[1000:]")
        assert list(items) == [*range(1, 256), "new", *range(257, 1000)]

    await in_thread(story)


async def test_a_list_of_long_texts_comes_in_smaller_batches() -> None:
    def story(lab: Any) -> None:
        lab.execute("texts = ['x' * 100_000] * 1000")
        lengths = list(map(len, lab.namespace["texts"]))
        assert lengths == [100_000] * 1000

    await in_thread(story)


async def test_a_list_of_a_third_node_is_walked_in_batches_too() -> None:
    """What the middle holds of it goes on in batches of its own."""
    mine = list(range(1000))
    async with open_house("hq", "lab") as nodes, nodes[0].session("lab") as owner, nodes[0].session("lab") as lab:
        sys = await owner.modules.sys
        await gw.ops.setattr(sys, "_shelf", mine)
        try:
            passed = blocking_proxy(held_by(await lab.modules.sys._shelf))
            assert passed is not mine
            sent, relayed = messages_sent(lab), messages_sent(owner)
            assert await trio.to_thread.run_sync(sum, passed) == sum(mine)
            assert len(sent) == 2
            assert len(relayed) <= 3
        finally:
            await gw.ops.delattr(sys, "_shelf")


async def _ticks(closed: list[str]) -> AsyncIterator[int]:
    try:
        for n in range(100):
            yield n
    finally:
        closed.append("closed")
