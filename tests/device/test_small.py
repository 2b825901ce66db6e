"""Boards without the agent, driven by their REPL: MicroPython's unix port, which could have it, and a micro:bit, which could not."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from rpyc_gateway.device.anyboard import AnyBoard, BoardError
from rpyc_gateway.device.codec import Ref, Result
from rpyc_gateway.device.conversation import Primitive, Step
from rpyc_gateway.device.driver import open_board
from rpyc_gateway.device.small import Printed, SmallBoard
from rpyc_gateway.errors import EncodeError, LinkLost, PeerRestarted
from rpyc_gateway.testing.line import BadLine

from .boards import board_on, fake_board, microbit, needs_microbit, needs_micropython, pipe_to


@pytest.fixture(
    scope="module", params=[pytest.param("", marks=needs_micropython), pytest.param("microbit", marks=needs_microbit)]
)
def port(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where it is; "" for one that each test has for itself."""
    if not request.param:
        yield ""
        return
    with microbit() as port:
        yield port


@asynccontextmanager
async def a_board(port: str, **options: Any) -> AsyncIterator[AnyBoard]:
    with trio.fail_after(40):
        if port:
            async with pipe_to(port) as pipe, open_board(pipe, **options) as board:
                yield board
        else:
            async with fake_board() as (pipe, _), open_board(pipe, small=True, **options) as board:
                yield board


async def test_it_can_be_asked_what_any_board_can(port: str) -> None:
    async with a_board(port) as board:
        assert type(board) is SmallBoard
        assert await board.evaluate("1 + 1") == 2
        for value in (None, True, -(2**40), "é\n", b"\x00\xff", (1, ("a", ()))):
            assert await board.call(Primitive.SAME, value) == value
        await board.execute("class Led:\n level = 0\n def on(self, by=1):\n  self.level += by\n  return self.level")
        led = await board.call(await board.evaluate("Led"))
        assert isinstance(led, Ref)
        on = await board.call(Primitive.GETATTR, led, "on")
        assert await board.call(on) == 1
        assert await board.call(on, by=5) == 6
        await board.call(Primitive.SETATTR, led, "level", 9)
        steps = [Step(Primitive.GETATTR, (led, "on")), Step(Result(0), (3,))]
        assert await board.run(steps) == 12
        assert await board.evaluate("[1, {'a': 2}]", copy=True) == [1, {"a": 2}]


async def test_an_exception_comes_with_its_class_its_traceback_and_the_step(port: str) -> None:
    async with a_board(port) as board:
        steps = [Step(Primitive.EVAL, ("1",)), Step(Primitive.EVAL, ("[][5]",)), Step(Primitive.EVAL, ("2",))]
        with pytest.raises(BoardError) as caught:
            await board.run(steps)
        failure = caught.value.failure
        assert (failure.step, failure.kind) == (1, "IndexError")
        assert "Traceback" in failure.traceback
        with pytest.raises(BoardError) as caught:
            await board.execute("raise OSError(5)")
        assert (caught.value.failure.kind, caught.value.failure.errno) == ("OSError", 5)
        with pytest.raises(BoardError) as caught:
            await board.execute("this is no program")
        assert caught.value.failure.kind == "SyntaxError"
        assert await board.evaluate("'and it goes on'") == "and it goes on"


async def test_what_is_printed_is_shown_and_is_no_answer(port: str) -> None:
    shown: list[bytes] = []
    async with a_board(port, show=shown.append) as board:
        assert isinstance(board, SmallBoard)
        await board.execute(f"print('one')\nprint()\nprint('{board._mark}5')\nprint('no end', end='')")
        assert shown == [b"one", b"", f"{board._mark}5".encode(), b"no end"]
        assert await board.evaluate("print('value') or 7") == 7
        assert shown[-1] == b"value"


async def test_a_call_that_is_given_up_is_interrupted_and_the_next_one_is_right(port: str) -> None:
    async with a_board(port) as board:
        with trio.move_on_after(0.2) as scope:
            await board.execute("while True: pass")
        assert scope.cancelled_caught
        assert await board.evaluate("6 * 7") == 42


async def test_one_that_waits_is_given_up_without_any_trace(port: str) -> None:
    async with a_board(port) as board, trio.open_nursery() as nursery:
        await board.execute("done = []")
        nursery.start_soon(board.execute, "for n in range(20000): pass")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await board.execute("done.append('never')")
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_soon, scope)
            await board.execute("done.append('nor this')")
        assert await board.evaluate("len(done)") == 0


