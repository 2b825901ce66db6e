"""A board as a node: sessions end at its front, and what they do is done on the board."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from rpyc_gateway.config import Config
from rpyc_gateway.device.board import Board
from rpyc_gateway.device.driver import open_board
from rpyc_gateway.device.standins import BoardService, Desk
from rpyc_gateway.errors import DialFailed
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.nursery import open_background
from rpyc_gateway.serving import Offer
from rpyc_gateway.transport import Pipe, find_transport

__all__ = ["open_board_node", "serve_board"]

PAUSE = 0.25  # seconds before a board that could not be had is tried again; then each time twice as long
LONGEST_PAUSE = 8.0  # seconds
LAST_WORDS = 0.1  # seconds for its sessions to tell why they failed, before they end with their node

logger = logging.getLogger(__name__)


async def serve_board(
    config: Config, url: str, *, task_status: trio.TaskStatus[Node] = trio.TASK_STATUS_IGNORED
) -> None:
    """Be the node of the board at this URL for ever: whenever it has been reset or unplugged it is opened again, as another life of the node.

    `started` gets the node of the first life. Raises ConfigError; what is wrong with the board is logged, and tried again.
    """
    pause = PAUSE
    begun = False
    while True:
        try:
            async with find_transport(url).connect(url) as pipe, open_board_node(config, pipe) as (node, board):
                pause = PAUSE
                if not begun:
                    task_status.started(node)
                    begun = True
                logger.warning("%s: %s", config.node.name, await board.wait_lost())
                await trio.sleep(LAST_WORDS)
        except DialFailed as exc:
            logger.warning("%s: %s; again in %g s", config.node.name, exc, pause)
            await trio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


@asynccontextmanager
async def open_board_node(config: Config, pipe: Pipe) -> AsyncIterator[tuple[Node, Board]]:
    """Run a node whose `classic` is the interpreter of the board at the other end of `pipe`, as long as the body runs.

    Whom it lets in is said by the `[[serve]]` of `classic` in its configuration.

    Raises DialFailed for the board, ConfigError for the node. When the board is lost sessions get PeerRestarted or LinkLost for what they do: wait
    for `board.wait_lost()`, leave, and open it again.
    """
    async with open_board(pipe) as board, open_background() as nursery:
        allow = {serve.service: serve.allow for serve in config.serve}.get("classic", ())
        offer = Offer(lambda: BoardService(Desk(board, nursery)), allow, runs="trio")
        async with open_node(config, services={"classic": offer}) as node:
            yield node, board
