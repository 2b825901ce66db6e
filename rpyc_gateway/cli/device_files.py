"""`rpyc-gw device ls`, `cat`, `put`, `get`, `rm` and `mkdir`: files of a board."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path, PurePosixPath
from stat import S_ISDIR
from typing import TYPE_CHECKING

import click

from rpyc_gateway.cli.at_board import board_argument, work_on
from rpyc_gateway.cli.options import harmless
from rpyc_gateway.cli.output import Output

if TYPE_CHECKING:
    from rpyc_gateway.cli.onboard import trees
    from rpyc_gateway.cli.onboard.interpreters import Interpreter, Progress

__all__ = ["cat", "get", "ls", "mkdir", "put", "rm"]

_recursive = click.option("-r", "--recursive", is_flag=True, help="Directories too, with all that is in them.")
_force = click.option("-f", "--force", is_flag=True, help="Copy also what is there already, with the same content.")


@click.command()
@board_argument
@click.argument("path", default="")
def ls(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, path: str) -> None:
    """List a directory of the board: the bytes of each file, and its name; a directory's ends with '/'."""
    from rpyc_gateway.cli.onboard.files import listing

    async def work(there: Interpreter, output: Output) -> None:
        for name, directory, size in await listing(there, path):
            output.print(f"{size:12} {harmless(name)}{'/' if directory else ''}\n")

    work_on(ctx, url, via, board, work)


@click.command()
@board_argument
@click.argument("path", nargs=-1, required=True)
def cat(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, path: tuple[str, ...]) -> None:
    """Write files of the board to standard output, as they are."""
    from rpyc_gateway.cli.onboard.files import read

    async def work(there: Interpreter, output: Output) -> None:
        for one in path:
            await read(there, one, output.give, lambda _done, _whole: None)

    work_on(ctx, url, via, board, work)


@click.command()
@board_argument
@_recursive
@_force
@click.argument("local", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.argument("remote")
def put(
    ctx: click.Context,
    url: tuple[str, ...],
    via: tuple[str, ...],
    board: str,
    recursive: bool,  # noqa: FBT001 - click's way
    force: bool,  # noqa: FBT001
    local: tuple[Path, ...],
    remote: str,
) -> None:
    """Copy files to the board, to the file or into the directory REMOTE there.

    A file takes the place of another when it is there whole and has been read again; until then the other stays. What is up to date
    (the same size and CRC) is left, and said.

    With -r directories too: a directory goes into REMOTE if that is there, else it becomes REMOTE; what is in '.' goes into REMOTE.
    """
    from rpyc_gateway.cli.onboard import files, trees

    for path in local:
        if path.name == "..":
            raise click.UsageError(f"{path}: say what it is called")
        if path.is_dir() and not recursive:
            raise click.UsageError(f"{path} is a directory: -r copies those")

    async def work(there: Interpreter, output: Output) -> None:
        plan = trees.Plan()
        for path in local:
            to = await files.target(there, remote, path.name, inside=len(local) > 1 and bool(path.name))
            if path.is_dir():
                tree = trees.local_tree(path, to.rstrip("/") or "/")
                plan.directories += tree.directories
                plan.files += tree.files
            else:
                plan.files.append((path, to))
        for _, directory in plan.directories:
            await files.make_directory(there, directory)

        async def copy(here: Path, to: str, progress: Progress) -> None:
            await files.put(there, here, to, progress)

        await _copy(there, output, plan, copy, force=force)

    work_on(ctx, url, via, board, work)


@click.command()
@board_argument
@_recursive
@_force
@click.argument("remote", nargs=-1, required=True)
@click.argument("local", type=click.Path(path_type=Path))
def get(
    ctx: click.Context,
    url: tuple[str, ...],
    via: tuple[str, ...],
    board: str,
    recursive: bool,  # noqa: FBT001 - click's way
    force: bool,  # noqa: FBT001
    remote: tuple[str, ...],
    local: Path,
) -> None:
    """Copy files of the board, to the file or into the directory LOCAL of this machine.

    One takes the place of another when it is here whole and verified; until then the other stays. What is up to date is left, and said.

    With -r directories too, as `put` does it the other way; what is in '/' goes into LOCAL.
    """
    from rpyc_gateway.cli.onboard import files, trees

    inside = local.is_dir()
    if len(remote) > 1 and not inside:
        raise click.UsageError(f"{local} is no directory")
    if wrong := [path for path in remote if PurePosixPath(path).name == ".."]:
        raise click.UsageError(f"{wrong[0]}: say what it is called")

    async def work(there: Interpreter, output: Output) -> None:
        plan = trees.Plan()
        for path in remote:
            to = local / PurePosixPath(path).name if inside else local
            found = await files.look(there, path) if recursive else None
            if found is not None and S_ISDIR(found[0]):
                tree = await trees.remote_tree(there, path, to)
                plan.directories += tree.directories
                plan.files += tree.files
            else:
                plan.files.append((to, path))
        for directory, _ in plan.directories:
            directory.mkdir(exist_ok=True)

        async def copy(here: Path, at: str, progress: Progress) -> None:
            await files.get(there, at, here, progress)

        await _copy(there, output, plan, copy, force=force)

    work_on(ctx, url, via, board, work)


@click.command()
@board_argument
@_recursive
@click.argument("path", nargs=-1, required=True)
def rm(
    ctx: click.Context,
    url: tuple[str, ...],
    via: tuple[str, ...],
    board: str,
    recursive: bool,  # noqa: FBT001 - click's way
    path: tuple[str, ...],
) -> None:
    """Remove files of the board; with -r directories too."""
    from rpyc_gateway.cli.onboard.files import remove
    from rpyc_gateway.cli.onboard.trees import remove_tree

    async def work(there: Interpreter, _output: Output) -> None:
        for one in path:
            await (remove_tree if recursive else remove)(there, one)

    work_on(ctx, url, via, board, work)


@click.command()
@board_argument
@click.argument("path", nargs=-1, required=True)
def mkdir(ctx: click.Context, url: tuple[str, ...], via: tuple[str, ...], board: str, path: tuple[str, ...]) -> None:
    """Make directories on the board. One that is there already is all right."""
    from rpyc_gateway.cli.onboard.files import make_directory

    async def work(there: Interpreter, _output: Output) -> None:
        for one in path:
            await make_directory(there, one)

    work_on(ctx, url, via, board, work)


async def _copy(
    there: Interpreter,
    output: Output,
    plan: trees.Plan,
    copy: Callable[[Path, str, Progress], Awaitable[None]],
    *,
    force: bool,
) -> None:
    """Copy each file of the plan, one after another; without `force` not those that are up to date."""
    from rpyc_gateway.cli.onboard.files import up_to_date

    for number, (here, at) in enumerate(plan.files, 1):
        name = here.name if len(plan.files) == 1 else f"{number}/{len(plan.files)} {here.name}"
        with output.progress(name) as progress:
            same = not force and await up_to_date(there, here, at)
            if not same:
                await copy(here, at, progress)
        if same:
            click.echo(f"up to date: {harmless(at)}", err=True)
