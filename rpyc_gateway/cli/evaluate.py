"""`rpyc-gw eval` and `rpyc-gw exec`: run code on a node, and have its output here."""

from __future__ import annotations

import sys
from functools import partial
from importlib.resources import files
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import click

from rpyc_gateway.cli.options import SourceFile, log_to_stderr, node_argument, url_options, verbosity
from rpyc_gateway.cli.run import put_own_scripts_first

if TYPE_CHECKING:
    from rpyc_gateway.interaction import Terminal
    from rpyc_gateway.sync import BlockingSession

__all__ = ["evaluate", "execute", "run_there"]

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
    ctx.exit(run_there(url, via, node, expression.encode(), "<expression>", "eval"))


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

    What it prints appears here, output and errors apart, and input() reads here. An exception there is shown with its traceback on standard error; the
    exit code is 1, or that of its sys.exit(). What modules print on a board stays there.

    Ctrl-C interrupts it, and so does a link that breaks: KeyboardInterrupt there. What does not end then (it waits for something outside of Python) is left alone after two seconds.
    """
    log_to_stderr(ctx)
    source: IO[Any] | None = file
    if source is None:
        node, source = None, SourceFile().convert(_given(node, "FILE"), None, ctx)
    ctx.exit(run_there(url, via, node, source.read(), getattr(source, "name", "<stdin>"), "exec"))


def _given(word: str | None, what: str) -> str:
    if word is None:
        raise click.UsageError(f"Missing argument '{what}'.")
    return word


def run_there(
    url: tuple[str, ...], via: tuple[str, ...], node: str | None, source: bytes, filename: str, mode: str
) -> int:
    """Run code on a node, with its streams here; `mode` is "exec", or "eval": then the value is printed.

    Returns the exit code. Raises what connecting raises, and what writing to our own streams raised.
    """
    from rpyc_gateway.interaction import Dialogue, Terminal
    from rpyc_gateway.redirection import is_board
    from rpyc_gateway.sync import connect

    if sys.stdout is None:
        raise OSError("standard output is closed: there is nowhere to print to (>/dev/null drops it)")
    terminal = Terminal()
    put_own_scripts_first()
    with connect(list(url), node=node, via=via) as conn:
        try:
            if is_board(conn):
                return _run_on_board(conn, source, mode, terminal)
            with Dialogue(conn, terminal) as dialogue:
                return dialogue.script(source, filename, mode)
        finally:
            if terminal.ended is not None:
                raise terminal.ended


def _run_on_board(conn: BlockingSession, source: bytes, mode: str, terminal: Terminal) -> int:
    text = source.decode("utf-8", "replace")
    give = partial(terminal.give, "stdout")
    shown = conn.root.show(give)  # a board that has little room
    conn.execute(SHORT if shown else files("rpyc_gateway.cli").joinpath("embedded.py").read_text(encoding="utf-8"))
    try:
        code = conn.eval("_gateway_run")(text, mode, *(() if shown else (give,)))
    except Exception as exc:
        told = [note for note in getattr(exc, "__notes__", ()) if note.startswith(ON_BOARD)]
        if not told:
            raise
        terminal.give("stderr", f"{told[0].removeprefix(ON_BOARD).strip()}\n")
        return 1
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    terminal.give("stderr", f"{code}\n")
    return 1
