"""Source into a board over lines that change bytes: what arrives damaged is not run, and comes again."""

from __future__ import annotations

import pytest
import trio

from rpyc_gateway.device import uploading
from rpyc_gateway.device.driver import open_board
from rpyc_gateway.device.repl import Repl, ReplFailed
from rpyc_gateway.device.uploading import literal, upload
from rpyc_gateway.errors import DialFailed
from rpyc_gateway.testing.line import BadLine

from .boards import board_on, fake_board, needs_micropython, pipe_to

pytestmark = needs_micropython

PARTS = [f"done = {done}\n" + f"name_{done} = '{'x' * 200}'\n" * 4 for done in range(1, 6)]


@pytest.mark.parametrize("how", [{}, {"checked": False}, {"packed": True}], ids=["checked", "unchecked", "packed"])
async def test_each_part_is_run_once_and_in_order(how: dict[str, bool]) -> None:
    told: list[tuple[int, int]] = []
    async with fake_board() as (pipe, _):
        repl = Repl(pipe.stream, pipe.peer)
        await repl.find()
        await upload(repl, ["x = [1]\n", "x.append(2)\n"], lambda *now: told.append(now), **how)
        assert await repl.run("print(x)") == b"[1, 2]\r\n".replace(b"\r", b"")
        assert told == [(8, 20), (20, 20)]


async def test_what_the_board_has_against_a_part_is_told_with_its_number() -> None:
    async with fake_board("30k") as (pipe, _):
        repl = Repl(pipe.stream, pipe.peer)
        await repl.find()
        with pytest.raises(ReplFailed, match=r"part 2 of 2: the board: [^$]*MemoryError"):
            await upload(repl, ["x = 1\n", "x = bytearray(10**6)\n"])


async def test_what_is_packed_takes_less_of_the_line_where_a_board_can_unpack(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sent() -> int:
        async with fake_board() as (pipe, _):
            count = 0
            send_all = pipe.stream.send_all

            async def counting(data: bytes) -> None:
                nonlocal count
                count += len(data)
                await send_all(data)

            monkeypatch.setattr(pipe.stream, "send_all", counting)
            repl = Repl(pipe.stream, pipe.peer)
            await repl.find()
            await upload(repl, [*PARTS, "süß = '🐍' * 9\n"], packed=True)
            assert (await repl.run("print(done, süß)")).decode() == "5 " + "🐍" * 9 + "\n"
            return count

    less = await sent()
    monkeypatch.setattr(uploading, "UNPACKER", uploading.UNPACKER.replace("from deflate", "from no_such_thing"))
    assert less < await sent() / 2


@pytest.mark.parametrize(("seed", "packed"), [(0, False), (1, False), (2, True)])
async def test_on_a_noisy_line_all_of_it_arrives_as_it_was(seed: int, packed: bool) -> None:  # noqa: FBT001
    with BadLine(921600, seed=seed, corrupt=0.001) as line, board_on(line.far):
        async with pipe_to(line.near, rate=92160) as pipe:
            repl = Repl(pipe.stream, pipe.peer, rate=pipe.rate)
            await repl.find()
            await upload(repl, PARTS, packed=packed)
            line.disturb()
            await repl.find()
            said = await repl.run("print(done, [name_1, name_2, name_3, name_4, name_5] == ['x' * 200] * 5)")
            assert said.split() == [b"5", b"True"]


async def test_with_one_damaged_byte_in_a_hundred_it_arrives_in_pieces() -> None:
    with BadLine(921600, seed=1) as line, board_on(line.far):
        async with pipe_to(line.near, rate=92160) as pipe:
            repl = Repl(pipe.stream, pipe.peer, rate=pipe.rate)
            await repl.find()
            line.disturb(corrupt=0.01)
            await upload(repl, ["first = 1\nsecond = '" + "y" * 100 + "'\n"])
            line.disturb()
            await repl.find()
            assert await repl.run("print(first, second == 'y' * 100)") == b"1 True\n"


async def test_a_line_that_changes_everything_is_said_to() -> None:
    with BadLine(921600, seed=1, corrupt=0.2) as line, board_on(line.far), trio.fail_after(40):
        async with pipe_to(line.near, rate=92160) as pipe:
            with pytest.raises(DialFailed):
                async with open_board(pipe):
                    pass


@pytest.mark.parametrize("source", ["x = 1\n", "x = '''a'''\n", "x = 'a'", "x = 1\\\n", "x = r'\\n'\n"])
def test_a_part_as_a_literal_is_what_it_was(source: str) -> None:
    assert eval(literal(source)) == source
