"""The sessions that end at this node: which service, for whom, how many."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import trio

from rpyc_gateway.admission import asker, permitted, refusal
from rpyc_gateway.errors import Code, Denied, GatewayError, LimitExceeded, NoService, ProtocolError
from rpyc_gateway.pickling import features_for
from rpyc_gateway.places import Runs
from rpyc_gateway.proto.frames import Open
from rpyc_gateway.receiving import StreamHandler
from rpyc_gateway.registry import Neighbour
from rpyc_gateway.session import Session

SESSIONS_PER_LINK = 1024  # a link from a relay carries the sessions of everybody behind it

logger = logging.getLogger("rpyc_gateway.gateway")


@dataclass(frozen=True, slots=True)
class Offer:
    """A service as a node serves it (as in `[[serve]]`).

    What makes the root of each session, whom it lets in, whether it takes pickles, and where its code runs.
    """

    root: Callable[[], object]
    allow: tuple[str, ...] = ()
    pickle: bool = False
    runs: Runs = "threads"

    def __post_init__(self) -> None:
        features_for(self.pickle)


class Serving:
    """Admits the circuits that end here, and runs their sessions in the node's nursery."""

    def __init__(self, name: str, vat: bytes, nursery: trio.Nursery, offers: Mapping[str, Offer]) -> None:
        self._name = name
        self._vat = vat
        self._nursery = nursery
        self._offers = offers
        self._sessions: dict[bytes, tuple[Session, Offer]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def admit(self, neighbour: Neighbour, label: int, request: Open) -> StreamHandler:
        """Take the circuit, and say so. In the trio thread, with the link's turn held.

        Raises NoService, Denied, LimitExceeded or ProtocolError: the circuit is to be refused.
        """
        if request.circuit == "bulk":
            return self._admit_bulk(neighbour, label, request)
        if request.circuit != "call":
            raise refusal(
                Code.UNSUPPORTED, f"{self._name} knows no circuits of the kind {request.circuit!r}", self._name
            )
        offer = self._offers.get(request.service)
        if offer is None:
            raise NoService(
                f"{self._name} does not serve {request.service!r} (it serves: {self._served()})", hop=self._name
            )
        self._check_policy(offer, request)
        if neighbour.sessions >= SESSIONS_PER_LINK:
            raise LimitExceeded(
                f"{self._name} serves {SESSIONS_PER_LINK} sessions on this link already", hop=self._name
            )
        if request.token in self._sessions:
            raise ProtocolError(f"{self._name} has a session with this token already", hop=self._name)
        session, handler = self._begin(offer, neighbour, label, request)
        self._sessions[request.token] = session, offer
        neighbour.sessions += 1
        logger.info("%s: session with %s for %r", self._name, asker(request.origin), request.service)
        session.tend(partial(self._nursery.start_soon, session.run), partial(self._forget, neighbour, request.token))
        self._accept(neighbour, label, request)
        with session.step():
            pass  # its HELLO leaves with the yes
        return handler

    def lets(self, request: Open, service: str) -> bool:
        """Whether the origin of a request may use a service here. This node itself may use all."""
        offer = self._offers.get(service)
        return not request.origin or (offer is not None and permitted(offer.allow, request.origin))

    def close(self) -> None:
        """End every session in order: what is being done is answered, nothing new is taken."""
        for session, _ in list(self._sessions.values()):
            session.close()

    def _admit_bulk(self, neighbour: Neighbour, label: int, request: Open) -> StreamHandler:
        session, offer = self._sessions.get(request.token, (None, None))
        if session is None or offer is None:
            raise NoService(f"{self._name} has no session that this bulk circuit belongs to", hop=self._name)
        self._check_policy(offer, request)
        handler = session.accept_bulk(neighbour.connection, label)
        if handler is None:
            raise ProtocolError(f"{self._name}: the session of this bulk circuit takes no more of them", hop=self._name)
        self._accept(neighbour, label, request)
        return handler

    def _accept(self, neighbour: Neighbour, label: int, request: Open) -> None:
        neighbour.connection.mux.accept(label, (*request.path, self._name))

    def _check_policy(self, offer: Offer, request: Open) -> None:
        if permitted(offer.allow, request.origin):
            return
        allowed = ", ".join(offer.allow) or "nobody"
        text = f"{self._name} does not let {asker(request.origin)} use {request.service!r}: it is allowed to {allowed}"
        if not offer.allow:  # as a rule whoever asked forgot to say which service he wants
            text += f" (what is served: {self._served()})"
        raise Denied(text, hop=self._name)

    def _served(self) -> str:
        return ", ".join(sorted(name for name, offer in self._offers.items() if offer.allow)) or "nothing"

    def _begin(self, offer: Offer, neighbour: Neighbour, label: int, request: Open) -> tuple[Session, StreamHandler]:
        """Make the root and the session. What the service does wrong here fails this circuit only."""
        try:
            root = offer.root()
            session = Session(
                local=self._name, vat=self._vat, opener=False, root=root, pickle=offer.pickle, runs=offer.runs
            )
            return session, session.accept(neighbour.connection, label, request)
        except GatewayError:  # its answer to whoever asks
            raise
        except Exception as error:
            logger.exception("%s: a session of the service %r could not begin", self._name, request.service)
            text = f"{self._name} could not begin a session of {request.service!r}: {type(error).__name__}: {error}"
            raise GatewayError(text, hop=self._name) from error

    def _forget(self, neighbour: Neighbour, token: bytes) -> None:
        del self._sessions[token]
        neighbour.sessions -= 1
