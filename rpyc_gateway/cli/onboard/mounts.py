"""A directory of this machine as a file system of a board."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from rpyc_gateway.cli.onboard.interpreters import BoardFailed, Interpreter
from rpyc_gateway.cli.onboard.served import ServedDirectory
from rpyc_gateway.device.source import PART, parts
from rpyc_gateway.errors import GatewayError

__all__ = ["PLACE", "mounted"]

PLACE = "/remote"  # as mpremote has it
LEAVING = 5.0  # seconds to take it away

# Compiled there in parts, each statement of the left margin alone. What is mounted stands among the modules, under a name that the probe of a new front
# (device/repl.py) knows: one whose host was killed would ask nobody for ever.
FILE_SYSTEM = """
import io
import os
import sys

try:
    from vfs import mount, umount
except ImportError:
    try:
        from os import mount, umount
    except ImportError:
        mount = None

NAME = "_gateway_mount"

class File(io.IOBase):
    def __init__(self, ask, handle, text):
        self.ask = ask
        self.handle = handle
        self.text = text
        self.ahead = b""

    def more(self):
        data = self.ask("read", self.handle, 1024)
        self.ahead += data
        return data

    def take(self, n):
        data = self.ahead[:n]
        self.ahead = self.ahead[n:]
        return data

    def readinto(self, buffer):
        if not self.ahead:
            self.more()
        data = self.take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size=-1):
        if size is None:
            size = -1
        if not self.text:
            while (size < 0 or len(self.ahead) < size) and self.more():
                pass
            return self.take(len(self.ahead) if size < 0 else size)
        n = 0
        while 1:
            end = 0
            n = 0
            while end < len(self.ahead) and n != size:
                first = self.ahead[end]
                length = 1 if first < 192 else 2 if first < 224 else 3 if first < 240 else 4
                if end + length > len(self.ahead):
                    break
                end += length
                n += 1
            if n == size or not self.more():
                return str(self.take(len(self.ahead) if size < 0 else end), "utf-8")

    def readline(self, size=-1):
        while 1:
            end = self.ahead.find(b"\\n") + 1
            if end or (0 <= size <= len(self.ahead)) or not self.more():
                break
        data = self.take(end if end and not 0 <= size < end else size if size >= 0 else len(self.ahead))
        return str(data, "utf-8") if self.text else data

    def readlines(self):
        return list(self)

    def __iter__(self):
        return self

    def __next__(self):
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def write(self, data):
        if self.ahead:
            self.seek(0, 1)
        whole = data.encode() if isinstance(data, str) else bytes(data)
        for at in range(0, len(whole), 1024):
            self.ask("write", self.handle, whole[at : at + 1024])
        return len(data)

    def seek(self, offset, whence=0):
        if whence == 1:
            offset -= len(self.ahead)
        self.ahead = b""
        return self.ask("seek", self.handle, offset, whence)

    def tell(self):
        return self.ask("seek", self.handle, 0, 1) - len(self.ahead)

    def flush(self):
        pass

    def close(self):
        if self.handle is not None:
            handle = self.handle
            self.handle = None
            self.ask("close", handle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def ioctl(self, request, argument):
        if request == 4:
            self.close()
        return 256 if request == 11 else 0

class Remote:
    def __init__(self, host, place):
        self.host = host
        self.place = place
        self.at = "/"
        self.modules = tuple(sys.modules)
        self.paths = tuple(sys.path)
        self.was = os.getcwd()

    def ask(self, *request):
        if sys.modules.get(NAME) is not self:
            raise OSError(19)
        try:
            n, value = self.host(*request)
        except (RuntimeError, OSError):
            self.leave()
            raise OSError(19)
        if n:
            raise OSError(n)
        return value

    def leave(self):
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        if self.host is None:
            return
        self.host = None
        try:
            os.chdir(self.was)
        except OSError:
            os.chdir("/")
        umount(self.place)
        sys.path[:] = self.paths
        for name in tuple(sys.modules):
            file = getattr(sys.modules[name], "__file__", None)
            if name not in self.modules and file and (file[:1] != "/" or file.startswith(self.place + "/")):
                del sys.modules[name]

    def path(self, path):
        return path if path[:1] == "/" else self.at + path

    def mount(self, readonly, mkfs):
        pass

    def umount(self):
        pass

    def open(self, path, mode):
        return File(self.ask, self.ask("open", self.path(path), mode), "b" not in mode)

    def chdir(self, path):
        self.at = self.ask("enter", self.path(path))

    def getcwd(self):
        return self.at[:-1] or "/"

    def stat(self, path):
        mode, size, at = self.ask("stat", self.path(path))
        return (mode, 0, 0, 0, 0, 0, size, at, at, at)

    def ilistdir(self, path=""):
        path = self.path(path)
        n = 0
        while 1:
            found = self.ask("list", path, n)
            if not found:
                return
            n += len(found)
            for entry in found:
                yield entry

    def mkdir(self, path):
        self.ask("mkdir", self.path(path))

    def remove(self, path):
        self.ask("remove", self.path(path))

    def rmdir(self, path):
        self.ask("rmdir", self.path(path))

    def rename(self, old, new):
        self.ask("rename", self.path(old), self.path(new))

    def statvfs(self, path):
        whole, free = self.ask("space")
        return (4096, 4096, whole, free, free, 0, 0, 0, 0, 255)

def begin(host, place):
    if mount is None:
        raise NotImplementedError("no file systems")
    there = sys.modules.get(NAME)
    if there is not None:
        try:
            there.ask("ping")
        except OSError:
            there.leave()
        else:
            raise OSError(16)
    there = Remote(host, place)
    mount(there, place)
    sys.modules[NAME] = there
    os.chdir(place)
    if "" not in sys.path:
        sys.path.insert(0, place)
    return there.leave
"""


@asynccontextmanager
async def mounted(board: Interpreter, directory: ServedDirectory) -> AsyncIterator[None]:
    """In the body `directory` is /remote on the board, and the working directory there: programs import from it and open what is in it.

    At the end modules that came from there are forgotten, so that the next program imports what is new. Raises BoardFailed, also for a board that
    has no file systems of one's own (CircuitPython), and if somebody else has mounted there.
    """

    async def answer(verb: Any, *args: Any) -> tuple[int, Any]:
        return await trio.to_thread.run_sync(directory.answer, verb, *args)

    try:
        space = await board.evaluate("{}")
        add = await board.evaluate("lambda source, space: exec(source, space)")
        for part in parts(FILE_SYSTEM, PART):
            try:
                await board.call(add, part, space)
            except BoardFailed as exc:
                if not exc.said.startswith(("ImportError: ", "MemoryError")):
                    raise
                raise BoardFailed(board.name, "", f"{TOO_SMALL} ({exc.said})") from None
        named = await board.evaluate("lambda space, name: space[name]")
        end = await begun(board, await board.call(named, space, "begin"), answer)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVING), suppress(GatewayError):
                await board.call(end)
    finally:
        directory.close()


async def begun(board: Interpreter, begin: Any, answer: Any) -> Any:
    try:
        return await board.call(begin, answer, PLACE)
    except BoardFailed as exc:
        for said, why in REFUSED.items():
            if exc.said.endswith(said):
                raise BoardFailed(board.name, "", why) from None
        raise


TOO_SMALL = "a directory cannot be mounted on this board: it has no room for that, or not what it needs"
# What `begin` raises there, in the words of boards that name errors and of those that do not.
TAKEN = f"somebody else has a directory mounted at {PLACE}"
IN_THE_WAY = f"something else is at {PLACE} there"
REFUSED = {
    "no file systems": "this Python has no file systems of one's own (CircuitPython has none): use `put -r`",
    "EBUSY": TAKEN,
    " 16": TAKEN,
    "EPERM": IN_THE_WAY,
    " 1": IN_THE_WAY,
}
