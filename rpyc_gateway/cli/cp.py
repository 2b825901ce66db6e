"""`rpyc-gw cp`: files and directories to a node, from one, and from one to another."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from rpyc_gateway.cli.options import chattiness, harmless, log_to_stderr, url_options, verbosity
from rpyc_gateway.cli.output import Bar

if TYPE_CHECKING:
    from rpyc_gateway.transfers import End, Progress, Transferred

__all__ = ["Place", "cp", "place"]

_PLACE = re.compile(r"([^/\\:]*):(.*)", re.DOTALL)
GOES_ON = "rpyc-gw: what has come is kept, and the same command goes on there"


class Place(NamedTuple):
    """A path, here (no node) or on a node ("" is the one that --url leads to)."""

    node: str | None
    path: str

    def __str__(self) -> str:
        return harmless(self.path if self.node is None else f"{self.node}:{self.path}")

    @property
    def name(self) -> str:
        """What it is called in a directory; "" if that is for the directory to say."""
        name = re.split(r"[/\\]" if os.name == "nt" else "/", self.path.rstrip("/"))[-1]
        return "" if name in (".", "..", "~") else name

    @property
    def is_pipe(self) -> bool:
        """Whether it is standard input or output."""
        return self.node is None and self.path == "-"


@click.command()
@url_options
@click.option("-r", "-R", "--recursive", is_flag=True, help="Directories too, with all that is in them.")
@click.option(
    "-f/-n",
    "--force/--no-clobber",
    "replace",
    default=True,
    help="Replace files that are there, which is the default, or leave them as they are.",
)
@click.argument("sources", metavar="SRC...", nargs=-1, required=True)
@click.argument("target", metavar="DST")
@verbosity
@click.pass_context
def cp(
    ctx: click.Context,
    url: tuple[str, ...],
    via: tuple[str, ...],
    recursive: bool,  # noqa: FBT001 - click's way
    replace: bool,  # noqa: FBT001 - click's way
    sources: tuple[str, ...],
    target: str,
) -> None:
    """Copy files to a node, from nodes, or from nodes to a node through this machine: NODE:PATH is there, any other path here, and - is standard input or output. :PATH is on the node that --url leads to.

    A path here with a colon in its first name is written ./a:b. A file takes the place of another when it is there whole and verified; what was broken off, with Ctrl-C too, goes on
    where it stopped when the command is given again. Permissions and times go too.

    With -r directories too: a directory goes into DST if that is there, else it becomes DST; what is in '.' goes into DST.

    What cannot be copied is told, and the other sources are; the command fails in the end.
    """
    log_to_stderr(ctx)
    froms, to = [place(text) for text in sources], place(target)
    if to.node is None and any(source.node is None for source in froms):
        raise click.UsageError("one side is NODE:PATH, the other one a path here")
    if any(source.is_pipe for source in froms) and len(froms) > 1:
        raise click.UsageError("standard input is one file: there can be no other source")
    with ExitStack() as sessions:
        copying = _Copying(_Nodes(sessions, url, via), to, recursive=recursive, replace=replace)
        copying.bars = chattiness(ctx) >= 0
        copying.run(froms)
    if copying.failed:
        ctx.exit(1)


def place(text: str) -> Place:
    """What an argument says. A drive of Windows is no node."""
    match = _PLACE.fullmatch(text)
    if match is None:
        return Place(None, text)
    node, path = match.groups()
    if len(node) == 1 and (os.name == "nt" or path.startswith("\\")):
        return Place(None, text)
    return Place(node, path or "~")


class _Nodes:
    """The sessions that places need, and the files there."""

    def __init__(self, sessions: ExitStack, url: tuple[str, ...], via: tuple[str, ...]) -> None:
        self._sessions = sessions
        self._url = list(url)
        self._via = via
        self._known: dict[str, tuple[Any, Any]] = {}

    def find(self, node: str | None) -> tuple[Any, Any]:
        """The session with a node, and its store; no session for this process."""
        from rpyc_gateway.filestore import Store

        if node is None:
            return None, Store()
        if node not in self._known:
            from rpyc_gateway.sync import connect
            from rpyc_gateway.transfers import far_store

            conn = self._sessions.enter_context(connect(self._url, node=node or None, via=self._via))
            try:
                self._known[node] = conn, far_store(conn)
            except TypeError as exc:
                raise click.UsageError(str(exc)) from exc
        return self._known[node]


class _Copying:
    """One command: the sources one after the other."""

    def __init__(self, nodes: _Nodes, to: Place, *, recursive: bool, replace: bool) -> None:
        self._nodes = nodes
        self._to = to
        self._recursive = recursive
        self._replace = replace
        self._written: set[str] = set()
        self.bars = True
        self.failed = False

    def run(self, froms: list[Place]) -> None:
        """Copy what can be copied, and tell what cannot. Raises UsageError before anything is copied, and what ends a session."""
        self._conn, self._store = self._nodes.find(self._to.node)
        if self._to.node is not None:
            self._to = self._to._replace(path=self._store.expand(self._to.path))
        into = not self._to.is_pipe and self._store.kind(self._to.path)[0] == "directory"
        if froms[0].is_pipe:
            self._copy_input(into=into)
            return
        if len(froms) > 1 and not into and not self._to.is_pipe:
            raise click.UsageError(f"{self._to} is no directory")
        several = False
        for source in froms:
            with self._telling():
                conn, store = self._nodes.find(source.node)
                paths = (source.path,) if source.node is None else store.matching(source.path)
                if not paths:
                    raise FileNotFoundError(f"nothing is called {source}")
                several |= len(paths) > 1
                if several and not into and not self._to.is_pipe:
                    raise NotADirectoryError(f"{self._to} is no directory, and {source} is several files")
                for path in paths:
                    with self._telling():
                        self._copy(Place(source.node, path), conn, store, into=into)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """The troubles of one source are no reason to leave the others here."""
        from rpyc_gateway.errors import GatewayError

        try:
            yield
        except GatewayError:
            raise
        except BrokenPipeError:  # nobody reads what goes to standard output
            raise
        except (OSError, ValueError) as exc:
            self._fail(str(exc))

    def _fail(self, problem: str) -> None:
        self.failed = True
        click.echo(f"rpyc-gw: {harmless(problem)}", err=True)

    def _copy(self, source: Place, conn: Any, store: Any, *, into: bool) -> None:
        from rpyc_gateway.transfers import End

        kind, _ = store.kind(source.path)
        if kind == "directory" and not (self._recursive and not self._to.is_pipe):
            raise IsADirectoryError(f"{source} is a directory" + ("" if self._to.is_pipe else ": -r copies those"))
        if self._to.is_pipe:
            from rpyc_gateway.cli.pipes import give

            give(store, source.path)
            return
        path = self._to.path
        if into and source.name:
            path = f"{path.rstrip('/')}/{source.name}"
        if kind == "file":
            if path in self._written:
                raise FileExistsError(f"{source} would take the place of what has just been copied to {path}")
            self._written.add(path)
        ends = End(conn, source.path, store), End(self._conn, path, self._store)
        for left_out in self._transfer(source.name or source.path, *ends).left_out:
            self._fail(f"left out (a link to a directory, a special or unfinished file, or vanished): {left_out}")

    def _transfer(self, name: str, source: End, target: End) -> Transferred:
        from rpyc_gateway.errors import GatewayError
        from rpyc_gateway.transfers import Transfer

        with self._bar(name) as bar:
            try:
                done: Transferred = Transfer(source, target, lenient=True, replace=self._replace, watcher=bar).start()
                return done
            except (KeyboardInterrupt, GatewayError):
                if bar.done:
                    bar.erase()
                    click.echo(GOES_ON, err=True)
                raise

    def _copy_input(self, *, into: bool) -> None:
        from rpyc_gateway.cli.pipes import take

        if into:
            raise click.UsageError(f"{self._to} is a directory, and standard input has no name to go there by")
        if self._replace or not self._store.existing(self._to.path, ((),)):
            take(self._store, self._to.path)

    @contextmanager
    def _bar(self, name: str) -> Iterator[_Watch]:
        watch = _Watch(Bar(name) if self.bars and sys.stderr is not None and sys.stderr.isatty() else None)
        try:
            yield watch
        finally:
            watch.erase()


class _Watch:
    """Whoever watches a transfer: the bar, where there is a terminal."""

    def __init__(self, bar: Bar | None) -> None:
        self._bar = bar
        self.done = 0  # bytes

    def __call__(self, progress: Progress) -> None:
        self.done = progress.done
        if self._bar is not None:
            self._bar.show(progress.done, progress.size)

    def erase(self) -> None:
        if self._bar is not None:
            self._bar.erase()
