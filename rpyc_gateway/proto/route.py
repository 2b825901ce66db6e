"""Names, paths and next hops: a path-vector table. Loop-free because every path is known in full (docs/protocol.md, section 5)."""

from __future__ import annotations

from dataclasses import dataclass, field

from rpyc_gateway.errors import LimitExceeded, ProtocolError
from rpyc_gateway.proto.frames import LONGEST_PATH, Route, Routes, valid_name

DEAREST = (1 << 32) - 1  # what costs more is no way: a sum must never outgrow its field


@dataclass(slots=True)
class _Neighbour:
    cost: int
    wants_routes: bool
    said: dict[str, Route] = field(default_factory=dict)  # what it offers, with the cost of the link to it
    told: dict[str, Route] = field(default_factory=dict)  # what it was told
    news: set[str] = field(default_factory=set)  # nodes of which it may have to be told


class RouteTable:
    """Which neighbour leads to which node. Neighbours are keys; the key of one that announces routes is its node's name.

    With `announce` False (a client) nothing is ever pending: a client is not routed to, nor through.
    """

    def __init__(self, name: str, epoch: int, limit: int = 4096, *, announce: bool = True) -> None:
        self._name = name
        self._self = Route((name,), 0, epoch)
        self._limit = limit
        self._announce = announce
        self._neighbours: dict[str, _Neighbour] = {}
        self._best: dict[str, tuple[str, Route]] = {}
        self._to_tell: dict[str, None] = {}  # keys of those for whom there is news

    def neighbour_up(self, key: str, *, cost: int = 1, wants_routes: bool = True) -> None:
        """A link has come up. A neighbour that was there already begins anew."""
        self.neighbour_down(key)
        self._neighbours[key] = _Neighbour(cost, wants_routes, news={self._name, *self._best})
        self._has_news(key)

    def neighbour_down(self, key: str) -> None:
        """A link has died: what was learnt on it is forgotten."""
        neighbour = self._neighbours.pop(key, None)
        if neighbour is not None:
            self._to_tell.pop(key, None)
            for node in neighbour.said:
                self._choose(node)

    def receive(self, key: str, routes: Routes) -> None:
        """Learn what a neighbour says. Unknown neighbours are ignored: their link has just died.

        Raises ProtocolError for a path that does not begin with the neighbour, LimitExceeded for too many nodes.
        """
        neighbour = self._neighbours.get(key)
        if neighbour is None:
            return
        changed = set(routes.withdraw) & neighbour.said.keys()
        for node in changed:
            del neighbour.said[node]
        try:
            for route in routes.announce:
                changed.add(self._learn(key, neighbour, route))
        finally:
            for node in changed:
                self._choose(node)

    def next_hop(self, node: str) -> str | None:
        """The key of the neighbour on the way to a node, or None if there is no way."""
        best = self._best.get(node)
        return best[0] if best is not None else None

    def best(self) -> dict[str, Route]:
        """The path in use to each node but this one; it begins with the neighbour."""
        return {node: route for node, (_, route) in self._best.items()}

    @property
    def to_tell(self) -> tuple[str, ...]:
        """The keys of the neighbours for whom something may be pending."""
        return tuple(self._to_tell)

    def pending(self, key: str) -> Routes | None:
        """What this neighbour must be told now; the caller sends it, in order. None if there is nothing."""
        self._to_tell.pop(key, None)
        neighbour = self._neighbours.get(key)
        if neighbour is None or not neighbour.wants_routes or not self._announce:
            return None
        announce = []
        withdraw = []
        for node in sorted(neighbour.news):
            offer = self._offer(key, node)
            if offer is None:
                if neighbour.told.pop(node, None) is not None:
                    withdraw.append(node)
            elif neighbour.told.get(node) != offer:
                neighbour.told[node] = offer
                announce.append(offer)
        neighbour.news.clear()
        return Routes(tuple(announce), tuple(withdraw)) if announce or withdraw else None

    def _learn(self, key: str, neighbour: _Neighbour, route: Route) -> str:
        path = route.path
        if not path or path[0] != key:
            raise ProtocolError(f"{key} announces a path that does not begin with it: {' > '.join(path)[:200]!r}")
        node = path[-1]
        cost = route.cost + neighbour.cost
        # A path through this node would be a loop, and so is one that meets itself; the sender has no better one now.
        if (
            self._name in path
            or len(set(path)) < len(path)
            or len(path) > LONGEST_PATH
            or cost > DEAREST
            or not all(map(valid_name, path))
        ):
            neighbour.said.pop(node, None)
            return node
        if node not in neighbour.said and len(neighbour.said) >= self._limit:
            raise LimitExceeded(f"{key} announces more than {self._limit} nodes")
        neighbour.said[node] = Route(path, cost, route.epoch)
        return node

    def _choose(self, node: str) -> None:
        offers = [(key, said) for key, one in self._neighbours.items() if (said := one.said.get(node)) is not None]
        best = min(offers, key=_preference, default=None)
        if best == self._best.get(node):
            return
        if best is None:
            del self._best[node]
        else:
            self._best[node] = best
        for key, neighbour in self._neighbours.items():
            neighbour.news.add(node)
            self._has_news(key)

    def _has_news(self, key: str) -> None:
        if self._announce and self._neighbours[key].wants_routes:
            self._to_tell[key] = None

    def _offer(self, key: str, node: str) -> Route | None:
        if node == self._name:
            return self._self
        best = self._best.get(node)
        if best is None:
            return None
        route = best[1]
        if key in route.path or len(route.path) >= LONGEST_PATH:
            return None
        return Route((self._name, *route.path), route.cost, route.epoch)


def _preference(offer: tuple[str, Route]) -> tuple[int, int, tuple[str, ...]]:
    """The cheapest, then the shortest, then the first by name."""
    route = offer[1]
    return route.cost, len(route.path), route.path
