"""What `rpyc-gw device` does on a board: one shape for a board at a port of this machine and for one that is a node, and the work, written once over it."""

from __future__ import annotations

import os
from binascii import crc32
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import trio

from rpyc_gateway.client import open_session
from rpyc_gateway.device.anyboard import AnyBoard, BoardError
from rpyc_gateway.device.driver import open_board
from rpyc_gateway.device.repl import Repl, ReplFailed
from rpyc_gateway.errors import DialFailed, GatewayError, LinkLost, RemoteError
from rpyc_gateway.session import Session
from rpyc_gateway.transport import find_transport

__all__ = [
    "BoardFailed",
    "Interpreter",
    "Progress",
    "get",
    "listing",
    "open_node",
    "open_port",
    "put",
    "remove",
    "reset",
    "reset_port",
    "run",
]

CHUNK = 1024  # bytes of a file in one message: a board takes no longer one than a quarter of its free heap
LEAVING = 5.0  # seconds to take back what was half done
RESETTING = 2.0  # seconds for a board to say why it cannot be reset
NOTICING = 15.0  # seconds for a node to notice that its board has been reset
DIRECTORY = 0x4000  # of the mode that os.stat tells, on every board

Progress = Callable[[int, int], object]
"""Is told the bytes that are done, and all."""


class BoardFailed(GatewayError):
    """An exception of a board, in its words."""

    def __init__(self, name: str, kind: str, text: str, traceback: str = "") -> None:
        said = f"{kind}: {text}" if kind and text else kind or text or "it failed, and had no memory to say why"
        super().__init__(f"{name}: {said}")
        self.name = name
        self.said = said
        self.traceback = traceback or said


class Interpreter(Protocol):
    """The Python of a board, by whatever way. Both raise BoardFailed for its exceptions, and LinkLost; cancelled, they interrupt it."""

    name: str
    shows: bool
    """Whether what is printed there appears here by itself."""

    async def evaluate(self, source: str) -> Any:
        """The value of an expression, or what stands for an object that stays there."""

    async def call(self, function: Any, *args: Any) -> Any:
        """Call such an object."""


class AtPort:
    """A board at a port of this machine."""

    shows = True

    def __init__(self, name: str, board: AnyBoard) -> None:
        self.name = name
        self._board = board

    async def evaluate(self, source: str) -> Any:
        with in_its_words(self.name):
            return await self._board.evaluate(source)

    async def call(self, function: Any, *args: Any) -> Any:
        with in_its_words(self.name):
            return await self._board.call(function, *args)


class AtNode:
    """A board that is a node, behind a session."""

    shows = False

    def __init__(self, name: str, session: Session) -> None:
        self.name = name
        self._session: Any = session

    async def evaluate(self, source: str) -> Any:
        with in_its_words(self.name):
            return await self._session.eval(source)

    async def call(self, function: Any, *args: Any) -> Any:
        with in_its_words(self.name):
            return await function(*args)


@asynccontextmanager
async def open_port(url: str, name: str, show: Callable[[bytes], object], progress: Progress) -> AsyncIterator[AtPort]:
    """The board at this URL; `show` gets the lines that it prints, `progress` is that of the upload. Raises DialFailed."""
    async with find_transport(url).connect(url) as pipe, open_board(pipe, show=show, progress=progress) as board:
        yield AtPort(name, board)


@asynccontextmanager
async def open_node(url: Sequence[str], via: Sequence[str], name: str) -> AsyncIterator[AtNode]:
    """The board that is the node of this name. Raises what open_session raises."""
    async with open_session(list(url), node=name, via=via) as session:
        yield AtNode(name, session)


@contextmanager
def in_its_words(name: str) -> Iterator[None]:
    try:
        yield
    except BoardError as exc:
        raise BoardFailed(name, exc.failure.kind, exc.failure.text, exc.failure.traceback) from None
    except RemoteError as exc:
        raise BoardFailed(name, "", str(exc), noted(exc)) from None
    except GatewayError:
        raise
    except Exception as exc:  # noqa: BLE001 - a node passes those of its board on as what they were there
        kind = "OSError" if isinstance(exc, OSError) else type(exc).__name__  # boards have no FileNotFoundError
        text = exc if isinstance(exc, OSError) else exc.args[-1] if exc.args else ""
        raise BoardFailed(name, kind, str(text), noted(exc)) from None


