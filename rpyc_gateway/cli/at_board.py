"""What the commands of `rpyc-gw device` share: how a board is given, and how work is done on it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import click

from rpyc_gateway.cli.options import dialable, log_to_stderr, some_url_options, verbosity
from rpyc_gateway.cli.output import Output

if TYPE_CHECKING:
    from rpyc_gateway.cli.onboard.interpreters import Interpreter

__all__ = ["Work", "board_argument", "opened", "port_url", "work_on"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PORT = re.compile(r"/.+|COM\d+", re.IGNORECASE)

Work = Callable[["Interpreter", Output], Awaitable[int | None]]
"""What a command does on a board; what it returns is the exit code."""


def board_argument(command: _Command) -> _Command:
    """BOARD, and the ways to it."""
    return some_url_options(click.argument("board")(verbosity(click.pass_context(command))))  # type: ignore[return-value]


def work_on(ctx: click.Context, url: Sequence[str], via: tuple[str, ...], board: str, work: Work) -> None:
    """Do this on the board, and exit with the code that it returns."""
    import trio

    log_to_stderr(ctx)
    port = "" if url else port_url(board, via)

    async def main() -> int | None:
        with trio.CancelScope() as scope:
            output = Output(scope)
            async with opened(url, via, board, port, output) as there:
                return await work(there, output)
        assert output.ended is not None
        raise output.ended

    ctx.exit(trio.run(main) or 0)


@asynccontextmanager
async def opened(
    url: Sequence[str], via: Sequence[str], board: str, port: str, output: Output
) -> AsyncIterator[Interpreter]:
    """The board that is a node, if there is a `url`, else the one at `port`. Raises what opening them raises."""
    from rpyc_gateway.cli.onboard.interpreters import open_node, open_port
    from rpyc_gateway.transport import without_secrets

    if url:
        async with open_node(url, via, board, output.write) as node:
            yield node
        return
    with output.progress("agent") as progress:
        async with open_port(port, without_secrets(board), output.show, progress) as there:
            yield there


def port_url(board: str, via: Sequence[str]) -> str:
    """The URL of a port. Wrong usage if it is none."""
    if via:
        raise click.UsageError("--via is for a board that is a node, and needs --url")
    if _PORT.fullmatch(board):
        board = f"serial://{quote(board)}"
    if "://" not in board and not board.startswith("stdio:"):
        return _plugged_in(board)
    return dialable(board)


def _plugged_in(name: str) -> str:
    """The URL of what has this serial number, or a port of this name. Wrong usage if nothing has."""
    from rpyc_gateway.transport import find_places

    for place in find_places():
        if name in (place.about.get("serial"), PurePath(place.name).name):
            return place.url
    raise click.UsageError(
        f"{name!r} is no port: say /dev/ttyACM0, a serial number or serial://?serial=NUMBER (`rpyc-gw ports` lists them); a node needs --url"
    )
