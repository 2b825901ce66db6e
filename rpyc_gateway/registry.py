"""Who is linked to this node under which name, and what happens when two claim the same."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from rpyc_gateway.connection import Connection
from rpyc_gateway.errors import Code, DialFailed, GatewayError, ProtocolError
from rpyc_gateway.proto.frames import Failure, Hello

PROBE_WITHIN = 2.0  # seconds an old link has to answer when a newcomer claims its name (docs/protocol.md, section 2)
CROSSING = 5.0  # seconds in which two links between the same two processes count as having crossed on the wire


@dataclass(eq=False, slots=True)
class Neighbour:
    """A link of this node, from its first byte to its last, with what the node knows of the peer."""

    connection: Connection
    number: int
    peer: Hello | None = None
    since: float = field(default_factory=trio.current_time)
    established: bool = False
    settled: trio.Event = field(default_factory=trio.Event)  # it is established, or over without having been
    over: trio.Event = field(default_factory=trio.Event)
    parted: trio.Event = field(default_factory=trio.Event)  # its pipe is closed, after the last words
    failure: Failure | None = None
    leaving: bool = False
    sessions: int = 0

    @property
    def key(self) -> str:
        """What the route table knows this link by: the peer's name, or for a client something no node can be called."""
        assert self.peer is not None, "only a peer that said HELLO has a key"
        return self.peer.name if self.peer.announce else f"{self.peer.name}#{self.number}"

    @property
    def address(self) -> str:
        return self.connection.pipe.peer

    async def wait_established(self) -> None:
        """Wait until both sides have agreed to the link.

        Raises what the peer or this node had against it (DuplicateNode, ProtocolError, Denied ...), or DialFailed if
        there was no answer.
        """
        await self.settled.wait()
        if not self.established:
            raise self.reason()

    async def wait_end(self) -> None:
        """Wait until it is over, and its last words have left. A plain socket has taken them by then, and needs no goodbye of its own."""
        await self.over.wait()
        if not isinstance(self.connection.pipe.stream, trio.SocketStream):
            await self.parted.wait()

    def reason(self) -> GatewayError:
        """Why the link is over, as an exception."""
        failure = self.failure or Failure(code=Code.LINK_LOST, text=f"the link to {self.address} is over")
        error = failure.error(here=self.connection.mux.hello.name)
        if self.established or failure.code not in _UNPLACED:
            return error
        kind = ProtocolError if isinstance(error, ProtocolError) else DialFailed
        return kind(f"{self.address} did not become a link: {error}", hop=failure.hop)


# What is noticed of a stranger, by either side: the text cannot say whom it is about.
_UNPLACED = (Code.LINK_LOST, Code.TIMEOUT, Code.DONE, Code.PROTOCOL, Code.VERSION)


class Registry:
    """The names of the neighbours, each held by one live link. Decides about every newcomer, at once or after a probe.

    A newcomer that claims a held name waits while the old link is probed. Answer: the newcomers are refused. Silence:
    the last newcomer takes the name over. How many wait is bounded by whoever bounds links that are not established.
    """

    def __init__(self, name: str, vat: bytes) -> None:
        self._name = name
        self._vat = vat
        self._held: dict[str, Neighbour] = {}
        self._waiting: dict[str, list[Neighbour]] = {}

    def holder(self, name: str) -> Neighbour | None:
        return self._held.get(name)

    def claim(self, newcomer: Neighbour) -> None:
        """Decide about a peer that has said HELLO: it is welcomed or refused, now or when a probe is over."""
        peer = newcomer.peer
        assert peer is not None, "a claim follows a HELLO"
        if peer.vat == self._vat:
            self._refuse(newcomer, f"{newcomer.address} is {self._name} itself: this is myself")
        elif not peer.announce:
            newcomer.connection.welcome()
        elif peer.name == self._name:
            self._refuse(
                newcomer,
                f"{self._name} at {newcomer.address} has the name of the node it links to; each node needs its own",
            )
        elif peer.name not in self._held:
            self._hold(newcomer)
        elif self._crossed(self._held[peer.name], newcomer):
            self._settle(self._held[peer.name], newcomer)
        else:
            self._challenge(self._held[peer.name], newcomer)

    def answered(self, holder: Neighbour) -> None:
        """The link that was probed is alive: who waited for its name is refused."""
        if not self._holds(holder):
            return
        for newcomer in self._waiting.pop(holder.key, []):
            self._refuse_second(holder, newcomer)

    def release(self, neighbour: Neighbour) -> None:
        """A link is over, or leaving: its name is free, and goes to the last of those that wait for it."""
        if neighbour.peer is None:
            return
        waiting = self._waiting.get(neighbour.key, [])
        if neighbour in waiting:
            waiting.remove(neighbour)
        if not self._holds(neighbour):
            return
        del self._held[neighbour.key]
        self._waiting.pop(neighbour.key, None)
        if waiting:
            heir = waiting.pop()
            self._hold(heir)
            for newcomer in waiting:
                self._refuse_second(heir, newcomer)

    def _holds(self, neighbour: Neighbour) -> bool:
        return neighbour.peer is not None and self._held.get(neighbour.key) is neighbour

    def _hold(self, newcomer: Neighbour) -> None:
        self._held[newcomer.key] = newcomer
        newcomer.connection.welcome()

    def _challenge(self, holder: Neighbour, newcomer: Neighbour) -> None:
        waiting = self._waiting.setdefault(holder.key, [])
        waiting.append(newcomer)
        if len(waiting) == 1:
            holder.connection.probe(PROBE_WITHIN)

    def _crossed(self, holder: Neighbour, newcomer: Neighbour) -> bool:
        """Two nodes that dial each other at once see the links in different order: each would refuse the other's."""
        assert holder.peer is not None
        assert newcomer.peer is not None
        return (
            holder.peer.vat == newcomer.peer.vat
            and holder.connection.dialler != newcomer.connection.dialler
            and trio.current_time() - holder.since < CROSSING
        )

    def _settle(self, holder: Neighbour, newcomer: Neighbour) -> None:
        """Of two links that crossed both nodes keep the one that the smaller vat has dialled."""
        assert newcomer.peer is not None
        if (self._vat < newcomer.peer.vat) != newcomer.connection.dialler:
            self._refuse_second(holder, newcomer)
            return
        self._hold(newcomer)
        for other in self._waiting.pop(newcomer.key, []):
            self._refuse_second(newcomer, other)
        holder.connection.leave(self._second(newcomer, holder), 0.0)

    def _refuse_second(self, holder: Neighbour, newcomer: Neighbour) -> None:
        newcomer.connection.refuse(self._second(holder, newcomer))

    def _second(self, holder: Neighbour, newcomer: Neighbour) -> Failure:
        text = (
            f"{self._name} already has a live link with a node named {newcomer.key!r}, at {holder.address}; "
            f"a second one, at {newcomer.address}, is refused"
        )
        return Failure(code=Code.DUPLICATE, text=text, hop=self._name)

    def _refuse(self, newcomer: Neighbour, text: str) -> None:
        newcomer.connection.refuse(Failure(code=Code.DUPLICATE, text=text, hop=self._name))
