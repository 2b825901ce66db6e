"""The listeners of a node, and the callers that are not links yet."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import cached_property, partial

import trio

from rpyc_gateway.config import UNPROTECTED, Listen
from rpyc_gateway.doorway import PATIENCE
from rpyc_gateway.errors import Code, ConfigError, LinkLost
from rpyc_gateway.proto.frames import Failure
from rpyc_gateway.registry import Neighbour
from rpyc_gateway.reliable import reliable
from rpyc_gateway.transport import Crowded, Doorway, Hearing, Pipe, find_transport, without_secrets

logger = logging.getLogger(__name__)

PARTINGS = 64  # callers that are turned away with a word at one time: each may take seconds, and has a descriptor


class Reception:
    """Takes callers in. `meet` makes a neighbour of a pipe, `drive` runs its link to the end."""

    def __init__(
        self, name: str, meet: Callable[[Pipe], Neighbour], drive: Callable[[Neighbour], Awaitable[None]]
    ) -> None:
        self.closed = trio.Event()
        self._name = name
        self._meet = meet
        self._drive = drive
        self._undecided: dict[Neighbour, Hearing] = {}
        self._partings = 0  # callers that are being told that there is no room
        self._standard_streams = 0

    @cached_property
    def _doorway(self) -> Doorway:  # which a client has no use for
        return Doorway()

    async def listen(self, listen: Listen, *, task_status: trio.TaskStatus[list[str]]) -> None:
        """Take callers at this URL until cancelled; `started` gets the URLs that are really bound.

        Raises ConfigError if it may not or cannot be bound. Only a listener on this process's own standard streams
        ends by itself.
        """
        transport = find_transport(listen.url)
        if not (listen.insecure or transport.is_private(listen.url) or transport.is_guarded(listen.url)):
            raise ConfigError([f"{without_secrets(listen.url)}: {UNPROTECTED}; `insecure = true` allows it"])
        standard = listen.url.partition(":")[0].lower() == "stdio"
        self._standard_streams += standard
        await transport.serve(listen.url, self._accept, task_status=task_status)
        self._standard_streams -= standard
        if standard and not self._standard_streams:
            self.closed.set()

    def decided(self, neighbour: Neighbour) -> None:
        """The caller has become a link, or is gone."""
        place = self._undecided.pop(neighbour, None)
        if place is not None:
            self._doorway.leave(place)

    def __len__(self) -> int:
        """How many callers are undecided."""
        return len(self._undecided)

    async def _accept(self, medium: Pipe) -> None:
        """Take whoever comes by this pipe; by a line that is not reliable nobody has come before a peer has spoken."""
        if medium.reliable:
            await self._take_in(medium)
            return
        try:
            async with reliable(medium, dialler=False) as pipe:
                await self._take_in(pipe)
        except LinkLost as error:
            logger.info("%s: nobody came: %s", self._name, error)

    async def _take_in(self, pipe: Pipe) -> None:
        try:
            place = await self._doorway.enter(pipe.fileno)
        except Crowded:
            await self._turn_away(pipe)
            return
        neighbour = self._meet(pipe)
        self._undecided[neighbour] = place
        why = f"no link within {PATIENCE:g} s, and {len(self._undecided)} are waiting"
        place.evict = partial(self._send_away, neighbour, f"{self._name} hears newer callers: {why}")
        await self._drive(neighbour)

    async def _turn_away(self, pipe: Pipe) -> None:
        """Tell a caller that there is no room, unless too many are being told so: then it sees its connection closed."""
        if self._partings >= PARTINGS:
            return
        self._partings += 1
        try:
            neighbour = self._meet(pipe)
            self._send_away(neighbour, f"{self._doorway.queue} callers wait to be heard by {self._name} already")
            await self._drive(neighbour)
        finally:
            self._partings -= 1

    def _send_away(self, neighbour: Neighbour, text: str) -> None:
        """Tell the caller why it is cut."""
        neighbour.connection.leave(Failure(Code.LIMIT, text, self._name), 0.0)
        self.decided(neighbour)
