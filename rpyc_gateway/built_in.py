"""The services that every node has: the whole interpreter, what the node knows of the network, and links dialled for others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import trio

from rpyc_gateway.config import Config, Serve
from rpyc_gateway.node_service import InformedNode, NodeService
from rpyc_gateway.remote_dial import DiallingNode, DialService, SharedLinks
from rpyc_gateway.service import ClassicService
from rpyc_gateway.serving import Offer

__all__ = ["built_in"]


class ServingNode(InformedNode, DiallingNode, Protocol):
    """What these services need of their node."""


def built_in(config: Config, node: ServingNode, nursery: trio.Nursery) -> dict[str, Offer]:
    """What a node offers if its configuration says nothing else, and with what its configuration says of these."""
    served = {"classic": Serve(service="classic"), "node": Serve(service="node", allow=("*",))}
    served |= {"dial": Serve(service="dial", allow=("parent",))} | {serve.service: serve for serve in config.serve}
    links = SharedLinks(node, nursery)
    roots: dict[str, Callable[[], object]] = {
        "classic": ClassicService,
        "node": partial(NodeService, node),
        "dial": partial(DialService, links),
    }
    return {
        name: Offer(root, serve.allow, serve.pickle and name == "classic", serve.runs)
        for name, root in roots.items()
        for serve in (served[name],)
    }
