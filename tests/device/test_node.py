"""A board as a node: from a laptop, through two gateways, to MicroPython that had nothing installed."""

from __future__ import annotations

import copy
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

import rpyc_gateway
from rpyc_gateway import ops
from rpyc_gateway.answering import Answering
from rpyc_gateway.config import Config, Dial, Listen, NodeSection
from rpyc_gateway.device.board import Board, BoardError
from rpyc_gateway.device.conversation import Conversation, Step
from rpyc_gateway.device.node import open_board_node, serve_board
from rpyc_gateway.errors import EncodeError, GatewayError, NotExposed, PeerRestarted, TimedOut
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.proto.values import Draft
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


@pytest.fixture(params=["with a deadline", "without"])
def patience(request: pytest.FixtureRequest) -> trio.CancelScope:
    """A caller without a deadline is served without a task."""
    return trio.CancelScope(shield=request.param == "without")


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
        xs = await board.eval("xs")
        assert await rpyc_gateway.obtain(xs) == [5, 2]
        assert await rpyc_gateway.obtain(board.eval("{'a': [xs]}")) == {"a": [[5, 2]]}
        assert (await ops.repr(xs[1:]), await ops.repr(xs[:1]), await ops.repr(xs[:])) == ("[2]", "[5]", "[5, 2]")
        assert await board.builtins.sum((1, 2, 3)) == 6
        with pytest.raises(ZeroDivisionError) as caught:
            await board.eval("1 / 0")
        assert any("on the board" in note for note in caught.value.__notes__)
        with pytest.raises(OSError, match="ENOENT") as missing:
            await board.builtins.open("/missing")
        assert missing.value.errno == 2
        assert str(missing.value) == "[Errno 2] ENOENT"
        with pytest.raises(KeyError) as absent:
            await board.eval("{}['absent']")
        assert absent.value.args == ("absent",)
        with pytest.raises(AttributeError):
            await pin.nothing
        await ops.setattr(pin, "_private", 8)
        assert await pin._private == 8
        for name in ("_ref", "_desk"):  # of what stands for it
            with pytest.raises(NotExposed):
                await getattr(pin, name)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of steps of each message that asks a board for something."""
    found: list[int] = []
    call = Conversation.call

    def counted(self: Conversation, steps: Sequence[Step], *, copy: bool = False) -> int:
        found.append(len(steps))
        return call(self, steps, copy=copy)

    monkeypatch.setattr(Conversation, "call", counted)
    return found


MACHINE = """
import sys
class Pin:
 names = ["A", "B"]
 def __init__(s, n, mode=0):
  s.n = n
  if n < 0: raise ValueError("no such pin")
 def value(s): return s.n
