"""unix:// with real sockets in the file system."""

from __future__ import annotations

import os
import re
import socket
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from tempfile import TemporaryDirectory

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
async def listening(url: str, handler: Handler, *, said: str = "") -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        assert await nursery.start(unix.serve, url, handler) == [said or url]
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


@pytest.mark.parametrize(
    "url", ["unix:", "unix://relative.sock", "unix:/one/slash", "unix:///directory/", "unix:@", "tcp://a:1"]
)
async def test_urls_that_cannot_be_used(url: str) -> None:
    assert unix.check(url) == "is not of the form unix:///path/of/the/socket or unix:@name"
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


# -- for others too


KNOCK = """
import os, socket, sys
os.setgroups([]), os.setgid(int(sys.argv[3])), os.setuid(int(sys.argv[2]))
knocker = socket.socket(socket.AF_UNIX)
knocker.connect(sys.argv[1])
print(knocker.recv(99).decode())
"""


async def knock(path: trio.Path, *, user: int, group: int) -> str:
    """What another user hears there, or why not."""
    command = [sys.executable, "-I", "-c", KNOCK, str(path), str(user), str(group)]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    return done.stdout.decode().strip() or done.stderr.decode().strip().splitlines()[-1]


async def tell_identity(pipe: Pipe) -> None:
    await pipe.stream.send_all(pipe.identity.encode())


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


@needs_root
async def test_a_group_may_be_let_in_and_is_known_by_its_users() -> None:
    with TemporaryDirectory() as directory:  # not pytest's, which nobody else may enter
        await trio.Path(directory).chmod(0o755)
        path = trio.Path(directory) / "relay.sock"
        async with listening(f"unix://{path}?group=4321", tell_identity, said=f"unix://{path}"):
            found = await path.stat()
            assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, 4321)
            assert await knock(path, user=1234, group=4321) == "uid:1234"
            assert await knock(path, user=1234, group=1234) == "PermissionError: [Errno 13] Permission denied"


async def test_the_mode_is_what_is_asked_for_whatever_the_umask(path: trio.Path) -> None:
    old = os.umask(0o077)
    try:
        async with listening(f"unix://{path}?mode=0666", echo, said=f"unix://{path}"):
            assert stat.S_IMODE((await path.stat()).st_mode) == 0o666
    finally:
        os.umask(old)


async def test_what_somebody_puts_in_place_of_the_socket_is_not_opened_to_others(
    path: trio.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = path.with_name("another.sock")
    with socket.socket(socket.AF_UNIX) as private:
        private.bind(str(another))
    await another.chmod(0o600)
    permit = rooms._permit

    def swapped(at: str, options: Mapping[str, object]) -> None:
        os.unlink(at)
        os.symlink(another, at)
        permit(at, options)

    monkeypatch.setattr(rooms, "_permit", swapped)
    with pytest.raises(ConfigError, match="there is something at that path that is no socket"):
        await unix.serve(f"unix://{path}?mode=0666", echo)
    assert stat.S_IMODE((await another.stat()).st_mode) == 0o600


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ("mode=rw", "the option 'mode' is 'rw': write the permissions in octal, such as 0660"),
        ("mode=4777", "the option 'mode' is '4777': write the permissions in octal"),
        ("group=no-such-group", "the option 'group' is 'no-such-group', and there is no such group here"),
        ("group=4294967295", "the option 'group' is '4294967295', which is no number of a group"),
        ("mod=0660", "there is no option 'mod' .*did you mean 'mode'"),
    ],
)
def test_options_that_cannot_be_used(options: str, wrong: str) -> None:
    assert re.match(wrong, unix.check(f"unix:///run/relay.sock?{options}") or "")


async def test_who_dials_has_no_say_in_it(path: trio.Path) -> None:
    with pytest.raises(DialFailed, match="the option 'mode' is for a listener"):
        async with unix.connect(f"unix://{path}?mode=0666"):
            pass


# -- without a file


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has sockets without a file")


@needs_linux
async def test_a_socket_without_a_file_is_there_as_long_as_somebody_listens() -> None:
    url = f"unix:@rpyc-gw-test-{os.getpid()}"
    async with listening(url, tell_identity):
        async with unix.connect(url) as pipe:
            assert await pipe.stream.receive_some() == f"uid:{os.getuid()}".encode()
        with pytest.raises(ConfigError, match=f"{url}: address already in use: another process listens there"):
            await unix.serve(url, echo)
    with pytest.raises(DialFailed, match=f"{url}: nobody listens there any more: is the node running"):
        async with unix.connect(url):
            pass


def test_nobody_can_be_kept_out_of_a_socket_without_a_file() -> None:
    assert "for every user of this machine" in (unix.check("unix:@relay?mode=0600") or "")
