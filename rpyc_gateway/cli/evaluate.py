"""`rpyc-gw eval` and `rpyc-gw exec`: run code on a node, and have its output here."""

from __future__ import annotations

import io
import sys
from importlib.resources import files
from typing import TYPE_CHECKING, BinaryIO

import click

from rpyc_gateway.cli.options import SourceFile, log_to_stderr, node_argument, url_options, verbosity
from rpyc_gateway.cli.run import put_own_scripts_first

if TYPE_CHECKING:
    from rpyc_gateway.sync import BlockingSession

__all__ = ["evaluate", "execute"]

EMBEDDED = ("micropython", "circuitpython")
ON_BOARD = "on the board:"  # how the note begins that has a board's traceback


@click.command("eval")
@url_options
@node_argument
@click.argument("expression", metavar="EXPR")
@verbosity
@click.pass_context
def evaluate(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], node: str, expression: str) -> None:
    """Print the value of a Python expression on NODE, as print() would.

    An exception there is shown with its traceback on standard error; the exit code is 1.
    """
    log_to_stderr(ctx)
    ctx.exit(_run_there(url, via, node, expression.encode(), "<expression>", "eval"))


@click.command("exec")
@url_options
@node_argument
@click.argument("file", type=SourceFile())
@verbosity
@click.pass_context
def execute(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], node: str, file: BinaryIO) -> None:
    """Run a Python FILE of this machine on NODE; '-' reads standard input.

    What it prints appears here, output and errors apart. An exception there is shown with its traceback on standard error; the
    exit code is 1, or that of its sys.exit(). What other threads print there stays there, on a board also what its modules print.

    Ctrl-C cancels it: it stops at its next remote operation (printing is one) or rpyc_gateway.checkpoint(), and an `async def`
    function that it had called on another node at its next await; other code runs on.
    """
    log_to_stderr(ctx)
    ctx.exit(_run_there(url, via, node, file.read(), getattr(file, "name", "<stdin>"), "exec"))


def _run_there(url: tuple[str, ...], via: tuple[str, ...], node: str, source: bytes, filename: str, mode: str) -> int:
    """Returns the exit code. Raises what connecting raises, and what writing to our own streams raised."""
    from rpyc_gateway.sync import connect

    terminal = _Terminal()
    put_own_scripts_first()
    with connect(list(url), node=node, via=via) as conn:
        try:
            if conn.eval("__import__('sys').implementation.name") in EMBEDDED:
                return _run_on_board(conn, source, mode, terminal)
            conn.execute(_program("remote.py"))
            return int(conn.namespace["run"](source, filename, mode, terminal.print_output, terminal.print_errors))
        finally:
            if terminal.ended is not None:
                raise terminal.ended


def _run_on_board(conn: BlockingSession, source: bytes, mode: str, terminal: _Terminal) -> int:
    conn.execute(_program("embedded.py"))
    try:
        conn.eval("_gateway_run")(source.decode("utf-8", "replace"), mode, terminal.print_output)
    except Exception as exc:
        told = [note for note in getattr(exc, "__notes__", ()) if note.startswith(ON_BOARD)]
        if not told:
            raise
        terminal.print_errors(f"{told[0].removeprefix(ON_BOARD).strip()}\n")
        return 1
    return 0


def _program(name: str) -> str:
    return files("rpyc_gateway.cli").joinpath(name).read_text(encoding="utf-8")


class _Terminal:
    """Our own streams, for the far side to print on. When nobody reads the output any more, the far side's print fails, and
    what it has to say about that is not worth printing.
    """

    ended: OSError | None = None

    def __init__(self) -> None:
        """Raises OSError if there is no standard output."""
        if sys.stdout is None:
            raise OSError("standard output is closed: there is nowhere to print to (>/dev/null drops it)")
        for stream in (sys.stdout, sys.stderr):
            # What this terminal cannot show is no reason to end a script.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")

    def print_output(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as exc:
            self.ended = exc
            raise

    def print_errors(self, text: str) -> None:
        if self.ended is None and sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
