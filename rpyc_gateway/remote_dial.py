"""Dials on somebody's behalf: the service "dial" at the node that makes the link, and the caller's side of it."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

import trio

from rpyc_gateway.dialer import Dialer
from rpyc_gateway.errors import DialFailed, DuplicateNode, GatewayError, LimitExceeded, LinkLost, SessionClosed
from rpyc_gateway.registry import Neighbour
from rpyc_gateway.service import Service, expose
from rpyc_gateway.session import Session
from rpyc_gateway.transport import without_secrets

NO_WAY = 10.0  # seconds without a way to `via` that need a word: its name may be wrong
LINKS_PER_SESSION = 16  # nobody describes a chain with more branches than this by hand

logger = logging.getLogger("rpyc_gateway.gateway")


class DiallingNode(Protocol):
    """What dialling needs of a node."""

    name: str

    def link_neighbour(self, url: str) -> AbstractAsyncContextManager[Neighbour]: ...
    def holder(self, name: str) -> Neighbour | None: ...


@dataclass(eq=False, slots=True)
class SharedLink:
    """One link that was asked for by URL, and how many sessions want it."""

    url: str
    users: int = 0
    name: str = ""
    error: GatewayError | None = None
    settled: trio.Event = field(default_factory=trio.Event)  # it is up, or `error` says why not
    over: trio.Event = field(default_factory=trio.Event)
    reason: str = ""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class SharedLinks:
    """The links that a node has made on behalf of others: one per URL, kept while any session wants it."""

    def __init__(self, node: DiallingNode, nursery: trio.Nursery) -> None:
        self._node = node
        self._nursery = nursery
        self._links: dict[str, SharedLink] = {}

    async def take(self, url: str) -> SharedLink:
        """The link to `url`, made now if nobody has asked for it yet. It must be given back with `give_back`.

        Raises DialFailed, DuplicateNode and whatever else a dial ends with. Cancelled: nothing was taken.
        """
        link = self._links.get(url)
        if link is None:
            link = self._links[url] = SharedLink(url)
            self._nursery.start_soon(self._keep, link)
        link.users += 1
        try:
            await link.settled.wait()
            if link.error is not None:
                raise type(link.error)(str(link.error), hop=link.error.hop) from link.error
        except BaseException:
            self.give_back(link)
            raise
        return link

    def give_back(self, link: SharedLink) -> None:
        """One session wants the link no more; after the last one it ends."""
        link.users -= 1
        if link.users == 0:
            self._forget(link)
            link.scope.cancel()

    async def _keep(self, link: SharedLink) -> None:
        """Hold the link until nobody wants it. Never raises for the world's faults: `error` and `reason` have them."""
        try:
            with link.scope:
                await self._hold(link)
        except GatewayError as error:
            link.error = self._told(link.url, error)
        finally:
            self._forget(link)
            link.reason = link.reason or f"{self._node.name} ended its link to {without_secrets(link.url)}"
            if not link.name and link.error is None:
                link.error = DialFailed(link.reason, hop=self._node.name)
            link.settled.set()
            link.over.set()

    async def _hold(self, link: SharedLink) -> None:
        try:
            await self._dial(link)
        except DuplicateNode as error:
            # The node at that URL says that we are linked already; if so, that link serves as well.
            if link.settled.is_set():
                raise
            holder = self._node.holder(error.hop)
            if holder is not None:
                await self._stay(link, holder)
            else:  # we were, and that link has ended meanwhile: once more (where another node has our name, that is refused, too)
                await self._dial(link)

    async def _dial(self, link: SharedLink) -> None:
        async with self._node.link_neighbour(link.url) as neighbour:
            await self._stay(link, neighbour)

    async def _stay(self, link: SharedLink, neighbour: Neighbour) -> None:
        link.name = neighbour.connection.peer_name
        link.settled.set()
        await neighbour.over.wait()
        link.reason = str(neighbour.reason())

    def _told(self, url: str, error: GatewayError) -> GatewayError:
        """The error as whoever asked for the dial reads it: who could not dial what."""
        kind = type(error) if isinstance(error, DuplicateNode) else DialFailed
        return kind(f"{self._node.name} could not dial {without_secrets(url)}: {error}", hop=self._node.name)

    def _forget(self, link: SharedLink) -> None:
        if self._links.get(link.url) is link:
            del self._links[link.url]


class DialService(Service):
    """Makes links on behalf of one session, which keeps them: they end with it.

    Whoever may use it may also start programs here, by `stdio:` URLs. By default only the process that started this
    one may.
    """

    def __init__(self, links: SharedLinks) -> None:
        self._links = links
        self._taken: dict[str, list[SharedLink]] = {}
        self._count = 0
        self._over = False

    @expose
    async def dial(self, url: str) -> str:
        """Link this node to `url` and return the name of the node reached.

        Raises DialFailed, DuplicateNode, LimitExceeded.
        """
        if not isinstance(url, str):
            raise TypeError(f"a URL is a str, not {type(url).__name__}")
        if self._count >= LINKS_PER_SESSION:
            raise LimitExceeded(f"one session may keep {LINKS_PER_SESSION} dialled links, and this one does")
        self._count += 1
        try:
            link = await self._links.take(url)
        except BaseException:
            self._count -= 1
            raise
        if self._over:  # the session ended while its dial did not
            self._links.give_back(link)
            raise SessionClosed("the session that asked for this dial is over")
        self._taken.setdefault(link.name, []).append(link)
        return link.name

    @expose
    async def wait_lost(self, name: str) -> str:
        """Wait until the link to `name`, which this session has dialled, is over. Returns why, and forgets the link."""
        links = self._taken.get(name)
        if not links:
            raise LookupError(f"this session has dialled no node {name!r}")
        link = links[-1]
        await link.over.wait()
        if link in links:
            self._give_back(name, link)
        return link.reason

    def on_disconnect(self, session: object) -> None:
        self._over = True
        for name, links in list(self._taken.items()):
            for link in list(links):
                self._give_back(name, link)

    def _give_back(self, name: str, link: SharedLink) -> None:
        links = self._taken[name]
        links.remove(link)
        if not links:
            del self._taken[name]
        self._count -= 1
        self._links.give_back(link)


class CallingNode(Protocol):
    """What the caller's side of a dial needs of its node."""

    name: str

    async def wait_route(self, node: str) -> None: ...
    def session(self, target: str = "", *, service: str = "classic") -> AbstractAsyncContextManager[Session]: ...


async def dial_through(node: CallingNode, via: str, url: str, dialer: Dialer) -> None:
    """Have the node `via` dial `url`, as soon as there is a way to `via`; the `dialer` is told how it goes.

    Never returns: raises LinkLost when the link or the way to it is lost, Denied, NoService, DialFailed ... if there
    was none. Cancelled: the link ends.
    """
    await _wait_way(node, via, dialer)
    async with node.session(via, service="dial") as session:
        name = await session.root.dial(url)
        dialer.up()
        logger.info("%s: %s has linked %s, at %s", node.name, via, name, without_secrets(url))
        reason = await session.root.wait_lost(name)
    raise LinkLost(f"{via} lost its link to {name}: {reason}", hop=via)


async def _wait_way(node: CallingNode, via: str, dialer: Dialer) -> None:
    dialer.reason = f"waiting for a way to {via!r}"
    with trio.move_on_after(NO_WAY) as patience:
        await node.wait_route(via)
    if patience.cancelled_caught:
        logger.warning("%s: %s: no way to %r since %g s; is that its name?", node.name, dialer.what, via, NO_WAY)
        await node.wait_route(via)
    dialer.reason = ""
