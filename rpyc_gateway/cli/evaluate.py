"""`rpyc-gw eval` and `rpyc-gw exec`: run code on a node, and have its output here."""

from __future__ import annotations

import io
import sys
from importlib.resources import files
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import click

from rpyc_gateway.cli.options import SourceFile, log_to_stderr, node_argument, url_options, verbosity
from rpyc_gateway.cli.run import put_own_scripts_first

if TYPE_CHECKING:
    from rpyc_gateway.sync import BlockingSession

__all__ = ["evaluate", "execute"]

AGENT = (
    "'rpyc_gateway' not in getattr(__import__('sys'), 'modules', ())"  # there is no node, but a board or a bare Python
)
# What is run where what is printed is shown by itself, and a long program finds no room.
SHORT = """def _gateway_run(s,m):
 n={"__name__":"__main__"}
 try:return print(eval(s,n))if m=="eval"else exec(s,n)
 except SystemExit as e:return e.args[0]if e.args else 0
"""
ON_BOARD = "on the board:"  # how the note begins that has a board's traceback


@click.command("eval")
@url_options
@node_argument
@click.argument("expression", metavar="EXPR", required=False)
@verbosity
@click.pass_context
def evaluate(
    ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], node: str | None, expression: str | None
) -> None:
    """Print the value of a Python expression on NODE, as print() would. Without NODE it is the one that --url leads to.

    An exception there is shown with its traceback on standard error; the exit code is 1.
    """
    log_to_stderr(ctx)
    if expression is None:
        node, expression = None, _given(node, "EXPR")
    ctx.exit(_run_there(url, via, node, expression.encode(), "<expression>", "eval"))


@click.command("exec")
@url_options
@node_argument
@click.argument("file", metavar="FILE", type=SourceFile(), required=False)
@verbosity
@click.pass_context
def execute(
    ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], node: str | None, file: BinaryIO | None
) -> None:
    """Run a Python FILE of this machine on NODE; '-' reads standard input. Without NODE it is the one that --url leads to.

    What it prints appears here, output and errors apart. An exception there is shown with its traceback on standard error; the
    exit code is 1, or that of its sys.exit(). What other threads print there stays there, on a board also what its modules print.

    Ctrl-C cancels it: it stops at its next remote operation (printing is one) or rpyc_gateway.checkpoint(), and an `async def`
    function that it had called on another node at its next await; other code runs on.
    """
    log_to_stderr(ctx)
    source: IO[Any] | None = file
    if source is None:
        node, source = None, SourceFile().convert(_given(node, "FILE"), None, ctx)
    ctx.exit(_run_there(url, via, node, source.read(), getattr(source, "name", "<stdin>"), "exec"))


def _given(word: str | None, what: str) -> str:
    if word is None:
        raise click.UsageError(f"Missing argument '{what}'.")
    return word


def _run_there(
    url: tuple[str, ...], via: tuple[str, ...], node: str | None, source: bytes, filename: str, mode: str
) -> int:
    """Returns the exit code. Raises what connecting raises, and what writing to our own streams raised."""
    from rpyc_gateway.sync import connect

    terminal = _Terminal()
    put_own_scripts_first()
    with connect(list(url), node=node, via=via) as conn:
        try:
            if conn.eval(AGENT):
                return _run_on_board(conn, source, mode, terminal)
            conn.execute(_program("remote.py"))
            return int(conn.namespace["run"](source, filename, mode, terminal.print_output, terminal.print_errors))
        finally:
            if terminal.ended is not None:
                raise terminal.ended


def _run_on_board(conn: BlockingSession, source: bytes, mode: str, terminal: _Terminal) -> int:
    text = source.decode("utf-8", "replace")
    shown = conn.root.show(terminal.print_output)  # a board that has little room
    conn.execute(SHORT if shown else _program("embedded.py"))
    try:
        code = conn.eval("_gateway_run")(text, mode, *(() if shown else (terminal.print_output,)))
    except Exception as exc:
        told = [note for note in getattr(exc, "__notes__", ()) if note.startswith(ON_BOARD)]
        if not told:
            raise
        terminal.print_errors(f"{told[0].removeprefix(ON_BOARD).strip()}\n")
        return 1
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    terminal.print_errors(f"{code}\n")
    return 1


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
