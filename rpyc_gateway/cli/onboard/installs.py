"""The agent on the flash of a board."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio
from msgspec import Struct

from rpyc_gateway.cli.onboard.files import get, look, make_directory, put, remove
from rpyc_gateway.cli.onboard.interpreters import BoardFailed, Interpreter, Progress
from rpyc_gateway.device.flash import BEGIN, agent_file

__all__ = ["Places", "install", "places", "uninstall", "write_main"]

FILE = "gwagent.py"

# What the agent needs to know of its board before it is there.
ABOUT = """(lambda s,g:(s.implementation[0],hasattr(s.stdin,'buffer'),hasattr(s,'print_exception'),g.mem_free(),tuple([str(p) for p in s.path])))(__import__('sys'),__import__('gc'))"""


class Places(Struct, frozen=True):
    """Where things are on a board, and what it can do."""

    agent: str
    main: str
    importable: bool  # the board looks there for modules
    binary: bool
    printer: bool
    free: int


async def places(board: Interpreter, root: str) -> Places:
    """`root` is the directory that has lib/ and main.py. Raises BoardFailed."""
    try:
        name, binary, printer, free, path = await board.evaluate(ABOUT)
    except BoardFailed as exc:
        if "SimpleNamespace" in exc.said:  # as its sys.implementation is, which is a tuple on boards
            raise BoardFailed(
                board.name, "", "this is a bare Python, to which the agent is sent each time: it has no place for one"
            ) from None
        if not exc.said.startswith(("AttributeError: ", "MemoryError")):
            raise
        raise BoardFailed(
            board.name, "", f"this board cannot run the agent, and is driven without it ({exc.said})"
        ) from None
    root = root.rstrip("/")
    return Places(
        agent=f"{root}/lib/{FILE}",
        main=f"{root}/{'code' if name == 'circuitpython' else 'main'}.py",
        importable=f"{root}/lib" in path,
        binary=binary,
        printer=printer,
        free=free,
    )


async def install(board: Interpreter, to: Places, progress: Progress) -> None:
    """Write the agent to the flash; what was installed before stays until it is there whole. Raises BoardFailed."""
    content = agent_file(binary=to.binary, printer=to.printer, free=to.free)
    await make_directory(board, to.agent.rpartition("/")[0])
    await write(board, content, to.agent, progress)


async def write_main(board: Interpreter, to: Places) -> None:
    """Let the board start the agent when it starts. Raises BoardFailed."""
    await write(board, BEGIN.encode(), to.main, lambda _done, _whole: None)


async def has_main(board: Interpreter, to: Places) -> bytes | None:
    """What the board starts with; None: nothing."""
    if await look(board, to.main) is None:
        return None
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory, FILE)
        await get(board, to.main, here, lambda _done, _whole: None)
        return await trio.Path(here).read_bytes()


async def uninstall(board: Interpreter, at: Places) -> list[str]:
    """Remove the agent, and what starts it if that does nothing else; what was removed. Raises BoardFailed, also if there is none."""
    if await look(board, at.agent) is None:
        raise BoardFailed(board.name, "", f"{at.agent}: there is no agent")
    removed = [at.agent]
    if await has_main(board, at) == BEGIN.encode():
        removed.append(at.main)
    for path in removed:
        await remove(board, path)
    return removed


async def write(board: Interpreter, content: bytes, to: str, progress: Progress) -> None:
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory, FILE)
        await trio.Path(here).write_bytes(content)
        await put(board, here, to, progress)
