"""stdio: with real children, both ways: a command that is dialled, and a program that listens to the one that started it."""

from __future__ import annotations

import logging
import os
import pty
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Interpreter, Pipe
from rpyc_transports.stdio import StdioTransport

stdio = StdioTransport()

CHATTY = """
import subprocess, sys, trio
from rpyc_transports.stdio import StdioTransport

print("printed before")

async def answer(pipe):
    print("a stray print")
    subprocess.run(["echo", "a stray child"], check=True)
    subprocess.run(["cat"], check=True)
    read = sys.stdin.read()
    data = await pipe.stream.receive_some()
    assert pipe.send_nowait(data) == len(data)
    await pipe.stream.send_all(repr((pipe.peer, pipe.identity, pipe.private, read)).encode())
    assert await pipe.stream.receive_some() == b""

trio.run(StdioTransport().serve, "stdio:", answer)
print("printed after")
"""

ECHO = """
import trio
from rpyc_transports.stdio import StdioTransport

async def echo(pipe):
    async for data in pipe.stream:
        await pipe.stream.send_all(data)

async def main():
    for _ in range(times):
        await StdioTransport().serve("stdio:", echo)

trio.run(main)
"""


def python(program: str) -> str:
    # Without PYTHONUNBUFFERED, what is printed before is still in the buffer when the streams are taken.
    return f"stdio:?preamble=0 {sys.executable} -E -W error -c {shlex.quote(program)}"


def run_echo(*, times: int = 1, redirection: str = "", **streams: Any) -> subprocess.CompletedProcess[str]:
    """ECHO below a shell that closes or joins streams; it hears "hello" unless told otherwise."""
    program = f"exec {sys.executable} -W error -c {shlex.quote(ECHO.replace('times', str(times)))} {redirection}"
    if "stdin" not in streams:
        streams["input"] = "hello"
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "check": False, "timeout": 20}
    return subprocess.run(["sh", "-c", program], **(settings | streams))


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = open_files()
    yield
    assert open_files() == before
    with pytest.raises(ChildProcessError):  # not even a zombie
        os.waitpid(-1, os.WNOHANG)


async def ignore(_: Pipe) -> None:
    await trio.sleep_forever()


async def test_a_command_is_the_other_end() -> None:
    async with stdio.connect("stdio:?preamble=0 cat -u") as pipe:
        await pipe.stream.send_all(b"hello")
        assert await pipe.stream.receive_some() == b"hello"
        assert pipe.send_nowait is not None
        assert await trio.to_thread.run_sync(pipe.send_nowait, b"again") == 5
        assert await pipe.stream.receive_some() == b"again"
    assert re.fullmatch(r"`cat -u` \(pid \d+\)", pipe.peer)
    assert pipe.identity == "child:cat -u"
    assert not pipe.private


async def test_what_is_printed_by_mistake_never_reaches_the_wire(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "rpyc_gateway.stdio")
    async with stdio.connect(python(CHATTY)) as pipe:
        await pipe.stream.send_all(b"hello")
        assert isinstance(pipe.stream, trio.abc.HalfCloseableStream)
        await pipe.stream.send_eof()
        heard = b"".join([data async for data in pipe.stream])
    parent = f"the parent process (pid {os.getpid()})"
    assert heard == b"hello" + repr((parent, "parent", False, "")).encode()
    said = [record.getMessage().partition("): ")[2] for record in caplog.records]
    assert said == ["printed before", "a stray print", "a stray child", "printed after"]


async def test_ssh_that_cannot_connect_is_quoted() -> None:
    command = "sh -c 'echo ssh: connect to host bastion port 22: Connection refused >&2; exit 255'"
    async with stdio.connect(f"stdio:{command}") as pipe:
        with pytest.raises(
            trio.BrokenResourceError, match="status 255: ssh: connect to host bastion port 22: Connection"
        ):
            await pipe.stream.receive_some()


@pytest.mark.parametrize(
    ("url", "problem"),
    {
        "stdio:": "stdio:: a command is needed: stdio:ssh ops@bastion rpyc-gw stdio",
        "stdio:echo 'half": "stdio:echo 'half: the command cannot be understood: No closing quotation",
        "stdio:no-such-command-here": "`no-such-command-here` cannot be started: no such command; is it installed, and on PATH?",
    }.items(),
)
async def test_commands_that_cannot_be_dialled(url: str, problem: str) -> None:
    with pytest.raises(DialFailed) as caught:
        async with stdio.connect(url):
            pass
    assert str(caught.value) == problem


