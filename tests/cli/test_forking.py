"""A process for each connection: what it is given, what becomes of it, and of those for whom there is none."""

from __future__ import annotations

import logging
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from rpyc_gateway.cli import forking
from rpyc_gateway.errors import ConfigError
from tests.house import wait_until

ECHO = (sys.executable, "-c", "import sys\nfor line in sys.stdin: print(line, end='', flush=True)")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


@asynccontextmanager
async def listening(log: pytest.LogCaptureFixture, *command: str) -> AsyncIterator[int]:
    """The port where a process of this command is to be had."""
    told = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(forking.fork_for_each, "127.0.0.1", 0, command, told)
        await wait_until(lambda: "listening on" in log.text)
        found = re.search(r"listening on tcp://127\.0\.0\.1:(\d+)", log.text)
        assert found
        yield int(found[1])
        told.set()


async def say(stream: trio.SocketStream, text: bytes) -> bytes:
    await stream.send_all(text)
    return await line_of(stream)


async def line_of(stream: trio.SocketStream) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.receive_some() or b"(end)\n"
    return line


async def test_each_connection_has_a_process_and_they_end_together(log: pytest.LogCaptureFixture) -> None:
    async with listening(log, *ECHO) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as one:
            async with await trio.open_tcp_stream("127.0.0.1", port) as other:
                assert await say(one, b"one\n") == b"one\n"
                assert await say(other, b"other\n") == b"other\n"
                await one.send_eof()
                assert await one.receive_some() == b""  # nobody else holds the connection
                await wait_until(lambda: "has ended, with status 0" in log.text)
                assert await say(other, b"still here\n") == b"still here\n"
    begun = re.findall(r"process (\d+) has begun", log.text)
    assert len(set(begun)) == 2


@pytest.mark.parametrize("answer_to_sigterm", ["SIG_DFL", "SIG_IGN"])
async def test_those_that_run_end_with_the_listener_whether_they_like_it_or_not(
    answer_to_sigterm: str, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if answer_to_sigterm == "SIG_IGN":
        monkeypatch.setattr(forking, "END_WITHIN", 0.01)
    program = f"import signal as s\ns.signal(s.SIGTERM, s.{answer_to_sigterm})\nprint('here', flush=True)\ns.pause()"
    async with listening(log, sys.executable, "-c", program) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        assert await line_of(stream) == b"here\n"
    async with stream:
        assert await stream.receive_some() == b""


async def test_beyond_so_many_a_client_is_sent_away_until_one_has_ended(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "PROCESSES", 1)
    async with listening(log, *ECHO) as port:
        dial = partial(trio.open_tcp_stream, "127.0.0.1", port)
        async with await dial() as first:
            assert await say(first, b"x\n") == b"x\n"
            async with await dial() as second:
                assert await second.receive_some() == b""
            assert "a client comes in vain: 1 processes run already" in log.text
        await wait_until(lambda: "has ended" in log.text)
        async with await dial() as third:
            assert await say(third, b"y\n") == b"y\n"


async def test_a_command_that_cannot_be_started_costs_one_connection(log: pytest.LogCaptureFixture) -> None:
    async with listening(log, "/nowhere/rpyc-gw") as port:
        for _ in range(2):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                assert await stream.receive_some() == b""
    assert log.text.count("no process can be started for a client: [Errno 2]") == 2


async def test_an_address_that_is_taken_is_said(log: pytest.LogCaptureFixture) -> None:
    async with listening(log, *ECHO) as port:
        with pytest.raises(ConfigError, match=f"127.0.0.1, port {port}: Address already in use"):
            await forking.fork_for_each("127.0.0.1", port, ECHO, trio.Event())


async def test_a_process_that_dies_is_told_with_its_status(log: pytest.LogCaptureFixture) -> None:
    async with listening(log, sys.executable, "-c", "import os\nos.kill(os.getpid(), 9)") as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await stream.receive_some() == b""
        await wait_until(lambda: f"with status {-signal.SIGKILL}" in log.text)
