"""`rpyc-gw device`: files, programs and the reset of a board, at a port of this machine or as a node anywhere."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import quote

import click

from rpyc_gateway.cli.options import SourceFile, dialable, harmless, log_to_stderr, some_url_options, verbosity

if TYPE_CHECKING:
    import trio

    from rpyc_gateway.cli.onboard import Interpreter, Progress

__all__ = ["device"]

_Command = TypeVar("_Command", bound=Callable[..., Any])
_ERASE = "\r\x1b[K"
_PORT = re.compile(r"/.+|COM\d+", re.IGNORECASE)


@click.group(no_args_is_help=True)
def device() -> None:
    """Use a board that runs MicroPython or CircuitPython: run programs, copy files, reset it.

    BOARD is a port, as /dev/ttyACM0 or its URL (`rpyc-gw ports` lists them): nothing needs to be installed there. Or, with --url,
    it is the name of a node that is a board, anywhere in a chain.

    What the board raises is told in its own words, and the exit code is 1.
    """


def _board(command: _Command) -> _Command:
    """BOARD, and the ways to it."""
    return some_url_options(click.argument("board")(verbosity(click.pass_context(command))))  # type: ignore[return-value]


@device.command()
@_board
@click.argument("file", type=SourceFile())
def run(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, file: BinaryIO) -> None:
    """Run a Python FILE of this machine on the board; '-' reads standard input.

    What it prints appears here as it comes; of a node this is what the program prints itself, not what modules that it imports do.
    The exit code is that of its sys.exit(). Ctrl-C interrupts it.
    """
    source = file.read().decode("utf-8", "replace")
    _run(ctx, url, via, board, source, Path(getattr(file, "name", "<stdin>")).name, "exec")


@device.command("exec")
@_board
@click.argument("code")
def execute(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, code: str) -> None:
    """Run statements on the board, as `run` runs a file."""
    _run(ctx, url, via, board, code, "<code>", "exec")


@device.command("eval")
@_board
@click.argument("expression", metavar="EXPR")
def evaluate(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, expression: str) -> None:
    """Print the value of an expression on the board, as print() would there."""
    _run(ctx, url, via, board, expression, "<expression>", "eval")


@device.command()
@_board
@click.argument("path", default="")
def ls(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, path: str) -> None:
    """List a directory of the board: the bytes of each file, and its name; a directory's ends with '/'."""
    from rpyc_gateway.cli.onboard import listing

    async def work(there: Interpreter, _output: _Output) -> None:
        for name, directory, size in await listing(there, path):
            click.echo(f"{size:12} {harmless(name)}{'/' if directory else ''}")

    _work(ctx, url, via, board, work)