async def test_a_command_cannot_be_listened_on() -> None:
    with pytest.raises(ConfigError, match="stdio:cat: only `stdio:` can be listened on"):
        await stdio.serve("stdio:cat", ignore)
    assert stdio.check_listener("stdio:cat") == "only `stdio:` can be listened on; a command is for dialling"
    assert stdio.check_listener("stdio:") is None


def test_serving_returns_when_the_parent_has_gone() -> None:
    done = run_echo()
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello", "")


def test_serving_needs_no_standard_error() -> None:
    done = run_echo(redirection="2>&-")
    assert (done.returncode, done.stdout) == (0, "hello")


def test_a_parent_that_stops_listening_is_a_broken_pipe_and_no_traceback_from_below() -> None:
    read, write = os.pipe()
    os.close(read)
    done = run_echo(stdout=write)
    os.close(write)
    assert "BrokenResourceError" in done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("redirection", "problem"),
    {
        "</dev/null": "standard input is the null device: nobody is there (or `stdio:` was listened on before)",
        "2>&1": "standard error goes where standard output goes, into the wire: keep them apart",
        "<&-": "standard input or output is closed",
        ">&-": "standard input or output is closed",
    }.items(),
)
def test_standard_streams_that_are_no_wire_are_refused(redirection: str, problem: str) -> None:
    done = run_echo(redirection=redirection)
    assert done.returncode == 1
    assert problem in f"{done.stdout}{done.stderr}"


def test_the_standard_streams_are_taken_once() -> None:
    done = run_echo(times=2)
    assert done.returncode == 1
    assert "or `stdio:` was listened on before" in done.stderr


def test_a_terminal_is_refused() -> None:
    ours, theirs = pty.openpty()
    done = run_echo(stdin=theirs)
    os.close(ours)
    os.close(theirs)
    assert "this is a terminal, and it is for a program at the other end, such as ssh" in done.stderr


def test_only_the_parent_reaches_it() -> None:
    assert stdio.is_private("stdio:")
    assert stdio.check("stdio:") is None
    assert stdio.check("stdio:ssh -T host 'rpyc-gw stdio'") is None
    assert stdio.check("stdio:ssh 'host") == "the command cannot be understood: No closing quotation"


# -- options


@pytest.mark.parametrize(
    ("url", "problem"),
    {
        "stdio:?patience=60&terminal=1 ssh -T host rpyc-gw stdio": None,
        "stdio:? ssh host": None,
        "stdio:ssh host '?patience=60'": None,
        "stdio:?patience=60": "a command is needed behind the options",
        "stdio:?patience=soon ssh host": "the option 'patience' is 'soon', which is no whole number",
        "stdio:?python=agent&name=lab-7 ssh host python3": None,
        "stdio:?python=1&name=lab ssh host ./lab-shell": None,
        "stdio:?name=lab ssh host rpyc-gw stdio": "the option 'name' is for a bare Python; any other command says its name itself",
        "stdio:?python=0&name=lab ssh host python3": "the option 'name' is for a bare Python; any other command says its name itself",
        "stdio:?python=3 ssh host python3": "the option 'python' is '3': say 1, 0 or agent",
        "stdio:?name=-x ssh host python3": "the option 'name' is '-x', which is no name of a node: 1 to 64 of A-Z a-z 0-9 . _ -",
        "stdio:?terminl=1 ssh host": "there is no option 'terminl' (known: name, patience, pipes, preamble, python, terminal); did you mean 'terminal'?",
    }.items(),
)
async def test_options_stand_before_the_command(url: str, problem: str | None) -> None:
    assert stdio.check(url) == problem
    if problem:
        with pytest.raises(DialFailed, match=re.escape(f"{url}: {problem}")):
            async with stdio.connect(url):
                pass


# -- a bare Python


@pytest.mark.parametrize(
    ("options", "interpreter"),
    [
        ("", Interpreter()),
        ("?python=agent&name=lab", Interpreter("lab", whole=False)),
        ("?python=0", None),
    ],
)
async def test_a_bare_python_is_told_to_wait_unless_it_is_said_to_be_none(
    options: str, interpreter: Interpreter | None
) -> None:
    async with stdio.connect(f"stdio:{options} {sys.executable}") as pipe:
        assert pipe.interpreter == interpreter
        await pipe.stream.send_all(b"import os; n = os.write(1, b'\\x01\\x00\\x00\\x00RPPY6 * 7')\n")
        if interpreter is None:  # it reads a program to its end
            assert isinstance(pipe.stream, trio.abc.HalfCloseableStream)
            await pipe.stream.send_eof()
        assert await pipe.stream.receive_some() == b"\x01\x00\x00\x00RPPY6 * 7"


# -- one socket for both, as a child that was dialled has it, and inetd


