"""Boards that are asked from the command line."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from rpyc_gateway import boards
from rpyc_gateway.cli.onboard.interpreters import Interpreter, in_its_words
from rpyc_gateway.config import Config, Device, Dial, Listen, NodeSection
from rpyc_gateway.device.node import serve_board
from rpyc_gateway.errors import GatewayError
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.testing.line import BadLine
from tests.device.boards import FakeBoard, board_on
from tests.house import CLASSIC

FAST = "?baudrate=1000000"
BOTH_WAYS = pytest.mark.parametrize("way", ["port", "node"])
EACH_WAY = pytest.mark.parametrize("way", ["port", "node", "small"])
"""A node whose board is driven without the agent, too."""


class Board:
    """A board, asked from the command line. What it has as files is in a directory of this machine."""

    fake: FakeBoard
    line: BadLine

    def __init__(self, target: list[str]) -> None:
        self.target = target

    def command(self, verb: str, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "rpyc_gateway", "device", verb, *self.target, *map(str, arguments)]

    async def ask(self, verb: str, *arguments: object, given: bytes = b"") -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a command."""
        done: subprocess.CompletedProcess[bytes] = await trio.run_process(
            self.command(verb, *arguments), stdin=given, capture_stdout=True, capture_stderr=True, check=False
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()


@asynccontextmanager
async def open_board(way: str) -> AsyncIterator[Board]:
    """A board at a port of this machine, or the node `board` behind a hub, with the agent or (`small`) without."""
    async with AsyncExitStack() as stack:
        line = stack.enter_context(BadLine(math.inf))
        fake = stack.enter_context(board_on(line.far))
        if way == "port":
            board = Board([f"serial://{line.near}{FAST}"])
            board.fake, board.line = fake, line
            yield board
            return
        if way == "small":
            device = Device(name="board", url=f"serial://{line.near}{FAST}", allow=("*",), agent=False)
            node = await stack.enter_async_context(open_small(device))
            board = Board(["--url", node.urls[0], "board"])
            board.fake, board.line = fake, line
            yield board
            return
        hub = Config(node=NodeSection(name="hub"), listen=(Listen(url="tcp://127.0.0.1:0"), Listen(url="memory://hub")))
        node = await stack.enter_async_context(open_node(hub))
        config = Config(node=NodeSection(name="board"), dial=(Dial(url="memory://hub"),), serve=CLASSIC)
        nursery = await stack.enter_async_context(trio.open_nursery())
        await nursery.start(serve_board, config, f"serial://{line.near}{FAST}")
        await node.wait_route("board")
        board = Board(["--url", node.urls[0], "board"])
        board.fake, board.line = fake, line
        yield board
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_small(device: Device) -> AsyncIterator[Node]:
    """A hub whose board this is."""
    config = Config(node=NodeSection(name="hub"), listen=(Listen(url="tcp://127.0.0.1:0"),), device=(device,))
    async with boards.open_node(config) as node:
        await node.wait_route("board")
        yield node


class Here(Interpreter):
    """This interpreter as a board."""

    name = "here"
    shows = True

    async def evaluate(self, source: str) -> Any:
        return eval(source, {})

    async def call(self, function: Any, *args: Any) -> Any:
        with in_its_words(self.name):
            found = function(*args)
            return await found if inspect.isawaitable(found) else found

    async def wait_lost(self) -> GatewayError:
        await trio.sleep_forever()
        raise AssertionError
