"""What sessions do with the objects of a board, whatever runs on it: the agent, its REPL alone, a bare Python."""

from __future__ import annotations

import enum
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import pytest
import trio

import rpyc_gateway
from rpyc_gateway import ops
from rpyc_gateway.config import Config, Dial, Listen, NodeSection
from rpyc_gateway.device.node import open_board_node
from rpyc_gateway.errors import EncodeError
from rpyc_gateway.gateway import open_node
from tests.house import CLASSIC

from .boards import fake_board, needs_micropython

KINDS = [
    pytest.param("agent", marks=needs_micropython),
    pytest.param("small", marks=needs_micropython),
    "bare",
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[kind for kind in KINDS if "small" not in str(kind)])
def calling_kind(request: pytest.FixtureRequest) -> str:
    """One that can call back."""
    return str(request.param)


@asynccontextmanager
async def board_of(kind: str) -> AsyncIterator[dict[str, Any]]:
    """What connects a session with such a board."""
    if kind == "bare":
        yield {"url": f"stdio:?python=agent&name=board {sys.executable}"}
        return
    config = Config(node=NodeSection(name="board"), listen=(Listen(url="tcp://127.0.0.1:0"),), serve=CLASSIC)
    with trio.fail_after(40):
        async with fake_board() as (pipe, _), open_board_node(config, pipe, agent=kind == "agent") as (node, _board):
            yield {"url": node.urls[0], "node": "board"}


THINGS = """
class Number:
  def __init__(self, n): self.n = n
  def __add__(self, other): return ("add", self.n, other)
  def __radd__(self, other): return ("radd", self.n, other)
  def __iadd__(self, other):
    self.n += other
    return self
  def __lt__(self, other): return self.n < other
  def __eq__(self, other): return self.n == other
  def __hash__(self): return self.n
  def __neg__(self): return -self.n
  def __len__(self): return self.n
  def __index__(self): return self.n
class Block:
  said = ()
  def __enter__(self): return self
  def __exit__(self, kind, error, trace):
    self.said = (kind and kind.__name__, kind and str(error))
    return kind is KeyError or kind is Overload
class Overload(Exception): pass
def measure(): raise Overload("channel 3 broke")
number = Number(5)
xs = [1, 2]
block = Block()
"""


class Mode(enum.IntEnum):
    OUT = 3


class Pair(NamedTuple):
    a: int
    b: list[int]


class Own(list[Any]):
    pass


class Overload(Exception):
    """The board has one of this name."""


class Stranger:
    pass


async def test_blocking_code_does_to_objects_of_a_board_what_it_does_to_its_own(kind: str) -> None:
    async with board_of(kind) as board:
        await trio.to_thread.run_sync(use, board)


def use(board: dict[str, Any]) -> None:
    with rpyc_gateway.connect(**board) as conn:
        conn.execute(THINGS)
        number = conn.eval("number")
        assert number + 1 == ("add", 5, 1)
        assert 1 + number == ("radd", 5, 1)
        again = number
        again += 2
        assert again == 7
        assert number == 7
        assert number != 8
        assert number < 8
        assert not number < 7
        assert -number == -7
        assert hash(number) == 7
        assert len(number) == 7
        assert bool(number)
        assert "abcdefgh"[number] == "h"
        xs = conn.eval("xs")
        assert repr(xs + [3]) == "[1, 2, 3]"  # noqa: RUF005  # the operator
        assert repr(xs * 2) == "[1, 2, 1, 2]"
        assert 2 in xs
        assert 5 not in xs
        xs += [4]
        xs[0] = 9
        del xs[1]
        assert repr(conn.eval("xs")) == "[9, 4]"
        assert list(reversed(xs)) == [4, 9]
        assert next(conn.builtins.iter(xs)) == 9
        xs[:1] = [6, 7]
        del xs[1:]
        assert rpyc_gateway.obtain(xs) == [6]
        with pytest.raises(TypeError):
            xs - 1
        with pytest.raises(TypeError, match="no index"):
            "abc"[xs]
        assert isinstance(number, conn.eval("Number"))
        assert not isinstance(xs, conn.eval("Number"))
        assert "n" in dir(number)
        assert conn.builtins.type(number).__name__ == "Number"
        leave(conn)
        given(conn)


