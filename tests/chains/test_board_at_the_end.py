"""Two gateways and a serial line between laptops and a board, and all that can break there: each time an error that says so, and the board can be used again without anybody touching it."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.errors import Unreachable
from rpyc_gateway.testing import BadLine
from tests.chains.processes import LOOPBACK, RPYC_GW, House, Process, dial, listen, open_house, wait_until
from tests.device.boards import FakeBoard, board_on, needs_micropython

pytestmark = needs_micropython

BAUD = 921_600
LOOPS = "lambda begun: begun() or exec('while True: pass')"  # it says that it runs, and does not end


class Lab:
    """Laptops dial `hq` by WebSocket, the relay dials it by TCP, and at a port of the relay is the board."""

    board: FakeBoard

    def __init__(self, house: House, line: BadLine) -> None:
        self.house = house
        self.line = line
        self._socket = contextlib.ExitStack()
        self.plug()
        self.hq = house.start("hq", listen("ws://127.0.0.1:0") + listen(LOOPBACK))
        self.url = self.hq.url
        self._for_relay = self.hq.wait_line(r": listening on (tcp://\S+)")[1]
        self.relay = self.start_relay()

    def plug(self) -> None:
        """A board begins another life when it is plugged in."""
        self._socket.close()
        self.line.plug()
        self.board = self._socket.enter_context(board_on(self.line.far, "8M"))

    def start_hq(self) -> Process:
        """At the addresses that it had."""
        return self.house.start("hq", listen(self.url) + listen(self._for_relay))

    def start_relay(self) -> Process:
        device = f'[[device]]\nname = "board"\nurl = "serial://{self.line.near}?baudrate={BAUD}"\nallow = ["*"]\n'
        return self.house.start("relay", dial(self._for_relay) + device)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        """With the board, as soon as it is there: it may be on its way up."""
        with trio.fail_after(30):
            while True:
                with contextlib.suppress(Unreachable):
                    async with gw.open_session(self.url, node="board") as session:
                        yield session
                    return
                await trio.sleep(0.02)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Of all these stories: each leaves it as it was."""
    with BadLine(BAUD, seed=7) as line:
        with open_house() as house:
            lab = Lab(house, line)
            yield lab
        lab.close()


async def usable(lab: Lab) -> None:
    async with lab.session() as session:
        assert session.path[1:] == ("hq", "relay", "board")
        assert await session.eval("6 * 7") == 42
        assert await session.eval("lambda f: f(6)")(lambda number: number * 7) == 42
    await trio.to_thread.run_sync(usable_from_blocking_code, lab.url)


def usable_from_blocking_code(url: str) -> None:
    with gw.connect(url, node="board") as conn:
        assert conn.modules.sys.implementation.name == "micropython"
        assert conn.eval("lambda f: f(6)")(lambda number: number * 7) == 42


