"""A port that threads read and write, as all are on Windows: the same port that trio reads elsewhere, by its name."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rpyc_gateway.testing import BadLine
from rpyc_transports.portsettings import Settings
from rpyc_transports.serial import SerialTransport
from rpyc_transports.threaded import open_threaded


async def test_any_bytes_pass_both_ways() -> None:
    data = bytes(range(256)) * 4
    async with BadLine(math.inf) as line, SerialTransport().connect(f"serial://{line.far}") as far:
        async with await open_threaded(line.near, Settings(dtr="off")) as near:
            for one, other in ((near, far.stream), (far.stream, near)):
                await one.send_all(data)
                heard = b""
                while len(heard) < len(data):
                    heard += await other.receive_some(100)
                assert heard == data


async def test_a_receive_that_is_cancelled_loses_nothing_and_a_second_one_is_refused() -> None:
    async with BadLine(math.inf) as line, SerialTransport().connect(f"serial://{line.far}") as far:
        async with await open_threaded(line.near, Settings()) as near:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.wait_heard)
                await wait_all_tasks_blocked()
                with pytest.raises(trio.BusyResourceError):
                    await near.receive_some()
                nursery.cancel_scope.cancel()
            await far.stream.send_all(b"x")
            assert await near.receive_some() == b"x"


async def test_unplugged_and_closed_are_told_apart() -> None:
    with BadLine() as line:
        async with await open_threaded(line.near, Settings()) as near:
            line.unplug()
            with pytest.raises(trio.BrokenResourceError, match="is gone: it was unplugged"):
                await near.receive_some()
            await near.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await near.receive_some()


async def test_a_port_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(OSError, match="no-such-port"):
        await open_threaded("/dev/no-such-port", Settings())
