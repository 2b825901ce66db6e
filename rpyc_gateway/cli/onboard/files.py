"""Files of a board: listed, copied whole and verified, removed."""

from __future__ import annotations

import os
from binascii import crc32
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR

import trio

from rpyc_gateway.cli.onboard.interpreters import CHUNK, BoardFailed, Interpreter, Progress, about
from rpyc_gateway.errors import GatewayError

__all__ = [
    "get",
    "listing",
    "look",
    "make_directory",
    "put",
    "read",
    "remove",
    "remove_directory",
    "target",
    "up_to_date",
]

LEAVING = 5.0  # seconds to take back what was half done

# Of the mode that os.stat tells the highest four bits say what it is, on every board: 4 is a directory. Of 16 bits, as sockets have that one too.
LIST = """
import os
def f(path):
    path = path or os.getcwd()
    s = os.stat(path)
    if s[0] & 0xF000 != 0x4000:
        return ((path, False, s[6]),)
    if path[-1] != "/":
        path += "/"
    found = []
    for name in sorted(os.listdir(path)):
        s = os.stat(path + name)
        d = s[0] & 0xF000 == 0x4000
        found.append((name, d, 0 if d else s[6]))
    return tuple(found)
"""
LOOK = """
import os
def f(path):
    try:
        s = os.stat(path)
    except OSError:
        return None
    return s[0], s[6]
"""
MAKE = """
import os
def f(path):
    try:
        os.mkdir(path)
    except OSError:
        if os.stat(path)[0] & 0xF000 != 0x4000:
            raise
"""
CHECK = """
from binascii import crc32
def check(path):
    file = open(path, "rb")
    length = crc = 0
    while True:
        data = file.read(512)
        if not data:
            file.close()
            return length, crc
        length += len(data)
        crc = crc32(data, crc)
"""
# What is written is read again before it takes the place of what was there; without arguments `finish` gives it up. (A FAT file
# system does not rename to a name that there is.)
WRITING = (
    CHECK
    + """
import os
def f(path, part):
    file = open(part, "wb")
    def finish(*wanted):
        file.close()
        found = wanted and check(part)
        if not wanted or found != wanted:
            os.remove(part)
            return found
        try:
            os.rename(part, path)
        except OSError:
            os.remove(path)
            os.rename(part, path)
        return found
    return file.write, finish
"""
)
READING = """
import os
from binascii import crc32
def f(path):
    s = os.stat(path)
    if s[0] & 0xF000 == 0x4000:
        return None
    file = open(path, "rb")
    def more(size, crc):
        data = file.read(size)
        return data, crc32(data, crc)
    return s[6], more, file.close
"""
REMOVE = "lambda path: __import__('os').remove(path)"
REMOVE_DIRECTORY = "lambda path: __import__('os').rmdir(path)"
PART = ".part"  # behind the name of a file that is not whole


async def listing(board: Interpreter, path: str) -> list[tuple[str, bool, int]]:
    """Name, whether it is a directory, and size in bytes (a directory: 0) of what is in a directory, or of a file. Raises BoardFailed."""
    with about(path):
        return list(await board.call(await board.made(LIST), path))


async def remove(board: Interpreter, path: str) -> None:
    """Remove a file. Raises BoardFailed."""
    with about(path):
        await board.call(await board.evaluate(REMOVE), path)


async def remove_directory(board: Interpreter, path: str) -> None:
    """Remove an empty directory. Raises BoardFailed."""
    with about(path):
        await board.call(await board.evaluate(REMOVE_DIRECTORY), path)


async def make_directory(board: Interpreter, path: str) -> None:
    """Make a directory, if it is not there. Raises BoardFailed, also if a file is."""
    with about(path):
        await board.call(await board.made(MAKE), path)


async def look(board: Interpreter, path: str) -> tuple[int, int] | None:
    """Mode, as os.stat tells it, and size in bytes of what is there. None: nothing is. Raises BoardFailed."""
    with about(path):
        found: tuple[int, int] | None = await board.call(await board.made(LOOK), path)
    return found


async def up_to_date(board: Interpreter, local: Path, remote: str) -> bool:
    """Whether both are files of the same size and CRC: whoever copies one to the other may leave it. Raises BoardFailed, and OSError of this side."""
    size = size_here(local)
    found = None if size is None else await look(board, remote)
    if found is None or S_ISDIR(found[0]) or found[1] != size:
        return False
    with about(remote):
        there: tuple[int, int] = await board.call(await board.made(CHECK, "check"), remote)
        return there == checksum_here(local)


def size_here(local: Path) -> int | None:
    return local.stat().st_size if local.is_file() else None


def checksum_here(local: Path) -> tuple[int, int]:
    done = crc = 0
    with local.open("rb") as file:
        while data := file.read(1 << 16):
            done += len(data)
            crc = crc32(data, crc)
    return done, crc


async def target(board: Interpreter, remote: str, name: str, *, inside: bool) -> str:
    """Where a file of this name goes: to `remote`, or into it if that is a directory. `inside`: it must be one. Raises BoardFailed."""
    found = await look(board, remote)
    if found is not None and S_ISDIR(found[0]):
        return f"{remote.rstrip('/')}/{name}"
    if inside or remote.endswith("/"):
        raise BoardFailed(board.name, "", f"{remote}: is no directory there")
    return remote


async def put(board: Interpreter, local: Path, remote: str, progress: Progress) -> None:
    """Copy a file to the board. Until it is there and verified what was at its place stays: there must be room for both.

    Raises BoardFailed, and OSError of this side. Cancelled: nothing of it is left there.
    """
    with about(remote), local.open("rb") as source:
        whole = os.fstat(source.fileno()).st_size
        write, finish = await board.call(await board.made(WRITING), remote, remote + PART)
        try:
            done = crc = 0
            while data := source.read(CHUNK):
                await board.call(write, data)
                done += len(data)
                crc = crc32(data, crc)
                progress(done, max(whole, done))
            found = await board.call(finish, done, crc)
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVING), suppress(GatewayError):
                await board.call(finish)
            raise
        if found != (done, crc):
            raise BoardFailed(board.name, "", f"of {done} bytes it holds {found[0]}, or others: what was there stays")


async def get(board: Interpreter, remote: str, local: Path, progress: Progress) -> None:
    """Copy a file from the board. Until it is here and verified what was at its place stays.

    Raises BoardFailed, and OSError of this side. Cancelled: nothing of it is left here.
    """
    part = local.with_name(local.name + PART)
    try:
        with part.open("wb") as sink:
            await read(board, remote, sink.write, progress)
        os.replace(part, local)
    finally:
        part.unlink(missing_ok=True)


async def read(board: Interpreter, remote: str, take: Callable[[bytes], object], progress: Progress) -> None:
    """Give `take` a file of the board, part by part. Raises BoardFailed, at the end also if what came is not what is there."""
    with about(remote):
        found = await board.call(await board.made(READING), remote)
        if found is None:  # some boards open those
            raise BoardFailed(board.name, "", "is a directory: -r copies those")
        whole, more, close = found
        try:
            done = crc = here = 0
            while True:
                data, crc = await board.call(more, CHUNK, crc)
                if not data:
                    break
                take(data)
                here = crc32(data, here)
                done += len(data)
                progress(done, max(whole, done))
            if (done, here) != (whole, crc):
                raise BoardFailed(board.name, "", f"has {whole} bytes there, and {done} came, or others")
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVING), suppress(GatewayError):
                await board.call(close)