async def test_exceptions_files_and_a_reset_go_through_the_whole_chain(lab: Lab, tmp_path: Path) -> None:
    async with lab.session() as session:
        with pytest.raises(ValueError, match="Ärger 🐍") as caught:
            await session.execute("def f(): raise ValueError('\\u00c4rger \\U0001f40d')\nf()")
        assert any("in f" in note for note in caught.value.__notes__)
        with pytest.raises(ZeroDivisionError):
            await session.eval("lambda f: f()")(lambda: 1 // 0)
        with pytest.raises(MemoryError):
            await session.eval("bytearray(1 << 30)")
        assert await session.eval("6 * 7") == 42
    await trio.to_thread.run_sync(raise_in_blocking_code, lab.url)
    data = random.Random(6).randbytes(20_000)
    (tmp_path / "here").write_bytes(data)
    await on_the_board(lab, "put", tmp_path / "here", tmp_path / "there")
    await on_the_board(lab, "get", tmp_path / "there", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    async with lab.session() as session:
        await trio.to_thread.run_sync(lab.board.kill)
        with pytest.raises(gw.PeerRestarted, match=r"^board \(\S+ at 921600 baud\): it has started anew"):
            await session.execute("while True: pass")
    await usable(lab)


def raise_in_blocking_code(url: str) -> None:
    with gw.connect(url, node="board") as conn:
        conn.execute("class Odd(Exception): pass")
        with pytest.raises(Exception, match="very") as caught:
            conn.execute("raise Odd('very')")
        assert type(caught.value).__name__ == "Odd"
        with pytest.raises(ZeroDivisionError):
            conn.eval("lambda f: f()")(lambda: 1 // 0)


async def on_the_board(lab: Lab, verb: str, *paths: Path) -> None:
    await trio.run_process([*RPYC_GW, "device", verb, "--url", lab.url, "board", *map(str, paths)])


async def test_each_gateway_is_killed_in_the_middle_of_a_call(lab: Lab) -> None:
    async with lab.session() as session:
        with pytest.raises(gw.LinkLost):
            await session.eval(LOOPS)(lab.hq.kill)
    lab.hq = lab.start_hq()
    await usable(lab)
    async with lab.session() as session:
        with pytest.raises(gw.LinkLost):
            await session.eval(LOOPS)(lab.relay.kill)
    lab.relay = lab.start_relay()
    await usable(lab)


async def test_the_board_is_unplugged_in_a_callback_and_while_it_is_sent_much(lab: Lab) -> None:
    async with lab.session() as session:
        with pytest.raises(gw.LinkLost, match="is gone: it was unplugged"):
            await session.eval(LOOPS)(lab.line.unplug)
    lab.plug()
    async with lab.session() as session, trio.open_nursery() as nursery:
        nursery.start_soon(pull_after, lab, 20_000)
        with pytest.raises(gw.LinkLost, match="is gone: it was unplugged"):
            await session.eval("len")(b"x" * 300_000)
    await pull_after(lab, 0, 2000)  # of the agent, that is sent again
    lab.plug()
    await usable(lab)


async def pull_after(lab: Lab, *sent: int) -> None:
    """When so many bytes have gone to the board; plugged in in between."""
    for number, count in enumerate(sent):
        if number:
            lab.plug()
        before = lab.line.to_far.sent
        await wait_until(lambda wanted=before + count: lab.line.to_far.sent >= wanted)
        lab.line.unplug()


async def test_a_board_that_is_plugged_in_again_while_its_gateway_is_down_is_found_when_that_is_up(lab: Lab) -> None:
    async with lab.session() as session:
        with pytest.raises(gw.LinkLost):
            await session.eval(LOOPS)(lab.relay.kill)
    lab.line.unplug()
    lab.plug()
    lab.relay = lab.start_relay()
    await usable(lab)


async def test_of_two_laptops_one_vanishes_and_the_other_goes_on(lab: Lab) -> None:
    async with lab.session() as session, trio.open_nursery() as nursery:
        keep = await session.eval("[7]")
        other = lab.house.run("laptop", sys.executable, "-c", OTHER_LAPTOP, lab.url)
        await trio.to_thread.run_sync(other.wait_line, "it runs")
        answers: list[int] = []

        async def ask() -> None:
            answers.append(await keep[0])

        nursery.start_soon(ask)  # it waits for its turn
        other.kill()
    assert answers == [7]
    await usable(lab)


OTHER_LAPTOP = f"""
import sys
import rpyc_gateway as gw
with gw.connect(sys.argv[1], node="board") as conn:
    conn.eval({LOOPS!r})(lambda: print("it runs", file=sys.stderr, flush=True))
"""


async def test_a_board_that_floods_its_line_with_garbage_or_with_more_than_is_taken(lab: Lab) -> None:
    async with lab.session() as session:
        await session.execute(FLOOD)
        assert await session.namespace["flood"](200) == 200
        with pytest.raises(
            gw.ProtocolError,
            match="announces a message of 1200005 bytes; at most 1048576 are taken: ask for it in parts",
        ):
            await session.eval("b'x' * 1200000")
    await usable(lab)


# Control characters, beginnings of frames, halves of them, and ends of lines.
FLOOD = """
import sys
def flood(n):
    for k in range(n):
        sys.stdout.buffer.write(bytes([(k * 7 + i * 13) % 256 for i in range(256)]) + b"\\x1e\\x00\\x01}")
    return n
"""


async def test_a_noisy_line_changes_no_answer_and_a_reset_on_it_is_told(lab: Lab) -> None:
    lab.line.disturb(corrupt=0.001)
    async with lab.session() as session:
        double = await sure(lambda: session.eval("lambda f, n: f(n) + n"))
        for number in range(30):
            assert await sure(lambda number=number: double(lambda n: n, number)) == 2 * number
        turn = await sure(lambda: session.eval("lambda data: data[1:] + data[:1]"))
        assert await sure(lambda: turn(b"ab" * 2000)) == b"ba" * 2000
        lab.line.disturb(corrupt=0.001, toward="near")
        with pytest.raises(gw.PeerRestarted, match="started anew"):
            await session.eval(LOOPS)(lab.board.kill)
    lab.line.disturb()
    await usable(lab)


async def sure(ask: Callable[[], Any]) -> Any:
    """The answer; noise may make the key that interrupts a program of any byte, and that is told."""
    while True:
        try:
            return await ask()
        except gw.GatewayError as exc:
            if "KeyboardInterrupt" not in str(exc):
                raise
