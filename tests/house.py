"""Nodes in one trio run, joined over memory://, for tests of what is spoken over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from rpyc_gateway.config import Config, Dial, Listen, NodeSection, Serve
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.proto.frames import Failure
from rpyc_gateway.service import Service, expose
from rpyc_gateway.serving import Offer
from rpyc_gateway.session import Session

HOPS = pytest.mark.parametrize("hops", [1, 3])
CLASSIC = (Serve(service="classic", allow=("*",)),)


@asynccontextmanager
async def open_house(
    *names: str, services: Mapping[str, Offer] | None = None, pickle: bool = False
) -> AsyncIterator[list[Node]]:
    """A chain of nodes, each dialling the next; the last serves classic and `services`, the first knows the way to it."""
    classic = (Serve(service="classic", allow=("*",), pickle=pickle),)
    async with AsyncExitStack() as stack:
        yield await enter_chain(stack, {name: f"memory://{name}" for name in names}, services, classic)


async def enter_chain(
    stack: AsyncExitStack,
    listen: Mapping[str, str],
    services: Mapping[str, Offer] | None,
    classic: tuple[Serve, ...] = CLASSIC,
) -> list[Node]:
    """The nodes of a chain, by name and URL: opened from the last one on, until the first knows the way to it."""
    nodes: list[Node] = []
    dial: tuple[Dial, ...] = ()
    for name, url in reversed(listen.items()):
        last = not nodes
        config = Config(
            node=NodeSection(name=name), listen=(Listen(url=url),), dial=dial, serve=classic if last else ()
        )
        nodes.insert(0, await stack.enter_async_context(open_node(config, services=services if last else None)))
        dial = (Dial(url=url),)
    if len(nodes) > 1:
        await nodes[0].wait_route(nodes[-1].name)
    return nodes


@asynccontextmanager
async def open_lab(hops: int = 1, services: Mapping[str, Offer] | None = None) -> AsyncIterator[Session]:
    """A session of node `hq` with the classic service of `lab`, so many links away."""
    names = ["hq", *(f"relay{number}" for number in range(1, hops)), "lab"]
    async with open_house(*names, services=services) as nodes, nodes[0].session("lab") as session:
        yield session


async def wait_until(condition: Any) -> None:
    """Yield to the other tasks and threads until something is so; the test's own bound is the limit."""
    while not condition():  # noqa: ASYNC110  # what happens in a thread sets no event
        await trio.sleep(0.001)


def messages_sent(session: Session) -> list[bytes]:
    """What the session says from now on, message by message."""
    sent: list[bytes] = []
    circuit: Any = session.circuit
    send = circuit.send
    circuit.send = lambda data: (sent.append(data), send(data))
    return sent


class Greeter(Service):
    @expose
    async def hello(self, name: str) -> str:
        return f"hello {name}"


@asynccontextmanager
async def running(name: str, *dial: str | Dial, allow: Iterable[str] = (), **sections: object) -> AsyncIterator[Node]:
    """A node that listens at memory://name, dials, and serves "greeter" to everybody and "dial" to `allow`."""
    dials = tuple(one if isinstance(one, Dial) else Dial(url=one) for one in dial)
    serve = (Serve(service="dial", allow=tuple(allow)),) if allow else ()
    config = Config(
        node=NodeSection(name=name), listen=(Listen(url=f"memory://{name}"),), dial=dials, serve=serve, **sections
    )
    async with open_node(config, services={"greeter": Offer(Greeter, ("*",))}) as node:
        yield node


async def wait_nodes(node: Node, reached: Callable[[set[str]], object]) -> None:
    """Wait until the names this node knows a way to are as wanted."""
    while not reached({info.name for info in node.nodes() if info.state == "up"}):
        await node._changed.wait()


def refusal(end: object) -> Failure:
    assert isinstance(end, tuple)
    assert end[0] == "refused"
    assert isinstance(end[1], Failure)
    return end[1]
