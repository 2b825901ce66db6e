"""Children are started, listened to, and seen off: real processes, real signals."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from math import inf
from typing import Any

import pytest
import trio
import trio.testing

from rpyc_gateway.errors import DialFailed
from rpyc_transports.child import KEPT_LINES, Child, Manner, _brief, run_child
from rpyc_transports.lines import LONGEST_LINE
from tests.terminal import answer_at_a_terminal

# Virtual time passes when nothing has happened for so many real seconds: a signal is delivered in less.
A_SIGNAL_S_WAY = 0.5


def start(command: str, **manner: Any) -> AbstractAsyncContextManager[Child]:
    return run_child(command, shlex.split(command), Manner(**manner))


def sh(script: str, **manner: Any) -> AbstractAsyncContextManager[Child]:
    return start(f"sh -c {shlex.quote(script)}", **manner)


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
        await child.over.wait()
        with pytest.raises(OSError, match="exited with status 9: gone"):
            child.stream.send_nowait(b"anybody?")
        with pytest.raises(trio.BrokenResourceError, match="exited with status 9: gone"):
            await child.stream.send_all(b"anybody?")


async def test_a_child_that_is_about_to_die_is_given_the_time_for_its_last_words() -> None:
    async with sh("exec <&-; echo closed; sleep 0.1; echo gone >&2; exit 9", pipes=True) as child:
        await hear(child, b"closed")
        with pytest.raises(trio.BrokenResourceError, match="exited with status 9: gone"):
            await child.stream.send_all(b"anybody?")


async def test_one_that_closes_its_streams_and_stays_is_told_from_a_dead_one(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with sh("echo ready; exec <&- >&-; exec sleep 1000", pipes=True) as child:
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


# -- what comes before the link

GREETING = r"printf '\001\000\000\005RPGW'; "
LINK = {"preamble": 65536, "patience": 30.0}


@pytest.mark.parametrize("pipes", [False, True])
async def test_a_banner_is_logged_and_the_link_begins_behind_it(
    caplog: pytest.LogCaptureFixture,
    pipes: bool,  # noqa: FBT001
) -> None:
    caplog.set_level(logging.INFO, "rpyc_gateway.stdio")
    async with sh(f"echo Welcome to far; printf 'No mail.'; {GREETING} exec cat", pipes=pipes, **LINK) as child:
        assert await child.stream.receive_some() == b"\x01\x00\x00\x05RPGW"
        await child.stream.send_all(b"Welcome")
        assert await child.stream.receive_some() == b"Welcome"
    banner = [f"{child}, before the link: {line}" for line in ("Welcome to far", "No mail.")]
    assert [record.getMessage() for record in caplog.records] == banner


async def test_a_banner_without_a_link_is_quoted_with_the_exit_status() -> None:
    async with sh("echo Welcome to far; exit 0", **LINK) as child:
        with pytest.raises(trio.BrokenResourceError, match="status 0; on its standard output it said 'Welcome to far'"):
            await child.stream.receive_some()


async def test_a_program_that_prints_for_ever_is_no_link() -> None:
    async with start("yes", **LINK) as child:
        with pytest.raises(
            trio.BrokenResourceError, match=r"has said \d+ bytes, and no link began .* it said 'y\\ny\\n"
        ):
            await child.stream.receive_some()


async def test_an_echo_of_what_was_sent_is_a_terminal_in_between() -> None:
    async with sh("printf '^A^@^@mRPGW'; exec sleep 1000", **LINK) as child:
        with pytest.raises(trio.BrokenResourceError, match=r"sends back what it is sent; .* drop -t and -tt"):
            await child.stream.receive_some()
        child.process.kill()


@pytest.mark.parametrize("pipes", [False, True])
async def test_no_link_in_time_is_an_error_with_what_was_said_on_both_sides(
    mock_clock: trio.testing.MockClock,
    pipes: bool,  # noqa: FBT001
) -> None:
    async with sh("echo connecting >&2; echo Welcome; exec sleep 1000", pipes=pipes, **LINK) as child:
        mock_clock.autojump_threshold = A_SIGNAL_S_WAY
        with pytest.raises(trio.BrokenResourceError) as caught:
            await child.stream.receive_some()
    told = str(caught.value).partition(f"(pid {child.process.pid}) ")[2]
    patience = "30 s (`stdio:?patience=SECONDS COMMAND` gives it more)"
    assert told == f"began no link within {patience}: connecting; on its standard output it said 'Welcome'"
    assert trio.current_time() >= 30


async def test_no_link_in_time_ends_the_wait_of_a_thread_too(mock_clock: trio.testing.MockClock) -> None:
    async with start("sleep 1000", **LINK) as child:
        mock_clock.autojump_threshold = A_SIGNAL_S_WAY
        await trio.lowlevel.wait_readable(child.stream.pipe.fileno)
        with pytest.raises(OSError, match="began no link within 30 s"):
            child.stream.receive_nowait(100)
        with pytest.raises(OSError, match="began no link within 30 s"):
            child.stream.send_nowait(b"x")


async def test_a_question_that_nobody_answers_is_quoted(mock_clock: trio.testing.MockClock) -> None:
    async with sh("printf '[sudo] password for ops: ' >&2; exec sleep 1000", **LINK) as child:
        mock_clock.autojump_threshold = A_SIGNAL_S_WAY
        with pytest.raises(trio.BrokenResourceError, match=r"asks '\[sudo\] password for ops:', and nobody can answer"):
            await child.stream.receive_some()
        assert trio.current_time() < 30


@pytest.mark.parametrize("line_end", ["", "echo >&2;"], ids=["without an echo", "with one"])
async def test_a_question_that_was_answered_is_none(mock_clock: trio.testing.MockClock, line_end: str) -> None:
    script = f"printf 'password: ' >&2; read answer; {line_end} {GREETING} exec cat"
    async with sh(script, patience=inf, preamble=65536) as child:
        await child._asks.wait()
        await child.stream.send_all(b"secret\n")
        assert await child.stream.receive_some() == b"\x01\x00\x00\x05RPGW"
        mock_clock.jump(10)
        await trio.testing.wait_all_tasks_blocked()
        await child.stream.send_all(b"alive")
        assert await child.stream.receive_some() == b"alive"


async def test_after_an_answer_it_may_take_its_time(mock_clock: trio.testing.MockClock) -> None:
    script = f"printf 'password: ' >&2; read answer; echo thanks >&2; read more; {GREETING} exec cat"
    async with sh(script, patience=inf, preamble=65536) as child:
        await child._asks.wait()
        await child.stream.send_all(b"secret\n")
        while not child.lines:
            await trio.lowlevel.checkpoint()
        mock_clock.jump(10)
        await trio.testing.wait_all_tasks_blocked()
        await child.stream.send_all(b"more\n")
        assert await child.stream.receive_some() == b"\x01\x00\x00\x05RPGW"


# -- one socket


async def test_any_thread_may_read_and_write() -> None:
    async with start("cat") as child:
        pipe = child.stream.pipe
        assert pipe.send_nowait is not None
        assert pipe.receive_nowait is not None
        assert pipe.receive_nowait(10) is None
        assert await trio.to_thread.run_sync(pipe.send_nowait, b"hel", b"lo") == 5
        await trio.lowlevel.wait_readable(pipe.fileno)
        assert await trio.to_thread.run_sync(pipe.receive_nowait, 100) == b"hello"
        await child.stream.send_eof()
        await child.over.wait()
        assert pipe.receive_nowait(10) == b""


async def test_a_thread_is_told_how_the_child_ended() -> None:
    async with sh("echo hello; echo gone >&2; exit 9") as child:
        await child.over.wait()
        await trio.lowlevel.wait_readable(child.stream.pipe.fileno)
        assert child.stream.receive_nowait(100) == b"hello\n"
        with pytest.raises(OSError, match="exited with status 9: gone"):
            child.stream.receive_nowait(100)


async def test_a_full_socket_takes_nothing_more_and_nobody_waits() -> None:
    async with start("sleep 1000") as child:
        while child.stream.send_nowait(bytes(65536)):
            continue
        child.process.kill()


async def test_a_child_that_ends_one_direction_of_its_socket_goes_on_reading() -> None:
    program = "import socket, sys; s = socket.socket(fileno=0); s.shutdown(socket.SHUT_WR); sys.stderr.write(str(len(s.recv(9))))"
    async with start(f'{sys.executable} -S -c "{program}"') as child:
        assert await child.stream.receive_some() == b""
        await child.stream.send_all(b"four")
        await child.over.wait()
        assert list(child.lines) == ["4"]


async def test_one_that_its_own_children_outlive_holds_nobody_up() -> None:
    async with sh("sleep 1000 & echo $! >&2; echo hello; exit 3") as child:
        assert await child.stream.receive_some() == b"hello\n"
        with pytest.raises(trio.BrokenResourceError, match="exited with status 3"):
            await child.stream.receive_some()
        grandchild = int(child.lines[0])
    os.kill(grandchild, signal.SIGKILL)


async def test_what_was_not_read_does_not_make_the_end_of_input_an_error() -> None:
    async with start("cat") as child:
        await child.stream.send_all(b"unread")
        await trio.lowlevel.wait_readable(child.stream.pipe.fileno)
    assert (child.process.returncode, list(child.lines)) == (0, [])


# -- its session


async def test_all_of_its_session_is_told_to_end(mock_clock: trio.testing.MockClock) -> None:
    async with sh("trap '' TERM; (trap 'echo told >&2; exit' TERM; echo ready; while :; do sleep 0.01; done)") as child:
        await hear(child, b"ready")
        mock_clock.autojump_threshold = A_SIGNAL_S_WAY
    assert "told" in child.lines


async def test_another_user_s_that_does_not_end_is_left_to_itself(
    mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_pid: int, _number: int) -> None:
        raise PermissionError

    async with sh("echo ready; exec sleep 1000 2>&-") as child:
        await hear(child, b"ready")
        monkeypatch.setattr(os, "killpg", refuse)
        mock_clock.autojump_threshold = A_SIGNAL_S_WAY
    monkeypatch.undo()
    assert "is left to itself" in caplog.text
    child.process.kill()
    with trio.fail_after(1000):
        await child.process.wait()


async def test_it_has_no_terminal_to_ask_on() -> None:
    async with sh("(: < /dev/tty) 2>/dev/null && echo yes || echo no") as child:
        assert await child.stream.receive_some() == b"no\n"


ASKING = """
import sys, trio
from rpyc_transports.stdio import StdioTransport

