"""Internet addresses and sockets, for all transports that run on them."""

from __future__ import annotations

import errno
import re
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_transports import hosts
from rpyc_transports.hosts import OPTIONS, Address, Target, _family, dial, host_port, is_loopback, listen, read, tune
from tests.transports.test_tcp import needs_ipv6


@asynccontextmanager
async def connected(place: str, host: str) -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """A connection to `host`, at a listener at `place`; the dialled end first."""
    address = Address.parse(place)
    assert address is not None
    (listener,) = await listen(f"tcp://{place}", address)
    async with listener:
        port = listener.socket.getsockname()[1]
        async with await dial("tcp://there", Address(host, port), {}) as near, await listener.accept() as far:
            yield near, far


@needs_ipv6
@pytest.mark.parametrize("place", ["[::]:0", "*:0"])
async def test_one_listener_takes_both_kinds_of_addresses(place: str) -> None:
    async with connected(place, "127.0.0.1") as (near, far):
        assert host_port(far.socket.getpeername()) == host_port(near.socket.getsockname())
        assert is_loopback(far.socket.getpeername()[0])
    async with connected(place, "::1") as (near, far):
        assert host_port(far.socket.getpeername()) == host_port(near.socket.getsockname())


@needs_ipv6
async def test_both_kinds_beside_one_of_them_are_one_too_many() -> None:
    (listener,) = await listen("tcp://0.0.0.0:0", Address("0.0.0.0", 0))
    async with listener:
        port = listener.socket.getsockname()[1]
        with pytest.raises(
            ConfigError, match=r"address already in use: .*; this takes IPv4 too, and 0\.0\.0\.0 beside it"
        ):
            await listen(f"tcp://[::]:{port}", Address("::", port))


async def test_every_address_is_what_there_is_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    bind = hosts._bind

    async def without_ipv6(host: str, port: int) -> trio.SocketListener:
        if ":" in host:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return await bind(host, port)

    monkeypatch.setattr(hosts, "_bind", without_ipv6)
    (listener,) = await listen("tcp://*:0", Address("*", 0))
    async with listener:
        assert listener.socket.family == socket.AF_INET


async def test_every_address_cannot_be_dialled() -> None:
    with pytest.raises(DialFailed, match=r"\* is for listening, on every address of the machine; dial one of them"):
        await dial("tcp://*:1", Address("*", 1), {})


@pytest.mark.skipif(sys.platform != "linux", reason="other systems may need a moment")
async def test_a_peer_on_this_machine_has_answered_at_once_and_is_not_waited_for() -> None:
    (listener,) = await listen("tcp://127.0.0.1:0", Address("127.0.0.1", 0))
    async with listener:
        address = Address(*listener.socket.getsockname())
        with trio.testing.assert_no_checkpoints():
            near = await dial("tcp://there", address, {})
        async with near, await listener.accept() as far:
            await near.send_all(b"hello")
            assert await far.receive_some() == b"hello"
    with pytest.raises(DialFailed, match="connection refused"):
        await dial("tcp://there", address, {})


async def test_one_may_choose_the_address_to_dial_from() -> None:
    (listener,) = await listen("tcp://127.0.0.1:0", Address("127.0.0.1", 0))
    async with listener:
        port = listener.socket.getsockname()[1]
        async with await dial("tcp://127.0.0.1", Address("127.0.0.1", port), {"bind": "127.0.0.9"}) as near:
            assert near.socket.getsockname()[0] == "127.0.0.9"
    with pytest.raises(DialFailed, match="this machine has no such address"):
        await dial("tcp://127.0.0.1", Address("127.0.0.1", port), {"bind": "192.0.2.1"})


TUNED = {
    "": (20_000, True, 10, 5),
    "timeout=60": (60_000, True, 30, 15),
    "timeout=1": (1_000, True, 1, 1),
    "keepalive=120": (20_000, True, 120, 5),
    "keepalive=0": (20_000, False, 0, 0),
}


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="not every system has all of them")
@pytest.mark.parametrize(("options", "expected"), TUNED.items())
async def test_a_dead_peer_is_noticed_when_the_user_wants(options: str, expected: tuple[int, bool, int, int]) -> None:
    place = read(f"tcp://relay:1?{options}", "tcp", OPTIONS)
    assert isinstance(place, Target)
    async with connected("127.0.0.1:0", "127.0.0.1") as (near, _):
        tune(near, place.options)

        def tuned(level: int, name: int) -> int:
            return int.from_bytes(near.getsockopt(level, name, 4), "little")

        timeout, probes, idle, every = expected
        assert tuned(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == timeout
        assert bool(tuned(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is probes
        if probes:
            assert tuned(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
            assert tuned(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == every


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ("timeout=0", "the option 'timeout' is 0: at least 1 second"),
        ("timeout=soon", "the option 'timeout' is 'soon', which is no whole number"),
        ("keepalive=40000", "the option 'keepalive' is '40000': at most 32767 seconds"),
        ("bind=eth0", "the option 'bind' is 'eth0', which is no address in numbers"),
        ("time=3", "there is no option 'time' .*did you mean 'timeout'"),
    ],
)
def test_options_that_cannot_be_used(options: str, wrong: str) -> None:
    found = read(f"tcp://relay:1?{options}", "tcp", OPTIONS)
    assert isinstance(found, str)
    assert re.match(wrong, found)


PLACES: Mapping[str, Address | None] = {
    "relay:1": Address("relay", 1),
    "[::1]:1": Address("::1", 1),
    "*:1": Address("*", 1),
    "::1:1": None,
    "[relay]:1": None,
    "relay": None,
    "relay:ssh": None,
}


@pytest.mark.parametrize(("text", "address"), PLACES.items())
def test_addresses_are_a_host_and_a_port(text: str, address: Address | None) -> None:
    assert Address.parse(text) == address


def test_an_ipv4_address_in_an_ipv6_one_is_shown_as_what_it_is() -> None:
    assert host_port(("::ffff:10.0.0.7", 1, 0, 0)) == "10.0.0.7:1"
    assert host_port(("fe80::1%eth0", 1, 0, 2)) == "[fe80::1%eth0]:1"
    assert host_port(("10.0.0.7", 1)) == "10.0.0.7:1"
    assert is_loopback("::ffff:127.0.0.1")
    assert not is_loopback("::ffff:10.0.0.7")


@pytest.mark.parametrize("host", ["name\0", "0x7f.1", "127.1", "fe80::1%lo", "\udcff"])
def test_what_is_no_plain_address_is_looked_up(host: str) -> None:
    assert _family(host) is None