@device.command()
@_board
@click.argument("local", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("remote")
def put(
    ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, local: tuple[Path, ...], remote: str
) -> None:
    """Copy files to the board, to the file or into the directory REMOTE there.

    A file takes the place of another when it is there whole and has been read again; until then the other stays.
    """
    from rpyc_gateway.cli import onboard

    async def work(there: Interpreter, output: _Output) -> None:
        for file in local:
            to = await onboard.target(there, remote, file.name, inside=len(local) > 1)
            with output.progress(file.name) as progress:
                await onboard.put(there, file, to, progress)

    _work(ctx, url, via, board, work)


@device.command()
@_board
@click.argument("remote")
@click.argument("local", type=click.Path(path_type=Path))
def get(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, remote: str, local: Path) -> None:
    """Copy a file of the board, to the file or into the directory LOCAL of this machine.

    It takes the place of another when it is here whole and verified; until then the other stays.
    """
    from rpyc_gateway.cli import onboard

    name = PurePosixPath(remote).name
    to = local / name if local.is_dir() else local

    async def work(there: Interpreter, output: _Output) -> None:
        with output.progress(name) as progress:
            await onboard.get(there, remote, to, progress)

    _work(ctx, url, via, board, work)


@device.command()
@_board
@click.argument("path", nargs=-1, required=True)
def rm(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, path: tuple[str, ...]) -> None:
    """Remove files of the board."""
    from rpyc_gateway.cli.onboard import remove

    async def work(there: Interpreter, _output: _Output) -> None:
        for one in path:
            await remove(there, one)

    _work(ctx, url, via, board, work)


@device.command()
@_board
def reset(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str) -> None:
    """Reset the board. At a port, what it starts with (main.py) runs then; a node opens its board again."""
    from rpyc_gateway.cli import onboard

    async def work(there: Interpreter, _output: _Output) -> None:
        await onboard.reset(there)

    if url:
        _work(ctx, url, via, board, work)
    else:
        import trio

        from rpyc_gateway.transport import without_secrets

        log_to_stderr(ctx)
        trio.run(onboard.reset_port, _port(board, via), without_secrets(board))


def _run(
    ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, source: str, filename: str, mode: str
) -> None:
    from rpyc_gateway.cli import onboard

    async def work(there: Interpreter, output: _Output) -> int:
        try:
            code = await onboard.run(there, source, filename, mode, output.write)
        except onboard.BoardFailed as exc:
            click.echo(harmless(exc.traceback), err=True)
            return 1
        if isinstance(code, str):
            click.echo(harmless(code), err=True)
            return 1
        return code & 0xFF

    _work(ctx, url, via, board, work)


def _work(
    ctx: click.Context,
    url: Sequence[str],
    via: tuple[str, ...],
    board: str,
    work: Callable[[Interpreter, _Output], Awaitable[int | None]],
) -> None:
    """Do this on the board, and exit with the code that it returns."""
    import trio

    from rpyc_gateway.cli.onboard import open_node, open_port
    from rpyc_gateway.transport import without_secrets

    log_to_stderr(ctx)
    port = "" if url else _port(board, via)

    async def main() -> int | None:
        with trio.CancelScope() as scope:
            output = _Output(scope)
            if url:
                async with open_node(url, via, board) as node:
                    return await work(node, output)
            with output.progress("agent") as progress:
                async with open_port(port, without_secrets(board), output.show, progress) as there:
                    return await work(there, output)
        assert output.ended is not None
        raise output.ended

    ctx.exit(trio.run(main) or 0)


def _port(board: str, via: tuple[str, ...]) -> str:
    """The URL of a port. Wrong usage if it is none."""
    if via:
        raise click.UsageError("--via is for a board that is a node, and needs --url")
    if _PORT.fullmatch(board):
        board = f"serial://{quote(board)}"
    if "://" not in board:
        raise click.UsageError(
            f"{board!r} is no port: say /dev/ttyACM0 or serial://?serial=NUMBER (`rpyc-gw ports` lists them); a node needs --url"
        )
    return dialable(board)


class _Output:
    """Where it appears what a board prints, and how far a copy is. When nobody reads it any more the work is cancelled."""

    ended: OSError | None = None

    def __init__(self, scope: trio.CancelScope) -> None:
        """Raises OSError if there is no standard output."""
        if sys.stdout is None:
            raise OSError("standard output is closed: there is nowhere to print to (>/dev/null drops it)")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        self._scope = scope

    def show(self, line: bytes) -> None:
        """A line that a board has printed."""
        self._print(line.decode("utf-8", "replace").rstrip("\r\n") + "\n")

    async def write(self, text: str) -> None:
        """What a node has printed."""
        self._print(text)

    def _print(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as exc:
            self.ended = exc
            self._scope.cancel()

    @contextmanager
    def progress(self, label: str) -> Iterator[Progress]:
        """A line on a terminal that says how far something is, and goes away."""
        shown = ""

        def show(done: int, whole: int) -> None:
            nonlocal shown
            line = f"\r{harmless(label)}: {100 * done // whole} %" if done < whole else ""
            if line != shown:
                click.echo(line or _ERASE, err=True, nl=False)
                shown = line

        if sys.stderr is None or not sys.stderr.isatty():
            yield lambda _done, _whole: None
            return
        try:
            yield show
        finally:
            show(1, 1)
