"""execnet: an interpreter behind a pipe, code that is sent there, and channels to it. No RPC, so a call is a message there and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import execnet

from tests.bench.peers.classic import in_8_threads
from tests.bench.processes import Way

LOOP = """
from tests.bench import objects
for what, argument in channel:
    if what == "add":
        channel.send(objects.add(*argument))
    elif what == "length":
        channel.send(objects.length(argument))
    elif what == "generate":
        for number in objects.generate(argument):
            channel.send(number)
    elif what == "call_back":
        def ask(i):
            channel.send(i)
            return channel.receive()
        total = objects.call_back(ask, argument)
        channel.send(("total", total))
"""
JOIN = 'import os; channel.send(os.path.join("a", "b"))'


@contextmanager
def open_client(way: Way) -> Iterator[Client | None]:
    if way.delay:
        yield None
        return
    group = execnet.Group()
    via = ""
    for number in range(way.relays):
        group.makegateway(f"popen//id=relay{number}{via}")
        via = f"//via=relay{number}"
    gateway = group.makegateway(f"popen//id=server{via}")
    gateway.remote_exec("import os, sys; sys.path.insert(0, os.getcwd())").waitclose()
    try:
        yield Client(gateway)
    finally:
        group.terminate(timeout=1)


class Client:
    """What a program with a gateway does."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway
        self._channels = [gateway.remote_exec(LOOP) for _ in range(8)]
        self._channel = self._channels[0]

    def call(self, n: int, channel: Any = None) -> None:
        channel = channel or self._channel
        send, receive = channel.send, channel.receive
        for _ in range(n):
            send(("add", (1, 2)))
            result = receive()
        assert result == 3

    def inflight(self, n: int) -> None:
        send, receive = self._channel.send, self._channel.receive
        for _ in range(100):
            send(("add", (1, 2)))
        for _ in range(n - 100):
            assert receive() == 3
            send(("add", (1, 2)))
        assert sum(receive() for _ in range(100)) == 300

    def burst(self, n: int) -> None:
        for _ in range(n // 100):
            self.inflight(100)

    def threads(self, n: int) -> None:
        in_8_threads(partial(self.call, n // 8), self._channels)

    def chain(self, n: int) -> None:
        for _ in range(n):
            result = self._gateway.remote_exec(JOIN).receive()
        assert result == "a/b"

    def iterate_generator(self, n: int) -> None:
        self._channel.send(("generate", n))
        receive = self._channel.receive
        assert sum(receive() for _ in range(n)) == n * (n - 1) // 2

    def send(self, data: bytes) -> None:
        self._channel.send(("length", data))
        assert self._channel.receive() == len(data)

    def callback(self, n: int) -> None:
        send, receive = self._channel.send, self._channel.receive
        send(("call_back", n))
        for _ in range(n):
            send(receive())
        assert receive() == ("total", n * (n - 1) // 2)
