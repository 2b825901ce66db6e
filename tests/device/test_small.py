"""Boards without the agent, driven by their REPL: MicroPython's unix port, which could have it, and a micro:bit, which could not."""

from __future__ import annotations

import gc
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio

from rpyc_gateway.device.anyboard import AnyBoard, BoardError
from rpyc_gateway.device.board import Event
from rpyc_gateway.device.codec import Ref, Result
from rpyc_gateway.device.conversation import Primitive, Step
from rpyc_gateway.device.driver import open_board
from rpyc_gateway.device.small import SmallBoard
from rpyc_gateway.errors import EncodeError, LinkLost, PeerRestarted, ProtocolError
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


async def test_functions_of_this_side_are_called_and_answer(port: str) -> None:
    async with a_board(port) as board:
        await board.execute("def twice(f):\n return f(1) + f(2, by=3)")
        twice = await board.evaluate("twice")
        assert await board.call(twice, lambda x, by=1: x * by * 10) == 70
        assert await board.call(twice, Late().answer) == 3
        with pytest.raises(BoardError, match="ValueError: süß") as caught:
            await board.call(twice, fail)
        assert "in twice" in caught.value.failure.traceback
        with pytest.raises(BoardError, match=r"TypeError: .* plain values only"):
            await board.call(await board.evaluate("lambda f: f(f)"), print)
        length = await board.evaluate("lambda f: len(f())")
        assert await board.call(length, lambda: [1, {"a": "é\n"}]) == 2
        assert await board.call(await board.evaluate("lambda f: f()()"), lambda: lambda: "of another") == "of another"


class Late:
    async def answer(self, x: int, by: int = 2) -> int:
        await trio.lowlevel.checkpoint()
        return x if by == 2 else by - 1


def fail(*_: object) -> None:
    raise ValueError("süß")


async def test_a_call_that_is_given_up_in_its_callback_leaves_the_board_as_it_was(port: str) -> None:
    async with a_board(port) as board:
        call = await board.evaluate("lambda f: f()")
        with trio.CancelScope() as scope:

            async def give_up() -> None:
                scope.cancel()
                await trio.sleep_forever()

            await board.call(call, give_up)
        assert await board.call(call, lambda: 42) == 42


async def test_a_callback_that_asks_the_board_is_refused_as_that_would_wait_for_ever(port: str) -> None:
    async with a_board(port) as board:
        call = await board.evaluate("lambda f: f()")
        with pytest.raises(BoardError, match="waits for the answer to a callback, and can be asked nothing until then"):
            await board.call(call, lambda: board.evaluate("1"))
        assert await board.evaluate("1") == 1


async def test_an_event_is_refused_in_words(port: str) -> None:
    async with a_board(port) as board:
        with pytest.raises(EncodeError, match="without the agent, by its REPL: no events"):
            await board.call(Primitive.SAME, Event(print))


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


# -- a line that damages what it carries


