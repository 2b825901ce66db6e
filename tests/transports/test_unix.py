"""unix:// with real sockets in the file system."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.transport import Handler, Pipe
from rpyc_transports import unix as rooms
from rpyc_transports.unix import MAX_PATH, UnixTransport

unix = UnixTransport()


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> trio.Path:
    return trio.Path(tmp_path_factory.mktemp("s")) / "relay.sock"


async def echo(pipe: Pipe) -> None:
    async for data in pipe.stream:
        await pipe.stream.send_all(data)


@asynccontextmanager
async def listening(url: str, handler: Handler) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        assert await nursery.start(unix.serve, url, handler) == [url]
        yield
        nursery.cancel_scope.cancel()


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def test_both_ends_hear_each_other_and_the_kernel_says_who_they_are(path: trio.Path) -> None:
    url, seen = f"unix://{path}", []

    async def answer(pipe: Pipe) -> None:
        seen.append(pipe)
        await echo(pipe)

    before = open_files()
    async with listening(url, answer), unix.connect(url) as pipe:
        await pipe.stream.send_all(b"hello")
        assert await pipe.stream.receive_some() == b"hello"
        assert pipe.send_nowait is not None
        assert pipe.send_nowait(b"again") == 5
        assert await pipe.stream.receive_some() == b"again"
    assert open_files() == before
    for end in (pipe, *seen):
        assert end.peer == f"{url} (uid {os.getuid()}, pid {os.getpid()})"
        assert end.identity == f"uid:{os.getuid()}"
        assert end.private


async def test_the_socket_is_for_its_user_alone_and_gone_at_the_end(path: trio.Path) -> None:
    old = os.umask(0)
    try:
        async with listening(f"unix://{path}", echo):
            assert stat.S_IMODE((await path.stat()).st_mode) == 0o600
    finally:
        os.umask(old)
    assert not await path.exists()


async def test_a_socket_that_nobody_listens_on_any_more_is_replaced(path: trio.Path) -> None:
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
        crashed.listen()
    url = f"unix://{path}"
    with pytest.raises(DialFailed, match=f"{url}: nobody listens there any more: is the node running?"):
        async with unix.connect(url):
            pass
    async with listening(url, echo), unix.connect(url) as pipe:
        await pipe.stream.send_all(b"hello")
        assert await pipe.stream.receive_some() == b"hello"


async def test_a_socket_that_somebody_listens_on_is_left_alone(path: trio.Path) -> None:
    url = f"unix://{path}"
    async with listening(url, echo):
        with pytest.raises(ConfigError, match=f"{url}: address already in use: another process listens there; stop it"):
            await unix.serve(url, echo)
        async with unix.connect(url):
            pass


async def test_what_is_no_socket_is_left_alone(path: trio.Path) -> None:
    await path.write_text("precious")
    with pytest.raises(ConfigError, match="there is something at that path that is no socket: move it away"):
        await unix.serve(f"unix://{path}", echo)
    assert await path.read_text() == "precious"


async def test_a_socket_that_another_took_over_is_not_removed(path: trio.Path) -> None:
    async with listening(f"unix://{path}", echo):
        await path.rename(path.with_name("moved"))
        await path.write_text("somebody else's")
    assert await path.read_text() == "somebody else's"


async def test_a_missing_directory_is_said_to_be_missing(path: trio.Path) -> None:
    url = f"unix://{path.parent}/missing/relay.sock"
    before = open_files()
    with pytest.raises(ConfigError, match=f"{url}: its directory does not exist: create it"):
        await unix.serve(url, echo)
    with pytest.raises(DialFailed, match=f"{url}: there is no such socket: is the node running"):
        async with unix.connect(url):
            pass
    assert open_files() == before


async def test_a_directory_is_called_one(path: trio.Path) -> None:
    url = f"unix://{path.parent}"
    said = f"{url}: that is a directory: the path of a socket in it is needed"
    with pytest.raises(ConfigError, match=said):
        await unix.serve(url, echo)
    with pytest.raises(DialFailed, match=said):
        async with unix.connect(url):
            pass


async def test_a_full_queue_is_waited_for_and_given_up_after_ten_seconds(
    path: trio.Path, autojump_clock: trio.testing.MockClock
) -> None:
    url = f"unix://{path}"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        before = open_files()
        async with unix.connect(url):
            with pytest.raises(DialFailed, match="accepts nobody since 10 s: is it stuck"):
                async with unix.connect(url):
                    pass
            assert trio.current_time() == pytest.approx(10, abs=0.1)
        assert open_files() == before


async def test_a_user_without_a_number_here_is_nobody_in_particular(
    path: trio.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "UNMAPPED_UID", os.getuid())
    async with listening(f"unix://{path}", echo), unix.connect(f"unix://{path}") as pipe:
        assert pipe.identity == ""


@pytest.mark.parametrize("url", ["unix:", "unix://relative.sock", "unix:/one/slash", "unix:///directory/", "tcp://a:1"])
async def test_urls_that_cannot_be_used(url: str) -> None:
    assert unix.check(url) == "is not of the form unix:///path/of/the/socket"
    with pytest.raises(DialFailed, match="is not of the form"):
        async with unix.connect(url):
            pass
    with pytest.raises(ConfigError, match="is not of the form"):
        await unix.serve(url, echo)


def test_a_path_has_the_length_that_the_kernel_allows() -> None:
    longest = f"/tmp/{'x' * (MAX_PATH - 5)}"
    assert unix.check(f"unix://{longest}") is None
    assert re.fullmatch(
        r"the path has \d+ bytes, the system takes \d+: choose a shorter one", unix.check(f"unix://{longest}x") or ""
    )
    with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="AF_UNIX path too long"):
        sock.bind(f"{longest}x")


def test_only_this_machine_reaches_it() -> None:
    assert unix.is_private("unix:///run/relay.sock")
