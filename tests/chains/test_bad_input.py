"""Whatever a user, a stranger or a second node does wrong: one clear error in time, and everybody else goes on."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock

import rpyc_gateway as gw
from rpyc_gateway.config import Config, Listen, NodeSection
from rpyc_gateway.gateway import open_node
from rpyc_gateway.proto.frames import FrameType
from rpyc_gateway.transport import Pipe, find_transport
from tests.chains.processes import LOOPBACK, RPYC_GW, House, Process, connect_when_up, dial, listen, open_house, serve

BOUND = 5.0  # seconds until whoever did it has heard; most hear at once
NOBODY = "uid:4294967294"


class Bystander(threading.Thread):
    """Uses the lab through hq all the while."""

    def __init__(self, conn: gw.BlockingSession) -> None:
        super().__init__(daemon=True)
        self.calls = 0
        self.error: BaseException | None = None
        self._conn = conn
        self._over = threading.Event()

    def run(self) -> None:
        try:
            while not self._over.is_set():
                assert self._conn.ping(self.calls) == self.calls
                self.calls += 1
        except BaseException as error:  # noqa: BLE001  # `end` tells it
            self.error = error

    def end(self) -> None:
        self._over.set()
        self.join(BOUND)
        assert not self.is_alive(), "the bystander is stuck"
        assert self.error is None
        assert self.calls > 0


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """hq - lab; hq has another link to keep up, to where nobody listens."""
    with open_house() as house:
        lab = house.start("lab", listen(LOOPBACK) + serve())
        hq = house.start("hq", listen(LOOPBACK) + dial(lab.url) + dial(nobody_listens()) + serve(to=NOBODY))
        connect_when_up(hq.url, "lab").close()
        yield house


@pytest.fixture
def hq(house: House) -> Iterator[Process]:
    hq = house.processes[1]
    with gw.connect(hq.url, node="lab", name="bystander") as conn:
        bystander = Bystander(conn)
        bystander.start()
        yield hq
        bystander.end()


def nobody_listens() -> str:
    """A URL that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"


# -- what a user asks for


def test_an_unknown_node_is_named_by_the_node_that_does_not_know_it(hq: Process) -> None:
    with pytest.raises(gw.Unreachable, match="hq knows no way to 'labb'") as blocking:
        gw.connect(hq.url, node="labb")
    assert blocking.value.hop == "hq"
    with pytest.raises(gw.Unreachable, match="'bastion', which this circuit must pass"):
        gw.connect(hq.url, node="lab", via=["bastion"])


async def test_an_unknown_node_is_an_error_in_trio_code_too(hq: Process) -> None:
    with trio.fail_after(BOUND), pytest.raises(gw.Unreachable, match="hq knows no way to 'labb'"):
        async with gw.open_session(hq.url, node="labb"):
            pytest.fail("there is no such node")


def test_a_service_is_refused_with_the_reason(hq: Process) -> None:
    with pytest.raises(gw.Denied, match=rf"hq does not let .* use 'classic': it is allowed to {NOBODY}") as denied:
        gw.connect(hq.url)
    assert denied.value.hop == "hq"
    with pytest.raises(gw.NoService, match=r"lab does not serve 'clasic' \(it serves: .*classic") as unknown:
        gw.connect(hq.url, node="lab", service="clasic")
    assert unknown.value.hop == "lab"
    with pytest.raises(gw.Denied, match=r"hq does not let .* use 'dial'"):
        gw.connect([hq.url, "tcp://127.0.0.1:1"])


async def test_a_service_is_refused_in_trio_code_too(hq: Process) -> None:
    with trio.fail_after(BOUND), pytest.raises(gw.NoService, match="lab does not serve 'clasic'"):
        async with gw.open_session(hq.url, node="lab", service="clasic"):
            pytest.fail("there is no such service")


def test_a_link_that_cannot_be_made_is_an_error_here_and_a_row_in_the_list_of_nodes(hq: Process) -> None:
    url = nobody_listens()
    with pytest.raises(gw.DialFailed, match=url.removeprefix("tcp://")):
        gw.connect(url, node="lab")
    with gw.connect(hq.url, service="node") as conn:
        (dead,) = [node for node in conn.root.nodes() if not node[0]]
        assert "refused" in dead[4]


