"""A board as a node: sessions end at its front, and what they do is done on the board."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rpyc_gateway.config import Config
from rpyc_gateway.device.driver import Board, open_board
from rpyc_gateway.device.standins import BoardService, Desk
from rpyc_gateway.gateway import Node, open_node
from rpyc_gateway.nursery import open_background
from rpyc_gateway.serving import Offer
from rpyc_gateway.transport import Pipe

__all__ = ["open_board_node"]


@asynccontextmanager
async def open_board_node(config: Config, pipe: Pipe) -> AsyncIterator[tuple[Node, Board]]:
    """Run a node whose `classic` is the interpreter of the board at the other end of `pipe`, as long as the body runs.

    Whom it lets in is said by the `[[serve]]` of `classic` in its configuration.

    Raises DialFailed for the board, ConfigError for the node. When the board is lost sessions get PeerRestarted or LinkLost for what they do: wait
    for `board.wait_lost()`, leave, and open it again.
    """
    async with open_board(pipe) as board, open_background() as nursery:
        allow = {serve.service: serve.allow for serve in config.serve}.get("classic", ())
        offer = Offer(lambda: BoardService(Desk(board, nursery)), allow)
        async with open_node(config, services={"classic": offer}) as node:
            yield node, board
