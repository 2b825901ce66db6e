"""`rpyc-gw shell`: somebody at a prompt of a node."""

from __future__ import annotations

import sys

import click

from rpyc_gateway.cli.device_shell import exit_code, run_shell
from rpyc_gateway.cli.evaluate import run_there
from rpyc_gateway.cli.options import harmless, log_to_stderr, node_argument, url_options, verbosity
from rpyc_gateway.cli.run import put_own_scripts_first

__all__ = ["shell"]


@click.command()
@url_options
@node_argument
@verbosity
@click.pass_context
def shell(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], node: str | None) -> None:
    """Type Python that runs on NODE. Ctrl-C interrupts what runs there, Ctrl-D leaves. Without NODE it is the one that --url leads to.

    TAB completes the names that are there, the arrows bring lines back, also those of earlier shells. The namespace is the shell's own, and goes with it. What is
    printed there appears here, and input() reads here. The exit code is that of exit(). On a board it is `rpyc-gw device shell`.

    What is no terminal is a script: standard input is read to its end and run as `exec NODE -` does.
    """
    log_to_stderr(ctx)
    if sys.stdin is None:
        raise OSError("standard input is closed: there is nothing to run")
    if not sys.stdin.isatty():
        ctx.exit(run_there(url, via, node, sys.stdin.buffer.read(), "<stdin>", "exec"))
    from rpyc_gateway.interaction import Dialogue, Terminal
    from rpyc_gateway.redirection import is_board
    from rpyc_gateway.sync import connect

    put_own_scripts_first()
    with connect(list(url), node=node, via=via) as conn:
        board = conn.path[-1] if is_board(conn) else ""
        if not board:
            terminal = Terminal()
            with Dialogue(conn, terminal) as dialogue:
                click.echo(f"{harmless(dialogue.about)}; Ctrl-C interrupts, Ctrl-D leaves")
                code = dialogue.talk()
            if terminal.ended is not None:
                raise terminal.ended
            ctx.exit(exit_code(code or 0))
    run_shell(ctx, url, via, board)
