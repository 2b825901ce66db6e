"""rpyc-gateway, blocking face. Every process behind it is a node of its own, linked over tcp."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from threading import Thread

import trio

import rpyc_gateway as gw
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
            client.tidy()


class Client:
    """What a blocking program does."""

    def __init__(self, conn: gw.BlockingSession, url: str) -> None:
        self._conn = conn
        self._url = url
        self._far = conn.modules["tests.bench.objects"]
        self._add = self._far.add
        self._length = self._far.length
        self._make = self._far.make
        self._connections = ExitStack()
        self._numbers = count()

    def call(self, n: int) -> None:
        add = self._add
        for _ in range(n):
            result = add(1, 2)
        assert result == 3

    def threads(self, n: int) -> None:
        threads = [Thread(target=self.call, args=(n // 8,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def chain(self, n: int) -> None:
        conn = self._conn
        for _ in range(n):
            result = conn.modules.os.path.join("a", "b")
        assert result == "a/b"

    def iterate_list(self, n: int) -> None:
        assert sum(self._far.numbers(n)) == n * (n - 1) // 2

    def iterate_generator(self, n: int) -> None:
        assert sum(gw.buffiter(self._far.generate(n), BATCH)) == n * (n - 1) // 2

    def send(self, data: bytes) -> None:
        assert self._length(data) == len(data)

    def callback(self, n: int) -> None:
        assert self._far.call_back(lambda i: i, n) == n * (n - 1) // 2

    def proxies(self, n: int) -> None:
        make = self._make
        held = [make() for _ in range(n)]
        assert len(held) == n
        del held
        while self._far.alive():
            pass

    def proxy_bytes(self, n: int) -> float:
        self._make()
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        held = [self._make() for _ in range(n)]
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return taken / len(held)

    def connect(self, n: int) -> None:
        for _ in range(n):
            # Sessions of one name would share one link.
            conn = self._connections.enter_context(
                gw.connect(self._url, node="server", name=f"client{next(self._numbers)}")
            )
            assert conn.eval("1 + 2") == 3

    def tidy(self) -> None:
        """Close what `connect` has opened."""
        self._connections.close()
