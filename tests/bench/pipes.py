"""`python -m tests.bench.pipes`: the pipes of the transports beside that of tcp, in turns on one CPU: latency, bulk each way, opening one.

Both ends are processes, pinned together, so that wall time is the work of both. `plain ws` is trio-websocket as it comes, with wsproto's frames.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import trio
import trio_websocket
import trustme

import rpyc_gateway as gw
from rpyc_gateway.config import Config, Listen, NodeSection
from rpyc_gateway.transport import Pipe, find_transport
from tests.bench.processes import Way

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
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with TemporaryDirectory(prefix="pipes-") as directory:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(f"{directory}/ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(f"{directory}/far.pem")
        way = Way("tests.bench.pipes", "")
        try:
            urls = dict(zip((*SCHEMES, "node"), way.start("far", directory).split(), strict=True))
            rounds = [trio.run(_measure, urls, Path(directory)) for _ in range(options.rounds)]
        finally:
            way.end()
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


async def _measure(urls: dict[str, str], directory: Path) -> dict[tuple[str, str], float]:
    """One round: what each pipe does, and what it takes to open one."""
    found: dict[tuple[str, str], float] = {}
    for scheme in SCHEMES:
        async with _connected(scheme, urls, directory) as stream:
            await stream.send_all(b"e")
            found[scheme, "us"] = await _timed(lambda stream=stream: _ask(stream)) / CALLS * 1e6
        async with _connected(scheme, urls, directory) as stream:
            await stream.send_all(b"u")
            found[scheme, "up"] = BULK / MiB / await _timed(lambda stream=stream: _send_and_wait(stream))
        async with _connected(scheme, urls, directory) as stream:
            await stream.send_all(b"d")
            found[scheme, "down"] = BULK / MiB / await _timed(lambda stream=stream: _receive(stream, BULK))
        found[scheme, "ms"] = await _timed(lambda scheme=scheme: _open(scheme, urls, directory)) / OPENED * 1e3
    port = int(urls["node"].rpartition(":")[2])
    found["bare", "ms"] = await _timed(lambda: _open_barely(port)) / OPENED * 1e3
    async with gw.open_node(Config(node=NodeSection(name="near"))) as node:
        found["link", "ms"] = await _timed(lambda: _open_links(node, urls["node"])) / OPENED * 1e3
    return found


async def _timed(task: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    await task()
    return time.perf_counter() - start


async def _ask(stream: trio.abc.Stream) -> None:
    question = bytes(64)
    for _ in range(CALLS):
        await stream.send_all(question)
        await _receive(stream, len(question))


async def _send_and_wait(stream: trio.abc.Stream) -> None:
    await _send(stream)
    await stream.receive_some(1)


async def _open(scheme: str, urls: dict[str, str], directory: Path) -> None:
    for _ in range(OPENED):
        async with _connected(scheme, urls, directory):
            pass


async def _open_barely(port: int) -> None:
    for _ in range(OPENED):
        socket.create_connection(("127.0.0.1", port)).close()


async def _open_links(node: gw.Node, url: str) -> None:
    for _ in range(OPENED):
        async with node.link(url):
            pass


# -- the report


def report(rounds: Sequence[dict[tuple[str, str], float]]) -> list[str]:
    """The medians of all rounds, and of the ratios within each."""
    lines = [
        "| pipe | there and back | to tcp | up | to tcp | down | to tcp | opened in |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for scheme in SCHEMES:
        cells = [scheme]
        for what, unit in (("us", "us"), ("up", "MiB/s"), ("down", "MiB/s")):
            values = [found[scheme, what] for found in rounds]
            ratios = [found[scheme, what] / found["tcp", what] for found in rounds]
            cells += [f"{median(values):.0f} {unit}", f"{median(ratios):.2f}x"]
        cells.append(f"{median(found[scheme, 'ms'] for found in rounds):.2f} ms")
        lines.append(f"| {' | '.join(cells)} |")
    more = median(found["link", "ms"] - found["bare", "ms"] for found in rounds)
    bare, link = (median(found[kind, "ms"] for found in rounds) for kind in ("bare", "link"))
    reached = "yes" if more < MOST_TO_OPEN else "no"
    lines += [
        "",
        f"A link over tcp is up in {link:.2f} ms, a bare connection in {bare:.2f} ms: {more:.2f} ms more (at most {MOST_TO_OPEN:g}: {reached}).",
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
