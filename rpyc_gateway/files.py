"""`upload` and `download`: files and directories to another process, and back."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import aclosing, suppress
from contextvars import Context
from importlib.resources import files
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import trio

from rpyc_gateway import ops
from rpyc_gateway.deadlines import timeout
from rpyc_gateway.errors import GatewayError
from rpyc_gateway.filestore import AHEAD, CHUNK, Store
from rpyc_gateway.iteration import buffiter
from rpyc_gateway.trio_face import TrioFace

__all__ = ["Progress", "Transferred", "download", "upload", "upload_package"]

GROUP = 1 << 20  # bytes of small files that go in one message
PATIENCE = 2.0  # seconds
MANY = 256  # such files: of more it is known too late how far they have come

Names = tuple[str, ...]
Sized = tuple[Names, int]


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
    left_out: tuple[str, ...]  # paths of what is neither file nor directory, and of links to directories


Watcher = Callable[[Progress], object]
Filter = Callable[[str], object]


def upload(
    conn: Any,
    localpath: str | os.PathLike[str],
    remotepath: str,
    filter: Filter | None = None,  # noqa: A002  # RPyC's name
    ignore_invalid: bool = False,  # noqa: FBT001, FBT002  # RPyC's place
    *,
    progress: Watcher | None = None,
) -> Any:
    """Copy a file, or a directory with all that is in it, to the far side of a session with `classic`; in trio code it is awaited.

    A file goes to `remotepath`, or under its name into a directory that is there. Of a directory the contents go into the directory `remotepath`, which is made; other files in it stay.
    `filter` is asked, with the path relative to the directory and "/" in it, which files and directories are to go. Permissions and times of modification go too.

    A file is written beside its place (as `.NAME.gw-part`), compared by its BLAKE2b digest, and put there when it is whole: what was there is there until then. Broken off, by an error or
    cancelled, what has come is kept, unless there was no room for it, and the next transfer of that file goes on behind it. `progress` is called after each piece, in the thread that has read it; what it
    raises breaks the transfer off.

    Returns Transferred. Raises ValueError for what is neither file nor directory (with `ignore_invalid` it is left out; links to directories always are), OSError as the side raised it that has the trouble,
    and BlockingIOError while another transfer writes the same file.
    """
    return _run(conn, _Copy(os.fspath(localpath), remotepath, filter, ignore_invalid, progress, outward=True))


def download(
    conn: Any,
    remotepath: str,
    localpath: str | os.PathLike[str],
    filter: Filter | None = None,  # noqa: A002  # RPyC's name
    ignore_invalid: bool = False,  # noqa: FBT001, FBT002  # RPyC's place
    *,
    progress: Watcher | None = None,
) -> Any:
    """Copy a file, or a directory with all that is in it, from the far side: `upload` the other way, in all respects.

    Of a file that grows meanwhile what it had at the beginning is copied. Names that would lead out of `localpath`, and links in it that might, are refused with OSError: the far side may be anybody.
    """
    return _run(conn, _Copy(remotepath, os.fspath(localpath), filter, ignore_invalid, progress, outward=False))


def upload_package(
    conn: Any, module: ModuleType | str, remotepath: str | None = None, *, progress: Watcher | None = None
) -> Any:
    """Copy a package or module of this process, given by itself or by its name, to where the far side imports from; in trio code it is awaited.

    `remotepath` is the directory there that holds top-level modules, its site-packages if None. `__pycache__` stays here. What was imported there before stays as it was until it is reloaded.
    Returns and raises what `upload` does; ValueError for a module without a file.
    """
    name = module if isinstance(module, str) else module.__name__
    spec = find_spec(name)
    place = next(iter((spec and spec.submodule_search_locations) or ()), None) or (
        spec.origin if spec and spec.has_location else None
    )
    if place is None:
        raise ValueError(f"{name} has no file here that could be sent")
    *parents, last = name.split(".")
    below = (*parents, last if os.path.isdir(place) else os.path.basename(place))
    copy = _Copy(place, "", _is_source, ignore_invalid=False, progress=progress, outward=True)
    return _run(conn, _Packaged(copy, remotepath, below))


def _is_source(path: str) -> bool:
    return "__pycache__" not in path.split("/")


class _Face(Protocol):
    """How functions of the two sides are called: by blocking code, or by trio code."""

    async def here(self, function: Callable[..., Any], *args: Any) -> Any: ...

    async def there(self, function: Any, *args: Any) -> Any: ...

    def fetch(self, chunks: Any) -> AsyncGenerator[bytes, None]: ...

    async def leave(self, file: Any) -> None:
        """Close a file there, also if whoever wanted it is cancelled: it is locked until then."""
        ...


class _Blocking:
    """Nothing of this waits with `await`: so one text serves both faces."""

    async def here(self, function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    async def there(self, function: Any, *args: Any) -> Any:
        return function(*args)

    async def fetch(self, chunks: Any) -> AsyncGenerator[bytes, None]:
        for data in buffiter(chunks, 1, AHEAD):
            yield data

    async def leave(self, file: Any) -> None:
        with suppress(GatewayError):
            Context().run(self._close, file)  # where no timeout is over

    def _close(self, file: Any) -> None:
        with timeout(PATIENCE):
            file.close()


class _Trio:
    async def here(self, function: Callable[..., Any], *args: Any) -> Any:
        return await trio.to_thread.run_sync(function, *args)

    async def there(self, function: Any, *args: Any) -> Any:
        return await function(*args)

    async def fetch(self, chunks: Any) -> AsyncGenerator[bytes, None]:
        async for data in ops.iterate(chunks, prefetch=AHEAD):
            yield data

    async def leave(self, file: Any) -> None:
        with trio.move_on_after(PATIENCE, shield=True), suppress(GatewayError):
            await file.close()


class _Job(Protocol):
    async def run(self, face: _Face, conn: Any) -> Transferred: ...


def _run(conn: Any, job: _Job) -> Any:
    if isinstance(conn, TrioFace):
        return job.run(_Trio(), conn)
    return _finish(job.run(_Blocking(), conn))


def _finish(coroutine: Coroutine[Any, Any, Transferred]) -> Transferred:
    """Run one that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Transferred = stop.value
        return result
    raise RuntimeError("blocking code has waited as trio code does")


