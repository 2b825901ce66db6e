"""Callers who say anything at all to a listener of a node: they are sent away, nothing of them is left, and others are served meanwhile."""

from __future__ import annotations

import errno
import json
import logging
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import rpyc_gateway as gw
from rpyc_gateway.config import Config, Listen, NodeSection
from rpyc_gateway.testing import BadLine
from rpyc_gateway.testing.leftovers import Belongings
from rpyc_gateway.transport import find_transport
from tests.chains.processes import RPYC_GW
from tests.fuzz.targets import VECTORS, seeds
from tests.house import CLASSIC, open_house
from tests.transports.authority import Authority

CALLERS_HAVE = 30.0  # virtual seconds until the last of them must be gone: a link that answers no PING lives for 20

HELLOS = [data for data in seeds() if data[4:8] == b"RPGW"]

frames = st.builds(
    lambda kind, label, payload: bytes([kind, 0]) + len(payload).to_bytes(2) + label.to_bytes(4) + payload,
    st.integers(0, 20),
    st.integers(0, 5),
    st.binary(max_size=40),
)
words = st.lists(st.binary(max_size=60) | st.sampled_from(HELLOS) | frames, max_size=6)
callers = st.lists(st.tuples(words, st.sampled_from(["waits", "half-closes", "vanishes"])), min_size=1, max_size=4)


@given(callers=callers)
def test_whatever_they_say_they_are_gone_and_nobody_is_harmed(callers: list[tuple[list[bytes], str]]) -> None:
    with complaints() as logged:
        trio.run(_story, callers, clock=MockClock(autojump_threshold=0.02))  # calls are served in threads
    assert logged == []


@contextmanager
def complaints() -> Iterator[list[str]]:
    """What is logged as an error meanwhile."""
    logged: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    house = logging.getLogger("rpyc_gateway")
    house.addHandler(handler)
    try:
        yield logged
    finally:
        house.removeHandler(handler)


async def _story(callers: list[tuple[list[bytes], str]]) -> None:
    async with open_house("hq"), gw.open_session("memory://hq", node="hq") as bystander:
        assert await bystander.builtins.str(6) == "6"
        before = Belongings.now()
        with trio.fail_after(CALLERS_HAVE):
            async with trio.open_nursery() as nursery:
                for words, end in callers:
                    nursery.start_soon(_call, words, end)
                assert await bystander.builtins.str(7) == "7"
        assert await bystander.builtins.str(8) == "8"
        assert await before.what_is_more(CALLERS_HAVE) == ""


# -- real listeners


@dataclass
class Besieged:
    """A node that listens over every transport that has a port or a path, in a thread of its own, and somebody who uses it."""

    listeners: dict[str, Any]  # by scheme, what to connect a socket to
    bystander: gw.BlockingSession
    tasks: Callable[[], int]


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    folder = tmp_path_factory.mktemp("s")
    papers = Authority(folder).sign("127.0.0.1").shown()
    urls = {
        "unix": f"unix://{folder}/hq",
        "tcp": "tcp://127.0.0.1:0",
        "tls": f"tls://127.0.0.1:0?{papers}",
        "ws": "ws://127.0.0.1:0/gw",
        "wss": f"wss://127.0.0.1:0/gw?{papers}",
    }
    ready: SimpleQueue[Any] = SimpleQueue()

    async def run() -> None:
        listen = tuple(Listen(url=url) for url in urls.values())
        async with gw.open_node(Config(node=NodeSection(name="hq"), listen=listen, serve=CLASSIC)) as node:
            over = trio.Event()
            ready.put((list(node.urls), trio.lowlevel.current_trio_token(), over.set))
            await over.wait()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    bound, token, stop = ready.get()
    places: dict[str, Any] = {"unix": f"{folder}/hq"}
    for url in bound[1:]:
        scheme, port = re.fullmatch(r"(\w+)://127\.0\.0\.1:(\d+).*", url).groups()  # type: ignore[union-attr]
        places[scheme] = ("127.0.0.1", int(port))

    def tasks() -> int:
        statistics = partial(trio.from_thread.run_sync, trio.lowlevel.current_statistics, trio_token=token)
        return statistics().tasks_living

    with gw.connect(bound[0], node="hq", name="bystander") as bystander:
        yield Besieged(places, bystander, tasks)
    token.run_sync_soon(stop)
    thread.join()


