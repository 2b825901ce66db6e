"""The listeners of a node, and the callers that are not links yet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from rpyc_gateway.config import Listen
from rpyc_gateway.errors import Code, ConfigError
from rpyc_gateway.proto.frames import Failure
from rpyc_gateway.registry import Neighbour
from rpyc_gateway.transport import Pipe, find_transport

UNDECIDED = 128  # callers that may wait for their HELLO or for our decision
PATIENCE = (
    1.0  # seconds that each of them has for it, even if others wait at the door; an honest HELLO is there at once
)
QUEUE = 1024  # callers at the door, each with a file descriptor


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
        self._door = trio.Lock()  # whoever has it is the next to come in; it is fair
        self._room: trio.Event | None = None
        self._standard_streams = 0

    async def listen(self, listen: Listen, *, task_status: trio.TaskStatus[list[str]]) -> None:
        """Take callers at this URL until cancelled; `started` gets the URLs that are really bound.

        Raises ConfigError if it may not or cannot be bound. Only a listener on this process's own standard streams
        ends by itself.
        """
        transport = find_transport(listen.url)
        if not (listen.insecure or transport.is_private(listen.url) or transport.is_guarded(listen.url)):
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
        if self._undecided.pop(neighbour, self) is None and self._room is not None:
            self._room.set()
            self._room = None

    def __len__(self) -> int:
        """How many callers are undecided."""
        return len(self._undecided)

    async def _accept(self, pipe: Pipe) -> None:
        if len(self._undecided) < UNDECIDED and not self._door.locked():
            neighbour = self._meet(pipe)
            self._undecided[neighbour] = None
        elif self._door.statistics().tasks_waiting >= QUEUE:
            neighbour = self._meet(pipe)
            self._send_away(neighbour, f"{QUEUE} callers wait to be heard by {self._name} already")
        else:
            async with self._door:
                await self._wait_room()
                neighbour = self._meet(pipe)
                self._undecided[neighbour] = None
        await self._drive(neighbour)

    async def _wait_room(self) -> None:
        """Wait until one more may be undecided. The oldest makes room once it has had its time."""
        while len(self._undecided) >= UNDECIDED:
            oldest = next(iter(self._undecided))
            self._room = self._room or trio.Event()
            with trio.move_on_at(oldest.since + PATIENCE) as patience:
                await self._room.wait()
            if patience.cancelled_caught:
                text = f"{self._name} hears newer callers: no link within {PATIENCE:g} s, and {UNDECIDED} are waiting"
                self._send_away(oldest, text)

    def _send_away(self, neighbour: Neighbour, text: str) -> None:
        """Tell the caller why it is cut."""
        neighbour.connection.leave(Failure(Code.LIMIT, text, self._name), 0.0)
        self.decided(neighbour)