@contextmanager
def about(path: str) -> Iterator[None]:
    """A board does not say which file it is that is missing."""
    try:
        yield
    except BoardFailed as exc:
        raise BoardFailed(f"{exc.name}: {path}", "", exc.said) from None


def noted(error: Exception) -> str:
    """The traceback of the board, as a node passes it on."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(NOTE)]
    return notes[0].removeprefix(NOTE) if notes else ""


NOTE = "on the board:\n"


# -- programs

# All of this runs there: for any MicroPython and CircuitPython, and it leaves nothing in the namespace of others.
# What is not needed is left out: the smallest boards have no room for it.
RUN = """
def _gateway_run(parts, name, write):
    show = print
    space = {"__name__": "__main__"}
    #show
    code = "".join(parts)
    parts.clear()
    try:
        code = compile(code, name, "#mode")
    except NameError:
        pass
    try:
        #run
    except SystemExit as e:
        code = e.args[0] if e.args else 0
        return code if code is None or isinstance(code, int) else str(code)
"""
SHOW = """
    def show(*args, sep=" ", end="\\n", file=None):
        if file:
            return print(*args, sep=sep, end=end, file=file)
        write(sep.join([str(x) for x in args]) + end)
    space["print"] = show
"""
MODES = {"eval": "show(eval(code, space))", "exec": "exec(code, space)"}
RUNNER = "_gateway_run"


async def run(board: Interpreter, source: str, filename: str, mode: str, write: Callable[[str], object]) -> int | str:
    """Run a program in a namespace of its own; with `mode` "eval" print the value of an expression. Returns what it gave to sys.exit().

    `write` gets what it prints, where the board does not show that by itself. Raises BoardFailed, with its traceback.
    """
    parts = await board.evaluate("[]")
    add = await board.evaluate("lambda a, b: a.append(b)")
    for at in range(0, len(source), CHUNK):
        await board.call(add, parts, source[at : at + CHUNK])
    program = (
        RUN.replace("#show", "" if board.shows else SHOW.strip()).replace("#mode", mode).replace("#run", MODES[mode])
    )
    function = await board.evaluate(defined(program, RUNNER))
    try:
        return await board.call(function, parts, filename, None if board.shows else write) or 0
    except BoardFailed as exc:
        exc.traceback = own_part(exc.traceback)
        raise


def own_part(traceback: str) -> str:
    """A traceback without the frames that brought the program there."""
    lines = traceback.rstrip().splitlines()
    ours = [at for at, line in enumerate(lines) if line.endswith(f"in {RUNNER}")]
    return "\n".join([lines[0], *lines[ours[-1] + 1 :]] if ours else lines)


def defined(source: str, name: str = "f") -> str:
    """An expression whose value is the function of this name that the source defines."""
    return f"(lambda n:(exec({source!r},n),n[{name!r}])[1])({{}})"


# -- files

LIST = """
import os
def f(path):
    path = path or os.getcwd()
    s = os.stat(path)
    if not s[0] & 0x4000:
        return ((path, False, s[6]),)
    if path[-1] != "/":
        path += "/"
    found = []
    for name in sorted(os.listdir(path)):
        s = os.stat(path + name)
        d = s[0] & 0x4000 != 0
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
# A FAT file system does not rename to a name that there is.
PLACE = """
import os
def f(part, path):
    try:
        os.rename(part, path)
    except OSError:
        os.remove(path)
        os.rename(part, path)
"""
READ = """
from binascii import crc32
def f(file, size, crc):
    data = file.read(size)
    return data, crc32(data, crc)
"""
CHECK = READ.replace("return data", "return len(data)")
WRITE = "lambda file, data: file.write(data)"
CLOSE = "lambda file: file.close()"
REMOVE = "lambda path: __import__('os').remove(path)"
PART = ".part"  # behind the name of a file that is not whole


async def listing(board: Interpreter, path: str) -> list[tuple[str, bool, int]]:
    """Name, whether it is a directory, and size in bytes (a directory: 0) of what is in a directory, or of a file. Raises BoardFailed."""
    with about(path):
        return list(await board.call(await board.evaluate(defined(LIST)), path))


async def remove(board: Interpreter, path: str) -> None:
    """Remove a file. Raises BoardFailed."""
    with about(path):
        await board.call(await board.evaluate(REMOVE), path)


