"""`unix:///path`: stream sockets in the file system, for their owner only. The kernel says who the peer is."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe
from rpyc_transports.sockets import serve_sockets, share

__all__ = ["UnixTransport"]

DIAL_TIMEOUT = 10.0
MAX_PATH = 107 if sys.platform == "linux" else 103  # sun_path, without its NUL
PREFIX = "unix://"

BACKLOG = 4096  # the kernel cuts it to its own limit
QUEUE_RETRY = 0.02
CREDENTIALS = struct.Struct("iII")  # pid, uid, gid

# What the kernel says for a user who has no number in this user namespace. It stands for nobody in particular.
UNMAPPED_UID = 65534

DIAL_ERRORS = {
    errno.ENOENT: "there is no such socket: is the node running, and is this its path?",
    errno.ENOTDIR: "there is no such socket: is the node running, and is this its path?",
    errno.ECONNREFUSED: "nobody listens there any more: is the node running?",
    errno.EACCES: "permission denied: only the user who runs the node may connect",
}
LISTEN_ERRORS = {
    errno.ENOENT: "its directory does not exist: create it, writable for the user of this node",
    errno.ENOTDIR: "its directory does not exist: create it, writable for the user of this node",
    errno.EACCES: "permission denied: the directory must be writable for the user of this node",
    errno.EADDRINUSE: "address already in use: another process listens there; stop it, or choose another path",
    errno.EEXIST: "there is something at that path that is no socket: move it away, or choose another path",
}


class UnixTransport:
    """The socket is there for its user alone (mode 0600) from birth, and gone when serving ends."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        """Dial. Raises DialFailed: no such socket, nobody listens, not allowed, or no answer within 10 s."""
        async with await _dial(url, self.check(url)) as stream:
            try:
                pipe = _pipe(stream, url)
            except OSError as exc:
                raise DialFailed(f"{url}: the other side broke the connection at once ({exc.strerror})") from exc
            async with pipe.stream:
                yield pipe

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled. A socket that nobody listens on any more is replaced; another's live one is not.

        Raises ConfigError if it cannot listen there.
        """
        with _listening(url, self.check(url)) as raw:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(raw))
            await serve_sockets([listener], [url], lambda stream: _pipe(stream, url), handler, task_status)

    def is_private(self, url: str) -> bool:
        return True

    def is_guarded(self, url: str) -> bool:
        return False

    def check(self, url: str) -> str | None:
        path = _path(url)
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            return "is not of the form unix:///path/of/the/socket"
        size = len(os.fsencode(path))
        if size > MAX_PATH:
            return f"the path has {size} bytes, the system takes {MAX_PATH}: choose a shorter one"
        return None


def _path(url: str) -> str:
    return url[len(PREFIX) :] if url.lower().startswith(PREFIX) else ""


def _said(exc: OSError, url: str, errors: dict[int, str]) -> str:
    """What happened, in words. A directory gets its own: the system calls one a refused connection."""
    if os.path.isdir(_path(url)):
        return "that is a directory: the path of a socket in it is needed, such as " + f"{_path(url)}/relay.sock"
    return errors.get(exc.errno or 0, exc.strerror or str(exc))


def _pipe(stream: trio.SocketStream, url: str) -> Pipe:
    """Raises OSError if the connection is dead already; `stream` is still whole then. Otherwise the pipe has its socket."""
    stream.socket.getpeername()
    peer, identity = url, ""
    if hasattr(socket, "SO_PEERCRED"):
        found = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        pid, uid, _ = CREDENTIALS.unpack(found)
        peer = f"{url} (uid {uid}, pid {pid})"
        identity = f"uid:{uid}" if uid != UNMAPPED_UID else ""
    return share(stream, peer, identity=identity, private=True)


async def _dial(url: str, problem: str | None) -> trio.SocketStream:
    if problem:
        raise DialFailed(f"{url}: {problem}")
    with ExitStack() as undo:
        raw = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        raw.settimeout(0)
        try:
            with trio.fail_after(DIAL_TIMEOUT):
                await _connect(raw, _path(url))
        except trio.TooSlowError:
            raise DialFailed(f"{url}: the node there accepts nobody since {DIAL_TIMEOUT:g} s: is it stuck?") from None
        except OSError as exc:
            raise DialFailed(f"{url}: {_said(exc, url, DIAL_ERRORS)}") from exc
        undo.pop_all()
        return trio.SocketStream(trio.socket.from_stdlib_socket(raw))


async def _connect(raw: socket.socket, path: str) -> None:
    # A full queue says EAGAIN, and the kernel tells nobody when there is room. (trio's own connect takes it for success.)
    await trio.lowlevel.checkpoint()
    while True:
        try:
            return raw.connect(path)
        except BlockingIOError:
            await trio.sleep(QUEUE_RETRY)


@contextmanager
def _listening(url: str, problem: str | None) -> Iterator[socket.socket]:
    if problem:
        raise ConfigError([f"{url}: {problem}"])
    path = _path(url)
    with ExitStack() as undo:
        raw = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            _clear(path)
            raw.bind(path)
            undo.callback(_remove, path, os.lstat(path))
            # Nobody can connect before listen(): there is no moment at which the socket is open to others.
            os.chmod(path, 0o600)
            raw.listen(BACKLOG)
        except OSError as exc:
            raise ConfigError([f"{url}: {_said(exc, url, LISTEN_ERRORS)}"]) from exc
        yield raw


def _clear(path: str) -> None:
    """Remove a socket on which nobody listens any more. Raises OSError: EADDRINUSE if somebody does, EEXIST if it is none."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)
        answer = probe.connect_ex(path)
    if answer != errno.ECONNREFUSED:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)


def _remove(path: str, born: os.stat_result) -> None:
    """Remove the socket if it is still the one that was made here."""
    with suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(path), born):
            os.unlink(path)
