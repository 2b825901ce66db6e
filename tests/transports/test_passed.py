"""Sockets that a process was started with: which are taken, who is at their other end, and that nobody else gets them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rpyc_gateway.errors import ConfigError
from rpyc_transports.passed import connection_pipe, is_local, parent, socket_url

# What a program finds that was started with these descriptors from 3 upwards, as systemd does it.
LOOK = """
import fcntl, json, os, subprocess, sys
from rpyc_gateway.errors import ConfigError
from rpyc_transports.passed import passed_sockets

pid, names, *given = sys.argv[1:]
count = len(given)
aside = [fcntl.fcntl(int(one), fcntl.F_DUPFD, 100) for one in given]
for one in given:
    os.close(int(one))
for number, descriptor in enumerate(aside, 3):
    os.dup2(descriptor, number)
    os.close(descriptor)
count += names == "one too many"
os.environ |= {"LISTEN_PID": pid or str(os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names}

try:
    found = [[one.name, one.fileno, one.listens] for one in passed_sockets()]
    assert passed_sockets() is passed_sockets()
except ConfigError as exc:
    found = str(exc)
child = subprocess.run(["sh", "-c", "env; ls -l /proc/self/fd"], capture_output=True, text=True, close_fds=False)
left = [word for word in child.stdout.split() if word.startswith(("LISTEN_", "socket:"))]
print(json.dumps([found, left]))
"""


def look(*descriptors: int, pid: str = "", names: str = "") -> list[Any]:
    """The sockets that it takes, and what a child of it knows of them."""
    command = [sys.executable, "-W", "error", "-c", LOOK, pid, names, *map(str, descriptors)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, pass_fds=descriptors, capture_output=True, text=True, timeout=20, check=True
    )
    found: list[Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as raw:
        yield raw


@pytest.fixture
def connection(listener: socket.socket) -> Iterator[socket.socket]:
    """The accepted end; the other one lives as long."""
    with socket.create_connection(listener.getsockname()), listener.accept()[0] as raw:
        yield raw


def test_sockets_have_the_names_that_systemd_gave_them_and_no_child_gets_them(listener: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as second:
        found, left = look(listener.fileno(), second.fileno(), names="web:admin")
    assert found == [["web", 3, True], ["admin", 4, True]]
    assert left == []


def test_names_may_be_missing(listener: socket.socket, connection: socket.socket) -> None:
    assert look(listener.fileno(), connection.fileno())[0] == [["", 3, True], ["", 4, False]]


def test_what_was_meant_for_another_process_is_left_alone_and_told_to_nobody(listener: socket.socket) -> None:
    found, left = look(listener.fileno(), pid="1")
    assert found == []
    assert [word[:7] for word in left] == ["socket:"]


def test_a_file_is_no_socket(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert "descriptor 3 is no stream socket" in look(file.fileno())[0]


def test_datagrams_are_no_stream() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert "descriptor 3 is no stream socket" in look(datagrams.fileno())[0]


def test_a_socket_of_virtual_machines_is_none_that_we_know() -> None:
    try:
        strange = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except OSError as exc:
        pytest.skip(f"no sockets of virtual machines here: {exc}")
    with strange:
        assert "descriptor 3 is no stream socket of TCP" in look(strange.fileno())[0]


def test_a_descriptor_that_is_not_open_is_named(listener: socket.socket) -> None:
    assert "speaks of descriptor 4, which is not open" in look(listener.fileno(), names="one too many")[0]


# -- who is there


async def test_one_of_a_pair_was_made_by_whoever_started_this_process() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        pipe = connection_pipe(ours)
        async with pipe.stream:
            assert (pipe.peer, pipe.identity, pipe.private) == (parent(), "parent", False)
            assert pipe.fileno == ours.fileno() or pipe.fileno >= 0
    assert parent() == f"the parent process (pid {os.getppid()})"


async def test_a_unix_socket_that_somebody_listened_on_knows_its_user(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/s")
        listener.listen()
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(f"{tmp_path}/s")
            pipe = connection_pipe(listener.accept()[0])
        async with pipe.stream:
            peer = f"unix://{tmp_path}/s (uid {os.getuid()}, pid {os.getpid()})"
            assert (pipe.peer, pipe.identity) == (peer, f"uid:{os.getuid()}")


async def test_nobody_vouches_for_who_comes_by_tcp(connection: socket.socket) -> None:
    pipe = connection_pipe(connection)
    async with pipe.stream:
        assert (pipe.identity, pipe.private) == ("", True)
        assert pipe.peer.startswith("127.0.0.1:")


async def test_a_listening_socket_is_no_connection(listener: socket.socket) -> None:
    with pytest.raises(ConfigError, match=r"inetd\.conf needs `stream tcp nowait`"):
        connection_pipe(listener)


async def test_a_connection_that_is_dead_already_says_so(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()):
        accepted = listener.accept()[0]
    accepted.shutdown(socket.SHUT_RDWR)
    accepted.recv(1)
    with accepted, pytest.raises(ConfigError, match="the connection is broken already"):
        connection_pipe(accepted)


# -- where it is


@pytest.mark.parametrize(
    ("family", "host", "local"),
    [
        (socket.AF_INET, "127.0.0.1", True),
        (socket.AF_INET, "0.0.0.0", False),
        (socket.AF_INET6, "::1", True),
        (socket.AF_INET6, "::ffff:127.0.0.1", True),
        (socket.AF_INET6, "::", False),
    ],
)
def test_only_the_loopback_is_this_machine_s_own(family: socket.AddressFamily, host: str, local: bool) -> None:  # noqa: FBT001
    with socket.socket(family) as raw:
        try:
            raw.bind((host, 0))
        except OSError as exc:
            pytest.skip(f"this machine has no {host}: {exc}")
        assert is_local(raw) is local
        shown = f"[{host}]" if host in ("::", "::1") else host.removeprefix("::ffff:")
        assert socket_url(raw) == f"tcp://{shown}:{raw.getsockname()[1]}"


def test_unix_sockets_are_this_machine_s_own(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.bind(f"{tmp_path}/s")
        assert is_local(raw)
        assert socket_url(raw) == f"unix://{tmp_path}/s"
    with socket.socket(socket.AF_UNIX) as raw:
        raw.bind("\0name")
        assert socket_url(raw) == "unix://@name"


def test_what_is_no_network_that_we_know_is_not_called_local() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as raw:
        assert not is_local(raw)