class Line(trio.abc.Stream):
    """Passes bytes on, and notes what is sent; what the board says first of `lost` is something else, then it is itself again."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.sent = b""
        self.changes: list[tuple[bytes, bytes]] = []
        self.extra = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = bytes(await self._stream.receive_some(max_bytes))
        while any(begins_at_the_end(change[0], data) for change in self.changes):  # it may come in two pieces
            data += bytes(await self._stream.receive_some(max_bytes))
        for change in list(self.changes):
            if change[0] in data:
                self.changes.remove(change)
                data = data.replace(*change, 1)
        return data or await self.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


def begins_at_the_end(what: bytes, data: bytes) -> bool:
    return what not in data and any(data.endswith(what[:size]) for size in range(1, len(what)))


@asynccontextmanager
async def damaged(*, rate: float = math.inf, **options: Any) -> AsyncIterator[tuple[AnyBoard, Line]]:
    with trio.fail_after(40):
        async with fake_board() as (pipe, _):
            line = Line(pipe.stream)
            async with open_board(replace(pipe, stream=line, rate=rate), small=True, **options) as board:
                yield board, line


@needs_micropython
@pytest.mark.parametrize("end", [b"\x04\x04>", b"\x04", b"\x04>", b">"])
async def test_an_end_that_is_lost_is_an_error_and_the_board_goes_on(
    end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpyc_gateway.device.repl.SILENCE", 0.05)
    monkeypatch.setattr("rpyc_gateway.device.repl.STEP", 0.2)
    async with damaged() as (board, line):
        line.changes = [(end, b"")]
        with pytest.raises(ProtocolError, match="whether the call has been done is unknown"):
            await board.evaluate("6 * 7")
        assert not line.changes
        assert await board.evaluate("6 * 7") == 42


@needs_micropython
async def test_the_end_of_one_that_was_given_up_may_be_lost_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpyc_gateway.device.repl.SILENCE", 0.05)
    async with damaged() as (board, line):
        with trio.CancelScope() as scope, trio.fail_after(20):

            def give_up() -> None:
                line.changes = [(b"\x04", b""), (b"\x04", b"")]
                scope.cancel()

            await board.call(await board.evaluate("lambda f: f()"), give_up)
        assert await board.evaluate("6 * 7") == 42


@needs_micropython
async def test_a_board_whose_ok_is_damaged_is_not_lost() -> None:
    async with damaged() as (board, line):
        kept = await board.evaluate("[1]")
        line.changes = [(b"OK", b"Ok")]
        with pytest.raises(ProtocolError, match=r"instead of OK .* whether the call has been done is unknown"):
            await board.evaluate("6 * 7")
        assert await board.call(await board.evaluate("len"), kept) == 1


@needs_micropython
async def test_a_traceback_that_is_none_is_no_exception_of_the_board() -> None:
    async with damaged() as (board, line):
        line.changes = [(b"ZeroDivisionError: ", b"Zero\xffivisionError: ")]
        with pytest.raises(ProtocolError, match="is no exception"):
            await board.evaluate("1 / 0")
        assert await board.evaluate("6 * 7") == 42


@needs_micropython
async def test_a_call_of_the_board_that_arrives_damaged_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpyc_gateway.device.repl.SILENCE", 0.05)
    async with damaged() as (board, line):
        call = await board.evaluate("lambda f: f()")
        await board.call(call, int)
        assert isinstance(board, SmallBoard)
        line.changes = [(b"\n" + board._mark.encode() + b"!", b"\n?" + board._mark.encode() + b"!")]
        with pytest.raises(BoardError):
            await board.call(call, int)
        assert await board.call(call, int) == 0


@needs_micropython
async def test_what_all_programs_need_is_sent_again_if_it_arrives_damaged() -> None:
    async with fake_board() as (pipe, _):
        line = Line(pipe.stream)
        line.changes = [(b"_go[n]=x", b"_go[m]=x")]
        async with open_board(replace(pipe, stream=line), small=True) as board:
            assert not line.changes
            assert isinstance(await board.evaluate("[]"), Ref)


@needs_micropython
async def test_the_key_is_not_pressed_before_all_of_a_program_was_sent() -> None:
    """What comes after it would be run as a program of its own."""
    async with damaged(rate=20_000) as (board, line):
        await board.execute("done = []")
        line.sent = b""
        with trio.move_on_after(0.02) as scope:
            await board.execute("while True: pass\n" + "#" * 2000 + "\ndone.append(1)")
        assert scope.cancelled_caught
        assert await board.evaluate("len(done)") == 0
        assert b"\x03" not in line.sent[: line.sent.index(b"_ga(None")]


@needs_micropython
async def test_what_is_printed_while_nothing_was_asked_is_shown_and_in_nobodys_way() -> None:
    shown: list[bytes] = []
    async with damaged(show=shown.append) as (board, line):
        assert await board.evaluate("1") == 1
        line.changes = [(b"OK", b"")]
        await line.send_all(b"print('ticks')\x04")
        while shown != [b"ticks"]:  # noqa: ASYNC110  # a list sets no event
            await trio.sleep(0.001)
        assert await board.evaluate("6 * 7") == 42
