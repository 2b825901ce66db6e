"""The raw REPL, found from whatever state a board is in: MicroPython's unix port, and scripted boards that are older or worse."""

from __future__ import annotations

import pytest
import trio
from trio.testing import memory_stream_pair

from rpyc_gateway.device.repl import Platform, Repl, ReplFailed
from rpyc_gateway.errors import DialFailed

from .boards import fake_board, needs_micropython

STATES = {
    "the friendly prompt": b"",
    "half a command": b"print('abc",
    "the second line of a block": b"def f():\r",
    "brackets that were opened": b"((((",
    "a running program": b"while True: pass\r",
    "a program that prints": b"while True: print('noise')\r",
    "a program that waits for input": b"input()\r",
    "a program that sleeps": b"import time; time.sleep(100)\r",
    "paste mode": b"\x05x = 1",
    "the raw prompt": b"\r\x01",
    "the raw prompt, with half a command": b"\r\x01print(",
    "the middle of a raw paste": b"\r\x01\x05A\x01x = ",
    "a program in raw mode": b"\r\x01while True: pass\x04",
}


@needs_micropython
@pytest.mark.parametrize("state", STATES)
async def test_it_is_found_from(state: str) -> None:
    async with fake_board() as (pipe, _):
        repl = Repl(pipe.stream, pipe.peer)
        await repl.find()
        await repl.leave()
        await pipe.stream.send_all(STATES[state])
        with trio.move_on_after(0.1):
            while True:
                await pipe.stream.receive_some()
        repl = Repl(pipe.stream, pipe.peer)
        await repl.find()
        assert await repl.run("print(6 * 7)") == b"42\n"
        await repl.leave()


@needs_micropython
async def test_it_says_what_it_is_and_what_went_wrong() -> None:
    async with fake_board() as (pipe, _):
        repl = Repl(pipe.stream, pipe.peer)
        await repl.find()
        platform = await repl.probe()
        assert (platform.implementation, platform.platform, platform.binary) == ("micropython", "linux", True)
        assert platform.free > 1_000_000
        with pytest.raises(ReplFailed, match="ZeroDivisionError"):
            await repl.run("1 / 0")
        long = "x = '" + "y" * 5000 + "'\nprint(len(x))"
        assert await repl.run(long) == b"5000\n"


class Scripted:
    """A board that answers each thing that it is told as this table says; what is not in it, by nothing."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self.answers = answers
        self.told = b""
        self.near, self.far = memory_stream_pair()

    async def run(self) -> None:
        pending = b""
        while data := bytes(await self.far.receive_some()):
            self.told += data
            pending += data
            for asked, answer in self.answers.items():
                if pending.endswith(asked):
                    pending = b""
                    await self.far.send_all(answer)
                    break


BANNER = b"raw REPL; CTRL-B to exit\r\n>"
OLD = {b"\r\x01": BANNER, b"\x05A\x01": BANNER, b"\x04": b"OK42\r\n\x04\x04>"}
NEW_WITHOUT = {b"\r\x01": BANNER, b"\x05A\x01": b"R\x00", b"\x04": b"OK42\r\n\x04\x04>"}


@pytest.mark.parametrize("answers", [OLD, NEW_WITHOUT], ids=["too old for raw paste", "new, and without"])
async def test_plain_raw_mode_is_the_fallback_and_goes_no_faster_than_the_line(
    answers: dict[bytes, bytes], autojump_clock: trio.testing.MockClock
) -> None:
    board = Scripted(answers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.run)
        repl = Repl(board.near, "the board", rate=1000)
        await repl.find()
        start = trio.current_time()
        assert await repl.run("x" * 500) == b"42\r\n"
        assert trio.current_time() - start >= 0.48  # nobody has to wait behind the last 32 bytes
        asked = board.told.count(b"\x05A\x01")
        await repl.run("y")
        assert board.told.count(b"\x05A\x01") == asked == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({}, "nothing came from it"),
        ({b"\x03\x03\x03": b"tick\r\ntick\r\n"}, "does not stop for Ctrl-C"),
        ({b"\x03\x03\x03": b"\r\n>>> "}, "its prompt is there"),
    ],
)
async def test_a_board_that_does_not_come_to_its_prompt_is_said_to(
    answers: dict[bytes, bytes], why: str, autojump_clock: trio.testing.MockClock
) -> None:
    board = Scripted(answers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.run)
        with pytest.raises(DialFailed, match=why):
            await Repl(board.near, "the board").find()
        nursery.cancel_scope.cancel()


async def test_what_a_board_says_instead_is_in_the_error(autojump_clock: trio.testing.MockClock) -> None:
    board = Scripted({b"\r\x01": BANNER, b"\x05A\x01": b"R\x00", b"\x04": b"NO"})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.run)
        repl = Repl(board.near, "the board")
        await repl.find()
        with pytest.raises(DialFailed, match="instead of OK"):
            await repl.run("1")
        board.answers[b"\x04"] = b""
        with pytest.raises(DialFailed, match="nothing more came for 5 s when source was sent"):
            await repl.run("1")
        await board.near.aclose()
        with pytest.raises(DialFailed, match="the board"):
            await repl.run("1")
        nursery.cancel_scope.cancel()


def test_a_platform_is_what_it_prints() -> None:
    assert Platform("circuitpython", "9.0.0", "rp2040", 150_000, False, False, 1).usb  # noqa: FBT003  # as it is printed
