"""Pyro5 with its own serializer: objects that are exposed by name; many calls at once are its batch, which is one message."""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import serpent
from Pyro5 import config
from Pyro5.api import BatchProxy, Daemon, Proxy, expose

from tests.bench import objects
from tests.bench.processes import LOCALHOST, Way

config.SOCK_NODELAY = True
config.MAX_MESSAGE_SIZE = 1 << 30


@expose
class Root:
    """What the server offers."""

    def add(self, a: int, b: int) -> int:
        return objects.add(a, b)

    def join(self, a: str, b: str) -> str:
        return os.path.join(a, b)

    def generate(self, n: int) -> Iterator[int]:
        return objects.generate(n)

    def length(self, data: object) -> int:
        return len(serpent.tobytes(data))

    def call_back(self, owner: Proxy, n: int) -> int:
        return objects.call_back(owner.identity, n)


@expose
class Owner:
    """What the client offers to be called back."""

    def identity(self, i: int) -> int:
        return i


def serve(tell: Callable[[object], None]) -> None:
    daemon = Daemon(host=LOCALHOST)
    tell(daemon.register(Root(), "root"))
    daemon.requestLoop()


@contextmanager
def open_client(way: Way) -> Iterator[Client | None]:
    if way.relays or way.delay:
        yield None
        return
    with Proxy(way.start("serve")) as root, Daemon(host=LOCALHOST) as daemon:
        owner = Owner()
        daemon.register(owner)
        Thread(target=daemon.requestLoop, daemon=True).start()
        yield Client(root, owner)
        daemon.shutdown()


class Client:
    """What a program with a proxy of the root does."""

    def __init__(self, root: Proxy, owner: Owner) -> None:
        self._root = root
        self._owner = owner

    def call(self, n: int) -> None:
        add = self._root.add
        for _ in range(n):
            result = add(1, 2)
        assert result == 3

    def burst(self, n: int) -> None:
        for _ in range(n // 100):
            batch = BatchProxy(self._root)
            for _ in range(100):
                batch.add(1, 2)
            assert list(batch()) == [3] * 100

    def iterate_generator(self, n: int) -> None:
        assert sum(self._root.generate(n)) == n * (n - 1) // 2

    def send(self, data: bytes) -> None:
        assert self._root.length(data) == len(data)

    def callback(self, n: int) -> None:
        assert self._root.call_back(self._owner, n) == n * (n - 1) // 2

    def connect(self, n: int) -> None:
        for _ in range(n):
            with Proxy(self._root._pyroUri) as root:
                assert root.add(1, 2) == 3
