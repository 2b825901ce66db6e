"""`python -m tests.bench.pipes`: the pipes of the transports beside that of tcp, in turns: latency, bulk each way, opening one.

Figures are CPU time of both ends together, which neighbours on the machine hardly change: on one CPU that is what they take. `plain ws` is
trio-websocket as it comes, with wsproto's frames.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import trio
import trio_websocket
import trustme

import rpyc_gateway as gw
from rpyc_gateway.config import Config, Listen, NodeSection
from rpyc_gateway.transport import Pipe, find_transport
from tests.bench.processes import Way, cpu_seconds

MiB = 1 << 20
BULK = 32 * MiB
BLOCK = 131_072  # bytes of one write: what a link gives its pipe at once
CALLS = 500
OPENED = 50

SCHEMES = ("tcp", "ws", "plain ws", "tls", "wss")
MOST_TO_OPEN = 2.0  # milliseconds that a link over tcp may take longer than the bare connect


def main(arguments: list[str]) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pipes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cpus)})
    with TemporaryDirectory(prefix="pipes-") as directory:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(f"{directory}/ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(f"{directory}/far.pem")
        way = Way("tests.bench.pipes", "")
        try:
            urls = dict(zip((*SCHEMES, "node"), way.start("far", directory).split(), strict=True))
            (other,) = way.processes.values()
            rounds = [trio.run(_measure, urls, Path(directory), other.pid) for _ in range(options.rounds)]
        finally:
            way.end()
            os.sched_setaffinity(0, cpus)
    for line in report(rounds):
        print(line)
    return 0


# -- the far side


def far(tell: Callable[[object], None], directory: str) -> None:
    """Listen in every way; the URLs in the order of SCHEMES, and that of a node."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            own = f"?cert={directory}/far.pem"
            urls = {}
            for scheme, options in (("tcp", ""), ("ws", "/"), ("tls", own), ("wss", f"/{own}")):
                url = f"{scheme}://127.0.0.1:0{options}"
                (urls[scheme],) = await nursery.start(find_transport(url).serve, url, _answer)
            urls["plain ws"] = await nursery.start(_serve_plainly)
            config = Config(node=NodeSection(name="far"), listen=(Listen(url="tcp://127.0.0.1:0"),))
            async with gw.open_node(config) as node:
                tell(" ".join([*(urls[scheme] for scheme in SCHEMES), *node.urls]))
                await trio.sleep_forever()

    trio.run(run)


async def _answer(pipe: Pipe) -> None:
    """Do what the first byte says: `e`cho, take what comes `u`p, or send it `d`own."""
    stream = pipe.stream
    what = await stream.receive_some(1)
    if what == b"e":
        async for data in stream:
            await stream.send_all(data)
    elif what == b"u":
        await _receive(stream, BULK)
        await stream.send_all(b".")
    elif what == b"d":
        await _send(stream)
    await stream.receive_some(1)


async def _receive(stream: trio.abc.ReceiveStream, size: int) -> None:
    while size > 0:
        size -= len(await stream.receive_some(65_536))


