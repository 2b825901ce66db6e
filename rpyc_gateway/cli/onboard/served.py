"""A directory of this machine, for somebody who is only to have what is in it."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

__all__ = ["ServedDirectory"]

OPEN = 32  # files at a time
PIECE = 4096  # bytes of one answer
ENTRIES = 16  # of a directory, in one answer
WRITING = frozenset({"write", "mkdir", "remove", "rmdir", "rename"})

logger = logging.getLogger(__name__)


class ServedDirectory:
    """Answers what a file system is asked. Nothing outside of `root` is reached, by no name and by no link; without `writable` nothing is changed."""

    refused = False
    """Whether it was to be changed, and may not be: a board says of that no more than a number."""

    def __init__(self, root: Path, *, writable: bool) -> None:
        self._root = root.resolve()
        self._writable = writable
        self._files: dict[int, IO[bytes]] = {}
        self._verbs: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "read": lambda handle, size: self._file(handle).read(min(max(size, 0), PIECE)),
            "write": lambda handle, data: self._file(handle).write(data),
            "seek": lambda handle, offset, whence: self._file(handle).seek(offset, whence),
            "close": self._close,
            "stat": self._stat,
            "enter": self._enter,
            "list": self._list,
            "mkdir": lambda path: self._entry(path).mkdir(),
            "remove": lambda path: self._entry(path).unlink(),
            "rmdir": lambda path: self._entry(path).rmdir(),
            "rename": lambda old, new: os.replace(self._entry(old), self._entry(new)),
            "space": self._space,
            "ping": lambda: None,
        }

    def answer(self, verb: object, *args: Any) -> tuple[int, Any]:
        """An error number, or 0 and what was asked for. Raises nothing, whatever is asked."""
        try:
            if verb in WRITING and not self._writable:
                raise OSError(errno.EROFS, "it is read only")
            return 0, self._verbs[verb](*args)  # type: ignore[index]  # KeyError, TypeError
        except OSError as exc:
            self.refused |= exc.errno == errno.EROFS
            return exc.errno or errno.EIO, None
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            logger.debug("a board asks for %r %r", verb, args, exc_info=True)
            return errno.EINVAL, None

    def close(self) -> None:
        """Close all that is open."""
        while self._files:
            self._files.popitem()[1].close()

    # -- names

    def _parts(self, path: str) -> list[str]:
        """The names on the way, from the root."""
        parts: list[str] = []
        for part in path.split("/"):
            if part == "..":
                if not parts:
                    raise PermissionError(errno.EACCES, "it would leave the directory")
                parts.pop()
            elif part not in ("", "."):
                if os.sep in part or (os.name == "nt" and ":" in part):
                    raise PermissionError(errno.EACCES, "it may mean something else here")
                parts.append(part)
        return parts

    def _path(self, path: str) -> Path:
        """What is there, links followed."""
        return self._inside(self._root.joinpath(*self._parts(path)).resolve())

    def _entry(self, path: str) -> Path:
        """What is there, be it a link."""
        parts = self._parts(path)
        if not parts:
            raise PermissionError(errno.EACCES, "it is the directory itself")
        return self._inside(self._root.joinpath(*parts[:-1]).resolve()) / parts[-1]

    def _inside(self, path: Path) -> Path:
        if not path.is_relative_to(self._root):
            raise PermissionError(errno.EACCES, "a link leaves the directory")
        return path

    # -- files

    def _file(self, handle: int) -> IO[bytes]:
        try:
            return self._files[handle]
        except KeyError:
            raise OSError(errno.EBADF, "it is not open") from None

    def _open(self, path: str, mode: str) -> int:
        kind = mode.replace("b", "").replace("t", "")
        if kind not in ("r", "w", "a", "x", "r+", "w+", "a+", "x+", "+r", "+w", "+a", "+x"):
            raise ValueError(mode)
        if kind != "r" and not self._writable:
            raise OSError(errno.EROFS, "it is read only")
        if len(self._files) >= OPEN:
            raise OSError(errno.EMFILE, f"{OPEN} files are open")
        where = self._path(path)
        if where.exists() and not stat.S_ISREG(where.stat().st_mode):  # to open a pipe may take for ever
            raise OSError(errno.EISDIR if where.is_dir() else errno.EACCES, "it is no file")
        handle = next(number for number in range(OPEN) if number not in self._files)
        self._files[handle] = where.open(kind + "b", buffering=0)
        return handle

    def _close(self, handle: int) -> None:
        self._file(handle).close()
        del self._files[handle]

    # -- directories

    def _stat(self, path: str) -> tuple[int, int, int]:
        """Mode, size, time of the last change."""
        found = self._path(path).stat()
        return stat.S_IFMT(found.st_mode), found.st_size, int(found.st_mtime)

    def _enter(self, path: str) -> str:
        """The plain way to a directory."""
        if not self._path(path).is_dir():
            raise OSError(errno.ENOTDIR if self._path(path).exists() else errno.ENOENT, "it is no directory")
        return "/" + "".join(f"{part}/" for part in self._parts(path))

    def _list(self, path: str, start: int) -> tuple[tuple[str, int, int, int], ...]:
        """Some names from `start` on, each with its kind, an inode that is none, and its size."""
        directory = self._path(path)
        found = []
        for name in sorted(os.listdir(directory))[max(start, 0) :][:ENTRIES]:
            try:
                name.encode()
                kind, size, _ = self._stat("/".join((*self._parts(path), name)))
            except (
                OSError,
                UnicodeError,
            ):  # it leads out of here, or nowhere, or cannot be said: it is listed, as what cannot be opened
                name, kind, size = name.encode("utf-8", "replace").decode(), 0, 0
            found.append((name, kind, 0, size))
        return tuple(found)

    def _space(self) -> tuple[int, int]:
        """Blocks of 4096 bytes: all, and free."""
        usage = shutil.disk_usage(self._root)
        return usage.total // 4096, usage.free // 4096 if self._writable else 0