class _Copy:
    """One transfer, between a Store of this process and one over there."""

    def __init__(
        self,
        source: str,
        target: str,
        chosen: Filter | None,
        ignore_invalid: bool,  # noqa: FBT001
        progress: Watcher | None,
        *,
        outward: bool,
    ) -> None:
        self._from = source
        self.to = target
        self._chosen = chosen
        self._lenient = ignore_invalid
        self._watcher = progress
        self._outward = outward
        self._files = self._done = self._size = self._resumed = 0

    async def run(self, face: _Face, conn: Any) -> Transferred:
        """Do it."""
        here, there = Store(), await face.there(conn.eval, _far_store())
        self._face = face
        near: tuple[Any, Any] = (here, face.here)
        far: tuple[Any, Any] = (there, face.there)
        self._source, self._read = near if self._outward else far
        self._target, self._write = far if self._outward else near
        kind, size = await self._read(self._source.kind, self._from)
        left_out: Iterable[str] = ()
        if kind == "directory":
            left_out = await self._copy_directory()
        elif kind == "other" and self._lenient:
            left_out = (self._from,)
        elif kind == "other":
            raise ValueError(f"{self._from} is neither a file nor a directory")
        else:
            await self._copy_file(size)
        return Transferred(self._files, self._done, self._resumed, tuple(left_out))

    async def _copy_file(self, size: int) -> None:
        directory, name = os.path.split(self._from)
        kind, _ = await self._write(self._target.kind, self.to)
        if kind == "directory":
            self._from = directory
            await self._copy_files([((name,), size)])
        else:
            await self._copy_files([((), size)])

    async def _copy_directory(self) -> Iterable[str]:
        entries, links, others = await self._read(self._source.tree, self._from)
        if others and not self._lenient:
            raise ValueError(f"neither a file nor a directory: {', '.join(others)}")
        chosen = self._choose(entries)
        directories = tuple(names for names, is_directory, _ in chosen if is_directory)
        await self._write(self._target.make_directories, self.to, directories)
        await self._copy_files([(names, size) for names, is_directory, size in chosen if not is_directory])
        return (*links, *others)

    def _choose(self, entries: Iterable[tuple[Names, bool, int]]) -> list[tuple[Names, bool, int]]:
        if self._chosen is None:
            return list(entries)
        chosen: list[tuple[Names, bool, int]] = []
        out: set[Names] = set()  # directories that are not wanted: nothing in them is
        for names, is_directory, size in entries:
            if names[:-1] not in out and self._chosen("/".join(names)):
                chosen.append((names, is_directory, size))
            elif is_directory:
                out.add(names)
        return chosen

    async def _copy_files(self, wanted: list[Sized]) -> None:
        self._size = sum(size for _, size in wanted)
        for group in _groups(wanted):
            if len(group) == 1 and group[0][1] > CHUNK:
                await self._copy_large(*group[0])
            else:
                await self._copy_small(group)

    async def _copy_small(self, group: tuple[Sized, ...]) -> None:
        read = await self._read(self._source.read_small, self._from, group)
        written = tuple((names, *contents) for (names, _), contents in zip(group, read, strict=True))
        await self._write(self._target.write_small, self.to, written)
        self._files += len(group)
        self._advance(group[-1][0], sum(len(data) for _, data, _ in written))

    async def _copy_large(self, names: Names, expected: int) -> None:
        outgoing, size, facts = await self._read(self._source.outgoing, self._from, names)
        incoming = None
        try:
            self._size += size - expected  # it may have changed since
            incoming, have, digest = await self._write(self._target.incoming, self.to, names, size)
            if have and await self._read(outgoing.digest, have) != digest:
                have = 0
                await self._read(outgoing.digest, 0)
            self._resumed += have
            self._advance(names, have)
            await self._move(outgoing, incoming, have, names)
            await self._write(incoming.finish, await self._read(outgoing.end), facts)
        finally:
            far, near = (incoming, outgoing) if self._outward else (outgoing, incoming)
            if near is not None:
                near.close()
            if far is not None:
                await self._face.leave(far)
        self._files += 1

    async def _move(self, outgoing: Any, incoming: Any, at: int, names: Names) -> None:
        if self._outward:
            chunks = self._counted(outgoing.chunks(), names)
            if await self._face.there(self._target.iterates):
                await self._face.there(incoming.take, at, chunks)
                return
            await self._face.there(incoming.begin, at)
            for data in chunks:
                await self._face.there(incoming.write, data)
            return
        await self._face.here(incoming.begin, at)
        async with aclosing(self._face.fetch(outgoing.chunks())) as fetched:
            async for data in fetched:
                await self._face.here(incoming.write, data)
                self._advance(names, len(data))

    def _counted(self, chunks: Iterator[bytes], names: Names) -> Iterator[bytes]:
        for data in chunks:
            yield data
            self._advance(names, len(data))

    def _advance(self, names: Names, size: int) -> None:
        self._done += size
        if self._watcher is not None:
            self._watcher(Progress("/".join(names) or os.path.basename(self._from), self._done, self._size))


class _Packaged:
    """A copy to where the far side imports from."""

    def __init__(self, copy: _Copy, place: str | None, below: Names) -> None:
        self._copy = copy
        self._place = place
        self._below = below

    async def run(self, face: _Face, conn: Any) -> Transferred:
        """Do it."""
        place = self._place
        if place is None:
            place = await face.there(conn.eval, "__import__('sysconfig').get_path('purelib')")
        join = await face.there(conn.eval, "__import__('os').path.join")
        if len(self._below) > 1:
            make = await face.there(conn.eval, "lambda path: __import__('os').makedirs(path, exist_ok=True)")
            await face.there(make, await face.there(join, place, *self._below[:-1]))
        self._copy.to = await face.there(join, place, *self._below)
        result = await self._copy.run(face, conn)
        await face.there(conn.eval, "__import__('importlib').invalidate_caches()")
        return result


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


def _far_store() -> str:
    """An expression whose value is a Store over there."""
    source = files(__package__).joinpath("filestore.py").read_text(encoding="utf-8")
    return f"(lambda space: exec(compile({source!r}, 'rpyc_gateway/filestore.py', 'exec'), space) or space['Store']())({{'__name__': 'filestore'}})"
