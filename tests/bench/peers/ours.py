"""rpyc-gateway, blocking face. Every process behind it is a node of its own, linked over tcp."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import trio

import rpyc_gateway as gw
from tests.bench.peers.classic import ClassicClient
from tests.bench.processes import LOCALHOST, Way
from tests.bench.waiting import until

BATCH = 1000


def serve(tell: Callable[[object], None], runs: str) -> None:
    """A node that serves the whole interpreter."""
    _run_node(
        tell,
        f'[node]\nname = "server"\n[[listen]]\nurl = "tcp://{LOCALHOST}:0"\n'
        f'[[serve]]\nservice = "classic"\nallow = ["*"]\nruns = "{runs}"',
    )


def relay(tell: Callable[[object], None], name: str, url: str) -> None:
    """A node that keeps up a link to the next one, and serves nothing."""
    _run_node(tell, f'[node]\nname = "{name}"\n[[listen]]\nurl = "tcp://{LOCALHOST}:0"\n[[dial]]\nurl = "{url}"')


def _run_node(tell: Callable[[object], None], config: str) -> None:
    async def main() -> None:
        async with gw.open_node(gw.Config.parse(config)) as node:
            tell(node.urls[0])
            await trio.sleep_forever()

    trio.run(main)


def start_chain(way: Way) -> str:
    """The URL of the nearest node of the chain."""
    url = way.start("serve", way.variant)
    for number in range(way.relays, 0, -1):
        url = way.start("relay", f"relay{number}", url)
    return f"tcp://{LOCALHOST}:{way.delayed(int(url.rpartition(':')[2]))}"


@contextmanager
def open_client(way: Way) -> Iterator[Client]:
    url = start_chain(way)
    # A chain is known at its beginning a moment after its nodes are up.
    with until(lambda: gw.connect(url, node="server", name="client"), gw.Unreachable) as conn:
        client = Client(conn, url)
        try:
            yield client
        finally:
            client.close()


class Client(ClassicClient):
    """A blocking program."""

    def __init__(self, conn: gw.BlockingSession, url: str) -> None:
        super().__init__(conn)
        self._url = url
        self._numbers = count()

    def inflight(self, n: int) -> None:
        add = gw.async_(self._add)
        waiting = deque(add(1, 2) for _ in range(100))
        for _ in range(n - 100):
            assert waiting.popleft().value == 3
            waiting.append(add(1, 2))
        assert all(result.value == 3 for result in waiting)

    def burst(self, n: int) -> None:
        for _ in range(n // 100):
            with gw.batch(self._conn) as b:
                add = b(self._add)
                results = [add(1, 2) for _ in range(100)]
            assert all(result.value == 3 for result in results)

    def _iterate(self, remote: Any) -> Iterable[int]:
        return gw.buffiter(remote, BATCH)

    def _upload(self, source: str, target: str) -> None:
        gw.upload(self._conn, source, target)

    def _download(self, source: str, target: str) -> None:
        gw.download(self._conn, source, target)

    def _connect(self) -> Any:
        # Sessions of one name would share one link.
        return gw.connect(self._url, node="server", name=f"client{next(self._numbers)}")
