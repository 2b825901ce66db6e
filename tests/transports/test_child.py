"""Children are started, listened to, and seen off: real processes, real signals."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import DialFailed
from rpyc_transports.child import KEPT_LINES, LONGEST_LINE, Child, Lines, _brief, run_child

# Virtual time passes when nothing has happened for so many real seconds: a signal is delivered in less.
A_SIGNAL_S_WAY = 0.5


def start(command: str) -> AbstractAsyncContextManager[Child]:
    return run_child(command, shlex.split(command))


def sh(script: str) -> AbstractAsyncContextManager[Child]:
    return start(f"sh -c {shlex.quote(script)}")


async def hear(child: Child, word: bytes) -> None:
    heard = b""
    while word not in heard:
        heard += await child.stream.receive_some() or pytest.fail("the child said nothing more")


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = open_files()
    yield
    assert open_files() == before
    with pytest.raises(ChildProcessError):  # not even a zombie
        os.waitpid(-1, os.WNOHANG)


async def test_a_child_that_goes_when_its_input_ends_is_let_go() -> None:
    async with start("cat") as child:
        await child.stream.send_all(b"hello")
        assert await child.stream.receive_some() == b"hello"
        assert str(child) == f"`cat` (pid {child.process.pid})"
    assert child.process.returncode == 0


async def test_half_closing_lets_the_child_finish_its_answer() -> None:
    async with start("sort") as child:
        await child.stream.send_all(b"pear\napple\n")
        await child.stream.send_eof()
        answer = [data async for data in child.stream]
        assert b"".join(answer) == b"apple\npear\n"


async def test_one_that_stays_is_terminated(mock_clock: trio.testing.MockClock) -> None:
    async with sh("echo ready; exec sleep 1000") as child:
        await hear(child, b"ready")
        mock_clock.autojump_threshold = A_SIGNAL_S_WAY
    assert child.process.returncode == -signal.SIGTERM
    assert trio.current_time() == 2


async def test_one_that_will_not_hear_of_it_is_killed(mock_clock: trio.testing.MockClock) -> None:
    async with sh("trap '' TERM; echo ready; while :; do sleep 0.01; done") as child:
        await hear(child, b"ready")
        mock_clock.autojump_threshold = A_SIGNAL_S_WAY
    assert child.process.returncode == -signal.SIGKILL
    assert trio.current_time() == 4


async def test_a_grandchild_that_holds_the_streams_open_holds_nobody_up() -> None:
    async with sh("sleep 1000 >&2 & echo $!; exit 3") as child:
        grandchild = int(await child.stream.receive_some())
    try:
        assert child.process.returncode == 3
    finally:
        os.kill(grandchild, signal.SIGKILL)


@pytest.mark.parametrize("status", [0, 7])
async def test_one_that_ends_before_it_speaks_is_an_error_with_its_last_words(status: int) -> None:
    script = f"echo 'no such host' >&2; exit {status}"
    async with sh(script) as child:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await child.stream.receive_some()
    assert str(caught.value) == f"`sh -c {shlex.quote(script)}` exited with status {status}: no such host"


async def test_one_that_spoke_and_ends_well_has_simply_ended() -> None:
    async with sh("echo hello") as child:
        assert await child.stream.receive_some() == b"hello\n"
        assert await child.stream.receive_some() == b""


async def test_one_that_spoke_and_is_killed_is_an_error_that_names_the_signal() -> None:
    async with sh("echo hello; kill -SEGV $$") as child:
        assert await child.stream.receive_some() == b"hello\n"
        with pytest.raises(trio.BrokenResourceError, match=r"was killed by SIGSEGV$"):
            await child.stream.receive_some()


async def test_sending_to_a_dead_child_says_how_it_died() -> None:
    async with sh("echo gone >&2; exit 9") as child:
        await child.process.wait()
        assert child.stream.send_nowait(b"anybody?") == 0
        with pytest.raises(trio.BrokenResourceError, match="exited with status 9: gone"):
            await child.stream.send_all(b"anybody?")


async def test_a_child_that_is_about_to_die_is_given_the_time_for_its_last_words() -> None:
    async with sh("exec <&-; echo closed; sleep 0.1; echo gone >&2; exit 9") as child:
        await hear(child, b"closed")
        with pytest.raises(trio.BrokenResourceError, match="exited with status 9: gone"):
            await child.stream.send_all(b"anybody?")


async def test_one_that_closes_its_streams_and_stays_is_told_from_a_dead_one(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with sh("echo ready; exec <&- >&-; exec sleep 1000") as child:
        await hear(child, b"ready")
        mock_clock.autojump_threshold = A_SIGNAL_S_WAY
        assert await child.stream.receive_some() == b""
        with pytest.raises(trio.BrokenResourceError, match="closed its standard streams, but runs on"):
            await child.stream.send_all(b"anybody?")


async def test_a_closed_stream_is_closed() -> None:
    async with start("cat") as child:
        await child.stream.aclose()
        for use in (child.stream.receive_some, child.stream.send_eof, child.stream.wait_send_all_might_not_block):
            with pytest.raises(trio.ClosedResourceError):
                await use()
        with pytest.raises(trio.ClosedResourceError):
            await child.stream.send_all(b"x")
        with pytest.raises(OSError, match="Bad file descriptor"):
            child.stream.send_nowait(b"x")


async def test_what_a_child_says_on_the_side_is_logged_and_the_last_lines_are_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "rpyc_gateway.stdio")
    async with sh("for i in $(seq 30); do echo line $i >&2; done; exit 1") as child:
        with pytest.raises(trio.BrokenResourceError, match=r"status 1: line 11 \| line 12 .* \| line 30$"):
            await child.stream.receive_some()
    assert len(child.lines) == KEPT_LINES
    assert [record.getMessage() for record in caplog.records] == [f"{child}: line {i}" for i in range(1, 31)]
    assert {record.name for record in caplog.records} == {"rpyc_gateway.stdio"}


async def test_a_child_that_shouts_for_ever_fills_no_memory_and_is_still_heard() -> None:
    async with start(
        f"{sys.executable} -S -c \"import sys; sys.stderr.write('x' * 3_000_000); print('done')\""
    ) as child:
        said = b""
        while not said.endswith(b"\n"):
            said += await child.stream.receive_some()
        assert said == b"done\n"
        await child.silent.wait()
        assert list(child.lines) == ["x" * LONGEST_LINE + "…"]


async def test_a_command_that_does_not_exist_is_named() -> None:
    with pytest.raises(DialFailed) as caught:
        async with start("no-such-command-here --fast"):
            pass
    assert str(caught.value) == (
        "`no-such-command-here --fast` cannot be started: no such command; is it installed, and on PATH?"
    )


async def test_a_file_that_is_no_command_is_named() -> None:
    with pytest.raises(DialFailed, match=r"`/etc/passwd` cannot be started: .*Permission denied"):
        async with start("/etc/passwd"):
            pass


async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with start("cat"):
            raise ZeroDivisionError


async def test_what_the_body_raises_is_not_lost_in_a_cancellation() -> None:
    async def fail(scope: trio.CancelScope) -> None:
        async with start("cat"):
            scope.cancel()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), trio.CancelScope() as scope:
        await fail(scope)


async def test_cancelled_at_any_point_the_child_is_reaped() -> None:
    async def story() -> None:
        async with start("cat") as child:
            await child.stream.send_all(b"hello")
            await child.stream.receive_some()
            await child.stream.send_eof()
            await child.stream.receive_some()

    for steps in range(40):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(story)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


def test_long_commands_are_named_by_their_beginning() -> None:
    names = {
        "ssh ops@bastion": "`ssh ops@bastion`",
        "ssh -T -o BatchMode=yes -J one@first.example two@second.example rpyc-gw stdio": "`ssh -T -o BatchMode=yes -J one@first.example …`",
        "x" * 100: f"`{'x' * 60}`",
    }
    assert {command: _brief(command) for command in names} == names


@given(text=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200)))
def test_lines_are_the_same_however_they_arrive(text: bytes, cuts: list[int]) -> None:
    whole, pieces = Lines(), Lines()
    expected = [*whole.split(text), *whole.rest()]
    heard = [line for a, b in pairwise([0, *sorted(cuts), len(text)]) for line in pieces.split(text[a:b])]
    assert [*heard, *pieces.rest()] == expected


@given(st.lists(st.binary() | st.binary(min_size=900, max_size=3000), max_size=5))
def test_lines_are_bounded_and_harmless_to_a_terminal(data: list[bytes]) -> None:
    lines = Lines()
    for piece in data:
        for line in lines.split(piece):
            assert line.isprintable()
            assert line
        assert len(lines._line) <= LONGEST_LINE + 1


def test_control_characters_are_spelled_out() -> None:
    lines = Lines()
    assert list(lines.split(b"\x1b[2Jcleared\r\n\n caf\xc3\xa9\tau lait \xff\nrest")) == [
        "\\x1b[2Jcleared",
        " café\\tau lait \N{REPLACEMENT CHARACTER}",
    ]
    assert list(lines.rest()) == ["rest"]