async def target(board: Interpreter, remote: str, name: str, *, inside: bool) -> str:
    """Where a file of this name goes: to `remote`, or into it if that is a directory. `inside`: it must be one. Raises BoardFailed."""
    found = await board.call(await board.evaluate(defined(LOOK)), remote)
    if found is not None and found[0] & DIRECTORY:
        return f"{remote.rstrip('/')}/{name}"
    if inside or remote.endswith("/"):
        raise BoardFailed(board.name, "", f"{remote}: is no directory there")
    return remote


async def put(board: Interpreter, local: Path, remote: str, progress: Progress) -> None:
    """Copy a file to the board. Until it is there and verified what was at its place stays: there must be room for both.

    Raises BoardFailed, and OSError of this side. Cancelled: nothing of it is left there.
    """
    part = remote + PART
    with about(remote), local.open("rb") as source:
        whole = os.fstat(source.fileno()).st_size
        file = await board.call(await board.evaluate("open"), part, "wb")
        try:
            write = await board.evaluate(WRITE)
            done = crc = 0
            while data := source.read(CHUNK):
                await board.call(write, file, data)
                done += len(data)
                crc = crc32(data, crc)
                progress(done, max(whole, done))
            await board.call(await board.evaluate(CLOSE), file)
            if (found := await checksum(board, part)) != (done, crc):
                raise BoardFailed(
                    board.name,
                    "",
                    f"of {done} bytes it holds {found[0]}, or others: what was there stays",
                )
            await board.call(await board.evaluate(defined(PLACE)), part, remote)
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVING), suppress(GatewayError):
                await board.call(await board.evaluate(CLOSE), file)
                await remove(board, part)
            raise


async def checksum(board: Interpreter, path: str) -> tuple[int, int]:
    """Length and CRC of a file, read again there."""
    file = await board.call(await board.evaluate("open"), path, "rb")
    check = await board.evaluate(defined(CHECK))
    done = crc = 0
    while True:
        length, crc = await board.call(check, file, CHUNK, crc)
        done += length
        if not length:
            await board.call(await board.evaluate(CLOSE), file)
            return done, crc


async def get(board: Interpreter, remote: str, local: Path, progress: Progress) -> None:
    """Copy a file from the board. Until it is here and verified what was at its place stays.

    Raises BoardFailed, and OSError of this side. Cancelled: nothing of it is left here.
    """
    with about(remote):
        await get_whole(board, remote, local, progress)


async def get_whole(board: Interpreter, remote: str, local: Path, progress: Progress) -> None:
    file = await board.call(await board.evaluate("open"), remote, "rb")
    read = await board.evaluate(defined(READ))
    mode, whole = await board.call(await board.evaluate(defined(LOOK)), remote)
    if mode & DIRECTORY:  # some boards open those
        raise BoardFailed(board.name, "", "is a directory")
    part = local.with_name(local.name + PART)
    try:
        with part.open("wb") as sink:
            done = crc = here = 0
            while True:
                data, crc = await board.call(read, file, CHUNK, crc)
                if not data:
                    break
                sink.write(data)
                here = crc32(data, here)
                done += len(data)
                progress(done, max(whole, done))
        if (done, here) != (whole, crc):
            raise BoardFailed(
                board.name, "", f"has {whole} bytes there, and {done} came, or others: {local} is as it was"
            )
        os.replace(part, local)
    finally:
        part.unlink(missing_ok=True)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LEAVING), suppress(GatewayError):
            await board.call(await board.evaluate(CLOSE), file)


# -- reset

RESET = """
try:
    from machine import reset
except ImportError:
    try:
        from microcontroller import reset
    except ImportError:
        from machine import soft_reset as reset
"""


async def reset_port(url: str, name: str) -> None:
    """Reset the board at this URL, and leave it to its main.py. Raises DialFailed, BoardFailed."""
    async with find_transport(url).connect(url) as pipe:
        repl = Repl(pipe.stream, pipe.peer, rate=pipe.rate)
        await repl.find()
        with trio.move_on_after(RESETTING):
            try:
                await repl.run(RESET + "reset()\n")
            except ReplFailed as exc:
                raise BoardFailed(name, "", str(exc)) from None
            except DialFailed:  # it has gone, as USB does
                return


async def reset(board: Interpreter) -> None:
    """Reset a board that is a node. Raises BoardFailed, also if nothing shows that it has been."""
    function = await board.evaluate(defined(RESET, "reset"))
    with trio.move_on_after(NOTICING) as scope, suppress(LinkLost):
        await board.call(function)
    if scope.cancelled_caught:
        raise BoardFailed(board.name, "", f"it was told to reset, and its node has noticed nothing for {NOTICING:g} s")
