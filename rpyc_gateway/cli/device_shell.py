"""`rpyc-gw device shell`: somebody at a prompt of a board."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

import click

from rpyc_gateway.cli.at_board import board_argument, opened, port_url, work_on
from rpyc_gateway.cli.options import harmless, log_to_stderr
from rpyc_gateway.cli.output import Output

if TYPE_CHECKING:
    from rpyc_gateway.cli.foreground import Foreground
    from rpyc_gateway.cli.onboard.interpreters import Interpreter
    from rpyc_gateway.cli.onboard.shells import Shell

__all__ = ["Around", "run_shell", "shell"]

Around = Callable[["Interpreter"], AbstractAsyncContextManager[object]]
"""What is to be there as long as a shell or a program."""
LEAVING = ("exit", "quit", "exit()", "quit()")


@click.command()
@board_argument
def shell(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str) -> None:
    """Type Python that runs on the board. Ctrl-C interrupts what runs there, Ctrl-D leaves.

    TAB completes the names that the board has, the arrows bring lines back, also those of earlier shells. The namespace is the shell's own, and goes
    with it; modules stay imported.

    What is no terminal is a script: standard input is read to its end and run as `run BOARD -` does.
    """
    run_shell(ctx, url, via, board)


def run_shell(
    ctx: click.Context,
    url: Sequence[str],
    via: tuple[str, ...],
    board: str,
    around: Around = lambda _board: nullcontext(),
) -> None:
    """Exits with the code of the shell."""
    if sys.stdin is None or not sys.stdin.isatty():
        run_program(ctx, url, via, board, _given(), "<stdin>", "exec", around)
        return
    from rpyc_gateway.cli.foreground import Foreground

    log_to_stderr(ctx)
    port = "" if url else port_url(board, via)

    @asynccontextmanager
    async def open_it() -> AsyncIterator[tuple[Interpreter, Shell, Output]]:
        import trio

        from rpyc_gateway.cli.onboard.shells import open_shell

        with trio.CancelScope() as scope:
            output = Output(scope)
            async with opened(url, via, board, port, output) as there, around(there):
                yield there, await open_shell(there, output.write), output
        if output.ended is not None:
            raise output.ended

    async def watch(it: tuple[Interpreter, Shell, Output]) -> None:
        raise await it[0].wait_lost()

    with Foreground(open_it, watch) as foreground:
        code = _talk(foreground)
    ctx.exit(code)


def _given() -> str:
    if sys.stdin is None:
        raise OSError("standard input is closed: there is nothing to run")
    return sys.stdin.buffer.read().decode("utf-8", "replace")


def run_program(
    ctx: click.Context,
    url: Sequence[str],
    via: tuple[str, ...],
    board: str,
    source: str,
    filename: str,
    mode: str,
    around: Around = lambda _board: nullcontext(),
) -> None:
    """Run a program on the board and exit with its code; `mode` is "exec", or "eval": then the value is printed."""
    from rpyc_gateway.cli.onboard.interpreters import BoardFailed
    from rpyc_gateway.cli.onboard.programs import run

    async def work(there: Interpreter, output: Output) -> int:
        async with around(there):
            try:
                code = await run(there, source, filename, mode, output.write)
            except BoardFailed as exc:
                click.echo(harmless(exc.traceback), err=True)
                return 1
        return exit_code(code)

    work_on(ctx, url, via, board, work)


def exit_code(code: int | str) -> int:
    """What a process exits with whose sys.exit() was given this; text is told."""
    if isinstance(code, str):
        click.echo(harmless(code), err=True)
        return 1
    return code & 0xFF


def _talk(foreground: Foreground[tuple[Interpreter, Shell, Output]]) -> int:
    """The dialogue; its exit code."""
    from rpyc_gateway.cli.onboard.shells import Exited
    from rpyc_gateway.errors import GatewayError
    from rpyc_gateway.prompt import read_block, with_history

    async def about(it: tuple[Interpreter, Shell, Output]) -> str:
        return it[1].about

    def names(owner: str, begun: str) -> Sequence[str]:
        async def find(it: tuple[Interpreter, Shell, Output]) -> Sequence[str]:
            return await it[1].names(owner, begun)

        try:
            return foreground.call(find)
        except Exception:  # noqa: BLE001 - readline shows none; the next line tells it
            return ()

    click.echo(f"{harmless(foreground.call(about))}; Ctrl-C interrupts, Ctrl-D leaves")
    with with_history(names):
        while True:
            try:
                source = read_block(lambda prompt: _ask(foreground, prompt))
                if source.strip() in LEAVING:
                    return 0
                if source.strip():
                    _do(foreground, source)
            except EOFError:
                click.echo()
                return 0
            except KeyboardInterrupt:
                click.echo("\nKeyboardInterrupt", err=True)
            except Exited as exc:
                return exit_code(exc.code)
            except GatewayError:
                click.echo(err=True)  # it is told on a line of its own
                raise


def _ask(foreground: Foreground[tuple[Interpreter, Shell, Output]], prompt: str) -> str:
    from rpyc_gateway.prompt import line_under_edit

    output = foreground.it[2]
    with foreground.waiting_for_people():
        output.prompt = lambda: prompt + line_under_edit()
        try:
            return input(prompt)
        finally:
            output.prompt = str


def _do(foreground: Foreground[tuple[Interpreter, Shell, Output]], source: str) -> None:
    """Run one statement, and show what it is worth or why it failed."""
    from rpyc_gateway.cli.onboard.interpreters import BoardFailed
    from rpyc_gateway.prompt import is_expression

    async def run(it: tuple[Interpreter, Shell, Output]) -> str | None:
        return await it[1].run(source, evaluates=is_expression(source))

    async def settle(it: tuple[Interpreter, Shell, Output]) -> None:
        await it[1].settle()

    try:
        shown = foreground.call(run)
    except BoardFailed as exc:
        click.echo(harmless(exc.traceback), err=True)
        return
    except KeyboardInterrupt:
        foreground.call(settle)
        raise
    if shown is not None:
        foreground.it[2].print(harmless(shown) + "\n")
