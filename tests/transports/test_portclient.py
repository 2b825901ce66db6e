"""A port server may say anything: what it sends is bounded, what makes no sense ends the port in words, and nobody prints a traceback."""

from __future__ import annotations

import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from serial import rfc2217

from rpyc_gateway.errors import DialFailed
from rpyc_transports.portclient import AHEAD, PIECE
from rpyc_transports.rfc2217 import Rfc2217Transport

IAC, SB, SE = b"\xff", b"\xfa", b"\xf0"

# pyserial 3.5 uses names that threads have had before Python 3.10.
pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")

Script = Callable[[trio.SocketStream], Awaitable[None]]


class Port:
    """What pyserial's own server side asks of a port."""

    baudrate, bytesize, parity, stopbits = 9600, 8, "N", 1
    rtscts = xonxoff = dtr = rts = cts = dsr = ri = cd = False

    def reset_input_buffer(self) -> None: ...
    def reset_output_buffer(self) -> None: ...


@asynccontextmanager
async def port_server(then: Script) -> AsyncIterator[str]:
    """One that does all that is asked of it, until the port is open: then it does this. The URL."""

    async def serve(stream: trio.SocketStream) -> None:
        said: list[bytes] = []
        manager = rfc2217.PortManager(Port(), type("Answers", (), {"write": said.append})())
        heard = b""
        try:
            while heard.count(IAC + SB + b",\x0c") < 2:  # the second buffer is emptied last
                data = await stream.receive_some()
                if not data:
                    return
                heard += data
                b"".join(manager.filter(data))
                await stream.send_all(b"".join(said))
                said.clear()
            await then(stream)
            async for _ in stream:
                continue
        except trio.BrokenResourceError:
            return

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"rfc2217://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


def saying(data: bytes) -> Script:
    async def say(stream: trio.SocketStream) -> None:
        await stream.send_all(data)

    return say


async def hear_all(url: str, wanted: int) -> bytes:
    heard = b""
    async with Rfc2217Transport().connect(url) as pipe:
        while len(heard) < wanted:
            heard += await pipe.stream.receive_some()
    return heard


async def test_what_comes_is_given_as_it_came() -> None:
    data = bytes(range(256)) * 40
    async with port_server(saying(data.replace(IAC, IAC * 2) + IAC + b"\xf1")) as url:
        assert await hear_all(url, len(data)) == data


@pytest.mark.parametrize(
    ("said", "why"),
    {
        IAC + SE: "makes no sense: an option ends without having begun",
        IAC + SB + bytes(5000): "makes no sense: an option has more than 1024 bytes",
    }.items(),
)
async def test_what_makes_no_sense_ends_the_port_in_words_after_what_came_before(said: bytes, why: str) -> None:
    async with port_server(saying(b"good" + said)) as url, Rfc2217Transport().connect(url) as pipe:
        assert await pipe.stream.receive_some() == b"good"
        with pytest.raises(trio.BrokenResourceError, match=why):
            await pipe.stream.receive_some()


async def test_a_server_that_ends_says_so_once_all_was_heard() -> None:
    async def end(stream: trio.SocketStream) -> None:
        await stream.send_all(b"x" * 10_000)
        await stream.send_eof()

    async with port_server(end) as url, Rfc2217Transport().connect(url) as pipe:
        heard = b""
        while len(heard) < 10_000:
            heard += await pipe.stream.receive_some()
        with pytest.raises(trio.BrokenResourceError, match="the port server has ended the connection"):
            await pipe.stream.receive_some()


async def test_more_than_anybody_reads_waits_at_the_server() -> None:
    size = 4 * AHEAD * PIECE
    async with port_server(saying(bytes(size))) as url, Rfc2217Transport().connect(url) as pipe:
        held = pipe.stream._port._read_buffer  # type: ignore[attr-defined]
        while held.qsize() < AHEAD:  # noqa: ASYNC110  its thread tells nobody
            await trio.sleep(0.001)
        heard = 0
        while heard < size:
            heard += len(await pipe.stream.receive_some())
            assert held.qsize() <= AHEAD


async def test_a_server_that_makes_no_sense_at_once_is_told_at_the_dial() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(IAC + SE)
        async for _ in stream:
            continue

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        with pytest.raises(DialFailed, match=r"makes no sense: .*; is this a port server that speaks RFC 2217\?"):
            await hear_all(f"rfc2217://127.0.0.1:{listener.socket.getsockname()[1]}", 1)
        nursery.cancel_scope.cancel()


def noise(chance: random.Random) -> bytes:
    pieces = [
        chance.randbytes(chance.randint(0, 20)),
        IAC + bytes((chance.choice([240, 241, 251, 252, 253, 254, 255]), chance.choice([0, 1, 3, 44, 200]))),
        IAC
        + SB
        + b","
        + bytes((chance.choice([101, 102, 106, 107, 112]),))
        + chance.randbytes(chance.randint(0, 5))
        + IAC
        + SE,
    ]
    return b"".join(chance.choices(pieces, k=chance.randint(0, 30)))


async def test_whatever_a_server_says_the_port_ends_in_words() -> None:
    async def one(seed: int) -> None:
        async def say(stream: trio.SocketStream) -> None:
            await stream.send_all(noise(random.Random(seed)))
            await stream.send_eof()

        async with port_server(say) as url:
            with pytest.raises((trio.BrokenResourceError, DialFailed), match="port server"):
                await hear_all(url, 1_000_000)

    threads = threading.active_count()
    async with trio.open_nursery() as nursery:
        for seed in range(40):
            nursery.start_soon(one, seed)
    assert [thread.name for thread in threading.enumerate() if "RFC 2217" in thread.name] == []
    assert threading.active_count() <= threads + 40  # trio's own, which it keeps for the next
