"""Started by somebody who has the socket: inetd, systemd (its systemd-socket-activate does as it does) and socat, all real."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess

import pytest

import rpyc_gateway as gw
from rpyc_gateway.config import UNPROTECTED
from rpyc_gateway.errors import Denied, ProtocolError
from tests.chains.processes import RPYC_GW, House, Process, connect_when_up, serve

INETD = shutil.which("inetd") or "/usr/sbin/inetd"
ACTIVATE = shutil.which("systemd-socket-activate") or "/usr/bin/systemd-socket-activate"
SOCAT = shutil.which("socat") or "/usr/bin/socat"
NODE = (*RPYC_GW, "stdio", "--name", "lab", "--serve", "classic")


def need(program: str, package: str) -> str:
    if not os.path.exists(program):
        pytest.skip(f"{program} is needed ({package})")
    return program


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    return number


def activated(house: House, *options: str, command: tuple[str, ...] = NODE) -> Process:
    """What a socket unit and a service unit make of it; returns when it listens."""
    process = house.run("systemd", need(ACTIVATE, "systemd"), *options, *command)
    process.wait_line("Listening on ")
    return process


def talk(url: str) -> tuple[int, str]:
    """Use the node behind a URL; its process, and what is left in the environment of its children."""
    with gw.connect(url) as conn:
        conn.execute(
            "import os, subprocess, sys; print('a stray print'); os.write(1, b'a stray write'); sys.stdout.flush()"
        )
        left = conn.eval(
            "subprocess.check_output(['sh', '-c', 'env | grep ^LISTEN_; ls -l /proc/self/fd | grep socket:; true'])"
        )
        return conn.modules.os.getpid(), left.decode()


# -- one process for each connection


def run_inetd(house: House, port: int, command: tuple[str, ...] = NODE) -> None:
    line = f"127.0.0.1:{port} stream tcp nowait {getpass.getuser()} {command[0]} {shlex.join(command)}\n"
    (house.directory / "inetd.conf").write_text(line)
    house.run("inetd", need(INETD, "openbsd-inetd"), "-i", f"{house.directory}/inetd.conf")


def test_inetd_starts_a_node_for_each_connection(house: House, port: int) -> None:
    run_inetd(house, port)
    with connect_when_up(f"tcp://127.0.0.1:{port}", "lab") as conn:
        first = conn.modules.os.getpid()
    second, left = talk(f"tcp://127.0.0.1:{port}")
    assert second != first
    assert left == ""


@pytest.mark.parametrize("how", [(), ("--inetd",)], ids=["as descriptor 3", "as standard input and output"])
def test_systemd_starts_a_node_for_each_connection(house: House, port: int, how: tuple[str, ...]) -> None:
    activated(house, "--accept", *how, "--listen", f"127.0.0.1:{port}")
    first, left = talk(f"tcp://127.0.0.1:{port}")
    second, _ = talk(f"tcp://127.0.0.1:{port}")
    assert second != first
    assert left == ""


def test_who_comes_by_a_unix_socket_is_known_by_uid(house: House) -> None:
    path = house.directory / "s"
    config = house.directory / "c.toml"
    config.write_text(serve(to=f"uid:{os.getuid()}"))
    command = (*RPYC_GW, "stdio", "--name", "lab", "--config", str(config))
    activated(house, "--accept", "--listen", str(path), command=command)
    assert talk(f"unix://{path}")[1] == ""


def test_who_comes_by_tcp_is_nobody_s_parent(house: House, port: int) -> None:
    config = house.directory / "c.toml"
    config.write_text(serve(to="parent"))
    command = (*RPYC_GW, "stdio", "--name", "lab", "--config", str(config))
    activated(house, "--accept", "--inetd", "--listen", f"127.0.0.1:{port}", command=command)
    with pytest.raises(Denied):
        gw.connect(f"tcp://127.0.0.1:{port}").close()


@pytest.mark.parametrize("how", ["", ",nofork", ",pipes"])
def test_socat_starts_a_node_for_each_connection(house: House, port: int, how: str) -> None:
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"
    house.run("socat", need(SOCAT, "socat"), "-d", listen, f"EXEC:{shlex.join(NODE)}{how}")
    with connect_when_up(f"tcp://127.0.0.1:{port}", "lab") as conn:
        conn.execute("print('a stray print', flush=True)")
        assert conn.eval("6 * 7") == 42


def test_what_is_wrong_with_the_configuration_is_told_to_the_caller(house: House, port: int) -> None:
    """There is nobody else: inetd makes standard error the connection, too."""
    run_inetd(house, port, (*RPYC_GW, "stdio", "--serve", "x"))
    with pytest.raises(
        ProtocolError,
        match=r"does not speak the protocol of rpyc-gateway; it began with b.Usage: rpyc-gw.*unknown service 'x'",
    ):
        connect_when_up(f"tcp://127.0.0.1:{port}", "lab").close()


def test_a_connection_from_another_machine_needs_to_be_allowed() -> None:
    """A socket that is not bound to the loopback stands for one."""
    said = {}
    for more in ((), ("--insecure",)):
        with socket.socket() as everywhere:
            everywhere.bind(("0.0.0.0", 0))
            command = (*RPYC_GW, "stdio", *more)
            done = subprocess.run(
                command, stdin=everywhere, stdout=everywhere, stderr=subprocess.PIPE, text=True, timeout=20, check=False
            )
        said[more] = (done.returncode, done.stderr)
    assert said[()][0] == 78
    assert UNPROTECTED in said[()][1]
    assert "the connection is broken already" in said["--insecure",][1]


# -- one process for all


def node(house: House, url: str) -> tuple[str, ...]:
    config = house.directory / "lab.toml"
    config.write_text(f'[node]\nname = "lab"\n[[listen]]\nurl = "{url}"\n{serve()}')
    return (*RPYC_GW, "run", "--config", str(config))


def test_systemd_starts_one_node_with_the_first_connection(house: House, port: int) -> None:
    systemd = activated(house, "--listen", f"127.0.0.1:{port}", "--fdname", "web", command=node(house, "systemd:web"))
    with gw.connect(f"tcp://127.0.0.1:{port}") as conn:
        assert conn.modules.os.getpid() == systemd.pid
    assert talk(f"tcp://127.0.0.1:{port}") == (systemd.pid, "")
    systemd.wait_line(f"listening on tcp://127.0.0.1:{port}")


def test_all_sockets_of_a_unit_are_listened_on(house: House, port: int) -> None:
    path = house.directory / "s"
    systemd = activated(house, "--listen", f"127.0.0.1:{port}", "--listen", str(path), command=node(house, "systemd:"))
    for url in (f"tcp://127.0.0.1:{port}", f"unix://{path}"):
        assert talk(url) == (systemd.pid, "")


@pytest.mark.parametrize(
    ("options", "url", "said"),
    [
        ((), "systemd:web", r"no socket of that name \(there is: one without a name"),
        (("--accept",), "systemd:", "a connection, not a listening socket: say Accept=no, or have `rpyc-gw stdio`"),
    ],
)
def test_what_does_not_fit_is_said(house: House, port: int, options: tuple[str, ...], url: str, said: str) -> None:
    systemd = activated(house, *options, "--listen", f"127.0.0.1:{port}", command=node(house, url))
    with socket.create_connection(("127.0.0.1", port)):
        systemd.wait_line(said)


def test_a_listening_socket_is_not_for_the_command_that_takes_one_connection(house: House, port: int) -> None:
    systemd = activated(house, "--listen", f"127.0.0.1:{port}")
    with socket.create_connection(("127.0.0.1", port)):
        systemd.wait_line('`rpyc-gw run` with `url = "systemd:"` takes those')


def test_without_systemd_the_error_says_how_to_try_it(house: House) -> None:
    process = house.run("lab", *node(house, "systemd:"))
    process.wait_line("systemd-socket-activate -l 127.0.0.1:18860 rpyc-gw run --config FILE")
