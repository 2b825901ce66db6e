"""`rpyc-gw device watch`: numbers of a board, on a terminal and for other programs."""

from __future__ import annotations

import signal
import subprocess
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from rpyc_gateway.cli.onboard.interpreters import BoardFailed
from rpyc_gateway.cli.onboard.watches import watch
from tests.cli.boards import BOTH_WAYS, Here, open_board
from tests.cli.typist import at_a_terminal
from tests.device.boards import needs_micropython

COUNTER = "n = [0]\ndef f():\n n[0] += 1\n return n[0]"


@needs_micropython
@BOTH_WAYS
async def test_each_number_is_a_line_for_programs_and_a_character_for_people(way: str) -> None:
    async with open_board(way) as board:
        arguments = ("f()", "--before", COUNTER, "--every", "0.01", "--count", "3")
        assert await board.ask("watch", *arguments) == (0, "1\n2\n3\n", "")

        def story() -> None:
            with at_a_terminal(board.command("watch", *arguments), LC_ALL="C.UTF-8", COLUMNS="80") as typist:
                code, seen = typist.see_end()
                assert code == 0
                assert seen.endswith("\r▁ 1  min 1  max 1\r▁█ 2  min 1  max 2\r▁▅█ 3  min 1  max 3\n")

        await trio.to_thread.run_sync(story)


@needs_micropython
@BOTH_WAYS
async def test_what_is_no_number_or_nothing_at_all_is_told(way: str) -> None:
    async with open_board(way) as board:
        for expression, told in [
            ("'ab' * 2", "'ab' * 2 is 'abab', which is no number that can be drawn"),
            ("[1]", "[1] is an object, which is no number that can be drawn"),
            ("None", "None is None, which is no number that can be drawn"),
            ("missing", "NameError: name 'missing' isn't defined"),
            ("0 - 10 ** 400", "0 - 10 ** 400 is an int of more than 300 digits, which is no number that can be drawn"),
            ("1 +", "SyntaxError: invalid syntax"),
        ]:
            assert await board.ask("watch", expression) == (1, "", f"rpyc-gw: {board.target[-1]}: {told}\n")
        assert (await board.ask("watch", "1", "--every", "-1"))[0] == 2


@needs_micropython
async def test_ctrl_c_ends_it_and_a_lost_board_too() -> None:
    async with open_board("port") as board, trio.open_nursery() as nursery:
        for end, code in [(lambda process: process.send_signal(signal.SIGINT), 130), (lambda _: board.fake.kill(), 69)]:
            command = board.command("watch", "True", "--every", "0.01")
            process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.PIPE, check=False))
            assert (await process.stdout.receive_some()).startswith(b"1\n")
            end(process)
            assert await process.wait() == code


class Slow(Here):
    """A board that takes its time for each number."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = iter(seconds)

    async def call(self, function: Any, *args: Any) -> Any:
        if args:
            return await super().call(function, *args)
        await trio.sleep(next(self._seconds))
        return trio.current_time()


async def test_numbers_come_at_the_beat_and_what_is_missed_is_left_out(autojump_clock: MockClock) -> None:
    begun = trio.current_time()
    seen: list[float] = []
    await watch(Slow(0, 0.5, 2.5, 0, 0), "1", "", seen.append, every=1, times=5)
    assert [round(time - begun, 6) for time in seen] == [0, 1.5, 4.5, 5, 6]


async def test_an_error_on_the_way_ends_it() -> None:
    with pytest.raises(BoardFailed, match="ZeroDivisionError"):
        await watch(Here(), "1 / len(xs.pop() or '')", "xs = ['', 'a']", lambda _: None, every=0)
