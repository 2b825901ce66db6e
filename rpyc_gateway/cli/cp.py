"""`rpyc-gw cp`: files and directories to a node, and from one."""

from __future__ import annotations

import os
import re
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from rpyc_gateway.cli.options import harmless, log_to_stderr, url_options, verbosity
from rpyc_gateway.cli.output import Bar

if TYPE_CHECKING:
    from rpyc_gateway.files import Progress, Transferred

__all__ = ["Place", "cp", "place"]

_PLACE = re.compile(r"([^/\\:]*):(.*)", re.DOTALL)
_IS_DIRECTORY = "lambda path: __import__('os').path.isdir(__import__('os').path.expanduser(path))"


class Place(NamedTuple):
    """A path, here (no node) or on a node ("" is the one that --url leads to)."""

    node: str | None
    path: str

    def __str__(self) -> str:
        return harmless(self.path if self.node is None else f"{self.node}:{self.path}")


@click.command()
@url_options
@click.option("-r", "--recursive", is_flag=True, help="Directories too, with all that is in them.")
@click.argument("sources", metavar="SRC...", nargs=-1, required=True)
@click.argument("target", metavar="DST")
@verbosity
@click.pass_context
def cp(
    ctx: click.Context,
    url: tuple[str, ...],
    via: tuple[str, ...],
    recursive: bool,  # noqa: FBT001 - click's way
    sources: tuple[str, ...],
    target: str,
) -> None:
    """Copy files to a node or from nodes: NODE:PATH is there, any other path here. :PATH is on the node that --url leads to.

    A path here with a colon in its first name is written ./a:b. A file takes the place of another when it is there whole and verified; one that was broken off goes on
    where it stopped when the command is given again.

    With -r directories too: a directory goes into DST if that is there, else it becomes DST; what is in '.' goes into DST.
    """
    log_to_stderr(ctx)
    froms, to = [place(text) for text in sources], place(target)
    if to.node is not None and any(source.node is not None for source in froms):
        raise click.UsageError("both sides are on nodes: copy it here first")
    if to.node is None and any(source.node is None for source in froms):
        raise click.UsageError("one side is NODE:PATH, the other one a path here")
    with ExitStack() as sessions:
        known: dict[str, Any] = {}
        for source in froms:
            node = source.node if to.node is None else to.node
            assert node is not None
            if node not in known:
                from rpyc_gateway.sync import connect

                known[node] = sessions.enter_context(connect(list(url), node=node or None, via=via))
            done = _copy(known[node], source, to, several=len(froms) > 1, recursive=recursive)
            for path in done.left_out:
                click.echo(f"left out, it is a link to a directory: {harmless(path)}", err=True)


def place(text: str) -> Place:
    """What an argument says. A drive of Windows is no node."""
    match = _PLACE.fullmatch(text)
    if match is None:
        return Place(None, text)
    node, path = match.groups()
    if len(node) == 1 and (os.name == "nt" or path.startswith("\\")):
        return Place(None, text)
    return Place(node, path or "~")


def _copy(conn: Any, source: Place, to: Place, *, several: bool, recursive: bool) -> Transferred:
    from rpyc_gateway.files import download, upload

    there = conn.eval(_IS_DIRECTORY)
    is_directory, is_target = (there, os.path.isdir) if to.node is None else (os.path.isdir, there)
    into = is_target(to.path)
    if several and not into:
        raise click.UsageError(f"{to} is no directory")
    path = to.path
    name = re.split(r"[/\\]" if os.name == "nt" else "/", source.path.rstrip("/"))[-1]
    if is_directory(source.path):
        if not recursive:
            raise click.UsageError(f"{source} is a directory: -r copies those")
        if into and name not in ("", ".", "..", "~"):
            path = f"{path.rstrip('/')}/{name}"
    bar = Bar(name)

    def show(progress: Progress) -> None:
        if sys.stderr is not None and sys.stderr.isatty():
            bar.show(progress.done, progress.size)

    try:
        done: Transferred = (download if to.node is None else upload)(conn, source.path, path, progress=show)
        return done
    finally:
        bar.erase()
