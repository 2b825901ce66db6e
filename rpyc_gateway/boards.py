"""Opens a whole node: the gateway, and a node for each board of its configuration, and for a bare Python that it dials."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial

from rpyc_gateway import gateway
from rpyc_gateway.config import Config, Device
from rpyc_gateway.dialer import Dialer
from rpyc_gateway.errors import DialFailed
from rpyc_gateway.keeping import Kept
from rpyc_gateway.lookout import ABSENT
from rpyc_gateway.naming import described, name_each
from rpyc_gateway.serving import Offer
from rpyc_gateway.transport import Pipe, without_secrets

__all__ = ["fronted", "open_node"]

logger = logging.getLogger(__name__)


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
        boards = Boards(node, config.device)
        for device in config.device:
            boards.have(device)
        yield node


def fronted(pipe: Pipe) -> AbstractAsyncContextManager[Pipe]:
    """A pipe at whose other end is a node: this one, or one of this process that stands for the bare Python there. Raises DialFailed."""
    if pipe.interpreter is None:
        return nullcontext(pipe)
    from rpyc_gateway.device.node import open_front

    return open_front(pipe, pipe.interpreter)


class Boards:
    """The boards of one node, by what its configuration says: one for each `[[device]]`, or one for each port that fits."""

    def __init__(self, node: gateway.Node, devices: Sequence[Device]) -> None:
        self._node = node
        self._devices = devices
        self._names = {node.name, *(device.name for device in devices)}
        self._owned: dict[
            str, str
        ] = {}  # names that two boards claimed at once, with the URL of the one that had it: the other never gets it unnoticed
        self._told: dict[str, list[str]] = {}  # what was wrong with the boards of a template, so that it is logged once

    def have(self, device: Device) -> Kept:
        """Have a board from now on, or all that a template is for."""
        return self._node.keep(device, partial(self._attend_each if device.is_template else self._attend, device))

    async def _attend(self, device: Device, dialer: Dialer) -> None:
        """One life of a board. Raises a GatewayError at its end."""
        from rpyc_gateway.device.node import attend  # most nodes have no board

        fitting = await self._node.lookout.find(device.url)
        if fitting and len(fitting) > 1:
            raise DialFailed(
                f"{len(fitting)} ports fit: {described(*fitting)}; say which by serial= or location=, "
                f'or name each: `name = "{device.name}-{{serial}}"`'
            )
        await attend(self._node, device, dialer)

    async def _attend_each(self, template: Device, dialer: Dialer) -> None:
        """Have a board for each port that fits, as they come and go. Raises DialFailed when there is none."""
        served: dict[str, tuple[str, Kept]] = {}  # with the URL
        try:
            while True:
                here, problems = await self._find(template, {name: url for name, (url, _) in served.items()})
                for name, (url, kept) in list(served.items()):
                    # One that is up is not where it was: its link will end, or else the system only told so.
                    if here.get(name) != url and kept.dialer.state != "up":
                        kept.scope.cancel()
                        del served[name]
                        self._names.discard(name)
                for name in here.keys() - served.keys():
                    served[name] = here[name], self.have(template.but(name=name, url=here[name]))
                    self._names.add(name)
                if not served:
                    raise DialFailed("; ".join(problems) or ABSENT)
                if dialer.state != "up":
                    dialer.up()
                self._tell(template, problems)
                await self._node.lookout.wait_next()
        finally:
            for name, (_, kept) in served.items():
                kept.scope.cancel()
                self._names.discard(name)

    async def _find(self, template: Device, served: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
        """The URLs of the ports that fit and are no other device's, by their names; and what is wrong with the rest."""
        lookout = self._node.lookout
        taken: set[str] = set()
        before = True
        for device in self._devices:
            if device is template:
                before = False
            elif before or not device.is_template:  # a device of its own goes before any template
                others = await lookout.find(device.url) or []
                if device.is_template or len(others) == 1:
                    taken.update(place.name for place in others)
        fitting = [place for place in await lookout.find(template.url) or [] if place.name not in taken]
        named, problems, shared = name_each(template.name, fitting, kept=served, owned=self._owned)
        for name in named.keys() - served.keys():
            if name in self._names or self._node.holder(name) is not None:
                problems.append(f"{described(named.pop(name))} would be {name}, which is the name of another node")
        here = {name: place.url for name, place in named.items()}
        self._owned.update({name: here[name] for name in shared if name in here})
        return here, problems

    def _tell(self, template: Device, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self._told.get(template.name, ()):
                logger.warning("%s at %s: %s", template.name, without_secrets(template.url), problem)
        self._told[template.name] = problems
