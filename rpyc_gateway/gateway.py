"""A node: its listeners and dialers, the routes it knows, the circuits it forwards and the sessions it serves."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from itertools import count
from typing import TypeAlias

import trio

from rpyc_gateway.admission import asked, asker, failure_of, forwarded, permitted, stamped, wanted
from rpyc_gateway.built_in import built_in
from rpyc_gateway.config import Config, Device, Dial
from rpyc_gateway.connection import Connection
from rpyc_gateway.dialer import Attempt, Dialer
from rpyc_gateway.errors import Code, Denied, DialFailed, GatewayError, LimitExceeded, LinkLost, Unreachable
from rpyc_gateway.keeping import Keeping, Kept
from rpyc_gateway.node_service import NodeInfo, surroundings
from rpyc_gateway.nursery import open_background
from rpyc_gateway.places import check_place
from rpyc_gateway.proto.frames import CircuitClass, Failure, Hello, Open, Routes
from rpyc_gateway.proto.route import RouteTable
from rpyc_gateway.receiving import StreamHandler
from rpyc_gateway.reception import Reception
from rpyc_gateway.registry import Neighbour, Registry
from rpyc_gateway.reliable import reliable
from rpyc_gateway.remote_dial import dial_through
from rpyc_gateway.serving import Offer, Serving
from rpyc_gateway.session import Session
from rpyc_gateway.splice import splice
from rpyc_gateway.transport import Pipe, find_transport, without_secrets

__all__ = ["Fronting", "Node", "NodeInfo", "Offer", "open_node"]

Fronting: TypeAlias = Callable[[Pipe], AbstractAsyncContextManager[Pipe]]
"""Makes of a pipe, at whose other end may be no node, one at whose other end is a node: a front, if need be. Raises DialFailed."""

LINKS = 4096  # links of one node, of which each may cost a file descriptor
GRACE = 1.0  # seconds that circuits have to end in order when a link or the node is left
OPEN_WITHIN = 30.0  # seconds from OPEN to the far end's answer, at any number of hops

logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_node(
    config: Config | str | os.PathLike[str],
    *,
    services: Mapping[str, Offer] | None = None,
    fronting: Fronting | None = None,
) -> AsyncIterator[Node]:
    """Run a node, without its boards, as long as the body runs. `services` are served beside those that the configuration names.
    What it dials is a node, or `fronting` makes it one.

    When the body starts every listener is bound and the dialers are at work. Raises ConfigError if the configuration
    cannot be used or a listener cannot be bound. Left in order, the neighbours are told (GOAWAY) and circuits have a
    second to end; cancelled, they are cut.
    """
    if not isinstance(config, Config):
        config = Config.load(config)
    async with open_background() as nursery:
        node = Node(config, nursery, fronting=fronting)
        offers = built_in(config, node, nursery) | dict(services or {})
        for name, offer in offers.items():
            check_place(name, offer.runs)
        node.offer(offers)
        await node.start()
        try:
            yield node
        finally:
            await node.leave()


class Node:
    """One node of the network, in this process; made by `open_node`.

    It owns the links (as their Owner its methods are called in the trio thread with a link's turn held: they only step
    machines and start tasks) and lends them to sessions. All its tasks live in the nursery it was given.
    """

    def __init__(
        self, config: Config, nursery: trio.Nursery, *, announce: bool = True, fronting: Fronting | None = None
    ) -> None:
        self.name = config.node.name
        self.vat = secrets.token_bytes(16)
        self.epoch = secrets.randbits(64)
        self.urls: list[str] = []
        self._config = config
        self._nursery = nursery
        self._fronting = fronting or as_it_is
        self._hello = Hello(name=self.name, vat=self.vat, epoch=self.epoch, announce=announce, routes=announce)
        self._numbers = count(1)
        self._neighbours: dict[Connection, Neighbour] = {}
        self._up: dict[str, Neighbour] = {}
        self._reception = Reception(self.name, partial(self._meet, dialler=False), self._drive)
        self._registry = Registry(self.name, self.vat)
        self._table = RouteTable(self.name, self.epoch, announce=announce)
        self._changed = trio.Event()  # for who waits for a way
        self._news = trio.Event()  # for who tells the neighbours
        self._serving = Serving(self.name, self.vat, nursery, {})
        self._guests = {device.name: device for device in config.device}
        self._descriptions: dict[str, Callable[[], str]] = {}  # of those devices that were here
        self._keeping = Keeping(nursery, lambda: self._departure is not None)
        self.lookout = self._keeping.lookout
        self._departure: Failure | None = None
        self._level = logging.INFO if announce else logging.DEBUG  # a client's links are its program's own affair

    @property
    def closed(self) -> trio.Event:
        """Set when the last listener on this process's own standard streams has ended: nobody can come any more."""
        return self._reception.closed

    # -- starting and leaving

    def offer(self, offers: Mapping[str, Offer]) -> None:
        """Serve these from now on, and nothing else."""
        self._serving = Serving(self.name, self.vat, self._nursery, offers)

    async def start(self) -> None:
        """Bind the listeners, then start the dialers. Raises ConfigError if a listener cannot be had."""
        for listen in self._config.listen:
            self.urls += await self._nursery.start(self._reception.listen, listen)
            logger.info("%s: listening on %s", self.name, self.urls[-1])
        for dial in self._config.dial:
            url = without_secrets(dial.url)
            what = f"{url} via {dial.via}" if dial.via else url
            path = (self.name, dial.via) if dial.via else (self.name,)
            watched = "" if dial.via else dial.url
            self._keeping.keep_link(NodeInfo("", path, 0, url, ""), what, watched, partial(self._dial, dial))
        self._nursery.start_soon(self._tell_routes)

    def keep(self, device: Device, attempt: Attempt) -> Kept:
        """Have a board of this node: `attempt` is made again and again, links it, and raises a GatewayError when it is gone.
        It is made at once when the board is plugged in. Cancel the scope of what is returned to have it no more; its rule stays.
        """
        self._guests[device.name] = device
        url = without_secrets(device.url)
        absent = NodeInfo("", (self.name,), 0, url, "")
        return self._keeping.keep_board(absent, f"{device.name} at {url}", device.url, attempt)

    def describe(self, device: str, tell: Callable[[], str]) -> None:
        """What `nodes` says of a board of this node, beside that it is up; "" for nothing."""
        self._descriptions[device] = tell

    async def leave(self) -> None:
        """Take nothing new, withdraw what was announced, and give the circuits a moment to end.

        The tasks are the nursery's to cancel.
        """
        self._departure = Failure(Code.SHUTDOWN, f"{self.name} is shutting down", self.name)
        neighbours = list(self._neighbours.values())
        for neighbour in neighbours:
            neighbour.connection.announce(Routes(withdraw=(self.name, *self._table.best())))
        self.part(self._departure, GRACE)
        self._serving.close()
        if not neighbours:
            return
        with trio.move_on_after(GRACE):
            for neighbour in neighbours:
                await neighbour.wait_end()

    def part(self, failure: Failure, grace: float) -> None:
        """Leave all links, for this reason; circuits have so many seconds to end."""
        for neighbour in list(self._neighbours.values()):
            neighbour.connection.leave(failure, grace)

    # -- what it does for its user

    @asynccontextmanager
    async def link(self, url: str) -> AsyncIterator[Connection]:
        """Dial `url` once. The body starts when the link is established; it ends with the body.

        Raises DialFailed, DuplicateNode, ProtocolError, Refused: what the world or the peer has against it.
        """
        async with self.link_neighbour(url) as neighbour:
            yield neighbour.connection

    @asynccontextmanager
    async def link_neighbour(self, url: str) -> AsyncIterator[Neighbour]:
        """`link`, with what this node knows of the peer."""
        async with self.dial(url) as neighbour:
            await neighbour.wait_established()
            yield neighbour

    @asynccontextmanager
    async def dial(self, url: str) -> AsyncIterator[Neighbour]:
        """The same before the peer has answered: a session may be opened at once, and hears of it if this becomes no link.

        Raises DialFailed.
        """
        if self._departure is not None:
            raise self._departure.error()
        async with (
            find_transport(url).connect(url) as medium,
            self._fronting(medium) as far,
            reliable(far, dialler=True) as pipe,
            open_background() as nursery,
        ):
            neighbour = self._meet(pipe, dialler=True)
            nursery.start_soon(self._drive_dialled, neighbour)
            try:
                yield neighbour
            finally:
                neighbour.connection.leave(
                    Failure(Code.DONE, f"{self.name} needs this link no longer", self.name), GRACE
                )
                with trio.move_on_after(GRACE):
                    await neighbour.wait_end()

    @asynccontextmanager
    async def session(
        self,
        target: str = "",
        *,
        via: Sequence[str] = (),
        service: str = "classic",
        connection: Connection | None = None,
        pickle: bool = False,
    ) -> AsyncIterator[Session]:
        """A session with the service of a node: over this link, or by `via` and the routes known.

        With `pickle`, what `obtain` and `deliver` cannot send as plain data is pickled if the far side allows that too: it can then run
        any code here. It is closed with the body. Raises TypeError for what is no name, and Unreachable, NoService, Denied, LinkLost ... naming the hop that said so.
        """
        request = asked(self.name, target, service, via)
        if connection is None:
            connection, request = self._way(request)
        neighbour = self._neighbours.get(connection)
        session = Session(local=self.name, vat=self.vat, opener=True, pickle=pickle)
        try:
            session.open(connection, request)
        except (LimitExceeded, LinkLost):  # not so early
            if neighbour is None or neighbour.settled.is_set():
                raise
            await neighbour.wait_established()
            session.open(connection, request)
        session.tend(partial(self._nursery.start_soon, session.run))
        try:
            connection.read_for_trio()  # a task waits for the answer: no thread may be there to read it
            if neighbour is not None:  # a new link has a time of its own: somebody may have to type a password first
                await neighbour.settled.wait()
            if not session.greeted:  # a near peer has answered together with its link
                await self._wait_open(session, neighbour, target or connection.peer_name)
            yield session
        finally:
            session.close()
            await session.wait_ended()

    async def _wait_open(self, session: Session, neighbour: Neighbour | None, peer: str) -> None:
        with trio.move_on_after(OPEN_WITHIN) as patience:
            try:
                await session.wait_open()
            except GatewayError:
                if neighbour is None or neighbour.established:
                    raise
                raise neighbour.reason() from None  # a link that did not become one says why
        if patience.cancelled_caught:
            raise Unreachable(f"no answer from {peer} within {OPEN_WITHIN:g} s", hop=self.name)

    async def wait_route(self, node: str) -> None:
        """Wait until there is a way to `node`."""
        while node != self.name and self._next(node) is None:
            await self._changed.wait()

    def nodes(self) -> list[NodeInfo]:
        """This node, every node it knows a way to, and what it tries to reach in vain."""
        known = [NodeInfo(self.name, (self.name,), 0, "", "self")]
        for name, route in sorted(self._table.best().items()):
            neighbour = self._next(name)
            address = neighbour.address if neighbour else ""
            about = ""
            if name in self._guests:  # its link is within this process
                address = without_secrets(self._guests[name].url)
                about = self._descriptions[name]() if name in self._descriptions else ""
            known.append(NodeInfo(name, (self.name, *route.path), route.cost, address, "up", about))
        return known + self._keeping.absent()

    def holder(self, name: str) -> Neighbour | None:
        """The neighbour that is linked under this name."""
        return self._up.get(name)

    # -- its links, as their Owner

    def greeted(self, connection: Connection, peer: Hello) -> None:
        neighbour = self._neighbours[connection]
        neighbour.peer = peer
        if self._departure is not None:
            connection.refuse(self._departure)
        elif len(self._up) >= LINKS:
            connection.refuse(Failure(Code.LIMIT, f"{self.name} has {LINKS} links already", self.name))
        else:
            self._registry.claim(neighbour)

    def established(self, connection: Connection) -> None:
        neighbour = self._neighbours[connection]
        assert neighbour.peer is not None
        self._reception.decided(neighbour)
        self._table.neighbour_up(neighbour.key, wants_routes=neighbour.peer.routes)
        self._up[neighbour.key] = neighbour
        neighbour.established = True
        neighbour.settled.set()
        self._routes_changed()
        logger.log(self._level, "%s: linked with %s at %s", self.name, neighbour.peer.name, neighbour.address)

    def routed(self, connection: Connection, routes: Routes) -> None:
        neighbour = self._neighbours[connection]
        if self._up.get(neighbour.key) is not neighbour:
            return  # it is leaving, or another link has its name now
        try:
            self._table.receive(neighbour.key, routes)
        except GatewayError as error:
            connection.leave(failure_of(error, self.name), 0.0)
        self._routes_changed()

    def probed(self, connection: Connection) -> None:
        self._registry.answered(self._neighbours[connection])

    def leaving(self, connection: Connection, failure: Failure, grace: float) -> None:
        neighbour = self._neighbours[connection]
        logger.debug("%s: %s at %s is leaving: %s", self.name, connection.peer_name, neighbour.address, failure.text)
        self._lose(neighbour)

    def lost(self, connection: Connection, failure: Failure) -> None:
        neighbour = self._neighbours.pop(connection)
        self._reception.decided(neighbour)
        neighbour.failure = failure
        neighbour.settled.set()
        neighbour.over.set()
        self._lose(neighbour)
        orderly = "the end of the link with" if failure.code == Code.DONE else "lost the link with"
        what = orderly if neighbour.established else "no link with"
        name = neighbour.peer.name if neighbour.peer else "a stranger"
        logger.log(
            self._level, "%s: %s %s at %s: %s", self.name, what, name, neighbour.address, failure.text or failure.code
        )

    def opened(self, connection: Connection, label: int, request: Open, kind: CircuitClass) -> StreamHandler | None:
        try:
            return self._admit(self._neighbours[connection], label, request, kind)
        except GatewayError as error:
            connection.mux.reject(label, failure_of(error, self.name))
            return None

    # -- circuits

    def _admit(self, neighbour: Neighbour, label: int, request: Open, kind: CircuitClass) -> StreamHandler:
        connection = neighbour.connection
        assert neighbour.peer is not None
        request = stamped(request, neighbour.peer, name=self.name, identity=connection.pipe.identity)
        node, request = wanted(request, self.name)
        if node:
            return self._forward(neighbour, label, request, kind, node)
        return self._serving.admit(neighbour, label, request)

    def _forward(self, neighbour: Neighbour, label: int, request: Open, kind: CircuitClass, node: str) -> StreamHandler:
        if node in self._guests:  # a board knows only its gateway: the rule for it is kept here
            if not permitted(self._guests[node].allow, request.origin):
                raise Denied(f"{node} of {self.name} does not let in {asker(request.origin)}", hop=self.name)
        elif not permitted(self._config.relay.allow, request.origin):
            raise Denied(f"{self.name} does not relay for {asker(request.origin)}", hop=self.name)
        request = forwarded(request, self.name)
        far = self._toward(node, request).connection
        # Control is for the link's own frames: no circuit may go before those.
        return splice(neighbour.connection, label, far, request, max(kind, CircuitClass.CALL))

    def _way(self, request: Open) -> tuple[Connection, Open]:
        """Where this node's own OPEN goes first."""
        if not request.target and not request.via and len(self._up) == 1:
            (only,) = self._up.values()
            return only.connection, request
        node, request = wanted(request, self.name)
        if not node:
            raise Unreachable(
                f"{request.target} is this node itself: sessions are with other nodes"
                if request.target
                else f"no node is named, and {self.name} has {len(self._up)} links: say which node is meant",
                hop=self.name,
            )
        return self._toward(node, request).connection, request

    def _toward(self, node: str, request: Open) -> Neighbour:
        neighbour = self._next(node)
        if neighbour is None:
            must = ", which this circuit must pass (via)" if request.via else ""
            # Who may not ask for the nodes is not told of them here.
            around = f" ({surroundings(self.nodes())})" if self._serving.lets(request, "node") else ""
            raise Unreachable(f"{self.name} knows no way to {node!r}{must}{around}", hop=self.name)
        return neighbour

    def _next(self, node: str) -> Neighbour | None:
        """The first link towards a node. A neighbour is known before its first ROUTE has come."""
        return self._up.get(node) or self._up.get(self._table.next_hop(node) or "")

    # -- links

    def _meet(self, pipe: Pipe, *, dialler: bool) -> Neighbour:
        connection = Connection(pipe, self._hello, self, dialler=dialler)
        neighbour = self._neighbours[connection] = Neighbour(connection, next(self._numbers))
        return neighbour

    def _lose(self, neighbour: Neighbour) -> None:
        """A link is over or about to be: nothing new goes there, and its name is free."""
        if neighbour.peer is None:
            return
        if self._up.get(neighbour.key) is neighbour:
            del self._up[neighbour.key]
            self._table.neighbour_down(neighbour.key)
            self._routes_changed()
        self._registry.release(neighbour)

    async def _drive_dialled(self, neighbour: Neighbour) -> None:
        await (
            trio.lowlevel.checkpoint()
        )  # whoever waited for this opens his session now, which leaves in one write with our HELLO
        await self._drive(neighbour)

    async def _drive(self, neighbour: Neighbour) -> None:
        try:
            await neighbour.connection.run()
        except Exception:  # a defect of ours; the other links go on
            logger.exception("%s: the link to %s failed", self.name, neighbour.address)
        finally:
            if neighbour.connection in self._neighbours:
                self.lost(neighbour.connection, Failure(Code.INTERNAL, f"{self.name} gave up this link", self.name))
            neighbour.parted.set()

    async def _dial(self, dial: Dial, dialer: Dialer) -> None:
        """One attempt of a dialer: raises when the link is over or did not come to be."""
        if dial.via is not None:
            await dial_through(self, dial.via, dial.url, dialer)
            return
        async with self.link_neighbour(dial.url) as neighbour:
            dialer.up()
            await neighbour.over.wait()
        raise neighbour.reason()

    # -- routes

    def _routes_changed(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        if self._table.to_tell:
            self._news.set()

    async def _tell_routes(self) -> None:
        """Tell every neighbour what has changed for it, many changes in one go."""
        while True:
            self._news = trio.Event()
            for key in self._table.to_tell:
                routes = self._table.pending(key)
                neighbour = self._up.get(key)
                if routes is not None and neighbour is not None:
                    neighbour.connection.announce(routes)
            await self._news.wait()


def as_it_is(pipe: Pipe) -> AbstractAsyncContextManager[Pipe]:
    """A pipe that has a node at its other end. Raises DialFailed for another."""
    if pipe.interpreter is not None:
        raise DialFailed(f"{pipe.peer}: a bare Python needs a front, and this node has been opened without any")
    return nullcontext(pipe)
