"""The service "node": what a node tells anybody about the network it sees."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from rpyc_gateway.service import Service, expose

FEW = 4  # names in an error, which is to be read at a glance
LONG = 60


class NodeInfo(NamedTuple):
    """A node as another sees it."""

    name: str  # "" for a dial that has not reached anybody
    path: tuple[str, ...]  # from the node that tells, to the one told of
    cost: int
    link: str  # the address of the first link, or the URL that is dialled
    state: str  # "self", "up", or what the dialer does and why
    about: str = ""  # of a board of the node that tells: what is to be known of it


class InformedNode(Protocol):
    """What the service needs of its node."""

    def nodes(self) -> Iterable[NodeInfo]: ...


class NodeService(Service):
    """Answers with plain tuples: a NamedTuple would travel by reference."""

    def __init__(self, node: InformedNode) -> None:
        self._node = node

    @expose
    async def nodes(self) -> tuple[tuple[str, tuple[str, ...], int, str, str, str], ...]:
        """One `(name, path, cost, link, state, about)` for each node known: the fields of NodeInfo."""
        return tuple(
            (info.name, info.path, info.cost, info.link, info.state, info.about) for info in self._node.nodes()
        )


def surroundings(nodes: Iterable[NodeInfo]) -> str:
    """What a node knows and what it still tries to reach, in one short line for an error."""
    others = [info for info in nodes if info.state != "self"]
    known = [info.name for info in others if info.name]
    dialled = [
        f"{info.link} via {info.path[1]}" if len(info.path) > 1 else info.link for info in others if not info.name
    ]
    said = f"known: {_few(known) or 'no other node'}"
    return f"{said}; still dialling: {_few(dialled)}" if dialled else said


def _few(texts: list[str]) -> str:
    more = [f"and {len(texts) - FEW} more"] if len(texts) > FEW else []
    return ", ".join([*(text if len(text) <= LONG else f"{text[: LONG - 1]}…" for text in texts[:FEW]), *more])
