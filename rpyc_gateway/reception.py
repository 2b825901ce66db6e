"""The listeners of a node, and the callers that are not links yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from rpyc_gateway.config import Listen
from rpyc_gateway.errors import Code, ConfigError
from rpyc_gateway.proto.frames import Failure
from rpyc_gateway.registry import Neighbour
from rpyc_gateway.transport import Pipe, find_transport

UNDECIDED = 128  # callers that may wait for their HELLO or for our decision; the oldest makes room for one more


class Reception:
    """Takes callers in. `meet` makes a neighbour of a pipe, `drive` runs its link to the end."""

    def __init__(
        self, name: str, meet: Callable[[Pipe], Neighbour], drive: Callable[[Neighbour], Awaitable[None]]
    ) -> None:
        self.closed = trio.Event()
        self._name = name
        self._meet = meet
        self._drive = drive
        self._undecided: dict[Neighbour, None] = {}  # the oldest first
        self._standard_streams = 0

    async def listen(self, listen: Listen, *, task_status: trio.TaskStatus[list[str]]) -> None:
        """Take callers at this URL until cancelled; `started` gets the URLs that are really bound.

        Raises ConfigError if it may not or cannot be bound. Only a listener on this process's own standard streams
        ends by itself.
        """
        transport = find_transport(listen.url)
        if not (listen.insecure or transport.is_private(listen.url)):
            what = "other machines can reach this listener and nothing protects it yet; `insecure = true` allows it"
            raise ConfigError([f"{listen.url}: {what}"])
        standard = listen.url.partition(":")[0].lower() == "stdio"
        self._standard_streams += standard
        await transport.serve(listen.url, self._accept, task_status=task_status)
        self._standard_streams -= standard
        if standard and not self._standard_streams:
            self.closed.set()

    def decided(self, neighbour: Neighbour) -> None:
        """The caller has become a link, or is gone."""
        self._undecided.pop(neighbour, None)

    def __len__(self) -> int:
        """How many callers are undecided."""
        return len(self._undecided)

    async def _accept(self, pipe: Pipe) -> None:
        neighbour = self._meet(pipe)
        if len(self._undecided) >= UNDECIDED:
            oldest = next(iter(self._undecided))
            oldest.connection.close(
                Failure(Code.LIMIT, f"{self._name} waits for {UNDECIDED} newer callers", self._name)
            )
        self._undecided[neighbour] = None
        await self._drive(neighbour)
