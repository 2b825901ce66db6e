"""Events of a board, as sessions hear them."""

from __future__ import annotations

import gc
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

import rpyc_gateway
from rpyc_gateway.config import Config, Dial, Listen, NodeSection
from rpyc_gateway.device.board import Board
from rpyc_gateway.device.events import MOST
from rpyc_gateway.device.node import open_board_node
from rpyc_gateway.errors import EncodeError, PeerRestarted, TimedOut
from rpyc_gateway.gateway import open_node
from tests.house import CLASSIC

from .boards import FakeBoard, fake_board, needs_micropython

pytestmark = needs_micropython

PIN = """
class Pin:
  handler = None
  n = 0
  def irq(self, handler=None, trigger=3):
    if trigger == 0: raise ValueError("no such trigger")
    self.handler = handler
  def edge(self, times=1):
    for _ in range(times):
      self.n += 1
      if self.handler: self.handler(self.n)
pin = Pin()
"""


@asynccontextmanager
async def open_lab(*, agent: bool = True) -> AsyncIterator[tuple[str, Any, FakeBoard]]:
    """The URL of a gateway of a board, and the board."""
    async with AsyncExitStack() as stack:
        stack.enter_context(trio.fail_after(10))
        pipe, fake = await stack.enter_async_context(fake_board())
        config = Config(node=NodeSection(name="board"), listen=(Listen(url="memory://board"),), serve=CLASSIC)
        _, board = await stack.enter_async_context(open_board_node(config, pipe, agent=agent))
        listen, dial = (Listen(url="tcp://127.0.0.1:0"),), (Dial(url="memory://board"),)
        node = await stack.enter_async_context(
            open_node(Config(node=NodeSection(name="hub"), listen=listen, dial=dial))
        )
        await node.wait_route("board")
        await board.execute(PIN)
        yield node.urls[0], board, fake


async def is_withdrawn(board: Board) -> None:
    """Wait until it is."""
    while not await board.evaluate("pin.handler is None"):
        pass


async def test_trio_code_hears_them_and_leaves_by_leaving_the_loop() -> None:
    async with open_lab() as (url, board, _), rpyc_gateway.open_session(url, node="board") as session:
        pin = await session.eval("pin")
        heard = []
        async with session.root.events(pin, trigger=1) as edges:
            await board.execute("pin.edge(3)")
            async for edge in edges:
                heard.append(edge)
                if edge == 3:
                    break
            with trio.move_on_after(0.05) as scope:
                await rpyc_gateway.ops.anext(edges)
            assert scope.cancelled_caught
            await board.execute("pin.edge()")
            assert await rpyc_gateway.ops.anext(edges) == 4
            assert await edges.dropped == 0
        assert heard == [1, 2, 3]
        await is_withdrawn(board)


async def test_blocking_code_does_so_too() -> None:
    async with open_lab() as (url, board, _):
        await trio.to_thread.run_sync(hear, url)
        await is_withdrawn(board)


def hear(url: str) -> None:
    with rpyc_gateway.connect(url, node="board") as conn:
        pin = conn.eval("pin")
        with conn.root.events(pin) as edges:
            pin.edge(3)
            assert list(itertools.islice(edges, 3)) == [1, 2, 3]
            with pytest.raises(TimedOut), rpyc_gateway.timeout(0.1):
                next(edges)
            pin.edge()
            assert next(edges) == 4
        assert pin.handler is None
        edges = conn.root.events(pin)
        assert pin.handler is not None
        del edges  # nobody has it any more
        gc.collect()
        with rpyc_gateway.timeout(5):
            while pin.handler is not None:
                pass
        kept = conn.root.events(pin)
        pin.edge()
        assert next(kept) == 5  # and it is withdrawn with its session


async def test_code_of_the_board_may_call_them_and_what_is_too_much_is_counted() -> None:
    async with open_lab() as (url, _, _), rpyc_gateway.open_session(url, node="board") as session:
        events = await session.root.events()
        await session.execute("def say(f, n, *more): f(n, *more)")
        say = await session.eval("say")
        await say(events, 1, "two")
        assert await rpyc_gateway.ops.anext(events) == (1, "two")
        for n in range(MOST + 5):
            await say(events, n)
        while await events.dropped < 5:
            pass
        assert await rpyc_gateway.ops.anext(events) == 0


async def test_what_cannot_be_heard_says_so() -> None:
    async with open_lab() as (url, board, _), rpyc_gateway.open_session(url, node="board") as session:
        pin = await session.eval("pin")
        with pytest.raises(ValueError, match="no such trigger"):
            await session.root.events(pin, trigger=0)
        with pytest.raises(AttributeError):
            await session.root.events(await session.eval("[]"))
        with pytest.raises(TypeError, match="of the board"):
            await session.root.events(5)
        assert await board.evaluate("pin.handler is None")
    async with open_lab(agent=False) as (url, _, _), rpyc_gateway.open_session(url, node="board") as session:
        with pytest.raises(EncodeError, match="no events"):
            await session.root.events(await session.eval("pin"))


async def test_who_waits_for_an_event_is_told_of_a_reset() -> None:
    async with open_lab() as (url, _, fake), rpyc_gateway.open_session(url, node="board") as session:
        events = await session.root.events(session.eval("pin"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, fake.kill)
            with pytest.raises(PeerRestarted):
                await rpyc_gateway.ops.anext(events)
