"""`unix:///path`: sockets in the file system, for their owner unless `mode` says otherwise; `unix:@name`: for everybody on this machine.

The kernel says who the peer is.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, NamedTuple

import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe, without_secrets
from rpyc_transports import urls
from rpyc_transports.sockets import serve_sockets, share
from rpyc_transports.urls import Reader

__all__ = ["UnixTransport", "pipe_of"]

DIAL_TIMEOUT = 10.0
MAX_PATH = 107 if sys.platform == "linux" else 103  # sun_path, without its NUL
IN_FILES = "unix://"
ABSTRACT = "unix:@"  # Linux only: no file, so that nothing is left behind, and nobody is kept out
FORM = "is not of the form unix:///path/of/the/socket or unix:@name"

BACKLOG = 4096  # the kernel cuts it to its own limit
QUEUE_RETRY = 0.02
CREDENTIALS = struct.Struct("iII")  # pid, uid, gid

NO_ID = 0xFFFFFFFF  # stands for none where the system wants the number of a group

# What the kernel says for a user who has no number in this user namespace. It stands for nobody in particular.
UNMAPPED_UID = 65534

DIAL_ERRORS = {
    errno.ENOENT: "there is no such socket: is the node running, and is this its path?",
    errno.ENOTDIR: "there is no such socket: is the node running, and is this its path?",
    errno.ECONNREFUSED: "nobody listens there any more: is the node running?",
    errno.EACCES: "permission denied: only the user who runs the node may connect, and whom its `mode` and `group` let in",
}
LISTEN_ERRORS = {
    errno.ENOENT: "its directory does not exist: create it, writable for the user of this node",
    errno.ENOTDIR: "its directory does not exist: create it, writable for the user of this node",
    errno.EACCES: "permission denied: the directory must be writable for the user of this node",
    errno.EPERM: "only a group that the user of this node is in can be given the socket",
    errno.EADDRINUSE: "address already in use: another process listens there; stop it, or choose another path",
    errno.EEXIST: "there is something at that path that is no socket: move it away, or choose another path",
}


class UnixTransport:
    """The socket is there for its user alone (mode 0600) from birth, unless more is allowed, and gone when serving ends."""

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Pipe]:
        """Dial. Raises DialFailed: no such socket, nobody listens, not allowed, or no answer within 10 s."""
        target = _read(url)
        if isinstance(target, str):
            raise DialFailed(f"{without_secrets(url)}: {target}")
        if target.options:
            raise DialFailed(f"{url}: the option {next(iter(target.options))!r} is for a listener")
        async with await _dial(target) as stream:
            try:
                pipe = pipe_of(stream, target.url)
            except OSError as exc:
                raise DialFailed(f"{url}: the other side broke the connection at once ({exc.strerror})") from exc
            yield pipe

    async def serve(
        self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled. A socket that nobody listens on any more is replaced; another's live one is not.

        Raises ConfigError if it cannot listen there.
        """
        target = _read(url)
        if isinstance(target, str):
            raise ConfigError([f"{without_secrets(url)}: {target}"])
        with _listening(target) as raw:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(raw))
            await serve_sockets(
                [listener], [target.url], lambda stream: pipe_of(stream, target.url), handler, task_status
            )

    def is_private(self, url: str) -> bool:
        return True

    def is_guarded(self, url: str) -> bool:
        return False

    def check(self, url: str) -> str | None:
        target = _read(url)
        return target if isinstance(target, str) else None


class Target(NamedTuple):
    """What a URL says. The path of an abstract socket begins with a NUL."""

    url: str  # without the options
    path: str
    options: Mapping[str, Any]

    @property
    def abstract(self) -> bool:
        return self.path.startswith("\0")


