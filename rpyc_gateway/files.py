"""`upload`, `download` and `transfer`: files and directories to another process, back, and from one to another."""

from __future__ import annotations

import os
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from rpyc_gateway.faces import Face, run
from rpyc_gateway.transfers import (
    INTERPRETER,
    End,
    Filter,
    Progress,
    Transfer,
    Transferred,
    Watcher,
    check_interpreter,
)

__all__ = ["Progress", "Transferred", "download", "transfer", "upload", "upload_package"]


def upload(
    conn: Any,
    localpath: str | os.PathLike[str],
    remotepath: str,
    filter: Filter | None = None,  # noqa: A002  # RPyC's name
    ignore_invalid: bool = False,  # noqa: FBT001, FBT002  # RPyC's place
    *,
    replace: bool = True,
    progress: Watcher | None = None,
) -> Any:
    """Copy a file, or a directory with all that is in it, to the far side of a session with `classic`; in trio code it is awaited.

    A file goes to `remotepath`, or under its name into a directory that is there. Of a directory the contents go into the directory `remotepath`, which is made; other files in it stay.
    `filter` is asked, with the path relative to the directory and "/" in it, which files and directories are to go. Permissions and times of modification go too, of
    directories if they are made. With `replace=False` files that are there at the beginning stay as they are.

    A file is written beside its place (as `.NAME.gw-part`), compared by its BLAKE2b digest, and put there when it is whole: what was there is there until then. Broken off, by an error or
    cancelled, what has come is kept, unless there was no room for it, and the next transfer of that file goes on behind it; large files that are there whole are not sent again. `progress` is called after each piece, in the thread that has read it; what it
    raises breaks the transfer off.

    Returns Transferred. Raises ValueError for what is neither file nor directory (with `ignore_invalid` it is left out; links to directories, unfinished files and what vanishes from a
    directory meanwhile always are), OSError as the side raised it that has the trouble, BlockingIOError while another transfer writes the same file, and TypeError for boards, which `rpyc-gw device put` is for.
    """
    return _between(End(None, os.fspath(localpath)), End(conn, remotepath), filter, ignore_invalid, replace, progress)


def download(
    conn: Any,
    remotepath: str,
    localpath: str | os.PathLike[str],
    filter: Filter | None = None,  # noqa: A002  # RPyC's name
    ignore_invalid: bool = False,  # noqa: FBT001, FBT002  # RPyC's place
    *,
    replace: bool = True,
    progress: Watcher | None = None,
) -> Any:
    """Copy a file, or a directory with all that is in it, from the far side: `upload` the other way, in all respects.

    Of a file that grows meanwhile what it had at the beginning is copied. Names that would lead out of `localpath`, and links in it that might, are refused with OSError: the far side may be anybody.
    """
    return _between(End(conn, remotepath), End(None, os.fspath(localpath)), filter, ignore_invalid, replace, progress)


def transfer(
    source: Any,
    sourcepath: str,
    target: Any,
    targetpath: str,
    filter: Filter | None = None,  # noqa: A002  # as in the other two
    ignore_invalid: bool = False,  # noqa: FBT001, FBT002  # as in the other two
    *,
    replace: bool = True,
    progress: Watcher | None = None,
) -> Any:
    """Copy a file, or a directory with all that is in it, from the far side of one session to that of another one, or of the same: as `upload` does it, in all respects.

    It goes through this process, which keeps two MiB of it at most. Raises TypeError if one session is of blocking code and the other one of trio code.
    """
    return _between(End(source, sourcepath), End(target, targetpath), filter, ignore_invalid, replace, progress)


def upload_package(
    conn: Any, module: ModuleType | str, remotepath: str | None = None, *, progress: Watcher | None = None
) -> Any:
    """Copy a package or module of this process, given by itself or by its name, to where the far side imports from; in trio code it is awaited.

    `remotepath` is the directory there that holds top-level modules, its site-packages if None. `__pycache__` stays here. What was imported there before stays as it was until it is reloaded.
    Returns and raises what `upload` does; ValueError for a module without a file, TypeError for what is none.
    """
    if not isinstance(module, ModuleType | str):
        raise TypeError(f"a module is given by itself or by its name, and not as {module!r}")
    name = module if isinstance(module, str) else module.__name__
    spec = find_spec(name)
    place = next(iter((spec and spec.submodule_search_locations) or ()), None) or (
        spec.origin if spec and spec.has_location else None
    )
    if place is None:
        raise ValueError(f"{name} has no file here that could be sent")
    *parents, last = name.split(".")
    below = (*parents, last if os.path.isdir(place) else os.path.basename(place))
    return run(_Packaged(place, End(conn, remotepath or ""), below, progress).run, conn)


def _between(
    source: End,
    target: End,
    chosen: Filter | None,
    lenient: bool,  # noqa: FBT001  # they come from the three above
    replace: bool,  # noqa: FBT001
    watcher: Watcher | None,
) -> Any:
    return Transfer(source, target, chosen=chosen, lenient=lenient, replace=replace, watcher=watcher).start()


def _is_source(path: str) -> bool:
    return "__pycache__" not in path.split("/")


class _Packaged:
    """A transfer to where the far side imports from."""

    def __init__(self, source: str, target: End, below: tuple[str, ...], progress: Watcher | None) -> None:
        self._source = source
        self._target = target
        self._below = below
        self._progress = progress

    async def run(self, face: Face) -> Transferred:
        """Do it."""
        conn, place, _ = self._target
        check_interpreter(await face.there(conn.eval, INTERPRETER))
        if not place:
            place = await face.there(conn.eval, "__import__('sysconfig').get_path('purelib')")
        join = await face.there(conn.eval, "__import__('os').path.join")
        if len(self._below) > 1:
            make = await face.there(conn.eval, "lambda path: __import__('os').makedirs(path, exist_ok=True)")
            await face.there(make, await face.there(join, place, *self._below[:-1]))
        target = End(conn, await face.there(join, place, *self._below))
        result = await Transfer(End(None, self._source), target, chosen=_is_source, watcher=self._progress).run(face)
        await face.there(conn.eval, "__import__('importlib').invalidate_caches()")
        return result