def test_the_command_line_says_it_in_one_line(hq: Process) -> None:
    told = subprocess.run(
        (*RPYC_GW, "eval", "--url", hq.url, "labb", "1"), capture_output=True, text=True, timeout=20, check=False
    )
    assert (told.returncode, told.stdout) == (69, "")
    assert told.stderr.startswith("rpyc-gw: hq knows no way to 'labb'")
    assert told.stderr.count("\n") == 1


# -- what strangers say at a listener


def say(url: str, *words: bytes) -> bytes:
    """Say this to a listener and hear it out, until it hangs up."""
    host, port = url.removeprefix("tcp://").split(":")
    heard = b""
    with socket.create_connection((host, int(port)), timeout=BOUND) as peer:
        for word in words:
            peer.sendall(word)
        peer.shutdown(socket.SHUT_WR)
        while more := peer.recv(65536):
            heard += more
    return heard


def test_a_browser_is_answered_in_its_own_tongue(hq: Process) -> None:
    answer = say(hq.url, b"GET / HTTP/1.1\r\nHost: hq\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"rpyc" in answer
    hq.wait_line("no link with a stranger .*HTTP", within=BOUND)


@pytest.mark.parametrize(
    "noise",
    [
        os.urandom(100_000),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(400),
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x01\x00\xff\xffRPGW" + bytes(65535),
        b"\x01\x00\x00\x04RPGW\xc1\xc1\xc1\xc1",
    ],
    ids=["noise", "tls", "ssh", "too long", "no map"],
)
def test_garbage_is_answered_by_an_error_and_the_end(noise: bytes, hq: Process) -> None:
    answer = say(hq.url, noise)
    assert answer[0] == FrameType.ERROR
    failure = msgspec.msgpack.decode(answer[8:])
    assert failure["code"] == gw.ProtocolError.code
    assert failure["hop"] == "hq"
    assert failure["text"]


def test_half_a_hello_and_good_bye_bothers_nobody(hq: Process) -> None:
    say(hq.url, b"\x01\x00\x00\x40RPGW\x81\xa4na")
    say(hq.url)


# -- who answers where a node should


@contextmanager
def stranger(answer: bytes) -> Iterator[str]:
    """The URL of a server that says this to one caller, and hangs up when the caller does."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            caller, _ = server.accept()
            with caller:
                caller.sendall(answer)
                while caller.recv(65536):
                    continue

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        thread.join(BOUND)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", os.urandom(1000)]
)
def test_a_server_of_something_else_is_told_apart_at_once(answer: bytes, hq: Process) -> None:
    with stranger(answer) as url, pytest.raises(gw.GatewayError, match=url.removeprefix("tcp://")) as error:
        gw.connect(url, node="lab")
    assert isinstance(error.value, gw.ProtocolError | gw.DialFailed)


# -- silence, in virtual time: it takes ten seconds to be sure


async def test_who_says_nothing_is_sent_away(autojump_clock: MockClock) -> None:
    node = Config(node=NodeSection(name="hq"), listen=(Listen(url="memory://hq"),))
    async with open_node(node), gw.open_session("memory://hq", service="node") as bystander:
        began = trio.current_time()
        async with find_transport("memory://hq").connect("memory://hq") as pipe:
            assert await pipe.stream.receive_some() == b""  # not a word, before it knows in which tongue
            assert 5 < trio.current_time() - began < 15
            assert await bystander.ping("still here?") == "still here?"


async def test_a_server_that_says_nothing_is_given_up(autojump_clock: MockClock) -> None:
    async def say_nothing(_: Pipe) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(find_transport("memory://mute").serve, "memory://mute", say_nothing)
        with pytest.raises(gw.DialFailed, match="memory://mute"):
            async with gw.open_session("memory://mute"):
                pytest.fail("a session with a wall")
        assert 5 < trio.current_time() < 15
        nursery.cancel_scope.cancel()


# -- a second node of one name


def test_a_second_lab_is_refused_by_naming_both_addresses_and_the_first_one_stays(hq: Process, house: House) -> None:
    with open_house() as elsewhere, gw.connect(hq.url, node="lab") as conn:
        pid = conn.modules.os.getpid()
        second = elsewhere.start("lab", dial(hq.url) + serve())
        told = second.wait_line("hq already has a live link with a node named 'lab'.*", within=BOUND + 5)[0]
        assert house.processes[0].url.removeprefix("tcp://") in told
        assert told.count("127.0.0.1:") >= 2
        assert conn.modules.os.getpid() == pid
        with gw.connect(hq.url, node="lab") as again:
            assert again.modules.os.getpid() == pid
