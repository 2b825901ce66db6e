"""Files of one side of a transfer: how they are listed, read and written. It runs at both ends.

At the far end it is sent as text and executed in a namespace of its own: standard library only (Python 3.8 and later), and nothing that depends on
which version of this package is there, or whether it is there at all.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    Names = tuple[str, ...]
    """Those that lead from a directory to something below it; none for the directory itself."""
    Facts = tuple[int, int]
    """The permissions of a file or directory, and its time of modification in nanoseconds."""
    Directory = tuple[Names, Facts]
    Sized = tuple[Names, int]
    """A file, and its size in bytes."""

POSIX = os.name == "posix"  # elsewhere two transfers into one file are not told from each other
if POSIX:
    import fcntl

SEPARATORS = {"/", "\0", os.sep, os.altsep or os.sep} | ({":"} if os.name == "nt" else set())
PERMISSIONS = 0o777  # whoever sends a file does not make it run as somebody else here
CHUNK = 1 << 18
LONG = 255 - len("..gw-part")  # bytes: file systems take names of 255
AHEAD = 8  # chunks of a message when it goes well: 2 MiB on their way at most
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

    def tree(self, path: str) -> tuple[tuple[Directory, ...], tuple[Sized, ...], tuple[str, ...], tuple[str, ...]]:
        """What is at a directory: itself and those below it, parents first; the files; the paths of links to directories and of unfinished
        files, which are not for copying; the paths of what is neither file nor directory.

        Links to files count as those files; links to directories may lead anywhere, also round in a circle, and are not followed.
        """
        directories: list[Directory] = [((), _facts(os.stat(path)))]
        files: list[Sized] = []
        passed: list[str] = []
        others: list[str] = []
        for names, _ in directories:  # it grows
            with os.scandir(os.path.join(path, *names)) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    below = (*names, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        directories.append((below, _facts(entry.stat())))
                    elif _is_unfinished(entry.name) or entry.is_dir():
                        passed.append(entry.path)
                    elif entry.is_file():
                        files.append((below, entry.stat().st_size))
                    else:
                        others.append(entry.path)
        return tuple(directories), tuple(files), tuple(passed), tuple(others)

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
        """Give directories that are filled their permissions and times."""
        for names, facts in reversed(tuple(directories)):
            _apply(inside(path, names), facts)

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
        """Begin to write a file of which nobody knows how large it will be. It is not resumed."""
        return Incoming(path)

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


class Incoming:
    """A file that is written: beside its place, to which it comes when it is whole and right. What is there until then stays.

    What has come is kept when it is broken off, and the next transfer to the same place goes on behind it.
    """

    _file: BinaryIO | None = None

    def __init__(self, path: str) -> None:
        if not os.path.basename(path):
            raise FileNotFoundError(errno.ENOENT, "that is no name for a file", path)
        if os.path.isdir(path) and not os.path.islink(path):
            raise IsADirectoryError(errno.EISDIR, "a directory is where the file is to go", path)
        if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
            raise OSError(errno.EINVAL, "a device, pipe or socket is there, and no file takes its place", path)
        self._path = path
        self._part = _part(path)
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
            _apply(self._path, facts)
            self.give_up()
            return
        if not self._synced:
            self.sync()
        try:
            _apply(self._part, facts)
            if not POSIX:
                file.close()  # Windows renames no open file
            os.replace(self._part, self._path)
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
        if self._file is not None:
            os.unlink(self._part)
            self.close()

    def close(self) -> None:
        """Write no more; what has come stays for the next transfer."""
        file, self._file = self._file, None
        if file is not None:
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
    place = path
    for name in names:
        # Nothing but a real text is what it says twice: an object of theirs might be another name when it is used.
        if type(name) is not str or name in ("", os.curdir, os.pardir) or SEPARATORS & set(name):
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


def _is_unfinished(name: str) -> bool:
    return name.startswith(".") and name.endswith(".gw-part")


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


def _apply(path: str, facts: Facts) -> None:
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