class machine: pass
machine.Pin = Pin
sys.modules["machine"] = machine
"""


async def test_an_expression_is_one_message_on_the_line(programs: list[int]) -> None:
    async with open_lab() as (board, _):
        await board.execute(MACHINE)
        programs.clear()
        assert await board.modules.machine.Pin(2).value() == 2
        assert await board.modules["machine"].Pin(3, mode=1).n == 3
        assert await board.eval("Pin").names[1].lower() == "b"
        pin = await board.modules.machine.Pin(4)
        assert await pin.value() == 4
        assert programs == [5, 4, 5, 3, 2]


async def test_what_cannot_be_one_message_is_done_step_by_step(programs: list[int]) -> None:
    async with open_lab() as (board, _):
        await board.execute(MACHINE)
        pin = await board.modules.machine.Pin(4)
        programs.clear()
        assert await board.builtins.max(board.eval("1"), board.eval("2")) == 2
        assert await ops.len(board.modules.machine.Pin.names) == 2
        await ops.setattr(pin, "n", 5)
        assert await pin.value() == 5
        assert len(programs) == 12


async def test_an_error_names_its_step_in_one_message_too(
    programs: list[int], patience: trio.CancelScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int | None] = []
    send = Answering._send

    def noting(self: Answering, question: int, draft: Draft, step: int | None) -> bool:
        steps.append(step)
        return send(self, question, draft, step)

    monkeypatch.setattr(Answering, "_send", noting)
    async with open_lab() as (board, _):
        await board.execute(MACHINE)
        programs.clear()
        steps.clear()
        with patience:
            with pytest.raises(ValueError, match="no such pin"):
                await board.modules.machine.Pin(-1).value()
            with pytest.raises(AttributeError):
                await board.modules.machine.Pin(1).nothing.more
            with pytest.raises(ImportError):
                await board.modules.nowhere.Pin(1)
            assert len(programs) == 3
            with pytest.raises(EncodeError):
                await board.modules.machine.Pin(1j).value()
        assert steps == [4, 5, 2, 4]


async def test_what_a_policy_refuses_of_an_expression_is_not_sent(programs: list[int]) -> None:
    async with open_lab() as (board, _):
        await board.execute(MACHINE)
        programs.clear()
        with pytest.raises(NotExposed, match="_desk"):
            await ops.getattr(board.modules.machine.Pin(1), "_desk")  # its call is never made
        assert programs == []


async def test_a_session_that_ends_in_the_middle_leaves_the_board_to_others(
    patience: trio.CancelScope, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        pipe, _ = await stack.enter_async_context(fake_board())
        config = Config(node=NodeSection(name="board"), listen=(Listen(url="memory://board"),), serve=CLASSIC)
        _, board = await stack.enter_async_context(open_board_node(config, pipe))
        async with trio.open_nursery() as nursery:
            with patience:
                async with rpyc_gateway.open_session("memory://board", node="board") as session:
                    nursery.start_soon(hang, session, patience)
                    await trio.sleep(0.3)
        with trio.fail_after(5):
            assert await board.evaluate("'alive'") == "alive"
    assert caplog.text == ""


async def hang(session: Any, patience: trio.CancelScope) -> None:
    with trio.CancelScope(shield=patience.shield), pytest.raises(GatewayError):
        await session.execute("while True: pass")


async def test_a_function_of_the_laptop_is_called_by_the_board() -> None:
    async with open_lab() as (board, _):
        await board.execute("def twice(f): return f(1) + f(2)")
        assert await board.eval("twice")(lambda n: n * 10) == 30


async def test_who_cancels_interrupts_the_board(patience: trio.CancelScope) -> None:
    async with open_lab() as (board, _), trio.open_nursery() as nursery:
        nursery.start_soon(cancel_soon, patience)
        with patience:
            await board.execute("while True: pass")
        assert patience.cancelled_caught
        with trio.fail_after(5):
            assert await board.eval("'alive'") == "alive"


async def cancel_soon(scope: trio.CancelScope) -> None:
    await trio.sleep(0.5)
    scope.cancel()


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


async def test_a_board_that_is_plugged_in_again_is_not_kept_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("rpyc_gateway.device.node.PAUSE", 3600.0)
    monkeypatch.setattr("rpyc_gateway.lookout.PERIOD", 0.02)
    async with AsyncExitStack() as stack:
        line = stack.enter_context(BadLine(math.inf))
        stack.enter_context(board_on(line.far))
        line.unplug()
        hub = Config(node=NodeSection(name="hub"), listen=(Listen(url="memory://hub"),))
        node = await stack.enter_async_context(open_node(hub))
        config = Config(node=NodeSection(name="board"), dial=(Dial(url="memory://hub"),), serve=CLASSIC)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(serve_board, config, f"serial://{line.near}")
        with trio.fail_after(20):
            while "again in 3600 s" not in caplog.text:  # noqa: ASYNC110  # a log sets no event
                await trio.sleep(0.01)
            line.plug()
            stack.enter_context(board_on(line.far))
            assert await ask_again(node, "6 * 7") == 42
        nursery.cancel_scope.cancel()


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


async def test_blocking_code_has_a_message_for_each_step_on_the_board(programs: list[int]) -> None:
    config = Config(node=NodeSection(name="board"), listen=(Listen(url="tcp://127.0.0.1:0"),), serve=CLASSIC)
    async with fake_board() as (pipe, _), open_board_node(config, pipe) as (node, board):
        await board.execute(MACHINE)
        programs.clear()
        await trio.to_thread.run_sync(read_pin, node.urls[0])
        assert sum(programs) == 5


def read_pin(url: str) -> None:
    with rpyc_gateway.connect(url, node="board") as conn:
        assert conn.modules.machine.Pin(2).value() == 2


async def test_what_no_board_can_do_is_refused_with_what_to_do_instead() -> None:
    config = Config(node=NodeSection(name="board"), listen=(Listen(url="tcp://127.0.0.1:0"),), serve=CLASSIC)
    async with fake_board() as (pipe, _), open_board_node(config, pipe) as (node, _):
        await trio.to_thread.run_sync(ask_too_much, node.urls[0])


def ask_too_much(url: str) -> None:
    with rpyc_gateway.connect(url, node="board") as conn:
        with pytest.raises(TypeError, match=r"conn\.execute\(source\) defines them there"):
            conn.teleport(lambda: 42)
        with pytest.raises(TypeError, match="`rpyc-gw device put`"):
            rpyc_gateway.upload_package(conn, "email")
        for copied in (copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match=r"gw\.obtain"):
                copied(conn.eval("[1]"))
        assert conn.eval("6 * 7") == 42


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
        with pytest.raises(TimedOut), rpyc_gateway.timeout(0.3):
            conn.execute("while True: pass")
        assert conn.eval("'alive'") == "alive"
