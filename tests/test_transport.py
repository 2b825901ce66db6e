"""Transports are found by the scheme of a URL, among what is installed."""

from __future__ import annotations

import socket
import sys
from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from rpyc_gateway import transport
from rpyc_gateway.errors import ConfigError
from rpyc_gateway.transport import (
    Pipe,
    Place,
    Transport,
    close_at_once,
    find_places,
    find_transport,
    handle,
    without_secrets,
)
from rpyc_transports.memory import memory_streams
from rpyc_transports.tcp import TcpTransport


class Broken:
    """A plug-in that fails when it is made."""

    def __init__(self) -> None:
        raise RuntimeError("no driver for this machine")


def installed(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    entries = EntryPoints(EntryPoint(name.rstrip("_"), value, transport.GROUP) for name, value in values.items())
    monkeypatch.setattr(transport, "entry_points", lambda: entries)
    monkeypatch.setattr(transport, "_found", {})


@pytest.mark.parametrize("scheme", ["tcp", "tls", "ws", "wss", "unix", "stdio", "memory", "serial", "rfc2217"])
def test_the_built_in_transports_come_through_the_same_door_as_others(scheme: str) -> None:
    found = find_transport(f"{scheme}:whatever")
    assert isinstance(found, Transport)


class Lookout(TcpTransport):
    """A transport that looks around."""

    def places(self) -> list[Place]:
        return [Place("look://here", "here", {"product": "a tree"})]


class Blind(Lookout):
    def places(self) -> list[Place]:
        raise OSError("nothing can be seen from here")


def test_what_transports_see_around_them_is_found_and_one_that_cannot_look_hides_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in (Lookout, Blind, Broken):
        monkeypatch.setattr("rpyc_transports.tcp." + kind.__name__, kind, raising=False)
    installed(
        monkeypatch,
        blind="rpyc_transports.tcp:Blind",
        broken="rpyc_transports.tcp:Broken",
        look="rpyc_transports.tcp:Lookout",
        tcp="rpyc_transports.tcp:TcpTransport",
    )
    assert find_places() == [Place("look://here", "here", {"product": "a tree"})]
    assert "nothing can be seen from here" in caplog.text
    assert "no driver for this machine" in caplog.text


def test_a_transport_is_sought_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []
    entries = transport.entry_points()
    monkeypatch.setattr(transport, "entry_points", lambda: searches.append(1) or entries)
    monkeypatch.setattr(transport, "_found", {})
    assert find_transport("tcp://relay:1") is find_transport("TCP://hq:2")
    assert len(searches) == 1


def test_what_was_not_found_is_sought_again_it_may_be_installed_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(ConfigError, match="no transport 'tcp' is installed"):
        find_transport("tcp://relay:1")
    installed(monkeypatch, tcp="rpyc_transports.tcp:TcpTransport")
    assert isinstance(find_transport("tcp://relay:1"), TcpTransport)


def test_the_scheme_may_be_in_capitals() -> None:
    assert isinstance(find_transport("TCP://relay:1"), TcpTransport)


def test_an_unknown_scheme_is_answered_by_the_list_of_those_that_are_installed() -> None:
    with pytest.raises(
        ConfigError, match=r"^carrier://pigeon: no transport 'carrier' is installed .*stdio:, .*tcp:, .*unix:"
    ):
        find_transport("carrier://pigeon")


@pytest.mark.parametrize("url", ["relay:18860", "10.0.0.7:18860"])
def test_a_url_without_scheme_gets_a_hint(url: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean tcp://{url}?"):
        find_transport(url)


def test_no_url_at_all_is_said_to_be_none() -> None:
    with pytest.raises(ConfigError, match=r"^relay: a URL starts with the name of a transport"):
        find_transport("relay")


def test_a_broken_plug_in_is_named_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, broken=f"{__name__}:Broken", missing="no_such_package_here:Transport")
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Broken=Broken))  # the tests are no package
    with pytest.raises(
        ConfigError, match=r"broken:x: the transport .*Broken cannot be loaded: RuntimeError: no driver"
    ):
        find_transport("broken:x")
    with pytest.raises(ConfigError, match=r"no_such_package_here:Transport cannot be loaded: ModuleNotFoundError"):
        find_transport("missing:x")