async def main():
    command = "sh -c 'printf \\"password: \\" >/dev/tty; read word </dev/tty; [ \\"$word\\" = secret ] && kill -INT $$ && cat'"
    async with StdioTransport().connect("stdio:?terminal=1&preamble=0 " + command) as pipe:
        await pipe.stream.send_all(b"hello")
        print((await pipe.stream.receive_some()).decode())

trio.run(main)
"""


def test_it_may_ask_on_the_terminal_if_it_is_told_so_and_a_ctrl_c_there_does_not_end_it() -> None:
    command = (sys.executable, "-W", "error", "-c", ASKING)
    assert b"hello" in answer_at_a_terminal(command, b"password: ", b"secret\n")


def test_in_the_background_of_a_terminal_it_is_not_started() -> None:
    command = ("sh", "-c", 'set -m; "$@" & wait', "sh", sys.executable, "-W", "error", "-c", ASKING)
    seen = answer_at_a_terminal(command, b"never asked", b"")
    assert b"is to ask on the terminal (terminal=1), but this process is in the background of its own" in seen


async def test_without_a_terminal_it_cannot_ask_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> int:
        raise OSError

    monkeypatch.setattr(os, "open", none)
    with pytest.raises(DialFailed, match=r"is to ask on the terminal \(terminal=1\), but this process has none"):
        async with start("cat", terminal=True):
            pass
