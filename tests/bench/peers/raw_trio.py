"""The limit of trio code: a stream, a message of 16 bytes there and back, and no meaning. Relayed by trio programs that copy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from tests.bench.peers.raw_socket import ECHO, LENGTH, SINK, SMALL
from tests.bench.processes import LOCALHOST, Way

CHUNK = 65536
LARGE = 1 << 20


def serve(tell: Callable[[object], None]) -> None:
    trio.run(_listen, tell, _answer)


def relay(tell: Callable[[object], None], port: str) -> None:
    trio.run(_listen, tell, partial(_pass_on, int(port)))


async def _listen(tell: Callable[[object], None], handle: Callable[..., object]) -> None:
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, handle, 0, host=LOCALHOST))
        tell(listener.socket.getsockname()[1])


async def _answer(stream: trio.SocketStream) -> None:
    if await stream.receive_some(1) == ECHO:
        while data := await stream.receive_some(CHUNK):
            await stream.send_all(data)
        return
    while header := await stream.receive_some(LENGTH.size):
        body = memoryview(bytearray(LENGTH.unpack(header)[0]))
        position = 0
        while position < len(body):
            data = await stream.receive_some(min(LARGE, len(body) - position))
            body[position : position + len(data)] = data
            position += len(data)
        await stream.send_all(LENGTH.pack(len(body)))


async def _pass_on(port: int, near: trio.SocketStream) -> None:
    async with await trio.open_tcp_stream(LOCALHOST, port) as far, trio.open_nursery() as nursery:
        nursery.start_soon(_copy, near, far)
        nursery.start_soon(_copy, far, near)


async def _copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    while data := await source.receive_some(CHUNK):
        await sink.send_all(data)
    await sink.send_eof()


@asynccontextmanager
async def open_client(way: Way) -> AsyncIterator[Client]:
    port = await trio.to_thread.run_sync(_start_chain, way)
    async with await trio.open_tcp_stream(LOCALHOST, port) as echo, await trio.open_tcp_stream(LOCALHOST, port) as sink:
        await echo.send_all(ECHO)
        await sink.send_all(SINK)
        yield Client(echo, sink)


def _start_chain(way: Way) -> int:
    port = way.start("serve")
    for _ in range(way.relays):
        port = way.start("relay", port)
    return int(port)


class Client:
    """What a program does that needs no RPC."""

    def __init__(self, echo: trio.SocketStream, sink: trio.SocketStream) -> None:
        self._echo = echo
        self._sink = sink

    async def call(self, n: int) -> None:
        send, receive = self._echo.send_all, self._echo.receive_some
        for _ in range(n):
            await send(SMALL)
            answer = await receive(CHUNK)
        assert answer == SMALL

    async def inflight(self, n: int) -> None:
        await self._echo.send_all(SMALL * 100)
        missing, asked = n * len(SMALL), 100
        while missing:
            missing -= len(await self._echo.receive_some(CHUNK))
            answered = n - -(-missing // len(SMALL))
            if more := min(answered + 100, n) - asked:
                await self._echo.send_all(SMALL * more)
                asked += more

    async def burst(self, n: int) -> None:
        for _ in range(n // 100):
            await self.inflight(100)

    async def send(self, data: bytes) -> None:
        await self._sink.send_all(LENGTH.pack(len(data)))
        await self._sink.send_all(data)
        assert await self._sink.receive_some(LENGTH.size) == LENGTH.pack(len(data))
