"""What a blocking program does with a whole interpreter behind a connection: the very same for ours and for RPyC, whose vocabulary it is."""

from __future__ import annotations

import gc
import tracemalloc
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from tests.bench.files import Files

__all__ = ["ClassicClient", "in_8_threads"]


class ClassicClient(ABC):
    """A program with a connection. Whatever is called is held, so that a call is one round trip."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self._far = conn.modules["tests.bench.objects"]
        self._add = self._far.add
        self._length = self._far.length
        self._make = self._far.make
        self._connections = ExitStack()
        self._files = Files()

    def call(self, n: int) -> None:
        add = self._add
        for _ in range(n):
            result = add(1, 2)
        assert result == 3

    def threads(self, n: int) -> None:
        in_8_threads(self.call, [n // 8] * 8)

    def chain(self, n: int) -> None:
        conn = self._conn
        for _ in range(n):
            result = conn.modules.os.path.join("a", "b")
        assert result == "a/b"

    def iterate_list(self, n: int) -> None:
        assert sum(self._far.numbers(n)) == n * (n - 1) // 2

    def iterate_generator(self, n: int) -> None:
        assert sum(self._iterate(self._far.generate(n))) == n * (n - 1) // 2

    def _iterate(self, remote: Any) -> Iterable[int]:
        iterator: Iterable[int] = iter(remote)
        return iterator

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
        """What one of n proxies takes of the memory that Python counts, without the list that the program keeps them in."""
        self._make()
        held: list[object] = [None] * n
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for index in range(n):
            held[index] = self._make()
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        return taken / len(held)

    def connect(self, n: int) -> None:
        for _ in range(n):
            conn = self._connect()
            self._connections.callback(conn.close)
            assert conn.eval("1 + 2") == 3

    def upload(self, size: int) -> None:
        self._copy(self._upload, self._files.large(size))

    def download(self, size: int) -> None:
        self._copy(self._download, self._files.large(size))

    def upload_many(self, count: int) -> None:
        self._copy(self._upload, self._files.many(count))

    def download_many(self, count: int) -> None:
        self._copy(self._download, self._files.many(count))

    def _copy(self, copy: Callable[[str, str], object], source: str) -> None:
        target = self._files.target()
        copy(source, target)
        self._files.check(source, target)

    @abstractmethod
    def _connect(self) -> Any:
        """Another connection to the same server."""

    @abstractmethod
    def _upload(self, source: str, target: str) -> None:
        """Copy a file or a directory to the far side."""

    @abstractmethod
    def _download(self, source: str, target: str) -> None:
        """Copy one from there."""

    def tidy(self) -> None:
        """Close what `connect` has made, remove what was copied."""
        self._connections.close()
        self._files.tidy()

    def close(self) -> None:
        """Leave nothing."""
        self.tidy()
        self._files.close()


def in_8_threads(function: Any, arguments: list[Any]) -> None:
    """Call it in threads at once. Raises what any of them raised."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(function, arguments))
