"""Listening on what systemd has passed; here the sockets are put where it would put them. tests/chains/test_activation.py has the real thing."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Pipe, find_transport
from rpyc_transports import passed
from rpyc_transports.passed import Passed
from rpyc_transports.systemd import SystemdTransport

systemd = SystemdTransport()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Passed]]:
    """A TCP socket named web and a unix socket named local."""
    web = socket.create_server(("127.0.0.1", 0))
    local = socket.socket(socket.AF_UNIX)
    local.bind(f"{tmp_path}/s")
    local.listen()
    given = [Passed("web", web.detach()), Passed("local", local.detach())]
    left = given.copy()
    monkeypatch.setattr(passed, "_passed", left)
    yield given
    for one in left:
        os.close(one.fileno)


async def echo(pipe: Pipe) -> None:
    async for data in pipe.stream:
        await pipe.stream.send_all(data + pipe.identity.encode()[:3])


async def test_all_that_were_passed_are_listened_on(given: list[Passed]) -> None:
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(systemd.serve, "systemd:", echo)
        assert [url.partition(":")[0] for url in urls] == ["tcp", "unix"]
        for url, answer in zip(urls, (b"hello", b"hellouid"), strict=True):
            async with find_transport(url).connect(url) as pipe:
                await pipe.stream.send_all(b"hello")
                assert await pipe.stream.receive_some() == answer
        nursery.cancel_scope.cancel()
    assert passed.passed_sockets() == []


async def test_those_of_a_name_are_taken_once(given: list[Passed]) -> None:
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(systemd.serve, "systemd:local", echo)
        assert len(urls) == 1
        with pytest.raises(ConfigError, match=r"systemd:local: .* no socket of that name \(there is: web;"):
            await systemd.serve("systemd:local", echo)
        nursery.cancel_scope.cancel()
    assert passed.passed_sockets() == [given[0]]


async def test_where_nothing_was_passed_the_error_says_how_it_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passed, "_passed", [])
    with pytest.raises(ConfigError, match=r"must be started by a socket unit; `systemd-socket-activate -l "):
        await systemd.serve("systemd:", echo)


async def test_a_connection_is_no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(passed, "_passed", [Passed("connection", ours.fileno())])
    with (
        ours,
        theirs,
        pytest.raises(ConfigError, match="has passed a connection, not a listening socket: say Accept=no"),
    ):
        await systemd.serve("systemd:", echo)


def test_it_is_private_if_all_of_it_is(monkeypatch: pytest.MonkeyPatch, given: list[Passed]) -> None:
    assert systemd.is_private("systemd:")
    with socket.create_server(("0.0.0.0", 0)) as everywhere:
        monkeypatch.setattr(passed, "_passed", [*given, Passed("out", everywhere.fileno())])
        assert not systemd.is_private("systemd:")
        assert not systemd.is_private("systemd:out")
        assert systemd.is_private("systemd:web")
    assert not systemd.is_guarded("systemd:")


def test_it_cannot_be_dialled() -> None:
    with pytest.raises(DialFailed, match="this is for listening; dial the address of its socket unit"):
        systemd.connect("systemd:web")


@pytest.mark.parametrize("url", ["systemd:", "systemd:web", "systemd:relay.socket"])
def test_urls_that_are_right(url: str) -> None:
    assert systemd.check(url) is None


@pytest.mark.parametrize("url", ["systemd:two words", "systemd:a:b", "systemd:" + "x" * 256])
def test_urls_that_are_not(url: str) -> None:
    assert systemd.check(url) == "is not of the form systemd: or systemd:NAME"