def leave(conn: Any) -> None:
    """Context managers of the board, and exceptions of classes of its own."""
    block = conn.eval("block")
    with block as entered:
        assert entered == block
    assert block.said == (None, None)
    with block:
        raise KeyError("mine")
    assert block.said[0] == "KeyError"
    with block:
        raise Overload("mine")
    assert block.said == ("Overload", "mine")
    with pytest.raises(Unknown), block:
        raise Unknown("which it does not know")
    assert block.said == ("Exception", "Unknown: which it does not know")
    with pytest.raises(Exception, match="channel 3 broke") as caught:
        conn.namespace["measure"]()
    assert type(caught.value).__name__ == "Overload"
    assert str(caught.value) == "channel 3 broke"


class Unknown(Exception):
    """The board has none of this name."""


def given(conn: Any) -> None:
    """Arguments."""
    conn.execute("def show(x, **more): return repr(x)")
    show = conn.namespace["show"]
    assert show([1, "a", [2.5, None]]) == "[1, 'a', [2.5, None]]"
    assert show({"a": [1]}) == "{'a': [1]}"
    assert show(([1], {"b": ()})) == "([1], {'b': ()})"
    assert show(Mode.OUT) == "3"
    assert show([Mode.OUT, Pair(1, [2])]) == "[3, (1, [2])]"
    assert show(OrderedDict(a=1)) == "{'a': 1}"
    assert show([conn.eval("5"), conn.eval("xs")]) == f"[5, {conn.eval('xs')!r}]"
    assert show(1, more=[1], most={"k": [2]}) == "1"
    conn.namespace["kept"] = [7]
    assert conn.eval("kept[0]") == 7
    with pytest.raises(TypeError, match="Stranger of the client"):
        show(Stranger())
    with pytest.raises(TypeError):
        show({1, 2})
    for endless in ([], Own()):
        endless.append(endless)
        with pytest.raises(TypeError):
            show(endless)
    assert show(1) == "1"


async def test_trio_code_does_so_too(kind: str) -> None:
    async with board_of(kind) as board, rpyc_gateway.open_session(**board) as session:
        await session.execute(THINGS)
        number = await session.eval("number")
        assert await ops.add(number, 1) == ("add", 5, 1)
        assert await ops.lt(session.eval("number"), 8) is True
        assert await ops.eq(number, 5)
        assert await ops.isinstance(number, await session.eval("Number"))
        assert not await ops.isinstance(await session.eval("xs"), await session.eval("Number"))
        assert await ops.repr(ops.concat(session.eval("xs"), [3])) == "[1, 2, 3]"
        assert await ops.getattr(ops.type(number), "__name__") == "Number"
        assert await session.builtins.sum([1, 2, Mode.OUT]) == 6
        block = await session.eval("block")
        async with block:
            raise KeyError("mine")
        said = await block.said
        assert said[0] == "KeyError"
        with pytest.raises(EncodeError, match="Stranger of the client"):
            await session.eval("repr")(Stranger())


@needs_micropython
async def test_data_of_a_client_goes_through_gateways() -> None:
    async with board_of("agent") as board, AsyncExitStack() as stack:
        dial = (Dial(url=board["url"]),)
        for name in ("inner", "middle", "outer"):
            config = Config(node=NodeSection(name=name), listen=(Listen(url="tcp://127.0.0.1:0"),), dial=dial)
            node = await stack.enter_async_context(open_node(config))
            dial = (Dial(url=node.urls[0]),)
        await node.wait_route("board")
        await trio.to_thread.run_sync(give, {"url": node.urls[0], "node": "board"})
        async with node.session("board") as session:
            assert await session.builtins.sum([1, Mode.OUT]) == 4


def give(board: dict[str, Any]) -> None:
    with rpyc_gateway.connect(**board) as conn:
        conn.execute(THINGS)
        given(conn)


async def test_what_a_callback_returns_may_be_data(calling_kind: str) -> None:
    async with board_of(calling_kind) as board, rpyc_gateway.open_session(**board) as session:
        await session.execute("def ask(f): return repr(f([1], 2))")
        assert await session.eval("ask")(lambda xs, n: {"n": [n, Mode.OUT]}) == "{'n': [2, 3]}"
        await session.execute("def each(fs): return [f(1) for f in fs][0]")
        assert await session.eval("each")([lambda n: n + 1]) == 2