UPGRADE = (
    b"GET /gw HTTP/1.1\r\nHost: hq\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: rpyc-gateway.1\r\n\r\n"
)
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(180)
openings = st.sampled_from(
    [b"", UPGRADE, UPGRADE[:40], TLS_HELLO, b"GET / HTTP/1.0\r\n\r\n", b"\x82\x7f" + b"\xff" * 8]
)


@pytest.mark.parametrize("scheme", ["unix", "tcp", "tls", "ws", "wss"])
@given(opening=openings, words=words, vanishes=st.booleans())
def test_real_listeners_send_them_away_too(
    scheme: str,
    opening: bytes,
    words: list[bytes],
    vanishes: bool,  # noqa: FBT001
    besieged: Besieged,
) -> None:
    before = besieged.tasks()
    place = besieged.listeners[scheme]
    with complaints() as logged, socket.socket(socket.AF_UNIX if scheme == "unix" else socket.AF_INET) as caller:
        caller.settimeout(15)
        caller.connect(place)
        try:
            for word in (opening, *words):
                caller.sendall(word)
            if not vanishes:
                caller.shutdown(socket.SHUT_WR)
                while caller.recv(65536):
                    continue
        except OSError as exc:
            if exc.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN):  # it has heard enough already
                raise
        if vanishes:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        caller.close()
        assert besieged.bystander.ping(5) == 5
        give_up = time.monotonic() + 15
        while besieged.tasks() > before:
            assert time.monotonic() < give_up, f"{besieged.tasks() - before} tasks are left"
            time.sleep(0.001)
    assert logged == []


# -- listeners with one caller at a time

BAUD = 4_000_000
LINE_FRAMES = [bytes.fromhex(row["hex"]) for row in json.loads((VECTORS / "line.json").read_text())]


@settings(max_examples=25)
@given(words=st.lists(st.binary(max_size=600) | st.sampled_from(LINE_FRAMES), max_size=8))
def test_a_serial_port_serves_whoever_comes_after_garbage(words: list[bytes]) -> None:
    with complaints() as logged:
        trio.run(_at_a_port, words)
    assert logged == []


async def _at_a_port(words: list[bytes]) -> None:
    with BadLine(BAUD) as line:
        lab, caller = (f"serial://{port}?baudrate={BAUD}" for port in (line.far, line.near))
        async with gw.open_node(Config(node=NodeSection(name="lab"), listen=(Listen(url=lab),), serve=CLASSIC)):
            async with find_transport(caller).connect(caller) as pipe:
                for word in words:
                    await pipe.stream.send_all(word)
            with trio.fail_after(CALLERS_HAVE):
                async with gw.open_session(caller, node="lab") as session:
                    assert await session.builtins.str(6) == "6"


@settings(max_examples=10)
@given(words=words, half_closes=st.booleans())
def test_a_node_on_its_standard_streams_ends_in_order_whatever_comes(words: list[bytes], half_closes: bool) -> None:  # noqa: FBT001
    ours, its = socket.socketpair()
    with ours:
        with its:
            command = [*RPYC_GW, "stdio", "--serve", "classic"]
            node = subprocess.Popen(command, stdin=its, stdout=its, stderr=subprocess.PIPE, text=True)
        with suppress(ConnectionError):  # it has heard enough already
            for word in words:
                ours.sendall(word)
            if half_closes:
                ours.shutdown(socket.SHUT_WR)
                while ours.recv(65536):
                    continue
    _, said = node.communicate(timeout=CALLERS_HAVE)
    assert node.returncode == 0, said
    assert "Traceback" not in said


async def _call(words: list[bytes], end: str) -> None:
    async with find_transport("memory://hq").connect("memory://hq") as pipe:
        assert isinstance(pipe.stream, trio.abc.HalfCloseableStream)
        try:
            for word in words:
                await pipe.stream.send_all(word)
            if end == "vanishes":
                return
            if end == "half-closes":
                await pipe.stream.send_eof()
            while await pipe.stream.receive_some():
                continue
        except trio.BrokenResourceError:
            return
