"""`rpyc-gw device`: programs, files and the reset of a board, at a port of this machine or as a node anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from rpyc_gateway.cli.at_board import board_argument, port_url, work_on
from rpyc_gateway.cli.device_files import cat, get, ls, mkdir, put, rm
from rpyc_gateway.cli.device_install import install, uninstall
from rpyc_gateway.cli.device_mount import mount
from rpyc_gateway.cli.device_shell import run_program, shell
from rpyc_gateway.cli.device_watch import watch
from rpyc_gateway.cli.options import SourceFile, log_to_stderr
from rpyc_gateway.cli.output import Output

if TYPE_CHECKING:
    from rpyc_gateway.cli.onboard.interpreters import Interpreter

__all__ = ["device"]


@click.group(no_args_is_help=True)
def device() -> None:
    """Use a board that runs MicroPython or CircuitPython: type at it, run programs, copy files, reset it.

    BOARD is a port, as /dev/ttyACM0, its URL or the serial number of the board (`rpyc-gw ports` lists them), or a command that leads to a bare Python, as
    "stdio:ssh ops@bench python3": nothing needs to be installed there. Or, with --url,
    it is the name of a node that is a board, anywhere in a chain.

    What the board raises is told in its own words, and the exit code is 1.
    """


@device.command()
@board_argument
@click.argument("file", type=SourceFile())
def run(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, file: BinaryIO) -> None:
    """Run a Python FILE of this machine on the board; '-' reads standard input.

    What it prints appears here as it comes; of a node this is what the program prints itself, not what modules that it imports do.
    The exit code is that of its sys.exit(). Ctrl-C interrupts it.
    """
    source = file.read().decode("utf-8", "replace")
    run_program(ctx, url, via, board, source, Path(getattr(file, "name", "<stdin>")).name, "exec")


@device.command("exec")
@board_argument
@click.argument("code")
def execute(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, code: str) -> None:
    """Run statements on the board, as `run` runs a file."""
    run_program(ctx, url, via, board, code, "<code>", "exec")


@device.command("eval")
@board_argument
@click.argument("expression", metavar="EXPR")
def evaluate(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, expression: str) -> None:
    """Print the value of an expression on the board, as print() would there."""
    run_program(ctx, url, via, board, expression, "<expression>", "eval")


@device.command()
@board_argument
def reset(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str) -> None:
    """Reset the board. At a port, what it starts with (main.py) runs then; a node opens its board again."""
    from rpyc_gateway.cli.onboard import resets

    async def work(there: Interpreter, _output: Output) -> None:
        await resets.reset(there)

    if url:
        work_on(ctx, url, via, board, work)
    else:
        import trio

        from rpyc_gateway.transport import without_secrets

        log_to_stderr(ctx)
        trio.run(resets.reset_port, port_url(board, via), without_secrets(board))


for _command in (shell, mount, watch, ls, cat, put, get, rm, mkdir, install, uninstall):
    device.add_command(_command)
