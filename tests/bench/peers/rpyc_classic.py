"""RPyC 6 as its documentation has it: the classic service of a threaded server; through relays by connecting from there onwards."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rpyc
from rpyc.core import SlaveService
from rpyc.utils.server import ThreadedServer

from tests.bench.peers.classic import ClassicClient
from tests.bench.processes import LOCALHOST, Way


def serve(tell: Callable[[object], None]) -> None:
    server = ThreadedServer(SlaveService, hostname=LOCALHOST, port=0)
    server.listener.listen(100)  # start() listens, and nobody would know when
    tell(server.port)
    server.start()


@contextmanager
def open_client(way: Way) -> Iterator[Client]:
    nearest, *onwards = (int(way.start("serve")) for _ in range(way.relays + 1))
    entry = way.delayed(nearest)
    conn = first = rpyc.classic.connect(LOCALHOST, entry)
    for port in onwards:
        conn = conn.modules.rpyc.classic.connect(LOCALHOST, port)
    client = Client(conn, entry)
    try:
        yield client
    finally:
        client.close()
        first.close()


class Client(ClassicClient):
    """A program with a connection."""

    def __init__(self, conn: Any, port: int) -> None:
        super().__init__(conn)
        self._port = port

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

    def _upload(self, source: str, target: str) -> None:
        rpyc.classic.upload(self._conn, source, target)

    def _download(self, source: str, target: str) -> None:
        rpyc.classic.download(self._conn, source, target)

    def _connect(self) -> Any:
        return rpyc.classic.connect(LOCALHOST, self._port)