def _mode(given: str) -> int:
    try:
        mode = int(given, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ValueError(f"is {given!r}: write the permissions in octal, such as 0660")
    return mode


def _group(given: str) -> int:
    """The number of a group, by its name too."""
    import grp  # absent on Windows

    try:
        number = int(given) if given.isdecimal() else grp.getgrnam(given).gr_gid
    except KeyError:
        raise ValueError(f"is {given!r}, and there is no such group here") from None
    if number >= NO_ID:
        raise ValueError(f"is {given!r}, which is no number of a group")
    return number


OPTIONS: Mapping[str, Reader] = {"mode": _mode, "group": _group}


def _read(url: str) -> Target | str:
    """What the URL says, or what is wrong with it."""
    bare, _ = urls.split(url)
    options, problems = urls.parse(url, OPTIONS)
    if bare.lower().startswith(ABSTRACT):
        path = "\0" + bare[len(ABSTRACT) :]
        if len(path) == 1 or "\0" in path[1:]:
            return FORM
        if sys.platform != "linux":
            return "only Linux has sockets without a file: use unix:///path"
        if options:
            return "a socket without a file is for every user of this machine: it has no mode and no group"
    else:
        path = bare[len(IN_FILES) :] if bare.lower().startswith(IN_FILES) else ""
        if not path.startswith("/") or path.endswith("/") or "\0" in path:
            return FORM
    if problems:
        return "; ".join(problems)
    size = len(os.fsencode(path))
    if size > MAX_PATH:
        return f"the path has {size} bytes, the system takes {MAX_PATH}: choose a shorter one"
    return Target(bare, path, options)


def _said(exc: OSError, target: Target, errors: dict[int, str]) -> str:
    """What happened, in words. A directory gets its own: the system calls one a refused connection."""
    if not target.abstract and os.path.isdir(target.path):
        return f"that is a directory: the path of a socket in it is needed, such as {target.path}/relay.sock"
    return errors.get(exc.errno or 0, exc.strerror or str(exc))


def pipe_of(stream: trio.SocketStream, url: str) -> Pipe:
    """The pipe of a connection at `url`, with what the kernel says of the peer. Raises OSError if the connection is dead already; `stream` is still whole then. Otherwise the pipe has its socket."""
    stream.socket.getpeername()
    peer, identity = url, ""
    if hasattr(socket, "SO_PEERCRED"):
        found = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        pid, uid, _ = CREDENTIALS.unpack(found)
        peer = f"{url} (uid {uid}, pid {pid})"
        identity = f"uid:{uid}" if uid != UNMAPPED_UID else ""
    return share(stream, peer, identity=identity, private=True)


async def _dial(target: Target) -> trio.SocketStream:
    url = target.url
    with ExitStack() as undo:
        raw = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        raw.settimeout(0)
        try:
            with trio.fail_after(DIAL_TIMEOUT):
                await _connect(raw, target.path)
        except trio.TooSlowError:
            raise DialFailed(f"{url}: the node there accepts nobody since {DIAL_TIMEOUT:g} s: is it stuck?") from None
        except OSError as exc:
            raise DialFailed(f"{url}: {_said(exc, target, DIAL_ERRORS)}") from exc
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
def _listening(target: Target) -> Iterator[socket.socket]:
    path = target.path
    with ExitStack() as undo:
        raw = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            if target.abstract:
                raw.bind(path)
            else:
                _clear(path)
                raw.bind(path)
                undo.callback(_remove, path, os.lstat(path))
                _permit(path, target.options)
            # Nobody can connect before listen(): there is no moment at which the socket is open to more than it should be.
            raw.listen(BACKLOG)
        except OSError as exc:
            raise ConfigError([f"{target.url}: {_said(exc, target, LISTEN_ERRORS)}"]) from exc
        yield raw


def _permit(path: str, options: Mapping[str, Any]) -> None:
    """Set who may connect. What somebody else may have put in place of the socket meanwhile is not touched. Raises OSError."""
    mode = options.get("mode", 0o660 if "group" in options else 0o600)
    opened = os.open(path, os.O_PATH | os.O_NOFOLLOW) if sys.platform == "linux" else -1
    try:
        same = f"/proc/self/fd/{opened}" if opened >= 0 and os.path.exists(f"/proc/self/fd/{opened}") else path
        if not stat.S_ISSOCK(os.stat(same).st_mode):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if "group" in options:
            os.chown(same, -1, options["group"])
        os.chmod(same, mode)
    finally:
        if opened >= 0:
            os.close(opened)


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
