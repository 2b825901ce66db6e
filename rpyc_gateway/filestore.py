"""Files of one side of a transfer: how they are listed, read and written. It runs at both ends.

At the far end it is sent as text and executed in a namespace of its own: standard library only (Python 3.8 and later), and nothing that depends on
which version of this package is there, or whether it is there at all.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from contextlib import closing, suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    Entry = tuple[tuple[str, ...], bool, int]
    """Something below a directory: the names that lead there, whether it is a directory, and its size in bytes."""
    Facts = tuple[int, int]
    """The permissions of a file, and its time of modification in nanoseconds."""

POSIX = os.name == "posix"  # elsewhere two transfers into one file are not told from each other
if POSIX:
    import fcntl

CHUNK = 1 << 18
LONG = 255 - len("..gw-part")  # bytes: file systems take names of 255
AHEAD = 8  # chunks of a message when it goes well: 2 MiB on their way at most


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

    def tree(self, path: str) -> tuple[tuple[Entry, ...], tuple[str, ...], tuple[str, ...]]:
        """What is below a directory, parents before children; the paths of links to directories, and of what is neither file nor directory.

        Links to files count as those files; links to directories may lead anywhere, also round in a circle, and are not followed.
        """
        found: list[Entry] = []
        links: list[str] = []
        others: list[str] = []
        pending: list[tuple[str, ...]] = [()]
        while pending:
            names = pending.pop()
            with os.scandir(os.path.join(path, *names)) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    below = (*names, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        found.append((below, True, 0))
                        pending.append(below)
                    elif entry.is_file():
                        found.append((below, False, entry.stat().st_size))
                    else:
                        (links if entry.is_dir() else others).append(entry.path)
        return tuple(found), tuple(links), tuple(others)

    def make_directories(self, path: str, below: Iterable[tuple[str, ...]]) -> None:
        """Make a directory, and those below it, where they are missing."""
        os.makedirs(path, exist_ok=True)
        for names in below:
            place = inside(path, names)
            try:
                os.mkdir(place)
            except FileExistsError:
                if not os.path.isdir(place):
                    raise

    def read_small(self, path: str, files: Iterable[tuple[tuple[str, ...], int]]) -> tuple[tuple[bytes, Facts], ...]:
        """The contents of files that are small, each up to a size, and their facts."""
        return tuple(_read_small(os.path.join(path, *names), size) for names, size in files)

    def write_small(self, path: str, files: Iterable[tuple[tuple[str, ...], bytes, Facts]]) -> None:
        """Write files that are small, each of them at once or not at all. `write` is for the others."""
        for names, data, facts in files:
            with closing(Incoming(inside(path, names))) as incoming:
                incoming.begin(0)
                incoming.write(data)
                incoming.finish(incoming.digest(), facts)

    def outgoing(self, path: str, names: tuple[str, ...]) -> tuple[Outgoing, int, Facts]:
        """Begin to read a file; its size and its facts."""
        outgoing = Outgoing(os.path.join(path, *names))
        return outgoing, outgoing.size, _facts(outgoing.file)

    def incoming(self, path: str, names: tuple[str, ...], size: int) -> tuple[Incoming, int, bytes]:
        """Begin to write a file of that size; how many bytes of it have come in an earlier transfer, and their digest."""
        incoming = Incoming(inside(path, names))
        return (incoming, *incoming.begun(size))


class Outgoing:
    """A file that is read, as long as it was when that began: one that grows meanwhile is read up to there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.file = open(path, "rb")  # noqa: SIM115
        self.size = os.fstat(self.file.fileno()).st_size
        self._hash = hashlib.blake2b()
        self._at = 0

    def digest(self, size: int) -> bytes:
        """Of its first bytes; reading goes on behind them."""
        self.file.seek(0)
        self._hash, self._at = hashlib.blake2b(), 0
        for _ in self._read(size):
            pass
        return self._hash.digest()

    def chunks(self) -> Iterator[bytes]:
        """What is left of it. Raises OSError if it became shorter."""
        return self._read(self.size)

    def _read(self, end: int) -> Iterator[bytes]:
        while self._at < end:
            data = self.file.read(min(CHUNK, end - self._at))
            if not data:
                raise OSError(errno.EIO, "it became shorter while it was read", self._path)
            self._hash.update(data)
            self._at += len(data)
            yield data

    def end(self) -> bytes:
        """The digest of what was read; the file is closed."""
        self.file.close()
        return self._hash.digest()

    def close(self) -> None:
        """Read no more."""
        self.file.close()


