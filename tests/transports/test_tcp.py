"""tcp:// over real sockets on loopback."""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe, check_url
from rpyc_transports.tcp import TcpTransport

tcp = TcpTransport()


async def echo(pipe: Pipe) -> None:
    async for data in pipe.stream:
        await pipe.stream.send_all(data)


async def ignore(_: Pipe) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def listening(url: str, handler: Handler) -> AsyncIterator[list[str]]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(tcp.serve, url, handler)
        nursery.cancel_scope.cancel()


class Names(trio.abc.HostnameResolver):
    """A name service with one entry."""

    def __init__(self, name: str, *addresses: str) -> None:
        self.name = name
        self.addresses = addresses

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        assert host == self.name.encode()
        kinds = [
            (socket.AF_INET6, (a, port, 0, 0)) if ":" in a else (socket.AF_INET, (a, port)) for a in self.addresses
        ]
        return [(family, socket.SOCK_STREAM, 6, "", sockaddr) for family, sockaddr in kinds]

    async def getnameinfo(self, *_: Any) -> Any:
        raise NotImplementedError


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def option(pipe: Pipe, level: int, name: int) -> int:
    assert isinstance(pipe.stream, trio.SocketStream)
    return int.from_bytes(pipe.stream.getsockopt(level, name, 4), "little")


async def test_both_ends_hear_each_other_and_know_who_they_are() -> None:
    heard: list[str] = []

    async def answer(pipe: Pipe) -> None:
        heard.append(pipe.peer)
        assert pipe.private
        assert pipe.identity == ""
        await echo(pipe)

    async with listening("tcp://127.0.0.1:0", answer) as (url,):
        assert re.fullmatch(r"tcp://127\.0\.0\.1:[1-9]\d+", url)
        async with tcp.connect(url) as pipe:
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"
            assert f"tcp://{pipe.peer}" == url
            assert pipe.private
            assert isinstance(pipe.stream, trio.SocketStream)
            host, port = pipe.stream.socket.getsockname()
            assert heard == [f"{host}:{port}"]