async def cancel_soon(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_objects_that_nobody_has_any_more_are_freed(port: str) -> None:
    async with a_board(port) as board:
        kept = [await board.evaluate("[]") for _ in range(5)]
        assert await board.evaluate("len(_go)") == 5
        del kept[1:]
        gc.collect()
        await board.evaluate("0")
        assert await board.evaluate("len(_go)") == 1


async def test_a_function_of_this_side_is_refused_in_words(port: str) -> None:
    async with a_board(port) as board:
        length = await board.evaluate("len")
        with pytest.raises(EncodeError, match="too small for the agent"):
            await board.call(length, print)
        assert await board.call(length, "abc") == 3


@needs_microbit
async def test_a_program_that_is_longer_than_its_heap_is_refused_here_as_its_repl_would_hang() -> None:
    with microbit() as port:
        async with a_board(port) as board:
            with pytest.raises(BoardError, match="MemoryError: a program of 8"):
                await board.execute(f"x = {'y' * 8000!r}")
            assert await board.evaluate("1 + 1") == 2


@needs_micropython
async def test_a_board_that_was_reset_is_another_one() -> None:
    async with fake_board() as (pipe, process), open_board(pipe, small=True) as board:
        thing = await board.evaluate("[]")
        process.kill()
        with pytest.raises(PeerRestarted):
            raise await board.wait_lost()
        with pytest.raises(PeerRestarted):
            await board.call(Primitive.REPR, thing)
    async with fake_board() as (pipe, _), open_board(pipe, small=True) as board:
        with pytest.raises(PeerRestarted, match="another life"):
            await board.call(Primitive.REPR, thing)


@needs_micropython
async def test_a_reset_in_a_call_is_told_to_the_caller() -> None:
    async with fake_board() as (pipe, process), open_board(pipe, small=True) as board, trio.open_nursery() as nursery:

        async def kill() -> None:
            await trio.testing.wait_all_tasks_blocked(0.1)
            process.kill()

        nursery.start_soon(kill)
        with pytest.raises(PeerRestarted, match="whether a call that was under way has been done is unknown"):
            await board.execute("while True: pass")


@needs_micropython
async def test_unplugging_says_so_to_everybody() -> None:
    with BadLine() as line, board_on(line.far):
        async with pipe_to(line.near) as pipe, open_board(pipe, small=True) as board, trio.open_nursery() as nursery:

            async def unplug() -> None:
                await trio.testing.wait_all_tasks_blocked(0.1)
                line.unplug()

            nursery.start_soon(unplug)
            with pytest.raises(LinkLost) as caught:
                await board.execute("while True: pass")
            assert not isinstance(caught.value, PeerRestarted)
            with pytest.raises(LinkLost):
                await board.evaluate("1")


async def test_it_is_at_its_prompt_when_it_is_let_go(port: str) -> None:
    if port:
        async with a_board(port):
            pass
        async with pipe_to(port) as pipe:
            await expect_prompt(pipe.stream)
        return
    async with fake_board() as (pipe, _):
        async with open_board(pipe, small=True) as board:
            with trio.move_on_after(0.05):
                await board.execute("while True: pass")
        await expect_prompt(pipe.stream)


async def expect_prompt(stream: trio.abc.Stream) -> None:
    said = b""
    await stream.send_all(b"6 * 7\r")
    while not said.endswith(b">>> "):
        said += await stream.receive_some(1000)
    assert b"42" in said


def test_an_answer_is_the_last_line_with_the_mark_however_it_comes_in_pieces() -> None:
    text = b"a\r\n\r\nM1\r\nb\r\nunended\r\nM'two'\r\n"
    for size in range(1, len(text) + 1):
        shown: list[bytes] = []
        printed = Printed(b"M", shown.append)
        for at in range(0, len(text), size):
            printed.hear(text[at : at + size])
        assert printed.end() == b"'two'"
        assert shown == [b"a", b"", b"M1", b"b", b"unended"]


def test_a_long_line_is_shown_in_pieces() -> None:
    shown: list[bytes] = []
    printed = Printed(b"M", shown.append)
    for _ in range(100):
        printed.hear(b"x" * 100)
    assert printed.end() is None
    assert b"".join(shown) == b"x" * 10_000
