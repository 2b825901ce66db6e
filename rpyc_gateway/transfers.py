"""One transfer of files: from a store to another one, of which one at least is far away."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from importlib.resources import files
from typing import Any, NamedTuple, TypeVar
from unicodedata import normalize

from rpyc_gateway.faces import Face, run
from rpyc_gateway.filestore import LISTED, Store
from rpyc_gateway.incoming import AHEAD, CHUNK, check

__all__ = [
    "INTERPRETER",
    "End",
    "Filter",
    "Progress",
    "Transfer",
    "Transferred",
    "Watcher",
    "check_interpreter",
    "far_store",
]

GROUP = 1 << 20  # bytes of small files that go in one message
MANY = 256  # such files: of more it is known too late how far they have come

Names = tuple[str, ...]
Facts = tuple[int, int]
Sized = tuple[Names, int]
Directory = tuple[Names, Facts]


T = TypeVar("T")


class Progress(NamedTuple):
    """How far a transfer has come, for whoever watches it."""

    path: str  # of the file that was worked on last, relative to a directory that is copied
    done: int  # bytes, of all files together
    size: int  # bytes, of all files together


class Transferred(NamedTuple):
    """What a transfer came to."""

    files: int
    size: int  # bytes in them
    resumed: int  # bytes of these that had come in an earlier transfer
    left_out: tuple[str, ...]
    """Paths of what was not copied: links to directories, unfinished files, what had vanished, what is neither file nor directory."""


class End(NamedTuple):
    """A path, and the session to the side that has it; None is this process. `store` are the files there, if they are at hand."""

    conn: Any
    path: str
    store: Any = None


Watcher = Callable[[Progress], object]
Filter = Callable[[str], object]


class Transfer:
    """What is at one place goes to another one. `chosen` says what of a directory is wanted; who is `lenient` leaves out what is no file."""

    def __init__(
        self,
        source: End,
        target: End,
        *,
        chosen: Filter | None = None,
        lenient: bool = False,
        replace: bool = True,
        watcher: Watcher | None = None,
    ) -> None:
        self.source = source
        self.target = target
        self._chosen = chosen
        self._lenient = lenient
        self._replace = replace
        self._watcher = watcher
        self._files = self._done = self._size = self._resumed = 0
        self._left_out: list[str] = []

    def start(self) -> Any:
        """Do it: what it came to, or what is to be awaited for that in trio code."""
        return run(self.run, *(end.conn for end in (self.source, self.target) if end.conn is not None))

    async def run(self, face: Face) -> Transferred:
        """Do it, in code of either face."""
        self._face = face
        self._source, self._read = await self._store(self.source)
        self._target, self._write = await self._store(self.target)
        self._from, self._to = self.source.path, self.target.path
        kind, size = await self._read(self._source.kind, self._from)
        if kind == "directory":
            await self._copy_directory()
        elif kind == "other" and self._lenient:
            self._left_out.append(self._from)
        elif kind == "other":
            raise ValueError(f"{self._from} is neither a file nor a directory")
        else:
            await self._copy_file(size)
        return Transferred(self._files, self._done, self._resumed, tuple(self._left_out))

    async def _store(self, end: End) -> tuple[Any, Any]:
        """The files of a side, and how they are called."""
        if end.conn is None:
            return Store(), self._face.here
        if end.store is not None:
            return end.store, self._face.there
        check_interpreter(await self._face.there(end.conn.eval, INTERPRETER))
        return await self._face.there(end.conn.eval, store_text()), self._face.there

    async def _copy_file(self, size: int) -> None:
        directory, name = os.path.split(self._from)
        kind, _ = await self._write(self._target.kind, self._to)
        if kind == "directory":
            self._from = directory
            await self._copy_files([((name,), size)])
        else:
            await self._copy_files([((), size)])

    async def _copy_directory(self) -> None:
        directories: list[Directory] = []
        sized: list[Sized] = []
        others: list[str] = []
        async with aclosing(self._listed()) as listed:
            async for some_directories, some_files, passed, odd in listed:
                directories += some_directories
                sized += some_files
                self._left_out += passed + odd
                others += odd
        if others and not self._lenient:
            raise ValueError(f"neither a file nor a directory: {', '.join(others)}")
        directories, sized = self._choose(directories, sized)
        made: list[Directory] = []
        for some in _pieces(directories):
            made += await self._write(self._target.make_directories, self._to, some)
        twins = _twins([names for names, _ in (*directories, *sized)])
        if twins and await self._write(self._target.folds, self._to):
            raise FileExistsError(
                errno.EEXIST, f"where it is to go {twins[0]} and {twins[1]} are the same; no file was copied", self._to
            )
        await self._copy_files(sized)
        for some in _pieces(made[::-1]):  # what is made in a directory changes its time
            await self._write(self._target.finish_directories, self._to, some)

    async def _listed(self) -> Any:
        if self.source.conn is None:
            for listing in await self._face.here(lambda: list(self._source.tree(self._from))):
                yield listing
            return
        async with aclosing(self._face.fetch(self._source.tree(self._from), AHEAD)) as fetched:
            async for listing in fetched:
                for names, _ in (*listing[0], *listing[1]):
                    check(self._to, names)
                yield listing

    def _choose(self, directories: list[Directory], sized: list[Sized]) -> tuple[list[Directory], list[Sized]]:
        if self._chosen is None:
            return directories, sized
        wanted: set[Names] = {()}

        def is_wanted(names: Names) -> bool:
            return not names or (names[:-1] in wanted and bool(self._chosen and self._chosen("/".join(names))))

        kept = []
        for names, facts in directories:  # parents come first
            if is_wanted(names):
                wanted.add(names)
                kept.append((names, facts))
        return kept, [(names, size) for names, size in sized if is_wanted(names)]

    async def _copy_files(self, wanted: list[Sized]) -> None:
        if not self._replace:
            there: set[Names] = set()
            for some in _pieces([names for names, _ in wanted]):
                there.update(await self._write(self._target.existing, self._to, some))
            wanted = [(names, size) for names, size in wanted if names not in there]
        self._size = sum(size for _, size in wanted)
        for group in _groups(wanted):
            if len(group) == 1 and group[0][1] > CHUNK:
                await self._copy_large(*group[0])
            else:
                await self._copy_small(group)

    async def _copy_small(self, group: tuple[Sized, ...]) -> None:
        read = await self._read(self._source.read_small, self._from, group)
        written = []
        for (names, size), contents in zip(group, read, strict=True):
            if contents is None:
                self._vanished(names, size)
            else:
                written.append((names, *contents))
        await self._write(self._target.write_small, self._to, tuple(written))
        self._files += len(written)
        self._advance(group[-1][0], sum(len(data) for _, data, _ in written))

    async def _copy_large(self, names: Names, expected: int) -> None:
        try:
            outgoing, size, facts = await self._read(self._source.outgoing, self._from, names)
        except FileNotFoundError:
            if not names:
                raise
            self._vanished(names, expected)
            return
        incoming = None
        try:
            self._size += size - expected  # it may have changed since
            incoming, have, digest = await self._write(self._target.incoming, self._to, names, size, facts)
            if have and await self._read(outgoing.digest, have) != digest:
                have = 0
                await self._read(outgoing.digest, 0)
            self._resumed += have
            self._advance(names, have)
            await self._move(outgoing, incoming, have, names)
            await self._write(incoming.finish, await self._read(outgoing.end), facts)
        finally:
            await self._close((self.target, incoming), (self.source, outgoing))
        self._files += 1

    async def _close(self, *files: tuple[End, Any]) -> None:
        for end, file in files:
            if end.conn is None and file is not None:
                file.close()
        for end, file in files:
            if end.conn is not None and file is not None:
                await self._face.leave(file)

    async def _move(self, outgoing: Any, incoming: Any, at: int, names: Names) -> None:
        if self.target.conn is None or not await self._write(self._target.iterates):
            await self._write(incoming.begin, at)
            async with aclosing(self._chunks(outgoing)) as chunks:
                async for data in chunks:
                    await self._write(incoming.write, data)
                    self._advance(names, len(data))
        elif self.source.conn is None:
            await self._write(incoming.take, at, self._counted(outgoing.chunks(), names))
        else:
            async with self._face.lend(outgoing.chunks(), AHEAD) as lent:
                await self._write(incoming.take, at, self._counted(lent, names))

    async def _chunks(self, outgoing: Any) -> Any:
        if self.source.conn is None:
            for data in outgoing.chunks():
                yield data
            return
        async with aclosing(self._face.fetch(outgoing.chunks(), AHEAD)) as fetched:
            async for data in fetched:
                yield data

    def _counted(self, chunks: Iterator[bytes], names: Names) -> Iterator[bytes]:
        for data in chunks:
            yield data
            self._advance(names, len(data))

    def _vanished(self, names: Names, size: int) -> None:
        self._left_out.append("/".join((self._from, *names)))
        self._size -= size

    def _advance(self, names: Names, size: int) -> None:
        self._done += size
        if self._watcher is not None:
            self._watcher(Progress("/".join(names) or os.path.basename(self._from), self._done, self._size))


def _pieces(items: list[T]) -> Iterator[tuple[T, ...]]:
    """What goes in one message, which has its limits."""
    return (tuple(items[first : first + LISTED]) for first in range(0, len(items), LISTED))


def _twins(paths: Iterable[Names]) -> tuple[str, str] | None:
    """Two that many file systems of Windows and macOS take for the same, if there are such."""
    seen: dict[str, str] = {}
    for path in map("/".join, paths):
        other = seen.setdefault(normalize("NFC", path).casefold(), path)
        if other != path:
            return other, path
    return None


def _groups(wanted: Iterable[Sized]) -> Iterator[tuple[Sized, ...]]:
    """What goes in one message: some small files, or one that is not."""
    group: list[Sized] = []
    weight = 0
    for names, size in wanted:
        if group and (len(group) == MANY or weight + size > GROUP or size > CHUNK):
            yield tuple(group)
            group, weight = [], 0
        group.append((names, size))
        weight += size
        if size > CHUNK:
            yield tuple(group)
            group, weight = [], 0
    if group:
        yield tuple(group)


INTERPRETER = "__import__('sys').implementation.name"


def far_store(conn: Any) -> Any:
    """The files of the far side, in blocking code. Raises TypeError for a board."""
    check_interpreter(conn.eval(INTERPRETER))
    return conn.eval(store_text())


def check_interpreter(name: str) -> None:
    """Raise TypeError for one that runs no Store."""
    if name in ("micropython", "circuitpython"):
        raise TypeError(
            f"the far side is a board with {name}: `rpyc-gw device put` and `rpyc-gw device get` copy files there"
        )


def store_text() -> str:
    """An expression whose value is a Store over there."""
    texts = {
        name: files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("incoming.py", "filestore.py")
    }
    run = f"[exec(compile(text, 'rpyc_gateway/' + name, 'exec'), space) for name, text in {texts!r}.items()]"
    return f"(lambda space: {run} and space['Store']())({{'__name__': 'filestore'}})"