def test_a_plug_in_that_is_no_transport_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, wrong="collections:OrderedDict")
    with pytest.raises(
        ConfigError,
        match=r"collections:OrderedDict is not a transport: it lacks check, connect, is_guarded, is_private, serve",
    ):
        find_transport("wrong:x")


def test_two_packages_that_claim_one_scheme_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, tcp="rpyc_transports.tcp:TcpTransport", tcp_="somebody.elses:Transport")
    with pytest.raises(ConfigError, match=r"claims tcp: rpyc_transports.tcp:TcpTransport and somebody.elses:Transport"):
        find_transport("tcp://relay:1")


async def test_a_handler_closes_its_stream_however_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(_: Pipe) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ZeroDivisionError("as asked")

    near, far = memory_streams()
    await handle(Pipe(near, "somebody"), fail)
    assert await far.receive_some() == b""
    assert "the handler of the pipe from somebody failed" in caplog.text
    assert "as asked" in caplog.text


async def test_a_handler_that_is_cancelled_is_not_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def wait(_: Pipe) -> None:
        await trio.sleep_forever()

    near, far = memory_streams()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle, Pipe(near, "somebody"), wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await far.receive_some() == b""
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("tpc://host:1", "did you mean tcp:?"),
        ("stido:ssh x", "did you mean stdio:?"),
        ("https://host/path", "did you mean wss:?"),
        ("ssh://ops@host", "did you mean stdio:ssh user@host rpyc-gw stdio?"),
    ],
)
def test_a_scheme_that_is_nearly_right_is_guessed(url: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_transport(url)
    assert hint in str(caught.value)


TOLD = {
    "tcp://relay:18860": "tcp://relay:18860",
    "ws://me:secret@relay/x": "ws://***@relay/x",
    "ws://me:sec/r@et@relay/x": "ws://***@relay/x",
    "ws://relay/?ping=5&proxy=http://me:secret@p:1&timeout=3": "ws://relay/?ping=5&proxy=***&timeout=3",
    "ws://relay/?proxy=http%3A%2F%2Fme%3Asecret%40p": "ws://relay/?proxy=***",
    "wss://relay/?proxy=direct&header=X-Token:%20secret": "wss://relay/?proxy=direct&header=***",
    "tcp://relay:1?proxy=direct:secret@p": "tcp://relay:1?proxy=***",
    "tls://relay:1?key_password=secret&key_password_file=/x": "tls://relay:1?key_password=***&key_password_file=/x",
    "wss://relay/?header=X:secret?more&ca=/x": "wss://relay/?header=***&ca=/x",
    "stdio:ssh ops@bastion rpyc-gw stdio": "stdio:ssh ops@bastion rpyc-gw stdio",
    "unix:///run/gw@home.sock": "unix:///run/gw@home.sock",
    "unix:@gw": "unix:@gw",
    "": "",
}


@pytest.mark.parametrize(("url", "told"), TOLD.items())
def test_what_is_secret_in_a_url_is_not_told(url: str, told: str) -> None:
    assert without_secrets(url) == told


def test_a_url_for_nothing_installed_is_told_without_its_secrets() -> None:
    with pytest.raises(ConfigError) as caught:
        find_transport("nothing://me:secret@relay:80")
    assert "secret" not in str(caught.value)


async def test_a_plain_socket_is_closed_at_once_without_a_round_of_the_loop_and_others_as_trio_does_it() -> None:
    near, far = socket.socketpair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(near))
    memory, _ = trio.testing.memory_stream_pair()
    with far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_closed, stream)
            await trio.testing.wait_all_tasks_blocked()
            with trio.testing.assert_no_checkpoints():
                await close_at_once(stream)
        assert far.recv(1) == b""
        await close_at_once(stream)  # twice is no harm
    await close_at_once(memory)
    with pytest.raises(trio.ClosedResourceError):
        await memory.send_all(b"x")


async def _expect_closed(stream: trio.SocketStream) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
