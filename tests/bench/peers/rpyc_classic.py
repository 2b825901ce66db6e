"""RPyC 6 as its documentation has it: the classic service of a threaded server; through relays by connecting from there onwards."""

from __future__ import annotations

import gc
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import rpyc
from rpyc.core import SlaveService
from rpyc.utils.server import ThreadedServer

from tests.bench.processes import LOCALHOST, Way


def serve(tell: Callable[[object], None]) -> None:
    server = ThreadedServer(SlaveService, hostname=LOCALHOST, port=0)
    server.listener.listen(100)  # start() listens, and nobody would know when
    tell(server.port)
    server.start()


@contextmanager
def open_client(way: Way) -> Iterator[Client]:
    port = int(way.start("serve"))
    entry = way.delayed(int(way.start("serve")) if way.relays else port)
    conn = first = rpyc.classic.connect(LOCALHOST, entry)
    between = [int(way.start("serve")) for _ in range(way.relays - 1)]
    for onwards in [*between, port][: way.relays]:
        conn = conn.modules.rpyc.classic.connect(LOCALHOST, onwards)
    client = Client(conn, entry)
    try:
        yield client
    finally:
        client.tidy()
        first.close()


class Client:
    """What a program with a connection does."""

    def __init__(self, conn: Any, port: int) -> None:
        self._conn = conn
        self._port = port
        self._far = conn.modules["tests.bench.objects"]
        self._add = self._far.add
        self._length = self._far.length
        self._make = self._far.make
        self._connections: list[Any] = []

    def call(self, n: int) -> None:
        add = self._add
        for _ in range(n):
            result = add(1, 2)
        assert result == 3

    def inflight(self, n: int) -> None:
        add = rpyc.async_(self._add)
        waiting = deque(add(1, 2) for _ in range(100))
        for _ in range(n - 100):
            assert waiting.popleft().value == 3
            waiting.append(add(1, 2))
        assert all(result.value == 3 for result in waiting)

    def burst(self, n: int) -> None:
        for _ in range(n // 100):
            self.inflight(100)

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
        assert sum(self._far.generate(n)) == n * (n - 1) // 2

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
            conn = rpyc.classic.connect(LOCALHOST, self._port)
            self._connections.append(conn)
            assert conn.eval("1 + 2") == 3

    def tidy(self) -> None:
        """Close what `connect` has opened."""
        while self._connections:
            self._connections.pop().close()
