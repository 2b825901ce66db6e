"""A board from plugging in to letting go: MicroPython's unix port on a pty, and what can happen to it."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from rpyc_gateway.device import driver
from rpyc_gateway.device.board import Board, BoardError, Event
from rpyc_gateway.device.codec import Ref, Result
from rpyc_gateway.device.conversation import Primitive, Step
from rpyc_gateway.device.driver import forget_earlier, open_board, start
from rpyc_gateway.device.repl import Repl
from rpyc_gateway.device.small import SmallBoard
from rpyc_gateway.device.source import agent_names
from rpyc_gateway.errors import DialFailed, EncodeError, LinkLost, PeerRestarted
from rpyc_gateway.testing.line import BadLine
from rpyc_gateway.transport import Buffer, Pipe

from .boards import board_on, fake_board, needs_micropython, pipe_to

pytestmark = needs_micropython


@asynccontextmanager
async def a_board(heap: str = "", **options: Any) -> AsyncIterator[Board]:
    async with fake_board(heap) as (pipe, _):
        with trio.fail_after(60):
            async with open_board(pipe, **options) as board:
                yield board


async def says(pipe: Pipe, source: bytes) -> bytes:
    """What the friendly REPL answers."""
    await pipe.stream.send_all(source + b"\r")
    said = b""
    with trio.fail_after(5):
        while not said.endswith(b">>> "):
            said += await pipe.stream.receive_some()
    return said


async def test_nothing_is_installed_and_it_can_be_called() -> None:
    done: list[tuple[int, int]] = []
    async with a_board(progress=lambda *now: done.append(now)) as board:
        assert board.platform.implementation == "micropython"
        assert await board.evaluate("1 + 1") == 2
        await board.execute("def f(*a, **k): return a, sorted(k.items())\nxs = [1, {'k': 2.5}]")
        f = await board.evaluate("f")
        assert isinstance(f, Ref)
        assert await board.call(f, 1, "süß", b"\x03\r\n", None, -(10**30), copy=True, b=(True,)) == (
            (1, "süß", b"\x03\r\n", None, -(10**30)),
            [("b", (True,))],
        )
        assert await board.evaluate("xs", copy=True) == [1, {"k": 2.5}]
        assert isinstance(await board.evaluate("xs"), Ref)
        assert await board.evaluate("3.25") == 3.25
        assert math.isnan(await board.evaluate("float('nan')"))
    assert done[-1][0] == done[-1][1] == sum({all_ for _, all_ in done})


async def test_it_is_at_its_prompt_again_when_it_is_let_go() -> None:
    async with fake_board() as (pipe, _):
        async with open_board(pipe) as board:
            await board.execute("x = 5")
        assert b"\n4\n>>> " in await says(pipe, b"2 + 2")
        async with open_board(pipe) as board:
            assert await board.evaluate("1") == 1


async def test_it_is_at_its_prompt_again_when_it_is_let_go_in_the_middle_of_a_loop() -> None:
    async with fake_board() as (pipe, _):
        with trio.move_on_after(0.2):
            async with open_board(pipe) as board:
                await board.execute("while True: pass")
        assert b"\n4\n>>> " in await says(pipe, b"2 + 2")


async def test_a_chain_of_steps_is_one_message_each_way() -> None:
    async with a_board() as board:
        await board.execute("class Pin:\n def __init__(s, n): s.n = n\n def value(s): return s.n * 2")
        steps = [
            Step(Primitive.EVAL, ("Pin",)),
            Step(Result(0), (21,)),
            Step(Primitive.GETATTR, (Result(1), "value")),
            Step(Result(2)),
        ]
        before = board.line.statistics().frames_out
        assert await board.run(steps) == 42
        assert board.line.statistics().frames_out == before + 1


async def test_an_exception_says_what_the_board_said() -> None:
    async with a_board() as board:
        with pytest.raises(BoardError, match="ENOENT") as caught:
            await board.evaluate("open('/missing')")
        assert caught.value.failure.kind == "OSError"
        assert caught.value.failure.errno == 2
        assert "Traceback" in caught.value.failure.traceback
        with pytest.raises(BoardError, match="süß"):
            await board.execute("raise ValueError('süß')")
        with pytest.raises(BoardError, match="SyntaxError"):
            await board.execute("def")
        with pytest.raises(BoardError, match="SystemExit"):
            await board.execute("raise SystemExit")
        assert await board.evaluate("1") == 1


async def test_callbacks_may_be_async_and_call_the_board_again() -> None:
    async with a_board() as board:
        await board.execute("def down(n, call): return 0 if n < 1 else call(n - 1, call) + 1")
        down = await board.evaluate("down")

        async def back(n: int, again: Any) -> int:
            assert again is back
            result = await board.call(down, n, back)
            assert isinstance(result, int)
            return result

        assert await board.call(down, 8, back) == 8

        def fails() -> None:
            raise KeyError("not here")

        await board.execute("def f(call):\n try: call()\n except KeyError as e: return 'caught'")
        assert await board.call(await board.evaluate("f"), fails) == "caught"
        await board.execute("def g(call): return call()")
        with pytest.raises(BoardError, match="cannot be sent"):
            await board.call(await board.evaluate("g"), lambda: object())


async def test_events_come_in_order_without_being_asked_for() -> None:
    got: list[int] = []
    enough = trio.Event()

    def heard(n: int) -> None:
        got.append(n)
        if n == 29:
            enough.set()

    async with a_board() as board:
        await board.execute("def many(event, n):\n for i in range(n): event(i)")
        many = await board.evaluate("many")
        await board.call(many, Event(heard), 30)
        with trio.fail_after(5):
            await enough.wait()
        assert got == list(range(30))
        await board.call(many, Event(got.append), 132)
        with trio.fail_after(5):
            while board.dropped < 100:
                await board.evaluate("1")
        assert board.dropped == 100


async def test_what_it_prints_is_shown_line_by_line() -> None:
    shown: list[bytes] = []
    async with a_board(show=shown.append) as board:
        await board.execute("for i in range(300): print('line', i)")
        await board.execute("import sys\nsys.stdout.buffer.write(bytes(range(256)))\nprint()")
        assert await board.evaluate("2") == 2
    assert shown[:300] == [b"line %d" % i for i in range(300)]


async def test_who_cancels_a_call_interrupts_the_board() -> None:
    async with a_board() as board:
        for _ in range(5):
            with trio.move_on_after(0.05) as scope:
                await board.execute("while True: pass")
            assert scope.cancelled_caught
            assert await board.evaluate("'alive'") == "alive"


async def test_a_call_that_waits_behind_one_that_is_cancelled_is_done() -> None:
    async with a_board() as board:
        await board.execute("n = 0\ndef loop():\n while True: pass\ndef count():\n global n\n n += 1\n return n")
        loop, count = await board.evaluate("loop"), await board.evaluate("count")
        results: list[int] = []

        async def ask() -> None:
            results.append(await board.call(count))

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.05):
                await board.call(loop)
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert sorted(results) == [1, 2]


async def test_objects_that_nobody_has_any_more_are_freed() -> None:
    async with a_board() as board:
        await board.execute("import gc\ndef big(): return bytearray(100000)")
        big = await board.evaluate("big")
        for _ in range(50):  # in a heap of 2 MB
            thing = await board.call(big)
            assert thing.number < 20
            del thing


async def test_many_tasks_may_ask_at_once() -> None:
    async with a_board() as board:
        await board.execute("def f(x): return x * 2")
        f = await board.evaluate("f")
        results: dict[int, int] = {}

        async def ask(n: int) -> None:
            results[n] = await board.call(f, n)

        async with trio.open_nursery() as nursery:
            for n in range(200):
                nursery.start_soon(ask, n)
        assert results == {n: 2 * n for n in range(200)}


async def test_large_values_go_both_ways() -> None:
    async with a_board() as board:
        data = bytes(range(256)) * 200
        assert await board.call(Primitive.SAME, data) == data


async def test_a_message_beyond_the_heap_fails_and_the_next_call_works() -> None:
    async with a_board("64k") as board:
        with pytest.raises(BoardError, match=r"MemoryError: a message of 300\d\d bytes$"):
            await board.call(Primitive.SAME, b"x" * 30_000)
        with pytest.raises(BoardError, match="MemoryError"):
            await board.execute("x = bytearray(10000000)")
        assert await board.evaluate("1 + 1") == 2


async def test_a_message_that_cannot_fit_its_heap_is_not_sent() -> None:
    """It would be under way for minutes, and then be refused."""
    async with a_board("64k") as board:
        before = board.line.statistics().bytes_out
        with pytest.raises(
            BoardError, match=r"MemoryError: a message of 2000\d\d bytes, for a board that had \d{5} free"
        ):
            await board.call(Primitive.SAME, b"x" * 200_000)
        assert board.line.statistics().bytes_out == before
        long = await board.evaluate("lambda f: len(f())")
        with pytest.raises(BoardError, match="MemoryError: a message of 2000"):
            await board.call(long, lambda: b"x" * 200_000)
        assert await board.evaluate("1 + 1") == 2


@pytest.mark.parametrize("noise", [0, 0.01])
async def test_a_board_that_is_reset_while_a_long_message_is_sent_is_another_one(noise: float) -> None:
    with BadLine(921_600) as line, board_on(line.far) as process, trio.fail_after(60):
        async with pipe_to(line.near, rate=92_160) as pipe, open_board(pipe) as board, trio.open_nursery() as nursery:
            line.disturb(corrupt=noise)

            async def reset() -> None:
                begun = line.to_far.sent
                while line.to_far.sent < begun + 5000:  # noqa: ASYNC110  # a line sets no event
                    await trio.sleep(0.001)
                process.kill()

            nursery.start_soon(reset)
            with pytest.raises(PeerRestarted):
                await board.call(Primitive.SAME, b"x" * 200_000)


async def test_a_value_that_no_board_takes_is_refused_here() -> None:
    async with a_board() as board:
        with pytest.raises(EncodeError):
            await board.call(Primitive.SAME, 1j)
        assert await board.evaluate("1") == 1


@pytest.mark.parametrize("heap", ["24k", "26k", "32k"])
async def test_a_small_heap_is_enough(heap: str) -> None:
    async with a_board(heap) as board:
        assert await board.evaluate("1 + 1") == 2
        await board.execute("def f(x): return x + 1")
        f = await board.evaluate("f")
        assert [await board.call(f, n) for n in range(100)] == list(range(1, 101))


@pytest.mark.parametrize("heap", ["24k", "36k", "44k"])
async def test_a_small_heap_is_enough_again_and_again(heap: str) -> None:
    """The agent of the front before is still there, and there is no room for two."""
    async with fake_board(heap) as (pipe, _):
        for number in range(4):
            async with open_board(pipe) as board:
                assert isinstance(board, Board)
                assert await board.evaluate(f"{number} * 2") == 2 * number


async def test_what_others_have_called_as_the_agent_calls_its_own_stays() -> None:
    name = agent_names("console", "micropython", "core", "callbacks")[0]
    async with fake_board("40k") as (pipe, _):
        async with open_board(pipe, small=True) as board:
            await board.execute(f"{name} = g = n = 5")
        repl = Repl(pipe.stream, pipe.peer)
        await repl.find()
        await forget_earlier(repl, await repl.probe())
        assert (await repl.run(f"print({name}, g, n)")).strip() == b"5 5 5"
        await repl.leave()


async def test_a_board_whose_heap_is_filled_says_so_and_can_be_had_again() -> None:
    async with fake_board("64k") as (pipe, _):
        async with open_board(pipe) as board:
            await board.execute("hog = []")
            with pytest.raises(BoardError):
                await board.execute("while True: hog.append(bytearray(64))")
            with trio.fail_after(20), suppress(BoardError, PeerRestarted):  # and not nothing for ever
                await board.evaluate("1")
        async with open_board(pipe) as board:
            assert await board.evaluate("1 + 1") == 2


async def test_a_heap_that_is_too_small_for_the_agent_is_driven_without_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "rpyc_gateway.device.driver")
    async with fake_board("12k") as (pipe, _):
        async with open_board(pipe) as board:
            assert type(board) is SmallBoard
            assert await board.evaluate("1 + 1") == 2
        assert "bytes free, and the agent needs" in caplog.text
        assert b"\n4\n>>> " in await says(pipe, b"2 + 2")


# -- what happens to boards


async def test_a_board_that_is_reset_in_a_call_is_said_to_be_and_can_be_had_again() -> None:
    async with fake_board() as (pipe, fake):
        async with open_board(pipe) as board:
            thing = await board.evaluate("[]")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, fake.kill)
                with pytest.raises(PeerRestarted, match="started anew"), trio.fail_after(10):
                    await board.execute("while True: pass")
            with pytest.raises(PeerRestarted):
                await board.call(Primitive.REPR, thing)
        async with open_board(pipe) as board:
            assert await board.evaluate("1 + 1") == 2
            with pytest.raises(PeerRestarted, match="another life"):
                await board.call(Primitive.REPR, thing)


async def test_an_agent_whose_front_has_vanished_is_found_and_ended() -> None:
    async with fake_board() as (pipe, _):
        repl = Repl(pipe.stream, pipe.peer)
        await repl.find()
        await start(repl, pipe, None, None)
        async with open_board(pipe) as board:
            assert await board.evaluate("1 + 1") == 2


async def test_an_idle_board_that_is_reset_is_noticed() -> None:
    async with fake_board() as (pipe, fake):
        async with open_board(pipe) as board:
            await trio.to_thread.run_sync(fake.kill)
            with trio.fail_after(5):
                await board.wait_lost()
            assert isinstance(board.lost, PeerRestarted)


@pytest.mark.parametrize(
    "prompt", [b">>> ", b"... ", b"raw REPL; CTRL-B to exit\r\n>", b">>> #}A", b">>> #}A}B\r\n"], ids=repr
)
async def test_a_banner_and_a_prompt_are_a_restart_at_once(prompt: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpyc_gateway.device.doubt.VERDICT", 600.0)
    with BadLine(math.inf) as line, board_on(line.far) as fake:
        async with pipe_to(line.near) as pipe, open_board(pipe) as board:
            assert await board.evaluate("1") == 1  # it has said all that it had to say
            os.kill(fake.pid, signal.SIGSTOP)
            with open(line.far, "wb", buffering=0) as port:  # noqa: ASYNC230
                port.write(b"\r\nMicroPython v1.26.0 on 2026-01-01; linux\r\n" + prompt)
            with trio.fail_after(5):
                await board.wait_lost()
            assert isinstance(board.lost, PeerRestarted)
            os.kill(fake.pid, signal.SIGCONT)


async def test_a_program_that_prints_a_banner_is_no_restart() -> None:
    async with a_board() as board:
        await board.execute("print('MPY: soft reboot')\nprint('>>> ', end='')")
        assert await board.evaluate("1") == 1
        assert board.lost is None


@pytest.mark.parametrize("noise", [0, 0.001, 0.01])
@pytest.mark.parametrize(
    "printed",
    [
        "MicroPython v1.2 on 2014-08-01; linux",
        ">>> 1 + 1\n2\n>>> # as a person types it",
        ">>> #as nobody does",
        "raw REPL; CTRL-B to exit",
    ],
)
async def test_a_program_that_prints_a_banner_and_then_computes_is_no_restart(
    printed: str, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpyc_gateway.device.doubt.VERDICT", 0.02)
    monkeypatch.setattr("rpyc_gateway.device.doubt.PROOF", 0.01)
    with BadLine(921_600, seed=3) as line, board_on(line.far), trio.fail_after(60):
        async with pipe_to(line.near, rate=92_160) as pipe, open_board(pipe) as board:
            line.disturb(corrupt=noise, toward="near")  # toward the board it may make the key
            for _ in range(3):
                assert await board.call(await board.evaluate(COMPUTES), printed) == 42


COMPUTES = "lambda text: (print(text), [n for n in range(10) for m in range(200_000) if m < 0], 42)[2]"


async def test_a_restart_whose_prompt_was_damaged_is_seen_when_the_prompt_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rpyc_gateway.device.doubt.PROOF", 0.01)
    with BadLine(math.inf) as line, board_on(line.far) as fake:
        async with pipe_to(line.near) as pipe, open_board(pipe) as board:
            assert await board.evaluate("1") == 1  # it has said all that it had to say
            with fake.stopped(), trio.fail_after(5):
                await trio.to_thread.run_sync(answer_as_a_repl, line.far)
                await board.wait_lost()
            assert isinstance(board.lost, PeerRestarted)


def answer_as_a_repl(port: str) -> None:
    with open(port, "r+b", buffering=0) as board:
        board.write(b"\r\nMicroPython v1.26.0 on 2026-01-01; linux\r\n>>?")
        heard = b""
        while b"\r\x01" not in heard:
            heard += board.read(1)
        board.write(b"raw REPL; CTRL-B to exit\r\n>")


async def test_a_board_that_starts_into_its_program_shows_no_prompt_and_is_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rpyc_gateway.device.doubt.VERDICT", 0.1)
    with BadLine(math.inf) as line, board_on(line.far) as fake:
        async with pipe_to(line.near) as pipe, open_board(pipe) as board:
            with fake.stopped(), open(line.far, "wb", buffering=0) as port, trio.fail_after(5):  # noqa: ASYNC230
                port.write(b"ets Jul 29 2019 12:21:46\r\n\r\nrst:0x1 (POWERON_RESET),boot:0x13\r\nmain.py runs\r\n")
                await board.wait_lost()
            assert isinstance(board.lost, PeerRestarted)


async def test_somebody_who_ends_the_agent_by_hand_is_noticed() -> None:
    async with fake_board() as (pipe, _):
        async with open_board(pipe) as board:
            with trio.fail_after(10):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(press, pipe)
                    await board.wait_lost()
                    nursery.cancel_scope.cancel()
            with pytest.raises(PeerRestarted, match="ended"):
                await board.evaluate("1")


async def press(pipe: Pipe) -> None:
    """Ctrl-C, as a person would."""
    while True:
        await pipe.stream.send_all(b"\x03")
        await trio.sleep(0.1)


async def test_unplugging_says_so_to_everybody() -> None:
    with BadLine(math.inf) as line, board_on(line.far):
        async with pipe_to(line.near) as pipe:
            async with open_board(pipe) as board, trio.open_nursery() as nursery:
                nursery.start_soon(unplug, line)
                with pytest.raises(LinkLost) as caught:
                    await board.execute("while True: pass")
    assert not isinstance(caught.value, PeerRestarted)


@pytest.mark.parametrize("after", [0, 1, 4, 60, 300, 700, 2500, 5000, 7000, 7300, 7400])
async def test_the_plug_may_be_pulled_at_any_byte(after: int) -> None:
    """Of the search for the prompt, the probe, the upload, the greeting, calls and callbacks, releases and the farewell."""
    with BadLine(math.inf) as line, board_on(line.far):
        async with pipe_to(line.near) as pipe:
            stream = Pulled(pipe.stream, after, line)
            with trio.fail_after(20), pytest.raises((LinkLost, DialFailed)):
                await use_for_ever(Pipe(stream, pipe.peer, reliable=False))
    assert stream.pulled


async def use_for_ever(pipe: Pipe) -> None:
    async with open_board(pipe) as board:
        while True:
            echo = await board.evaluate("lambda f: f([1])")
            assert await board.call(echo, lambda thing: 7) == 7


class Pulled(trio.abc.Stream):
    """Takes so many bytes, and then its line is unplugged."""

    def __init__(self, stream: trio.abc.Stream, left: int, line: BadLine) -> None:
        self.pulled = False
        self._stream = stream
        self._left = left
        self._line = line

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data[: self._left])
        self._left -= len(data)
        if self._left <= 0 and not self.pulled:
            self.pulled = True
            self._line.unplug()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_an_exception_may_say_anything() -> None:
    async with a_board() as board:
        for text in ("gr\u00fc\u00dfe \U0001f40d", "\n>>> \x04>", "x" * 3000):
            with pytest.raises(BoardError) as caught:
                await board.execute(f"raise ValueError({text!r})")
            assert caught.value.failure.text == text


async def test_a_program_may_print_anything() -> None:
    async with a_board() as board:
        await board.execute("import sys")
        for junk in (
            bytes(range(256)),
            b"\x1e\x40\x00\x00abcd\n" * 50,
            b"\x04>",
            b"raw REPL; CTRL-B to exit\r\n>",
            b"x" * 5000,
        ):
            await board.execute(f"sys.stdout.buffer.write({junk!r})")
            assert await board.evaluate("6 * 7") == 42


@pytest.mark.parametrize("takes", [0, 1])
async def test_what_a_pipe_does_not_take_at_once_is_sent_when_it_does(takes: int) -> None:
    async with fake_board() as (pipe, _):
        send_nowait = pipe.send_nowait
        assert send_nowait is not None
        pipe.send_nowait = lambda *buffers: send_nowait(b"".join(buffers)[:takes])
        with trio.fail_after(60):
            async with open_board(pipe) as board:
                assert [await board.evaluate(f"{n} + 1") for n in range(20)] == list(range(1, 21))


async def test_a_pipe_that_breaks_when_it_is_given_something_says_so() -> None:
    async with fake_board() as (pipe, _), open_board(pipe) as board:

        def broken(*buffers: Buffer) -> int:
            raise OSError("the wire is cut")

        pipe.send_nowait = broken
        with pytest.raises(LinkLost, match="the wire is cut"):
            await board.evaluate("1")


async def unplug(line: BadLine) -> None:
    await trio.sleep(0.05)
    line.unplug()


@pytest.mark.parametrize("corrupt", [0.001, 0.01])
async def test_every_answer_is_right_on_a_noisy_line(corrupt: float) -> None:
    with BadLine(921600, seed=3) as line, board_on(line.far):
        async with pipe_to(line.near, rate=92160) as pipe, open_board(pipe) as board:
            await board.execute("def f(x): return x")
            f = await board.evaluate("f")
            line.disturb(corrupt=corrupt)
            for n in range(100):
                assert await board.call(f, n) == n
                assert await board.call(f, bytes([n]) * n) == bytes([n]) * n
            line.disturb()


async def test_a_board_whose_last_words_were_lost_in_noise_is_asked_whether_it_runs_an_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rpyc_gateway.device.doubt.ASK", 0.1)
    with BadLine(math.inf) as line, board_on(line.far):
        async with pipe_to(line.near) as pipe:
            async with open_board(pipe) as board:
                line.silence(toward="near")
                lost = -1
                while lost != line.to_near.lost:  # each but the last is acknowledged
                    lost = line.to_near.lost
                    await pipe.stream.send_all(b"\x03")
                    with trio.move_on_after(2):
                        while line.to_near.lost == lost:  # noqa: ASYNC110  # a thread counts it
                            await trio.sleep(0.001)
                line.mend()
                with pytest.raises(PeerRestarted, match="started anew"), trio.fail_after(20):
                    await board.evaluate("1")
            async with open_board(pipe) as board:
                assert await board.evaluate("1 + 1") == 2


async def test_a_repl_that_takes_frames_for_the_inside_of_a_string_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rpyc_gateway.device.doubt.ASK", 0.1)
    with BadLine(math.inf) as line, board_on(line.far) as process:
        async with pipe_to(line.near) as pipe:
            async with open_board(pipe) as board:
                line.silence(toward="near")
                await trio.to_thread.run_sync(process.kill)
                await pipe.stream.send_all(b"x = '''\r")
                lost = -1
                while lost != line.to_near.lost:  # until it has said that it starts, and echoed that
                    lost = line.to_near.lost
                    with trio.move_on_after(2):
                        while line.to_near.lost == lost:  # noqa: ASYNC110  # a thread counts it
                            await trio.sleep(0.001)
                line.mend()
                with pytest.raises(PeerRestarted), trio.fail_after(20):
                    await board.evaluate("1")
            async with open_board(pipe) as board:
                assert await board.evaluate("1 + 1") == 2


async def test_a_board_that_works_in_silence_is_asked_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpyc_gateway.device.doubt.ASK", 0.1)
    async with a_board() as board:
        await board.execute("import time")
        await board.execute("time.sleep(0.8)")  # asked thrice
        assert await board.evaluate("1 + 1") == 2


USB_CDC = """
import select
import sys


class Port:
    timeout = 0.0

    def __init__(self):
        self.poller = select.poll()
        self.poller.register(sys.stdin, 1)

    def readline(self):
        return sys.stdin.buffer.readline(600) if self.poller.poll(int(self.timeout * 1000)) else b""

    def write(self, data):
        return sys.stdout.buffer.write(data)


data = None
console = Port()
"""


async def test_a_board_whose_bytes_come_by_usb_cdc_is_driven_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing here has that module, so that it is made; the rest of the agent's port is what such boards get."""
    (tmp_path / "usb_cdc.py").write_text(USB_CDC)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(driver, "choose", lambda _platform, _peer: ("usb", "micropython", "core", "callbacks"))
    async with fake_board() as (pipe, _), open_board(pipe) as board:
        assert board.platform.usb
        length = await board.evaluate("len")
        with trio.fail_after(10):
            assert await board.call(length, "x" * 500) == 500
            assert await board.evaluate("'x' * 2000") == "x" * 2000