async def test_a_dead_peer_is_noticed_by_the_kernel_and_small_frames_leave_at_once() -> None:
    async with listening("tcp://127.0.0.1:0", ignore) as (url,), tcp.connect(url) as pipe:
        assert option(pipe, socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert option(pipe, socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert option(pipe, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert option(pipe, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10


@needs_ipv6
async def test_ipv6_addresses_are_in_brackets_both_ways() -> None:
    async with listening("tcp://[::1]:0", echo) as (url,):
        assert re.fullmatch(r"tcp://\[::1\]:[1-9]\d+", url)
        async with tcp.connect(url) as pipe:
            assert f"tcp://{pipe.peer}" == url
            assert pipe.private


@pytest.mark.parametrize("host", ["0.0.0.0", pytest.param("[::]", marks=needs_ipv6)])
async def test_all_addresses_of_the_machine_can_be_listened_on(host: str) -> None:
    async with listening(f"tcp://{host}:0", echo) as (url,):
        assert url.startswith(f"tcp://{host}:")
        async with tcp.connect(url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")):
            pass


@needs_ipv6
async def test_a_name_is_listened_on_at_all_its_addresses() -> None:
    trio.socket.set_custom_hostname_resolver(Names("relay", "127.0.0.1", "::1", "127.0.0.1"))
    async with listening("tcp://relay:0", echo) as urls:
        assert [url.rpartition(":")[0] for url in urls] == ["tcp://127.0.0.1", "tcp://[::1]"]
        for url in urls:
            async with tcp.connect(url):
                pass


async def test_an_address_that_this_machine_lacks_is_left_out_while_the_name_has_another() -> None:
    trio.socket.set_custom_hostname_resolver(Names("relay", "192.0.2.1", "127.0.0.1"))
    async with listening("tcp://relay:0", echo) as urls:
        assert [url.rpartition(":")[0] for url in urls] == ["tcp://127.0.0.1"]


async def test_listening_where_somebody_listens_says_so_and_what_to_do() -> None:
    async with listening("tcp://127.0.0.1:0", echo) as (url,):
        with pytest.raises(ConfigError, match=re.escape(f"{url}: address already in use: stop the program")) as caught:
            await tcp.serve(url, echo)
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EADDRINUSE


async def test_a_second_address_in_use_takes_the_first_one_down_again() -> None:
    before = open_files()
    with socket.socket() as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        port = taken.getsockname()[1]
        trio.socket.set_custom_hostname_resolver(Names("relay", "127.0.0.1", "127.0.0.2"))
        with pytest.raises(ConfigError, match="already in use"):
            await tcp.serve(f"tcp://relay:{port}", echo)
    assert open_files() == before


@pytest.mark.parametrize("option", ["bind=127.0.0.1", "proxy=http://me:hunter2@p:1"])
async def test_what_is_for_dialling_alone_is_no_option_of_a_listener(option: str) -> None:
    url = f"tcp://127.0.0.1:0?{option}"
    assert "is for dialling" in (check_url(url, listening=True) or "")
    assert check_url(url) is None
    with pytest.raises(ConfigError, match="is for dialling") as caught:
        await tcp.serve(url, echo)
    assert "hunter2" not in str(caught.value)


async def test_listening_on_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tcp://192\.0\.2\.1:0: this machine has no such address"):
        await tcp.serve("tcp://192.0.2.1:0", echo)


@pytest.mark.parametrize("url", ["tcp://no-such-host.invalid:1", "tcp://two..dots:1"])
async def test_a_name_that_cannot_be_resolved_is_said_to_be_one(url: str) -> None:
    with pytest.raises(DialFailed, match=f"^{re.escape(url)}: the name cannot be resolved: "):
        async with tcp.connect(url):
            pass
    with pytest.raises(ConfigError, match=f"^{re.escape(url)}: the name cannot be resolved: "):
        await tcp.serve(url, echo)


async def test_a_refused_connection_says_so() -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(DialFailed) as caught:
        async with tcp.connect(url):
            pass
    assert str(caught.value) == f"{url}: connection refused: is the node running, and is this its port?"


@needs_ipv6
async def test_an_address_in_numbers_is_dialled_without_looking_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(*_: object) -> None:
        pytest.fail("it was looked up")

    async with listening("tcp://127.0.0.1:0", echo) as (url,):
        monkeypatch.setattr(trio, "open_tcp_stream", look_up)
        async with tcp.connect(url) as pipe:
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"


async def test_several_addresses_that_fail_alike_give_one_sentence() -> None:
    trio.socket.set_custom_hostname_resolver(Names("relay", "::1", "127.0.0.1"))
    url = f"tcp://relay:{free_port()}"
    with pytest.raises(DialFailed) as caught:
        async with tcp.connect(url):
            pass
    assert str(caught.value) == f"{url}: connection refused: is the node running, and is this its port?"


async def test_no_answer_is_given_up_after_ten_seconds(autojump_clock: trio.testing.MockClock) -> None:
    # A listener whose queue is full drops what knocks.
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.settimeout(0)
            waiting.connect_ex(full.getsockname())
        start = trio.current_time()
        with pytest.raises(DialFailed, match="no answer within 10 s: is the machine up, and does a firewall"):
            async with tcp.connect(f"tcp://127.0.0.1:{full.getsockname()[1]}"):
                pass
        assert trio.current_time() - start == 10


async def test_a_dial_that_is_cancelled_leaves_nothing_open(autojump_clock: trio.testing.MockClock) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.settimeout(0)
            waiting.connect_ex(full.getsockname())
        before = open_files()
        with trio.move_on_after(1) as scope:
            async with tcp.connect(f"tcp://127.0.0.1:{full.getsockname()[1]}"):
                pass
        assert scope.cancelled_caught
        assert open_files() == before


async def test_a_connection_that_meets_itself_is_a_refused_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async def simultaneous_open(*_: object) -> trio.SocketStream:
        raw = socket.socket()
        raw.bind(("127.0.0.1", 0))
        raw.connect(raw.getsockname())
        return trio.SocketStream(trio.socket.from_stdlib_socket(raw))

    monkeypatch.setattr("rpyc_transports.hosts._open", simultaneous_open)
    with pytest.raises(DialFailed, match="connection refused"):
        async with tcp.connect("tcp://127.0.0.1:40000"):
            pass


async def test_any_thread_sends_without_waiting() -> None:
    async with listening("tcp://127.0.0.1:0", echo) as (url,), tcp.connect(url) as pipe:
        assert pipe.send_nowait is not None
        assert await trio.to_thread.run_sync(pipe.send_nowait, b"hello") == 5
        assert await pipe.stream.receive_some() == b"hello"


async def test_a_caller_that_resets_before_it_is_accepted_disturbs_nobody() -> None:
    async with listening("tcp://127.0.0.1:0", echo) as (url,):
        port = int(url.rpartition(":")[2])
        with socket.socket() as rude:
            rude.connect(("127.0.0.1", port))
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with tcp.connect(url) as pipe:
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"


async def test_a_handler_that_fails_is_logged_and_stops_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def fragile(pipe: Pipe) -> None:
        if await pipe.stream.receive_some() == b"fail":
            raise ZeroDivisionError("as asked")
        await pipe.stream.send_all(b"fine")

    async with listening("tcp://127.0.0.1:0", fragile) as (url,), tcp.connect(url) as one, tcp.connect(url) as other:
        await one.stream.send_all(b"fail")
        assert await one.stream.receive_some() == b""
        await other.stream.send_all(b"work")
        assert await other.stream.receive_some() == b"fine"
    assert "as asked" in caplog.text


async def test_nothing_is_left_open_afterwards() -> None:
    before = open_files()
    async with listening("tcp://127.0.0.1:0", ignore) as (url,):
        async with tcp.connect(url), tcp.connect(url):
            assert open_files() > before
    assert open_files() == before


PRIVATE = {
    "tcp://127.0.0.1:1": True,
    "tcp://127.8.9.1:1": True,
    "tcp://[::1]:1": True,
    "tcp://localhost:1": True,
    "tcp://LocalHost:1": True,
    "tcp://0.0.0.0:1": False,
    "tcp://[::]:1": False,
    "tcp://10.0.0.7:1": False,
    "tcp://relay:1": False,
    "tcp://localhost.example:1": False,
    "tcp://localhost..:1": False,
    "tcp:127.0.0.1": False,
}


@pytest.mark.parametrize(("url", "private"), PRIVATE.items())
def test_only_loopback_addresses_are_private(url: str, *, private: bool) -> None:
    assert tcp.is_private(url) is private


def test_another_name_is_not_private_even_if_it_is_loopback_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", 1))])
    assert tcp.is_private("tcp://localhost:1")
    assert not tcp.is_private("tcp://relay:1")


def test_localhost_that_is_another_machine_somehow_is_not_private(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> Sequence[tuple[object, ...]]:
        return [(2, 1, 6, "", ("127.0.0.1", 1)), (2, 1, 6, "", ("10.0.0.7", 1))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert not tcp.is_private("tcp://localhost:1")


@pytest.mark.parametrize("url", ["tcp://relay:18860", "tcp://[fe80::1%eth0]:1", "TCP://10.0.0.7:0/"])
def test_urls_that_can_be_used(url: str) -> None:
    assert tcp.check(url) is None


@pytest.mark.parametrize(
    "url",
    [
        *(
            "tcp:",
            "tcp://relay",
            "tcp://:18860",
            "tcp://[relay]:1",
            "tcp://::1:1",
            "tcp://relay:ssh",
            "tcp://me@relay:1",
        ),
        *("tcp://relay:1/path", "tcp://re lay:1", "unix://relay:1"),
    ],
)
async def test_urls_that_cannot_be_used_are_refused_before_anything_is_tried(url: str) -> None:
    assert "is not of the form tcp://host:port" in (tcp.check(url) or "")
    with pytest.raises(DialFailed, match="is not of the form tcp://host:port"):
        async with tcp.connect(url):
            pass
    with pytest.raises(ConfigError, match="is not of the form tcp://host:port"):
        await tcp.serve(url, echo)


@pytest.mark.parametrize("option", ["bind=127.0.0.1", "proxy=http://user:secret@proxy"])
async def test_nobody_listens_with_what_is_for_dialling(option: str) -> None:
    url, name = f"tcp://127.0.0.1:0?{option}", option.partition("=")[0]
    assert tcp.check(url) is None
    assert tcp.check_listener(url) == f"the option {name!r} is for dialling"
    with pytest.raises(ConfigError, match="is for dialling") as caught:
        await tcp.serve(url, echo)
    assert "secret" not in str(caught.value)


async def test_ports_have_a_range_and_zero_is_for_listening() -> None:
    assert tcp.check("tcp://relay:70000") == "port 70000 is not in 0..65535"
    with pytest.raises(DialFailed, match="port 0 is for listening"):
        async with tcp.connect("tcp://127.0.0.1:0"):
            pass
