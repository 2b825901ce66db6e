"""Strangers in great number who say nothing, little, or everything without listening: the node serves the others, and is what it was when they are gone."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.proto.frames import FrameType, Hello, encode_frame, encode_hello
from tests.chains.processes import LOOPBACK, House, Process, listen, open_house, serve, wait_idle, wait_until
from tests.chains.test_bad_input import Bystander
from tests.transports.authority import make_oneself

SILENT = 1000
MIB = 1 << 20
GONE_WITHIN = 60.0  # ten seconds of patience, and what a busy machine adds
HELLO = encode_hello(Hello(name="stranger", vat=bytes(16), epoch=1, announce=False, routes=False))
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: hq\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Protocol: rpyc-gateway.1\r\n\r\n"
)
BASE = 40  # descriptors of a node that nobody uses: trio's, the listeners', a client's link, the parent's


@dataclass
class Besieged:
    """A node with a listener of each kind, and how strangers come to each."""

    process: Process
    urls: dict[str, str]
    pin: str

    def knock(self, kind: str) -> socket.socket:
        """A connection, and nothing said on it."""
        if kind == "unix":
            stranger = socket.socket(socket.AF_UNIX)
            stranger.connect(self.urls[kind].removeprefix("unix://"))
        else:
            host, _, port = self.urls[kind].partition("://")[2].rstrip("/").partition(":")
            stranger = socket.create_connection((host, int(port)))
        stranger.settimeout(GONE_WITHIN)
        return stranger

    def come_in(self, kind: str) -> socket.socket:
        """The same, past the handshake of the transport."""
        stranger = self.knock(kind)
        if kind in ("tls", "wss"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            stranger = context.wrap_socket(stranger)
        if kind in ("ws", "wss"):
            stranger.sendall(UPGRADE)
            assert stranger.recv(65536).startswith(b"HTTP/1.1 101 ")
        return stranger

    def connect(self, kind: str) -> gw.BlockingSession:
        """A user who comes in the middle of it."""
        return gw.connect(self.urls[kind] + (f"?pin={self.pin}" if kind in ("tls", "wss") else ""))

    @property
    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


KINDS = ("tcp", "tls", "ws", "wss", "unix")


def start(house: House, *, inside: tuple[str, ...] = ()) -> Besieged:
    papers = make_oneself(house.directory, "hq")
    plain = (LOOPBACK, "ws://127.0.0.1:0", house.socket("hq"))
    at = (*plain, *(f"{scheme}://127.0.0.1:0?{papers.shown()}" for scheme in ("tls", "wss")))
    process = house.start("hq", "".join(map(listen, at)) + serve(), inside=inside)
    urls = {kind: process.wait_line(rf"listening on ({kind}://\S+)")[1] for kind in KINDS}
    return Besieged(process, urls, papers.pin)


@pytest.fixture(scope="module")
def the_node() -> Iterator[Besieged]:
    with open_house() as house:
        yield start(house)


@pytest.fixture
def node(the_node: Besieged) -> Iterator[Besieged]:
    """It serves a bystander all the while."""
    with the_node.connect("unix") as conn:
        bystander = Bystander(conn)
        bystander.start()
        yield the_node
        bystander.end()


@pytest.fixture(scope="module", autouse=True)
def _many_files() -> Iterator[None]:
    """The strangers are all in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = len(KINDS) * SILENT + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"this process may have no more than {hard} files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def is_gone(stranger: socket.socket) -> bool:
    """Wait until the node has closed it."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while stranger.recv(65536):
            continue
    return True


class Drip(threading.Thread):
    """Says something one byte after the other, as slowly as can be, until it is sent away."""

    def __init__(self, stranger: socket.socket, words: bytes) -> None:
        super().__init__(daemon=True)
        self.stranger = stranger
        self.words = words

    def run(self) -> None:
        with contextlib.suppress(OSError):
            for byte in self.words:
                self.stranger.send(bytes((byte,)))
                self.stranger.settimeout(1.0)
                with contextlib.suppress(TimeoutError):
                    if not self.stranger.recv(65536):
                        return
            self.stranger.settimeout(GONE_WITHIN)
            is_gone(self.stranger)


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="hq")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def said(kind: str, words: bytes) -> bytes:
    """How words for a link are put by this transport: in a WebSocket as a message, whose mask is 0."""
    return words if kind not in ("ws", "wss") else b"\x82\xff" + len(words).to_bytes(8, "big") + bytes(4) + words


def start_drips(node: Besieged, stack: contextlib.ExitStack) -> list[Drip]:
    """A hundred at each listener with what is right there, and some with something else."""
    right = {"tcp": HELLO, "unix": HELLO, "tls": client_hello(), "ws": UPGRADE, "wss": client_hello()}
    request = b"GET / HTTP/1.1\r\nHost: hq\r\n\r\n"
    drips = [Drip(stack.enter_context(node.knock(kind)), words) for kind, words in right.items() for _ in range(100)]
    drips += [Drip(stack.enter_context(node.knock(kind)), request) for kind in KINDS]
    drips += [Drip(stack.enter_context(node.come_in(kind)), said(kind, HELLO)) for kind in ("tls", "ws", "wss")]
    for drip in drips:
        drip.start()
    return drips


@pytest.mark.slow
def test_thousands_who_say_nothing_or_a_byte_a_second_keep_nobody_out_and_are_closed_in_time(node: Besieged) -> None:
    memory, files = node.process.memory, node.files
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        drips = start_drips(node, stack)
        silent = [stack.enter_context(node.knock(kind)) for kind in KINDS for _ in range(SILENT)]
        for kind in KINDS:
            with node.connect(kind) as conn:
                assert conn.ping(kind) == kind
        assert node.process.memory - memory < 64 * MIB
        assert all(map(is_gone, silent))
        for drip in drips:
            drip.join(GONE_WITHIN)
            assert not drip.is_alive()
        assert time.monotonic() - began < GONE_WITHIN
    trio.run(wait_until, lambda: node.files <= files + 2)
    assert node.process.memory - memory < 64 * MIB


def is_cut(stranger: socket.socket, words: bytes) -> bool:
    """Whether the node takes no more of these in the end."""
    began = time.monotonic()
    while time.monotonic() - began < GONE_WITHIN:
        try:
            stranger.sendall(words)
        except OSError:
            return True
    return False


def test_whoever_speaks_without_listening_is_cut_before_it_costs_much(node: Besieged) -> None:
    memory = node.process.memory
    pings = encode_frame(FrameType.PING, 0, bytes(8)) * 4096

    def speak(kind: str) -> bool:
        with node.come_in(kind) as stranger:
            stranger.sendall(said(kind, HELLO))
            assert stranger.recv(65536)
            stranger.settimeout(GONE_WITHIN)
            return is_cut(stranger, said(kind, pings))

    with ThreadPoolExecutor(len(KINDS)) as threads:
        assert all(threads.map(speak, KINDS))
    told = [line for line in node.process.lines if "bytes of answers wait for a peer that does not read them" in line]
    assert len(told) == len(KINDS)
    assert node.process.memory - memory < len(KINDS) * 32 * MIB


@pytest.mark.parametrize("kind", KINDS)
async def test_callers_who_come_and_go_at_once_leave_nothing_behind(node: Besieged, kind: str) -> None:
    files, memory = node.files, node.process.memory
    for number in range(2000):
        with node.knock(kind) as stranger:
            if number % 2:
                stranger.send(b"\x16" if kind in ("tls", "wss") else HELLO[:5])
    await wait_until(lambda: node.files <= files + 2)
    assert node.process.memory - memory < 32 * MIB


def test_a_node_without_room_for_another_file_waits_and_takes_the_next_when_there_is() -> None:
    limit = ("sh", "-c", f'ulimit -n {2 * BASE} && exec "$@"', "sh")
    with open_house() as house:
        node = start(house, inside=limit)
        with contextlib.ExitStack() as stack:
            guests = []
            for _ in range(2 * BASE):  # links, which may stay as long as they like
                guests.append(stack.enter_context(node.knock("tcp")))
                guests[-1].sendall(HELLO)
            node.process.wait_line("cannot accept a connection: Too many open files; others have to end first")
            trio.run(wait_idle, node.process)  # it does not try again and again
        with node.connect("tcp") as conn:
            assert conn.ping("at last") == "at last"
        assert len([line for line in node.process.lines if "cannot accept" in line]) == 1
