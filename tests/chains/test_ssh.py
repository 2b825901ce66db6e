"""The real ssh and a real sshd on the loopback, with keys of its own: links through it, what it says when there is none, and its end at any point."""

from __future__ import annotations

import hashlib
import os
import signal

import pytest

import rpyc_gateway as gw
from rpyc_gateway.errors import DialFailed, GatewayError, LinkLost
from tests.chains.processes import RPYC_GW, House, connect_when_up, dial, listen, serve
from tests.chains.sshd import FAR_NODE, Far, session_above, ssh_of
from tests.terminal import answer_at_a_terminal

MUCH = 32 * 1024 * 1024


# -- links


def test_objects_of_the_far_side_are_here(far: Far) -> None:
    with gw.connect(far.url()) as conn:
        assert conn.modules.os.getpid() != os.getpid()
        assert conn.modules.os.environ["SSH_CONNECTION"].startswith("127.0.0.1 ")
        with pytest.raises(FileNotFoundError):
            conn.builtins.open("/missing")


def test_nothing_that_is_printed_on_the_far_side_gets_into_the_link(far: Far) -> None:
    with gw.connect(far.url()) as conn:
        conn.execute(
            "import os, sys; print('print'); os.write(1, b'write'); os.system('echo child; cat'); sys.stdout.flush()"
        )
        assert conn.eval("6 * 7") == 42


def test_what_a_shell_says_before_the_link_is_skipped(far: Far) -> None:
    with gw.connect(far.url(f"echo Welcome to far; cat {far.directory}/banner; exec {FAR_NODE}")) as conn:
        assert conn.eval("6 * 7") == 42


def test_much_gets_there_and_back_whole(far: Far) -> None:
    data = os.urandom(MUCH)
    with gw.connect(far.url()) as conn:
        assert conn.modules.hashlib.sha256(data).hexdigest() == hashlib.sha256(data).hexdigest()
        conn.execute("def echo(data): return data")
        assert conn.namespace["echo"](data) == data


def test_through_one_host_to_another(far: Far) -> None:
    with gw.connect(far.url(host="inner")) as conn:
        assert conn.eval("6 * 7") == 42


def test_a_relay_that_was_started_by_ssh_dials_on(far: Far, house: House) -> None:
    lab = house.start("lab", listen(house.socket("lab")) + serve())
    with gw.connect([far.url(), lab.url]) as conn:
        assert conn.modules.os.getpid() == lab.pid


def test_the_terminal_s_ctrl_c_is_not_for_ssh(far: Far) -> None:
    """Ctrl-C goes to all of the foreground group: ssh is not of it."""
    with gw.connect(far.url()) as conn:
        ssh = ssh_of(os.getpid())
        assert os.getpgid(ssh) != os.getpgid(0)
        assert conn.eval("6 * 7") == 42


# -- no link


@pytest.mark.parametrize(
    ("changes", "said"),
    {
        "nobody listens there": ({"options": "-o Port=1"}, "port 1: Connection refused"),
        "the name is unknown": ({"options": "-o HostName=host.invalid"}, "Could not resolve hostname host.invalid"),
        "the host is a stranger": (
            {"options": "-o UserKnownHostsFile=/dev/null"},
            r"Host key verification failed. \(connect by hand once, and look at the key",
        ),
        "the key is wrong": ({"host": "stranger"}, r"Permission denied \(publickey\). \(nobody can answer here"),
        "nobody knows the passphrase": (
            {"host": "locked"},
            r"Permission denied \(publickey\). \(nobody can answer here",
        ),
        "there is no such command": ({"command": "no-rpyc-gw stdio"}, "status 127: .*no such command there: is it"),
        "it is no program": ({"command": "/etc/passwd"}, "status 126: .* cannot be run there"),
        "a terminal is in between": ({"options": "-tt", "of_url": "?patience=10 "}, "drop -t and -tt"),
        "it says something else": ({"command": "echo hello"}, "status 0: .*; on its standard output it said 'hello'"),
        "it is killed": ({"command": "kill -9 $$"}, "status 255"),
    }.values(),
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_why_there_is_no_link_is_said_in_the_error(far: Far, changes: dict[str, str], said: str) -> None:
    with pytest.raises(DialFailed, match=said):
        gw.connect(far.url(**changes)).close()


def test_a_program_of_the_user_may_give_the_passphrase(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    askpass = far.directory / "askpass"
    askpass.write_text("#!/bin/sh\necho secret\n")
    askpass.chmod(0o700)
    monkeypatch.setenv("SSH_ASKPASS", str(askpass))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    with gw.connect(far.url(host="locked")) as conn:
        assert conn.eval("6 * 7") == 42


def test_ssh_may_ask_on_the_terminal_if_it_is_told_so(far: Far) -> None:
    command = (*RPYC_GW, "eval", "--url", far.url(host="locked", of_url="?terminal=1 "), "far", "6 * 7")
    seen = answer_at_a_terminal(command, b"Enter passphrase for key", b"secret\n")
    assert seen.split()[-1] == b"42", seen


# -- the end of a link


def end_of(conn: gw.BlockingSession) -> str:
    with pytest.raises(GatewayError) as caught:
        conn.modules.time.sleep(30)
    assert isinstance(caught.value, LinkLost)
    return str(caught.value)


def test_a_killed_ssh_ends_what_waits_and_is_named(far: Far) -> None:
    with gw.connect(far.url()) as conn:
        os.kill(ssh_of(os.getpid()), signal.SIGKILL)
        assert "was killed by SIGKILL" in end_of(conn)


def test_a_killed_sshd_session_ends_it_too(far: Far) -> None:
    with gw.connect(far.url()) as conn:
        os.kill(session_above(conn.modules.os.getpid()), signal.SIGKILL)
        assert "exited with status 255" in end_of(conn)


def test_a_killed_far_node_ends_it_too(far: Far) -> None:
    with gw.connect(far.url()) as conn:
        os.kill(conn.modules.os.getpid(), signal.SIGKILL)
        assert "exited with status 255" in end_of(conn)


def test_a_relay_dials_again_when_its_ssh_was_killed(far: Far, house: House) -> None:
    relay = house.start("relay", listen(house.socket("relay")) + dial(far.url()))
    relay.wait_line("linked with far")
    first = ssh_of(relay.pid)
    os.kill(first, signal.SIGKILL)
    relay.wait_line("lost the link with far .*was killed by SIGKILL")
    with connect_when_up(relay.url, "far") as conn:
        assert conn.eval("6 * 7") == 42
    assert ssh_of(relay.pid) != first
