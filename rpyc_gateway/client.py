"""Open a session from a process that is no node of its own: link, dial onwards from hop to hop, open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext

import trio

from rpyc_gateway.admission import passed
from rpyc_gateway.boards import fronted
from rpyc_gateway.config import Config, NodeSection, Relay, process_name
from rpyc_gateway.connection import Connection
from rpyc_gateway.gateway import Node
from rpyc_gateway.nursery import open_background
from rpyc_gateway.proto.frames import valid_name
from rpyc_gateway.session import Session


@asynccontextmanager
async def open_session(
    url: str | Sequence[str],
    *,
    node: str | None = None,
    via: Sequence[str] = (),
    service: str = "classic",
    name: str | None = None,
    pickle: bool = False,
) -> AsyncIterator[Session]:
    """A session with a service of a node, closed with the body.

    `url` is where to link to, or a list of hops: each further one is dialled by the node before it, which must allow
    that (its service "dial"). `node` is the name of the node wanted, as the last hop knows it, behind the nodes of
    `via`; None is the last node passed. With `pickle`, what `obtain` and `deliver` cannot send as plain data is pickled if the
    far side allows that too: it can then run any code here.

    Raises DialFailed, Unreachable, NoService, Denied, DuplicateNode, ProtocolError: the message names the hop.
    """
    async with open_way(url, name=name) as way, way.session(node, via=via, service=service, pickle=pickle) as session:
        yield session


class Way:
    """A link of this process and the hops dialled beyond it; sessions are opened along it, the first without waiting for the link."""

    def __init__(self, client: Node, connection: Connection, passed: tuple[str, ...]) -> None:
        self._client = client
        self.connection = connection
        self._passed = passed

    def session(
        self, node: str | None = None, *, via: Sequence[str] = (), service: str = "classic", pickle: bool = False
    ) -> AbstractAsyncContextManager[Session]:
        """A session with `node` behind the last hop and `via`, or with the last of those itself; see open_session."""
        # Each hop must be passed, by name: a way around it would not be the chain that was asked for.
        names = (*self._passed, *passed(via), *(() if node is None else (node,)))
        return _session_along(self._client, self.connection, names, service, pickle=pickle)


@asynccontextmanager
async def open_way(
    url: str | Sequence[str], *, name: str | None = None, nursery: trio.Nursery | None = None
) -> AsyncIterator[Way]:
    """Link to the first hop, and have each further one dialled by the one before; see `open_client`. Raises like open_session."""
    hops = hops_of(url)
    async with open_client(name, nursery) as client, client.dial(hops[0]) as neighbour:
        if len(hops) == 1:
            yield Way(client, neighbour.connection, ())
            return
        async with AsyncExitStack() as stack:
            passed = await _dial_onwards(client, neighbour.connection, hops[1:], stack)
            yield Way(client, neighbour.connection, passed)


def hops_of(url: object) -> tuple[str, ...]:
    """What to link to, one hop after the other. Raises TypeError for what is no URL and no sequence of them, ValueError for none."""
    if isinstance(url, str):
        return (url,)
    if not isinstance(url, Sequence) or not all(isinstance(hop, str) for hop in url):
        raise TypeError(f"`url` is a str, or a sequence of them for several hops, not {str(url)[:80]!r}")
    if not url:
        raise ValueError("a session needs at least one hop")
    return tuple(url)


@asynccontextmanager
async def open_client(name: str | None = None, nursery: trio.Nursery | None = None) -> AsyncIterator[Node]:
    """A node that serves, relays and announces nothing: where sessions of this process begin.

    What tasks its sessions need are started in `nursery`, and are over when they are; without one it has its own.
    """
    if name is not None and not valid_name(name):
        raise ValueError(f"{name!r} is not a node name: 1 to 64 of A-Z a-z 0-9 . _ - beginning with a letter or digit")
    config = _CLIENT.but(node=NodeSection(name=name or process_name()))
    async with open_background() if nursery is None else nullcontext(nursery) as tasks:
        client = Node(config, tasks, announce=False, fronting=fronted)
        try:
            yield client
        finally:
            await client.leave()


_CLIENT = Config(node=NodeSection(name="client"), relay=Relay(allow=()))


async def _dial_onwards(
    client: Node, connection: Connection, hops: Sequence[str], stack: AsyncExitStack
) -> tuple[str, ...]:
    """Have each hop dialled by the one before, and keep the sessions that hold those links on the stack.

    Returns the names of the nodes dialled.
    """
    passed: tuple[str, ...] = ()
    for hop in hops:
        session = await stack.enter_async_context(_session_along(client, connection, passed, "dial"))
        passed = (*passed, await session.root.dial(hop))
    return passed


def _session_along(
    client: Node, connection: Connection, way: tuple[str, ...], service: str, *, pickle: bool = False
) -> AbstractAsyncContextManager[Session]:
    """A session with the last node of the way, or with the peer itself if the way is empty."""
    target = way[-1] if way else ""
    return client.session(target, via=way[:-1], service=service, connection=connection, pickle=pickle)
