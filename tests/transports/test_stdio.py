"""stdio: with real children, both ways: a command that is dialled, and a program that listens to the one that started it."""

from __future__ import annotations

import logging
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Pipe
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
    return f"stdio:{sys.executable} -E -W error -c {shlex.quote(program)}"


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
    async with stdio.connect("stdio:cat -u") as pipe:
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
