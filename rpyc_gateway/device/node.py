"""A board as a node: sessions end at its front, and what they do is done on the board."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from rpyc_gateway.admission import failure_of
from rpyc_gateway.config import Config, Device, Listen, NodeSection, Serve
from rpyc_gateway.device.anyboard import AnyBoard
from rpyc_gateway.device.bare import arrive, open_agent
from rpyc_gateway.device.classic import BoardService
from rpyc_gateway.device.driver import open_board
from rpyc_gateway.device.standins import Desk
from rpyc_gateway.dialer import Dialer
from rpyc_gateway.errors import DialFailed, GatewayError
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.lookout import Lookout, Watch
from rpyc_gateway.nursery import open_background
from rpyc_gateway.proto.lineframes import NONCE
from rpyc_gateway.registry import Neighbour
from rpyc_gateway.serving import Offer
from rpyc_gateway.transport import Interpreter, Pipe, find_transport

__all__ = ["attend", "open_board_node", "open_front", "serve_board"]

PAUSE = 0.25  # seconds before a board that could not be had is tried again; then each time twice as long
LONGEST_PAUSE = 8.0  # seconds
FAREWELL = 0.5  # seconds for the sessions of a lost board to tell so: less than its gateway waits for the end of a link
LAST_WORDS = 0.1  # seconds for its sessions to tell why they failed, before they end with their node

logger = logging.getLogger(__name__)


async def serve_board(
    config: Config, url: str, *, task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED
) -> None:
    """Be the node of the board at this URL for ever: whenever it has been reset or unplugged it is opened again, as another life of the node.

    `started` gets the node of the first life. Raises ConfigError; what is wrong with the board is logged, and tried again, at once when it is plugged in.
    """
    pause = PAUSE
    begun = False
    watch = Watch(Lookout(), url)
    while True:
        await watch.look()
        try:
            async with find_transport(url).connect(url) as pipe, open_board_node(config, pipe) as (node, board):
                pause = PAUSE
                if not begun:
                    task_status.started(node)
                    begun = True
                logger.warning("%s", await board.wait_lost())
                await trio.sleep(LAST_WORDS)
        except DialFailed as exc:
            logger.warning("%s: %s; again in %g s", config.node.name, exc, pause)
            with trio.move_on_after(pause) as waiting:
                await watch.wait_changed()
            pause = min(pause * 2, LONGEST_PAUSE) if waiting.cancelled_caught else PAUSE


async def attend(gateway: Node, device: Device, dialer: Dialer) -> None:
    """One life of a board as a node behind `gateway`, in the same process. Whom it lets in the gateway decides, which is its only link.

    Raises a GatewayError when the board is gone or could not be had, ConfigError among them. Cancelled: it is brought back to its prompt.
    """
    async with (
        find_transport(device.url).connect(device.url) as pipe,
        open_board_node(private(device.name), pipe, agent=device.agent) as (node, board),
    ):
        gateway.describe(device.name, board.tell)
        async with gateway.link_neighbour(node.urls[0]) as neighbour:
            dialer.up()
            reason = await why_over(board, neighbour)
            neighbour.connection.leave(failure_of(reason, device.name), FAREWELL)
    raise reason


async def why_over(board: AnyBoard, neighbour: Neighbour) -> GatewayError:
    """Wait until the board or its link is gone; why."""
    async with trio.open_nursery() as nursery:

        async def watch_link() -> None:
            await neighbour.over.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch_link)
        await board.wait_lost()
        nursery.cancel_scope.cancel()
    return board.lost or neighbour.reason()


@asynccontextmanager
async def open_board_node(config: Config, pipe: Pipe, *, agent: bool = True) -> AsyncIterator[tuple[Node, AnyBoard]]:
    """Run a node whose `classic` is the interpreter of the board at the other end of `pipe`, as long as the body runs.

    Without the `agent` it is driven by its REPL, as one that is too small for the agent always is. Whom it lets in is said by the `[[serve]]` of `classic` in its configuration.

    Raises DialFailed for the board, ConfigError for the node. When the board is lost sessions get PeerRestarted or LinkLost for what they do: wait
    for `board.wait_lost()`, leave, and open it again.
    """
    named = replace(pipe, peer=f"{config.node.name} ({pipe.peer})")  # far away the name of a port says little
    async with open_board(named, small=not agent) as board, stand_for(board, config) as node:
        yield node, board


@asynccontextmanager
async def stand_for(board: AnyBoard, config: Config) -> AsyncIterator[Node]:
    """Run the node of a board that is open."""
    allow = {serve.service: serve.allow for serve in config.serve}.get("classic", ())
    offer = Offer(lambda: BoardService(Desk(board)), allow, runs="trio")
    async with open_node(config, services={"classic": offer}) as node:
        yield node


@asynccontextmanager
async def open_front(pipe: Pipe, interpreter: Interpreter) -> AsyncIterator[Pipe]:
    """A pipe to the node that a bare Python becomes: `pipe` itself, or one to its front in this process. It lets in whom its only neighbour sends.

    Raises DialFailed.
    """
    nonce = secrets.token_bytes(NONCE)
    arrival = await arrive(pipe, interpreter, nonce)
    if arrival.whole:
        yield pipe
        return
    async with (
        open_agent(pipe, arrival, nonce) as board,
        stand_for(board, private(interpreter.name or arrival.name)) as node,
        find_transport(node.urls[0]).connect(node.urls[0]) as near,
        open_background() as nursery,
    ):
        near.peer = f"{pipe.peer}, bare Python {arrival.version}"
        near.identity = pipe.identity
        nursery.start_soon(part_with, node, board)
        yield near


async def part_with(node: Node, board: AnyBoard) -> None:
    """When the board is gone, let the neighbours of its node know why."""
    reason = await board.wait_lost()
    node.part(failure_of(reason, node.name), FAREWELL)


def private(name: str) -> Config:
    """The configuration of a node of this process that only this process can reach."""
    return Config(
        node=NodeSection(name=name),
        listen=(Listen(url=f"memory://{name}-{secrets.token_hex(8)}"),),  # nobody else's name in this process
        serve=(Serve(service="classic", allow=("*",)), Serve(service="dial", allow=())),
    )