@pytest.mark.parametrize("pipes", [0, 1])
async def test_any_thread_may_read_at_the_far_end_and_at_the_near_one_of_a_socket(pipes: int) -> None:
    program = CHATTY.replace("repr((pipe.peer", "repr((pipe.fileno >= 0, pipe.receive_nowait(9), pipe.peer")
    async with stdio.connect(python(program).replace("?", f"?pipes={pipes}&")) as pipe:
        await pipe.stream.send_all(b"hello")
        assert (pipe.receive_nowait is None, pipe.fileno == -1) == (bool(pipes), bool(pipes))
        assert isinstance(pipe.stream, trio.abc.HalfCloseableStream)
        await pipe.stream.send_eof()
        assert b"".join([data async for data in pipe.stream]).startswith(b"hello(True, ")


@pytest.mark.parametrize("errors", [True, False], ids=["standard error too", "standard error apart"])
def test_inetd_gives_one_connection_for_all_streams_and_nothing_is_printed_into_it(errors: bool) -> None:  # noqa: FBT001
    program = ECHO.replace("times", "1").replace("async def echo(pipe):", "async def echo(pipe):\n    print('printed')")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", program],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs if errors else subprocess.PIPE,
            )
        ours.sendall(b"hello")
        ours.shutdown(socket.SHUT_WR)
        assert ours.makefile("rb").read() == b"hello"
        assert process.communicate(timeout=20)[1] == (None if errors else b"printed\n")
        assert process.returncode == 0


# -- programs that cannot be had everywhere, as they behave

PROGRAMS = {
    "docker": """
        [ "$2" = -it ] && { echo "the input device is not a TTY" >&2; exit 1; }
        [ "$3" = lab ] || { echo "Error response from daemon: No such container: $3" >&2; exit 1; }
        shift 3
        command -v "$1" >/dev/null || {
            echo "OCI runtime exec failed: exec failed: unable to start container process: exec: \\"$1\\": executable file not found in \\$PATH: unknown" >&2
            exit 127
        }
        exec "$@"
    """,
    "kubectl": """
        [ "$3" = lab ] || { echo "Error from server (NotFound): pods \\"$3\\" not found" >&2; exit 1; }
        shift 4
        exec "$@"
    """,
    "sudo": """
        [ "$1" = -n ] && { echo "sudo: a password is required" >&2; exit 1; }
        [ "$1" = -S ] && { printf '[sudo] password for ops: ' >&2; read answer; exit 1; }
        echo "sudo: a terminal is required to read the password; either use the -S option to read from standard input or configure an askpass helper" >&2
        echo "sudo: a password is required" >&2
        exit 1
    """,
}


@pytest.fixture
def _programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, script in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.usefixtures("_programs")
@pytest.mark.parametrize("command", ["docker exec -i lab cat", "kubectl exec -i lab -- cat"])
async def test_a_container_is_reached(command: str) -> None:
    async with stdio.connect(f"stdio:?preamble=0 {command}") as pipe:
        await pipe.stream.send_all(b"hello")
        assert await pipe.stream.receive_some() == b"hello"


@pytest.mark.usefixtures("_programs")
@pytest.mark.parametrize(
    ("command", "said"),
    {
        "docker exec -i nobody cat": r"status 1: Error response from daemon: No such container: nobody$",
        "docker exec -it lab cat": r"not a TTY \(there is a terminal in between, .* drop -t",
        "docker exec -i lab no-such-command": r"status 127: OCI runtime exec failed: .*\(no such command there: is it installed",
        "kubectl exec -i nobody -- cat": r'Error from server \(NotFound\): pods "nobody" not found$',
        "sudo cat": r"a password is required \(nobody can answer here",
        "sudo -n cat": r"a password is required \(nobody can answer here",
    }.items(),
)
async def test_why_a_program_does_not_reach_the_other_side(command: str, said: str) -> None:
    async with stdio.connect(f"stdio:{command}") as pipe:
        await pipe.stream.send_all(b"\x01\0\0\0RPGW")
        with pytest.raises(trio.BrokenResourceError, match=said):
            await pipe.stream.receive_some()


@pytest.mark.usefixtures("_programs")
async def test_sudo_that_asks_on_its_standard_streams_is_quoted(mock_clock: trio.testing.MockClock) -> None:
    async with stdio.connect("stdio:sudo -S cat") as pipe:
        await pipe.stream.send_all(b"\x01\0\0\0RPGW")
        mock_clock.autojump_threshold = 0.5
        with pytest.raises(
            trio.BrokenResourceError, match=r"asks '\[sudo\] password for ops:', and nobody can answer here"
        ):
            await pipe.stream.receive_some()