async def _send(stream: trio.abc.SendStream) -> None:
    block = bytes(BLOCK)
    for _ in range(BULK // BLOCK):
        await stream.send_all(block)


class _Plain(trio.abc.Stream):
    """What one would write first."""

    def __init__(self, websocket: trio_websocket.WebSocketConnection) -> None:
        self._websocket = websocket
        self._left = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._websocket.send_message(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            data = self._left or await self._websocket.get_message()
        except trio_websocket.ConnectionClosed:
            return b""
        assert isinstance(data, bytes)
        limit = len(data) if max_bytes is None else max_bytes
        self._left = data[limit:]
        return data[:limit]

    async def aclose(self) -> None:
        await self._websocket.aclose()


async def _serve_plainly(*, task_status: trio.TaskStatus[str]) -> None:
    async def handle(request: trio_websocket.WebSocketRequest) -> None:
        await _answer(Pipe(_Plain(await request.accept()), ""))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, handle, "127.0.0.1", 0, None)
        task_status.started(f"ws://127.0.0.1:{server.port}/")


# -- the near side


@asynccontextmanager
async def _connected(scheme: str, urls: dict[str, str], directory: Path) -> AsyncIterator[trio.abc.Stream]:
    if scheme == "plain ws":
        async with trio_websocket.open_websocket_url(urls[scheme]) as websocket:
            yield _Plain(websocket)
    else:
        trusted = f"?ca={directory}/ca.pem" if scheme in ("tls", "wss") else ""
        async with find_transport(urls[scheme]).connect(urls[scheme] + trusted) as pipe:
            yield pipe.stream


async def _measure(urls: dict[str, str], directory: Path, other: int) -> dict[tuple[str, str], float]:
    """One round: what each pipe does, and what it takes to open one."""
    found: dict[tuple[str, str], float] = {}

    def spent() -> float:
        return cpu_seconds(os.getpid()) + cpu_seconds(other)

    async def note(what: tuple[str, str], task: Callable[..., Awaitable[object]], *arguments: object) -> None:
        start = spent()
        await task(*arguments)
        found[what] = spent() - start

    for scheme in SCHEMES:
        for what, order, task in (("call", b"e", _ask), ("up", b"u", _send_and_wait), ("down", b"d", _take)):
            async with _connected(scheme, urls, directory) as stream:
                await stream.send_all(order)
                await note((scheme, what), task, stream)
        found[scheme, "open"] = await _opening(spent, lambda scheme=scheme: _connected(scheme, urls, directory))
    async with gw.open_node(Config(node=NodeSection(name="near"))) as node:
        found["bare", "open"] = await _opening(spent, lambda: _barely(int(urls["node"].rpartition(":")[2])))
        found["link", "open"] = await _opening(spent, lambda: node.link(urls["node"]))
    return found


async def _ask(stream: trio.abc.Stream) -> None:
    question = bytes(64)
    for _ in range(CALLS):
        await stream.send_all(question)
        await _receive(stream, len(question))


async def _send_and_wait(stream: trio.abc.Stream) -> None:
    await _send(stream)
    await stream.receive_some(1)


async def _take(stream: trio.abc.Stream) -> None:
    await _receive(stream, BULK)


async def _opening(spent: Callable[[], float], make: Callable[[], AbstractAsyncContextManager[object]]) -> float:
    """What it takes until it is open; not what it takes to close it again."""
    total = 0.0
    for _ in range(OPENED):
        start = spent()
        async with make():
            total += spent() - start
        await trio.sleep(0.002)  # for the far side to be done with it
    return total


@asynccontextmanager
async def _barely(port: int) -> AsyncIterator[None]:
    with socket.create_connection(("127.0.0.1", port)):
        yield


# -- the report


UNITS = {
    "call": (1e6 / CALLS, "us"),
    "up": (1e3 * MiB / BULK, "ms/MiB"),
    "down": (1e3 * MiB / BULK, "ms/MiB"),
    "open": (1e3 / OPENED, "ms"),
}


def report(rounds: Sequence[dict[tuple[str, str], float]]) -> list[str]:
    """The medians of all rounds, and of the ratios to tcp within each."""
    lines = [
        "| pipe | 64 bytes there and back | to tcp | up | to tcp | down | to tcp | opened | to tcp |",
        f"|---|{'---:|' * 8}",
    ]
    for scheme in SCHEMES:
        cells = [scheme]
        for what, (scale, unit) in UNITS.items():
            ratio = median(found[scheme, what] / found["tcp", what] for found in rounds)
            cells += [f"{median(found[scheme, what] for found in rounds) * scale:.3g} {unit}", f"{ratio:.2f}x"]
        lines.append(f"| {' | '.join(cells)} |")
    scale, unit = UNITS["open"]
    bare, link = (median(found[kind, "open"] for found in rounds) * scale for kind in ("bare", "link"))
    reached = "reached" if link - bare < MOST_TO_OPEN else "**not reached**"
    lines += [
        "",
        f"A link over tcp: {link:.2f} {unit}, a bare connection: {bare:.2f} {unit}; at most {MOST_TO_OPEN:g} more: {reached}.",
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
