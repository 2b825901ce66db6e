"""`rpyc-gw device mount`: a directory of this machine on a board."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rpyc_gateway.cli.at_board import board_argument
from rpyc_gateway.cli.device_shell import run_program, run_shell

if TYPE_CHECKING:
    from rpyc_gateway.cli.onboard.interpreters import Interpreter

__all__ = ["mount"]


@click.command()
@board_argument
@click.option("--write", "-w", is_flag=True, help="The board may write there too.")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("then", nargs=-1, metavar="[run FILE | exec CODE | eval EXPR | shell]")
def mount(
    ctx: click.Context,
    url: tuple[str, ...],
    via: tuple[str, ...],
    board: str,
    write: bool,  # noqa: FBT001 - click's way
    directory: Path,
    then: tuple[str, ...],
) -> None:
    """Let the board use a DIRECTORY of this machine as its /remote, for a program or a shell.

    It is the working directory there: import finds its modules, open() its files. Nothing outside of it is reached, also by no link. At the end it is gone,
    and so are the modules from there. MicroPython only: CircuitPython has no file systems of one's own.
    """

    @asynccontextmanager
    async def around(there: Interpreter) -> AsyncIterator[None]:
        from rpyc_gateway.cli.onboard.mounts import mounted
        from rpyc_gateway.cli.onboard.served import ServedDirectory

        served = ServedDirectory(directory, writable=write)
        try:
            async with mounted(there, served):
                yield
        finally:
            if served.refused and not write:
                click.echo(
                    f"rpyc-gw: {directory}: the board may only read it; --write before BOARD lets it write", err=True
                )

    match then:
        case () | ("shell",):
            run_shell(ctx, url, via, board, around)
        case ("run", "-"):
            source = sys.stdin.buffer.read().decode("utf-8", "replace")
            run_program(ctx, url, via, board, source, "<stdin>", "exec", around)
        case ("run", file):
            source = _read(file).decode("utf-8", "replace")
            run_program(ctx, url, via, board, source, Path(file).name, "exec", around)
        case ("exec", code):
            run_program(ctx, url, via, board, code, "<code>", "exec", around)
        case ("eval", expression):
            run_program(ctx, url, via, board, expression, "<expression>", "eval", around)
        case _:
            raise click.UsageError(
                f"{' '.join(then)!r} is none of: run FILE, exec CODE, eval EXPR, shell; options go before BOARD"
            )


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as exc:
        raise click.UsageError(f"{file}: {exc.strerror}") from exc
