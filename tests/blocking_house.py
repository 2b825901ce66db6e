"""A chain of nodes in a thread of its own, for tests of blocking code that look at the far side too."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from queue import SimpleQueue
from typing import Any

import trio

import rpyc_gateway as gw
from rpyc_gateway.gateway import Node
from rpyc_gateway.serving import Offer
from rpyc_gateway.session import Session
from rpyc_gateway.worker import workers
from tests.house import enter_chain

_numbers = itertools.count(1)


class House:
    """The nodes, the first of which is dialled at `url`; the last is `lab`."""

    def __init__(self, nodes: list[Node], token: trio.lowlevel.TrioToken) -> None:
        self.nodes = nodes
        self.url = nodes[0].urls[0]
        self.lab = nodes[-1]
        self._token = token

    def connect(self, **options: Any) -> gw.BlockingSession:
        return gw.connect(self.url, **{"node": "lab", "name": f"laptop{next(_numbers)}"} | options)

    def ask(self, function: Callable[[], Any]) -> Any:
        """What a function returns in the thread that runs the nodes."""
        return trio.from_thread.run_sync(function, trio_token=self._token)

    def sessions(self) -> list[Session]:
        """The sessions that end at the lab."""
        return self.ask(lambda: [session for session, _ in self.lab._serving._sessions.values()])

    def until(self, condition: Callable[[], object]) -> None:
        """Return when something is so at the lab; the test's own bound is the limit."""

        async def wait() -> None:
            with trio.fail_after(30):
                while not condition():  # noqa: ASYNC110  # what happens in a thread sets no event
                    await trio.sleep(0.001)

        trio.from_thread.run(wait, trio_token=self._token)

    def until_empty(self) -> None:
        """Return when the lab has no session, no thread of a caller and no circuit left."""
        serving = self.lab._serving
        self.until(lambda: not len(serving) and not workers.statistics()[1])
        self.until(lambda: not any(link.statistics().streams for node in self.nodes for link in list(node._neighbours)))


@contextmanager
def open_blocking_lab(hops: int = 1, services: Mapping[str, Offer] | None = None) -> Iterator[House]:
    """A lab that serves classic and `services`, so many links away from whoever connects."""
    ready: SimpleQueue[Any] = SimpleQueue()
    thread = threading.Thread(target=trio.run, args=(_run, hops, services, ready))
    thread.start()
    house, stop = ready.get()
    try:
        yield house
    finally:
        stop()
        thread.join()


async def _run(hops: int, services: Mapping[str, Offer] | None, ready: SimpleQueue[Any]) -> None:
    number = next(_numbers)
    names = [*(f"relay{position}" for position in range(1, hops)), "lab"]
    urls = ["tcp://127.0.0.1:0", *(f"memory://{name}-{number}" for name in names[1:])]
    async with AsyncExitStack() as stack:
        nodes = await enter_chain(stack, dict(zip(names, urls, strict=True)), services)
        over = trio.Event()
        token = trio.lowlevel.current_trio_token()
        ready.put((House(nodes, token), lambda: token.run_sync_soon(over.set)))
        await over.wait()


def is_answered(url: str) -> bool:
    """Whether somebody listens there. A socket is seen a moment before that."""
    try:
        gw.connect(url, service="node").close()
    except gw.DialFailed:
        return False
    return True
