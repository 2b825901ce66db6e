"""A chain over transports of one's choice: each hop another one, each with a bad wire or a noisy line in it if asked to."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import trio

import rpyc_gateway as gw
from rpyc_gateway.config import Config, Dial, Listen, NodeSection
from rpyc_gateway.testing import BadLine, BadWire
from tests.conformance.far import Far
from tests.house import CLASSIC

__all__ = ["Chain", "open_chain"]

BAUD = 4_000_000  # the fastest that a tty has a name for: a row is to take milliseconds, not the patience of those who wait for it
NOISE = {"corrupt": 0.0002, "lose": 0.0001}  # for each byte of the serial line: one frame in a few dozen
DELAY = 0.0005
JITTER = 0.001
RATE = 3_000_000


@dataclass
class Chain:
    """The far side at the end of it, and what can be done to its hops from the test's own thread."""

    far: Far
    relays: int
    wires: list[BadWire] = field(default_factory=list)
    lines: list[BadLine] = field(default_factory=list)
    token: Any = None

    def do(self, what: Callable[[], object]) -> None:
        """Do it in the thread of the chain."""
        trio.from_thread.run_sync(what, trio_token=self.token)


class Builder:
    """Builds a chain from its far end on: each hop knows how the one before dials it."""

    def __init__(self, stack: AsyncExitStack, folder: Path, *, bad: bool) -> None:
        self.wires: list[BadWire] = []
        self.lines: list[BadLine] = []
        self._stack = stack
        self._folder = folder
        self._bad = bad

    async def add(self, name: str, hop: str, onward: str | None) -> tuple[str, gw.Node | None]:
        """A node that is reached over that transport and dials onward; what to dial for it, and the node if it runs here."""
        if hop == "stdio":
            assert onward is not None, "the last node must run here, to be looked into"
            return await self._wired(self._child(name, onward), ""), None
        listen = {
            "ws": "ws://127.0.0.1:0/gw",
            "tcp": "tcp://127.0.0.1:0",
            "unix": f"unix://{self._folder}/{name}",
            "memory": f"memory://{name}",
        }.get(hop, "")
        dial = ""
        if hop == "serial":
            line = self._stack.enter_context(BadLine(BAUD, seed=1, **(NOISE if self._bad else {})))
            self.lines.append(line)
            listen, dial = (f"serial://{port}?baudrate={BAUD}&fastest=0" for port in (line.far, line.near))
        config = Config(
            node=NodeSection(name=name),
            listen=(Listen(url=listen),),
            dial=(Dial(url=onward),) if onward else (),
            serve=() if onward else CLASSIC,
        )
        node = await self._stack.enter_async_context(gw.open_node(config))
        return dial or await self._wired(node.urls[0], hop), node

    def _child(self, name: str, onward: str) -> str:
        file = self._folder / f"{name}.toml"
        file.write_text(f"[node]\nname = {name!r}\n[[dial]]\nurl = {onward!r}\n")
        return f"stdio:{sys.executable} -W error -m rpyc_gateway stdio --config {shlex.quote(os.fspath(file))}"

    async def _wired(self, url: str, hop: str) -> str:
        """The URL of a bad wire in front, if there is to be one. Below a WebSocket it is TCP that is bad."""
        if not self._bad:
            return url
        target = url.replace("ws://", "tcp://").removesuffix("/gw") if hop == "ws" else url
        wire = await self._stack.enter_async_context(BadWire(target, seed=len(self.wires)))
        wire.delay(DELAY, jitter=JITTER)
        wire.rate(RATE)
        self.wires.append(wire)
        return wire.url.replace("tcp://", "ws://") + "/gw" if hop == "ws" else wire.url


@contextmanager
def open_chain(*hops: str, bad: bool = False) -> Iterator[Chain]:
    """`ws, tcp, stdio, serial`: the first hop leads to the first relay, the last one to the lab."""
    with TemporaryDirectory(prefix="chain") as folder:
        ready: SimpleQueue[Any] = SimpleQueue()
        thread = threading.Thread(target=_run, args=(Path(folder), hops, bad, ready), name="chain")
        thread.start()
        told = ready.get()
        if isinstance(told, BaseException):
            thread.join()
            raise told
        chain, stop = told
        try:
            yield chain
        finally:
            chain.far.close()
            chain.token.run_sync_soon(stop)
            thread.join()


def _run(folder: Path, hops: Sequence[str], bad: bool, ready: SimpleQueue[Any]) -> None:  # noqa: FBT001
    try:
        trio.run(_serve, folder, hops, bad, ready)
    except BaseException as exc:  # noqa: BLE001  it is raised where it is waited for
        ready.put(exc)


async def _serve(folder: Path, hops: Sequence[str], bad: bool, ready: SimpleQueue[Any]) -> None:  # noqa: FBT001
    async with AsyncExitStack() as stack:
        attic = f"unix://{folder}/attic"
        attic_config = Config(node=NodeSection(name="attic"), listen=(Listen(url=attic),), serve=CLASSIC)
        await stack.enter_async_context(gw.open_node(attic_config))
        builder = Builder(stack, folder, bad=bad)
        onward: str | None = None
        nodes: list[gw.Node | None] = []
        for number, hop in reversed(list(enumerate(hops))):
            name = "lab" if onward is None else f"r{number}"
            onward, node = await builder.add(name, hop, onward)
            nodes.insert(0, node)
        first, lab = nodes[0], nodes[-1]
        assert first is not None
        assert lab is not None
        with trio.fail_after(30):
            await first.wait_route("lab")
        relays = len(hops) - 1
        assert onward is not None
        far = Far({relays: onward}, attic, lab)
        chain = Chain(far, relays, builder.wires, builder.lines, trio.lowlevel.current_trio_token())
        over = trio.Event()
        ready.put((chain, over.set))
        await over.wait()
