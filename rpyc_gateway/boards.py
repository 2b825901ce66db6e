"""Opens a whole node: the gateway, and a node for each board of its configuration, and for a bare Python that it dials."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from rpyc_gateway import gateway
from rpyc_gateway.config import Config
from rpyc_gateway.serving import Offer
from rpyc_gateway.transport import Pipe

__all__ = ["fronted", "open_node"]


@asynccontextmanager
async def open_node(
    config: Config | str | os.PathLike[str], *, services: Mapping[str, Offer] | None = None
) -> AsyncIterator[gateway.Node]:
    """Run a node as long as the body runs. `services` are served beside those that the configuration names.

    When the body starts every listener is bound, and the dialers are at work; so is who looks after its boards, which are waited for
    by nobody else. Raises ConfigError if the configuration cannot be used or a listener cannot be bound. Left in order, the neighbours are
    told (GOAWAY) and circuits have a second to end; cancelled, they are cut. Either way the boards are brought back to their prompts, which
    takes five seconds at most.
    """
    if not isinstance(config, Config):
        config = Config.load(config)
    async with gateway.open_node(config, services=services, fronting=fronted) as node:
        if config.device:
            from rpyc_gateway.device.node import attend  # most nodes have no board

            for device in config.device:
                node.keep(device, partial(attend, node, device))
        yield node


@asynccontextmanager
async def fronted(pipe: Pipe) -> AsyncIterator[Pipe]:
    """A pipe at whose other end is a node: this one, or one of this process that stands for the bare Python there. Raises DialFailed."""
    if pipe.interpreter is None:
        yield pipe
        return
    from rpyc_gateway.device.node import open_front

    async with open_front(pipe, pipe.interpreter) as front:
        yield front
