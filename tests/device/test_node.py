"""A board as a node: from a laptop, through two gateways, to MicroPython that had nothing installed."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

import rpyc_gateway
from rpyc_gateway import ops
from rpyc_gateway.config import Config, Dial, Listen, NodeSection
from rpyc_gateway.device.board import Board, BoardError
from rpyc_gateway.device.node import open_board_node, serve_board
from rpyc_gateway.errors import GatewayError, NotExposed, PeerRestarted
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.testing.line import BadLine
from tests.house import CLASSIC, wait_nodes

from .boards import FakeBoard, board_on, fake_board, needs_micropython

pytestmark = needs_micropython


@asynccontextmanager
async def open_lab() -> AsyncIterator[tuple[Any, FakeBoard]]:
    """A session of `laptop` with `board`, through `outer` and `inner`."""
    async with AsyncExitStack() as stack:
        pipe, fake = await stack.enter_async_context(fake_board())
        config = Config(node=NodeSection(name="board"), listen=(Listen(url="memory://board"),), serve=CLASSIC)
        await stack.enter_async_context(open_board_node(config, pipe))
        last = "board"
        node = None
        for name in ("inner", "outer", "laptop"):
            config = Config(
                node=NodeSection(name=name),
                listen=(Listen(url=f"memory://{name}"),),
                dial=(Dial(url=f"memory://{last}"),),
            )
            node = await stack.enter_async_context(open_node(config))
            last = name
        assert node is not None
        await node.wait_route("board")
        yield await stack.enter_async_context(node.session("board")), fake


async def test_its_modules_objects_and_exceptions_are_there() -> None:
    async with open_lab() as (board, _):
        assert await board.modules.sys.implementation.name == "micropython"
        assert await board.eval("1 + 1") == 2
        await board.execute("class Pin:\n def __init__(s, n, mode=0): s.n = n\n def value(s): return s.n\nxs = [1, 2]")
        pin = await board.eval("Pin")(2, mode=1)
        assert await pin.value() == 2
        await ops.setattr(pin, "n", 7)
        assert await pin.n == 7
        assert await ops.len(board.eval("xs")) == 2
        assert [x async for x in await board.eval("xs")] == [1, 2]
        await ops.setitem(board.eval("xs"), 0, 5)
        assert await ops.repr(board.eval("xs")) == "[5, 2]"
        assert await board.builtins.sum((1, 2, 3)) == 6
        with pytest.raises(ZeroDivisionError) as caught:
            await board.eval("1 / 0")
        assert any("on the board" in note for note in caught.value.__notes__)
        with pytest.raises(OSError, match="ENOENT") as missing:
            await board.builtins.open("/missing")
        assert missing.value.errno == 2
        with pytest.raises(AttributeError):
            await pin.nothing


async def test_a_function_of_the_laptop_is_called_by_the_board() -> None:
    async with open_lab() as (board, _):
        await board.execute("def twice(f): return f(1) + f(2)")
        assert await board.eval("twice")(lambda n: n * 10) == 30


async def test_who_cancels_interrupts_the_board() -> None:
    async with open_lab() as (board, _):
        with trio.move_on_after(0.5) as scope:
            await board.execute("while True: pass")
        assert scope.cancelled_caught
        with trio.fail_after(5):
            assert await board.eval("'alive'") == "alive"


async def test_a_reset_is_said_to_who_uses_it() -> None:
    async with open_lab() as (board, fake):
        await board.eval("1")
        await trio.to_thread.run_sync(fake.kill)
        with pytest.raises(PeerRestarted, match="started anew"), trio.fail_after(5):
            await board.execute("while True: pass")


async def test_a_board_that_is_reset_or_unplugged_is_found_again(caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncExitStack() as stack:
        line = stack.enter_context(BadLine(math.inf))
        fake = stack.enter_context(board_on(line.far))
        hub = Config(node=NodeSection(name="hub"), listen=(Listen(url="memory://hub"),))
        node = await stack.enter_async_context(open_node(hub))
        config = Config(node=NodeSection(name="board"), dial=(Dial(url="memory://hub"),), serve=CLASSIC)
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(serve_board, config, f"serial://{line.near}")
        await node.wait_route("board")
        async with node.session("board") as session:
            await session.execute("x = 1")
            await trio.to_thread.run_sync(fake.kill)
            with pytest.raises(PeerRestarted), trio.fail_after(5):
                await session.execute("while True: pass")
        with trio.fail_after(20):
            assert await ask_again(node, "'x' in globals()") is False
            line.unplug()
            await wait_nodes(node, lambda names: "board" not in names)
            line.plug()
        nursery.cancel_scope.cancel()
    assert "started anew" in caplog.text
    assert "unplugged" in caplog.text


async def ask_again(node: Node, source: str) -> Any:
    """Until the board is there."""
    while True:
        try:
            await node.wait_route("board")
            async with node.session("board") as session:
                return await session.eval(source)
        except GatewayError:
            await trio.sleep(0.05)


async def test_nobody_gets_from_the_board_into_its_front() -> None:
    async with open_lab() as (board, _):
        thing = await board.eval("[]")
        for name in ("_desk", "_ref", "__init__", "__dict__", "__getattribute__"):
            with pytest.raises((NotExposed, AttributeError)):
                await ops.getattr(thing, name)
        with pytest.raises(NotExposed):
            await ops.getattr(board.root, "_desk")


async def test_a_function_of_a_session_that_is_over_is_gone() -> None:
    async with AsyncExitStack() as stack:
        pipe, _ = await stack.enter_async_context(fake_board())
        config = Config(node=NodeSection(name="board"), listen=(Listen(url="memory://board"),), serve=CLASSIC)
        _, board = await stack.enter_async_context(open_board_node(config, pipe))
        async with rpyc_gateway.open_session("memory://board", node="board") as session:
            await session.execute("def keep(f):\n global kept\n kept = f")
            await session.eval("keep")(lambda: 1)
            assert await session.eval("kept()") == 1
        with trio.fail_after(5), pytest.raises(BoardError, match="withdrawn"):
            await use_up(board)


async def use_up(board: Board) -> None:
    """Call until that raises: the front hears a little later that a session is over."""
    while True:
        await board.evaluate("kept()")


async def test_blocking_code_uses_it_as_any_other_node() -> None:
    """In a thread, over TCP: calls, callbacks with the board's objects, items, errors."""
    config = Config(node=NodeSection(name="board"), listen=(Listen(url="tcp://127.0.0.1:0"),), serve=CLASSIC)
    async with fake_board() as (pipe, _), open_board_node(config, pipe) as (node, _):
        await trio.to_thread.run_sync(use, node.urls[0])


def use(url: str) -> None:
    with rpyc_gateway.connect(url, node="board") as conn:
        conn.execute("class Pin:\n def irq(self, f): return f(self)\n def value(self): return 1\npin = Pin()")
        pin = conn.eval("pin")
        assert pin.irq(lambda again: again.value() + 1) == 2
        assert conn.modules.sys.implementation.name == "micropython"
        conn.namespace["x"] = 5
        assert conn.eval("x") == 5
        assert "x" in conn.namespace
        with pytest.raises(KeyError):
            conn.namespace["y"]
        with pytest.raises(AttributeError):
            pin.nothing  # noqa: B018
