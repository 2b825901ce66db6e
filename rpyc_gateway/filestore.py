"""Files of one side of a transfer: how they are listed and read, and many of them written. It runs at both ends.

At the far end it is sent as text, as incoming.py is, and executed with that in a namespace of their own: standard library only (Python 3.8 and later), and nothing that depends on
which version of this package is there, or whether it is there at all.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

    from rpyc_gateway.incoming import Facts, Names

    Directory = tuple[Names, Facts]
    Sized = tuple[Names, int]
    """A file, and its size in bytes."""
    Listing = tuple[tuple[Directory, ...], tuple[Sized, ...], tuple[str, ...], tuple[str, ...]]

if "Incoming" not in globals():  # far away both are in one namespace
    from rpyc_gateway.incoming import CHUNK, PERMISSIONS, Incoming, apply, inside, is_unfinished

LISTED = 1000  # entries of a directory in one message, which has its limits
TOGETHER = 64  # small files that are open at a time: some systems allow a process 256
AT_ONCE = 8  # threads that bring files to the disk: it does more of them in one go
PROMPT = 0.0002  # seconds that no disk needs for it, and memory does not exceed: threads would cost more


class Store:
    """The files of this process, by paths. A path may be followed by the names that lead on from it, which must stay below it."""

    def kind(self, path: str) -> tuple[str, int]:
        """'file', 'directory', 'other', or '' where nothing is; and its size. Symbolic links are followed."""
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return "", 0
        mode = status.st_mode
        return "file" if stat.S_ISREG(mode) else "directory" if stat.S_ISDIR(mode) else "other", status.st_size

    def iterates(self) -> bool:
        """Whether what is given to it may be iterated here: an agent can only call what is on the other side."""
        return "rpyc_gateway" in sys.modules

    def expand(self, path: str) -> str:
        """With the home directory of whoever this process belongs to for `~`."""
        return os.path.expanduser(path)

    def matching(self, path: str) -> tuple[str, ...]:
        """The paths that a pattern of the shell stands for; what is none, or is there, stands for itself."""
        path = self.expand(path)
        if os.path.lexists(path) or not glob.has_magic(path):
            return (path,)
        return tuple(sorted(glob.glob(path)))

    def permissions(self, path: str) -> int | None:
        """Those of a file; None where nothing is."""
        try:
            return _facts(os.stat(path))[0]
        except FileNotFoundError:
            return None

    def tree(self, path: str) -> Iterator[Listing]:
        """What is at a directory, a thousand at a time: itself and those below it, parents first; the files; the paths of links to directories and of
        unfinished files, which are not for copying; the paths of what is neither file nor directory.

        Links to files count as those files; links to directories may lead anywhere, also round in a circle, and are not followed.
        """
        pending: list[Names] = [()]
        directories: list[Directory] = [((), _facts(os.stat(path)))]
        files: list[Sized] = []
        passed: list[str] = []
        others: list[str] = []
        for names in pending:  # it grows
            with os.scandir(os.path.join(path, *names)) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
            for entry in listed:
                below = (*names, entry.name)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(below)
                    directories.append((below, _facts(entry.stat())))
                elif is_unfinished(entry.name) or entry.is_dir():
                    passed.append(entry.path)
                elif entry.is_file():
                    files.append((below, entry.stat().st_size))
                else:
                    others.append(entry.path)
                if len(directories) + len(files) + len(passed) + len(others) >= LISTED:
                    yield tuple(directories), tuple(files), tuple(passed), tuple(others)
                    directories, files, passed, others = [], [], [], []
        yield tuple(directories), tuple(files), tuple(passed), tuple(others)

    def make_directories(self, path: str, directories: Iterable[Directory]) -> tuple[Directory, ...]:
        """Make those that are missing; they are returned, for `finish_directories`. Until then their owner may write into them."""
        made: list[Directory] = []
        for names, facts in directories:
            place = inside(path, names)
            try:
                os.makedirs(place, facts[0] & PERMISSIONS | stat.S_IRWXU)
            except FileExistsError:
                if not os.path.isdir(place):
                    raise
            else:
                made.append((names, facts))
        return tuple(made)

    def finish_directories(self, path: str, directories: Iterable[Directory]) -> None:
        """Give directories that are filled their permissions and times; those within others come first."""
        for names, facts in directories:
            apply(inside(path, names), facts)

    def folds(self, path: str) -> bool:
        """Whether names that differ in upper and lower case only are the same in this directory."""
        descriptor, probe = tempfile.mkstemp(prefix=".gw-case", dir=path)
        os.close(descriptor)
        try:
            return os.path.exists(os.path.join(path, os.path.basename(probe).swapcase()))
        finally:
            os.unlink(probe)

    def existing(self, path: str, files: Iterable[Names]) -> tuple[Names, ...]:
        """Those of the files in whose place something is."""
        return tuple(names for names in files if os.path.lexists(inside(path, names)))

    def read_small(self, path: str, files: Iterable[Sized]) -> tuple[tuple[bytes, Facts] | None, ...]:
        """The contents of files that are small, each up to a size, and their facts. None for what has vanished from a directory."""
        return tuple(_read_small(path, names, size) for names, size in files)

    def write_small(self, path: str, files: Iterable[tuple[Names, bytes, Facts]]) -> None:
        """Write files that are small, each of them at once or not at all. `incoming` is for the others."""
        files = tuple(files)
        for first in range(0, len(files), TOGETHER):
            with ExitStack() as closed:
                written: list[tuple[Incoming, Facts]] = []
                try:
                    for names, data, facts in files[first : first + TOGETHER]:
                        incoming = closed.enter_context(closing(Incoming(inside(path, names))))
                        incoming.begin(0)
                        incoming.write(data)
                        written.append((incoming, facts))
                finally:  # what stops one of them stops none of those that are whole
                    _sync([incoming for incoming, _ in written])
                    for incoming, facts in written:
                        incoming.finish(incoming.digest(), facts)

    def outgoing(self, path: str, names: Names) -> tuple[Outgoing, int, Facts]:
        """Begin to read a file; its size and its facts."""
        path = os.path.join(path, *names)
        outgoing = Outgoing(_open_source(path), path)
        return outgoing, outgoing.size, outgoing.facts

    def anew(self, path: str) -> Incoming:
        """Begin to write a file of which nobody knows how large it will be. It is not resumed: broken off nothing of it stays."""
        return Incoming(path, fleeting=True)

    def incoming(self, path: str, names: Names, size: int, facts: Facts) -> tuple[Incoming, int, bytes]:
        """Begin to write a file of that size; how many bytes of it are here from an earlier transfer, and their digest."""
        incoming = Incoming(inside(path, names))
        return (incoming, *incoming.begun(size, facts))


class Outgoing:
    """A file that is read, as long as it was when that began: one that grows meanwhile is read up to there."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._path = path
        self._file = file
        status = os.fstat(file.fileno())
        self.size, self.facts = status.st_size, _facts(status)
        self._hash = hashlib.blake2b()
        self._at = 0

    def digest(self, size: int) -> bytes:
        """Of its first bytes; reading goes on behind them."""
        self._file.seek(0)
        self._hash, self._at = hashlib.blake2b(), 0
        for _ in self._read(size):
            pass
        return self._hash.digest()

    def chunks(self) -> Iterator[bytes]:
        """What is left of it. Raises OSError if it became shorter."""
        return self._read(self.size)

    def _read(self, end: int) -> Iterator[bytes]:
        while self._at < end:
            with _naming(self._path):
                data = self._file.read(min(CHUNK, end - self._at))
            if not data:
                raise OSError(errno.EIO, "it became shorter while it was read", self._path)
            self._hash.update(data)
            self._at += len(data)
            yield data

    def end(self) -> bytes:
        """The digest of what was read; the file is closed."""
        self._file.close()
        return self._hash.digest()

    def close(self) -> None:
        """Read no more."""
        self._file.close()

    __del__ = close  # whoever has begun it may be gone


