"""Files that are written: beside their places, to which they come when they are whole. It runs at both ends, as filestore.py does, and is sent with it as text.

Standard library only (Python 3.8 and later).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

    Names = tuple[str, ...]
    """Those that lead from a directory to something below it; none for the directory itself."""
    Facts = tuple[int, int]
    """The permissions of a file or directory, and its time of modification in nanoseconds."""

POSIX = os.name == "posix"  # elsewhere two transfers into one file are not told from each other
if POSIX:
    import fcntl

SEPARATORS = {"/", "\0", os.sep, os.altsep or os.sep} | ({":"} if os.name == "nt" else set())
PERMISSIONS = 0o777  # whoever sends a file does not make it run as somebody else here
CHUNK = 1 << 18
LONG = 255 - len("..gw-part")  # bytes: file systems take names of 255
AHEAD = 8  # chunks of a message when it goes well: 2 MiB on their way at most


class Incoming:
    """A file that is written: beside its place, to which it comes when it is whole and right. What is there until then stays.

    What has come is kept when it is broken off, and the next transfer to the same place goes on behind it.
    """

    _file: BinaryIO | None = None

    def __init__(self, path: str, *, fleeting: bool = False) -> None:
        if not os.path.basename(path):
            raise FileNotFoundError(errno.ENOENT, "that is no name for a file", path)
        if os.path.isdir(path) and not os.path.islink(path):
            raise IsADirectoryError(errno.EISDIR, "a directory is where the file is to go", path)
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise OSError(errno.EINVAL, "a device, pipe or socket is there, and no file takes its place", path)
        self._path = path
        self._part = _part(path)
        self._fleeting = fleeting  # of no use to the next transfer
        self._file = _open_part(self._part, path)
        self._hash = hashlib.blake2b()
        self._at = 0
        self._most: int | None = None  # a far side that sends for ever fills no disk
        self._in_place = False  # what is in its place already is what is to come
        self._synced = False

    def begun(self, size: int, facts: Facts) -> tuple[int, bytes]:
        """How many bytes of one that will have this size and these facts are here from an earlier transfer, and their digest."""
        self._most = size
        file = self._open()
        have = os.fstat(file.fileno()).st_size
        if have > size:
            return 0, b""
        if not have and self._may_be_there(size, facts):
            with open(self._path, "rb") as there:
                self._in_place = True
                return self._digest_of(there)
        file.seek(0)
        return self._digest_of(file)

    def _may_be_there(self, size: int, facts: Facts) -> bool:
        with suppress(OSError):
            status = os.lstat(self._path)
            return stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == (size, facts[1])
        return False

    def _digest_of(self, file: BinaryIO) -> tuple[int, bytes]:
        while True:
            data = file.read(CHUNK)
            if not data:
                return self._at, self._hash.digest()
            self._hash.update(data)
            self._at += len(data)

    def begin(self, at: int) -> None:
        """Go on behind so many bytes: all of `begun`, or none."""
        file = self._open()
        if not at:
            self._hash = hashlib.blake2b()
            self._at = 0
            self._in_place = False
        if not self._in_place:
            file.seek(at)
            file.truncate()

    def write(self, data: bytes) -> None:
        """The next bytes. Where there is no room left, what has come is given up."""
        file = self._open()
        self._at += len(data)
        if self._most is not None and self._at > self._most:
            raise OSError(errno.EIO, "more comes than there was to come", self._path)
        try:
            written = file.write(data)
            while written < len(data):  # it is not buffered, and a disk that is nearly full takes a part
                written += file.write(data[written:])
        except OSError as exc:
            raise self._named(exc) from exc
        self._hash.update(data)

    def take(self, at: int, chunks: Iterable[bytes]) -> None:
        """`begin`, and write all that comes, which may be far away. If it comes no more the file is closed: whoever sent it may be gone."""
        try:
            self.begin(at)
            for data in _ahead(chunks):
                self.write(data)
        except BaseException:
            self.close()
            raise

    def digest(self) -> bytes:
        """Of what has come."""
        return self._hash.digest()

    def sync(self) -> None:
        """Bring it to the disk, or a crash could leave an empty file in place of the old one."""
        try:
            os.fsync(self._open().fileno())
        except OSError as exc:
            raise self._named(exc) from exc
        self._synced = True

    def finish(self, digest: bytes, facts: Facts) -> None:
        """Put it in its place. Raises OSError if it is not what was sent; then it is given up."""
        file = self._open()
        if digest != self._hash.digest():
            self.give_up()
            raise OSError(errno.EIO, "what arrived is not what was sent; nothing was changed here", self._path)
        if self._in_place:
            apply(self._path, facts)
            self.give_up()
            return
        if not self._synced:
            self.sync()
        try:
            apply(self._part, facts)
            if not POSIX:
                file.close()  # Windows renames no open file
            os.replace(self._part, self._path)
            self._fleeting = False
        except OSError as exc:
            with suppress(OSError):  # with those of a read-only file the next transfer could not go on
                os.chmod(self._part, 0o600)
            raise self._named(exc) from exc
        self.close()

    def _named(self, exc: OSError) -> OSError:
        """This error with the name of the file. What there was no room for is given up."""
        if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            self.give_up()
        return OSError(exc.errno, exc.strerror, self._path)

    def give_up(self) -> None:
        """Remove what has come."""
        self._fleeting = True
        self.close()

    def close(self) -> None:
        """Write no more; what has come stays for the next transfer, if that can go on with it."""
        file, self._file = self._file, None
        if file is None:
            return
        if not POSIX:
            file.close()  # Windows removes no open file
        if self._fleeting:
            with suppress(FileNotFoundError):
                os.unlink(self._part)  # while it is locked, so that it is nobody else's
        file.close()

    __del__ = close  # whoever has begun it may be gone

    def _open(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("this transfer is over")
        return self._file


def inside(path: str, names: Names) -> str:
    """Where names lead to below a directory. Raises OSError for names that would leave it, and where a link would.

    The names come from the other end, which may be anybody's.
    """
    names = tuple(names)
    check(path, names)
    place = path
    for name in names:
        if place != path and os.path.islink(place):
            raise OSError(errno.ELOOP, "a link may lead out of the directory, and nothing is written through it", place)
        place = os.path.join(place, name)
    return place


def check(path: str, names: Names) -> None:
    """Raise OSError for names that would lead out of a directory."""
    for name in names:
        # Nothing but a real text is what it says twice: an object of theirs might be another name when it is used.
        if type(name) is not str or name in ("", os.curdir, os.pardir) or SEPARATORS & set(name):
            raise OSError(errno.EINVAL, f"a name that would lead out of the directory was refused: {name!r}", path)


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
        try:
            file = os.fdopen(os.open(part, flags | exclusive, 0o600), "r+b", 0)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, path) from exc  # the name by which people know it
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


def is_unfinished(name: str) -> bool:
    """Whether that is what a file is called while it is not whole."""
    return name.startswith(".") and name.endswith(".gw-part")


def apply(path: str, facts: Facts) -> None:
    """Give a file or directory its permissions and its time. Raises OSError for a time that none can have."""
    mode, modified = facts
    with suppress(PermissionError):  # FAT and the like have no such permissions: better without than not at all
        os.chmod(path, mode & PERMISSIONS)
    try:
        os.utime(path, ns=(modified, modified))
    except OverflowError:
        raise OSError(errno.EINVAL, f"a file cannot have been modified at {modified} ns", path) from None


def _ahead(chunks: Iterable[bytes]) -> Iterable[bytes]:
    """Several chunks with each message, where that can be had."""
    try:
        buffiter: Callable[..., Iterable[bytes]] = import_module("rpyc_gateway").buffiter
    except ImportError:  # a bare Python
        return chunks
    return buffiter(chunks, 1, AHEAD)
