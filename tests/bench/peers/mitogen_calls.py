"""mitogen: a child behind a pair of sockets that runs functions which it is sent, one after the other in its main thread."""

from __future__ import annotations

import os.path
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mitogen.core
import mitogen.master

from tests.bench.peers import mitogen_far as far
from tests.bench.peers.classic import in_8_threads
from tests.bench.processes import Way


@contextmanager
def open_client(way: Way) -> Iterator[Client | None]:
    if way.delay:
        yield None
        return
    broker = mitogen.master.Broker()
    try:
        router = mitogen.master.Router(broker)
        router.max_message_size = 1 << 29
        context = router.local()
        for _ in range(way.relays):
            context = router.local(via=context)
        yield Client(router, context)
    finally:
        broker.shutdown()
        broker.join()


class Client:
    """What a program with a context does."""

    def __init__(self, router: Any, context: Any) -> None:
        self._router = router
        self._context = context

    def call(self, n: int) -> None:
        call = self._context.call
        for _ in range(n):
            result = call(far.add, 1, 2)
        assert result == 3

    def inflight(self, n: int) -> None:
        call = self._context.call_async
        waiting = deque(call(far.add, 1, 2) for _ in range(100))
        for _ in range(n - 100):
            assert waiting.popleft().get().unpickle() == 3
            waiting.append(call(far.add, 1, 2))
        assert all(receiver.get().unpickle() == 3 for receiver in waiting)

    def burst(self, n: int) -> None:
        for _ in range(n // 100):
            self.inflight(100)

    def threads(self, n: int) -> None:
        in_8_threads(self.call, [n // 8] * 8)

    def chain(self, n: int) -> None:
        for _ in range(n):
            result = self._context.call(os.path.join, "a", "b")
        assert result == "a/b"

    def iterate_generator(self, n: int) -> None:
        receiver = mitogen.core.Receiver(self._router)
        done = self._context.call_async(far.generate, receiver.to_sender(), n)
        assert sum(message.unpickle() for message in receiver) == n * (n - 1) // 2
        done.get()

    def send(self, data: bytes) -> None:
        assert self._context.call(far.length, data) == len(data)

    def callback(self, n: int) -> None:
        receiver = mitogen.core.Receiver(self._router)
        done = self._context.call_async(far.call_back, receiver.to_sender(), n)
        sender = receiver.get().unpickle()
        for message in receiver:
            sender.send(message.unpickle())
        assert done.get().unpickle() == n * (n - 1) // 2