def _sync(files: list[Incoming]) -> None:
    """Several at once, where the first one has shown that there is something to wait for."""
    if not files:
        return
    began = time.monotonic()
    files[0].sync()
    if time.monotonic() - began < PROMPT:
        for file in files[1:]:
            file.sync()
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(Incoming.sync, files[1:]):
            pass


def _open_source(path: str) -> BinaryIO:
    """A file to read. What has become a pipe meanwhile would keep whoever opens it waiting for ever."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "it is no file any more", path)


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Errors of reading know no path."""
    try:
        yield
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, path) from exc


def _read_small(path: str, names: Names, size: int) -> tuple[bytes, Facts] | None:
    path = os.path.join(path, *names)
    try:
        file = _open_source(path)
    except FileNotFoundError:
        if names:
            return None
        raise
    with file, _naming(path):
        data = file.read(size)
        status = os.fstat(file.fileno())
        if not size and not status.st_size:
            data = file.read(CHUNK)  # files in /proc do not say how much is in them
            if file.read(1):
                raise OSError(errno.EFBIG, "it says that it is empty, and has more than can be taken on trust", path)
        return data, _facts(status)


def _facts(status: os.stat_result) -> Facts:
    return stat.S_IMODE(status.st_mode) & PERMISSIONS, status.st_mtime_ns
