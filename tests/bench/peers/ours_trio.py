"""rpyc-gateway, trio face, before the same nodes as in the blocking face."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

import rpyc_gateway as gw
from tests.bench.files import Files
from tests.bench.peers.ours import BATCH, relay, serve, start_chain
from tests.bench.processes import Way
from tests.bench.waiting import PAUSE

__all__ = ["Client", "open_client", "relay", "serve"]


@asynccontextmanager
async def open_client(way: Way) -> AsyncIterator[Client]:
    url = await trio.to_thread.run_sync(start_chain, way)
    await _until_known(url)
    async with gw.open_session(url, node="server", name="client") as session:
        far = await session.modules["tests.bench.objects"]
        client = Client(session, far, await far.add, await far.length)
        try:
            yield client
        finally:
            client.close()


async def _until_known(url: str) -> None:
    with trio.fail_after(20):
        while True:
            try:
                async with gw.open_session(url, node="server", name="client"):
                    return
            except gw.Unreachable:
                await trio.sleep(PAUSE)


class Client:
    """What a program in trio does."""

    def __init__(self, session: Any, far: Any, add: Any, length: Any) -> None:
        self._session = session
        self._far = far
        self._add = add
        self._length = length
        self._files = Files()

    async def call(self, n: int) -> None:
        add = self._add
        for _ in range(n):
            result = await add(1, 2)
        assert result == 3

    async def inflight(self, n: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(self.call, n // 100)

    async def burst(self, n: int) -> None:
        for _ in range(n // 100):
            await self.inflight(100)

    async def chain(self, n: int) -> None:
        session = self._session
        for _ in range(n):
            result = await session.modules.os.path.join("a", "b")
        assert result == "a/b"

    async def iterate_list(self, n: int) -> None:
        total = 0
        async for number in self._far.numbers(n):
            total += number
        assert total == n * (n - 1) // 2

    async def iterate_generator(self, n: int) -> None:
        total = 0
        async for number in gw.ops.iterate(self._far.generate(n), prefetch=BATCH):
            total += number
        assert total == n * (n - 1) // 2

    async def send(self, data: bytes) -> None:
        assert await self._length(data) == len(data)

    async def upload(self, size: int) -> None:
        await self._copy(gw.upload, self._files.large(size))

    async def download(self, size: int) -> None:
        await self._copy(gw.download, self._files.large(size))

    async def upload_many(self, count: int) -> None:
        await self._copy(gw.upload, self._files.many(count))

    async def download_many(self, count: int) -> None:
        await self._copy(gw.download, self._files.many(count))

    async def _copy(self, copy: Callable[..., Any], source: str) -> None:
        target = self._files.target()
        await copy(self._session, source, target)
        self._files.check(source, target)

    def tidy(self) -> None:
        """Remove what was copied."""
        self._files.tidy()

    def close(self) -> None:
        """Leave nothing."""
        self._files.close()
