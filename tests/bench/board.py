"""`python -m tests.bench.board`: a board with nothing installed, and what can be had of it. It is MicroPython's unix port; the line is a BadLine.

At 115200 and 921600 baud the figures are near what the bytes on the line allow; without a line they are those of this machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from operator import truediv
from statistics import median
from typing import Any

import trio

import rpyc_gateway
from rpyc_gateway.config import Config, Listen, NodeSection, Serve
from rpyc_gateway.device.board import Board, Event
from rpyc_gateway.device.conversation import Primitive
from rpyc_gateway.device.driver import open_board
from rpyc_gateway.device.node import open_board_node
from rpyc_gateway.testing.line import BadLine
from rpyc_gateway.transport import Pipe
from tests.device.boards import FakeBoard, board_on, fake_board, pipe_to

SECONDS = 2.0  # for each figure
TURNS = 3  # of the driver and a session
PAYLOAD = bytes(range(256)) * 8
PROGRAM = """
import gc
payload = bytes(range(256)) * 8
def f(x): return x
def down(): return payload
def up(x): return 0
class A:
  x = 1
  def m(self): return 2
a = A()
"""


@asynccontextmanager
async def open_line(baudrate: int | None) -> AsyncIterator[tuple[Pipe, FakeBoard]]:
    if baudrate is None:
        async with fake_board() as found:
            yield found
        return
    with BadLine(baudrate) as line, board_on(line.far) as board:
        async with pipe_to(line.near, rate=baudrate / 10) as pipe:
            yield pipe, board


async def rate(action: Callable[[], Awaitable[Any]]) -> float:
    """How often that can be done in a second."""
    count = 0
    start = time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        await action()
        count += 1
    return count / (time.perf_counter() - start)


def carried(board: Board) -> int:
    statistics = board.line.statistics()
    return statistics.bytes_in + statistics.bytes_out


async def measure(board: Board) -> AsyncIterator[str]:
    await board.execute(PROGRAM)
    names = ("f", "a", "a.m", "down", "up")
    f, a, method, down, up = [await board.evaluate(name) for name in names]

    async def eight() -> None:
        async with trio.open_nursery() as nursery:
            for n in range(8):
                nursery.start_soon(board.call, f, n)

    before = carried(board)
    calls = 200
    for n in range(calls):
        await board.call(f, n & 63)
    yield f"{(carried(board) - before) / calls:.1f} bytes for a small call and its answer"
    yield f"{await rate(lambda: board.call(f, 5)):.0f} small calls/s, {8 * await rate(eight):.0f} with eight at once"
    attributes = await rate(lambda: board.call(Primitive.GETATTR, a, "x"))
    yield f"{await rate(lambda: board.call(method)):.0f} method calls/s, {attributes:.0f} attributes/s"
    size = len(PAYLOAD) / 1000
    down_rate = size * await rate(lambda: board.call(down))
    yield f"{size * await rate(lambda: board.call(up, PAYLOAD)):.1f} KB/s up, {down_rate:.1f} KB/s down"
    yield f"{await event_latency(board) * 1000:.1f} ms until an event is heard, the median of 50"
    yield f"{await board.evaluate('(gc.collect(), gc.mem_free())[1]')} bytes of heap free, of {board.platform.free}"


async def through_session() -> AsyncIterator[str]:
    """What a session over TCP with the board's node in this process reaches of the driver's rate, without a line; driver and session take turns."""
    listen = Listen(url="tcp://127.0.0.1:0")
    config = Config(node=NodeSection(name="board"), listen=(listen,), serve=(Serve(service="classic", allow=("*",)),))
    async with (
        fake_board() as (pipe, _),
        open_board_node(config, pipe) as (node, board),
        rpyc_gateway.open_session(node.urls[0], node="board") as session,
    ):
        await board.execute(PROGRAM)
        f, name = await board.evaluate("f"), await session.eval("f")

        async def call() -> None:
            await name(5)

        async def expression() -> None:
            await session.namespace["a"].m()

        driver, calls, expressions = [], [], []
        for _ in range(TURNS):
            driver.append(await rate(lambda: board.call(f, 5)))
            calls.append(await rate(call))
            expressions.append(await rate(expression))
        rates = [median(found) for found in (driver, calls, expressions)]
        yield "{:.0f} calls/s at the driver, {:.0f} through a session, {:.0f} expressions of 4 steps".format(*rates)
        yield f"a session reaches {median(map(truediv, calls, driver)):.2f} of the driver's rate"


async def event_latency(board: Board) -> float:
    """Between a call that causes an event, whose answer is not waited for, and the event."""
    heard = trio.Event()
    await board.execute("def cause(event): event(1)")
    cause = await board.evaluate("cause")
    found = []

    def hear(_: int) -> None:
        heard.set()

    for _ in range(50):
        heard = trio.Event()
        start = time.perf_counter()
        await board.call(cause, Event(hear))
        await heard.wait()
        found.append(time.perf_counter() - start)
    return sorted(found)[len(found) // 2]


async def main() -> None:
    print("a session")
    async for line in through_session():
        print(f"  {line}")
    for baudrate in (None, 921_600, 115_200):
        print(f"{baudrate} baud" if baudrate else "no line")
        async with open_line(baudrate) as (pipe, fake):
            await trio.sleep(0.5)  # until its interpreter has begun
            start = time.perf_counter()
            async with open_board(pipe) as board:
                print(f"  {time.perf_counter() - start:.2f} s until it can be called")
                async for line in measure(board):
                    print(f"  {line}")
                start = time.perf_counter()
                await trio.to_thread.run_sync(fake.kill)
                killed = time.perf_counter()
                await board.wait_lost()
                seen = time.perf_counter()
            async with open_board(pipe) as board:
                await board.evaluate("1")
                print(
                    f"  {(seen - killed) * 1000:.0f} ms until a reset is seen, {time.perf_counter() - seen:.2f} s until it can be called again"
                )


if __name__ == "__main__":
    sys.exit(trio.run(main))