class Incoming:
    """A file that is written: beside its place, to which it comes when it is whole and right. What is there until then stays.

    What has come is kept when it is broken off, and the next transfer to the same place goes on behind it.
    """

    def __init__(self, path: str) -> None:
        if not os.path.basename(path):
            raise FileNotFoundError(errno.ENOENT, "that is no name for a file", path)
        if os.path.isdir(path) and not os.path.islink(path):
            raise IsADirectoryError(errno.EISDIR, "a directory is where the file is to go", path)
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise OSError(errno.EINVAL, "a device, pipe or socket is there, and no file takes its place", path)
        self._path = path
        self._part = _part(path)
        self._file: BinaryIO | None = _open_part(self._part, path)
        self._hash = hashlib.blake2b()

    def begun(self, size: int) -> tuple[int, bytes]:
        """How many bytes of one that will have `size` have come in an earlier transfer, and their digest."""
        file = self._open()
        have = os.fstat(file.fileno()).st_size
        if have > size:
            return 0, b""
        file.seek(0)
        while True:
            data = file.read(CHUNK)
            if not data:
                return have, self._hash.digest()
            self._hash.update(data)

    def begin(self, at: int) -> None:
        """Go on behind so many bytes: all of `begun`, or none."""
        file = self._open()
        file.seek(at)
        file.truncate()
        if not at:
            self._hash = hashlib.blake2b()

    def write(self, data: bytes) -> None:
        """The next bytes. Where there is no room left, what has come is given up."""
        file = self._open()
        try:
            written = file.write(data)
            while written < len(data):  # it is not buffered, and a disk that is nearly full takes a part
                written += file.write(data[written:])
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                self.give_up()
            raise OSError(exc.errno, exc.strerror, self._path) from exc  # a write knows no path
        self._hash.update(data)

    def take(self, at: int, chunks: Iterable[bytes]) -> None:
        """`begin`, and write all that comes, which may be far away."""
        self.begin(at)
        for data in _ahead(chunks):
            self.write(data)

    def digest(self) -> bytes:
        """Of what has come."""
        return self._hash.digest()

    def finish(self, digest: bytes, facts: Facts) -> None:
        """Put it in its place. Raises OSError if it is not what was sent; then it is given up."""
        file = self._open()
        if digest != self._hash.digest():
            self.give_up()
            raise OSError(errno.EIO, "what arrived is not what was sent; nothing was changed here", self._path)
        try:
            file.flush()
            os.fsync(file.fileno())  # or a crash could leave an empty file in place of the old one
            mode, modified = facts
            with suppress(PermissionError):  # FAT and the like have no such permissions: better the file without
                os.chmod(self._part, mode)
            os.utime(self._part, ns=(modified, modified))
            if not POSIX:
                file.close()  # Windows renames no open file
            os.replace(self._part, self._path)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                self.give_up()
            else:
                with suppress(OSError):  # with those of a read-only file the next transfer could not go on
                    os.chmod(self._part, 0o600)
            raise
        self.close()

    def give_up(self) -> None:
        """Remove what has come."""
        if self._file is not None:
            os.unlink(self._part)
            self.close()

    def close(self) -> None:
        """Write no more; what has come stays for the next transfer."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _open(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("this transfer is over")
        return self._file


def inside(path: str, names: tuple[str, ...]) -> str:
    """Where names lead to below a directory. Raises OSError for names that would leave it, and where a link would.

    The names come from the other end, which may be anybody's.
    """
    place = path
    for name in names:
        if name in ("", os.curdir, os.pardir) or set(name) & {"/", "\0", os.sep, os.altsep or os.sep}:
            raise OSError(errno.EINVAL, f"a name that would lead out of the directory was refused: {name!r}", path)
        if place != path and os.path.islink(place):
            raise OSError(errno.ELOOP, "a link may lead out of the directory, and nothing is written through it", place)
        place = os.path.join(place, name)
    return place


def _part(path: str) -> str:
    """Where a file is while it is not whole. A name that leaves no room for more than itself goes by its digest."""
    directory, name = os.path.split(path)
    if len(os.fsencode(name)) > LONG:
        name = hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()
    return os.path.join(directory, f".{name}.gw-part")


def _open_part(part: str, path: str) -> BinaryIO:
    """The unfinished file, locked: of two transfers into one file the second is refused."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    exclusive = 0
    while True:
        file = os.fdopen(os.open(part, flags | exclusive, 0o600), "r+b", 0)
        try:
            if not POSIX:
                return file
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(file.fileno())
            with suppress(FileNotFoundError):  # another one has just put it in its place
                if os.path.samestat(status, os.stat(part)):
                    if exclusive or status.st_uid == os.geteuid():
                        return file
                    os.unlink(part)  # whoever owns it could write into it, also when it is in its place
                    exclusive = os.O_EXCL  # what is made then is ours, whatever a server of files calls us
        except BlockingIOError:
            file.close()
            raise BlockingIOError(errno.EBUSY, "another transfer into it is under way", path) from None
        except BaseException:
            file.close()
            raise
        file.close()


def _read_small(path: str, size: int) -> tuple[bytes, Facts]:
    with open(path, "rb") as file:
        return file.read(size), _facts(file)


def _facts(file: BinaryIO) -> Facts:
    status = os.fstat(file.fileno())
    return stat.S_IMODE(status.st_mode) & 0o777, status.st_mtime_ns


def _ahead(chunks: Iterable[bytes]) -> Iterable[bytes]:
    """Several chunks with each message, where that can be had."""
    try:
        buffiter: Callable[..., Iterable[bytes]] = import_module("rpyc_gateway").buffiter
    except ImportError:  # a bare Python
        return chunks
    return buffiter(chunks, 1, AHEAD)
