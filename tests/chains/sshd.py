"""A real sshd on the loopback with keys of its own, and what can be found out about its processes."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.chains.processes import RPYC_GW, open_house

__all__ = ["FAR_NODE", "Far", "open_far", "session_above", "ssh_of"]

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
FAR_NODE = f"{shlex.join(RPYC_GW)} stdio --name far --serve classic"


class Far(NamedTuple):
    """What ssh reaches: as `far` with a key, `inner` through `far`, `locked` with a key that has a passphrase, `stranger` without one."""

    directory: Path
    port: int

    def url(self, command: str = FAR_NODE, *, host: str = "far", options: str = "", of_url: str = "") -> str:
        return f"stdio:{of_url}ssh -F {self.directory}/ssh_config {options} {host} {shlex.quote(command)}"


CONFIG = """
Host *
  HostName 127.0.0.1
  Port {port}
  UserKnownHostsFile {directory}/known_hosts
  IdentitiesOnly yes
  IdentityAgent none
Host far inner
  IdentityFile {directory}/key
Host inner
  ProxyJump far
Host locked
  IdentityFile {directory}/locked
Host stranger
  IdentityFile {directory}/other
"""
DAEMON = """
Port {port}
ListenAddress 127.0.0.1
HostKey {directory}/host
PidFile none
AuthorizedKeysFile {directory}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Banner {directory}/banner
MaxStartups 100
"""


def why_not() -> str:
    if not (os.path.exists(SSHD) and shutil.which("ssh") and shutil.which("ssh-keygen")):
        return "ssh, sshd and ssh-keygen are needed (openssh-client, openssh-server)"
    return ""


@contextmanager
def open_far() -> Iterator[Far]:
    """A daemon and its keys. Skips the test where there can be none."""
    if why_not():
        pytest.skip(why_not())
    with open_house() as house:
        directory = house.directory
        for name, passphrase in {"host": "", "key": "", "locked": "secret", "other": ""}.items():
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(directory / name)]
            subprocess.run(make, stdin=subprocess.DEVNULL, timeout=20, check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        write = {
            "ssh_config": CONFIG.format(port=port, directory=directory),
            "sshd_config": DAEMON.format(port=port, directory=directory),
            "known_hosts": f"[127.0.0.1]:{port} {(directory / 'host.pub').read_text()}",
            "authorized_keys": (directory / "key.pub").read_text() + (directory / "locked.pub").read_text(),
            "banner": "Authorized use only.\n",
        }
        for name, text in write.items():
            (directory / name).write_text(text)
        able = subprocess.run(
            [SSHD, "-t", "-f", f"{directory}/sshd_config"], capture_output=True, text=True, timeout=20, check=False
        )
        if able.returncode:
            pytest.skip(f"sshd cannot be started here: {able.stderr.strip()}")
        house.run("sshd", SSHD, "-D", "-e", "-f", f"{directory}/sshd_config").wait_line("Server listening")
        yield Far(directory, port)


def children(pid: int) -> list[int]:
    found = Path("/proc").glob("[0-9]*/stat")
    return [int(stat.parent.name) for stat in found if f") {pid} " in _short(stat)]


def _short(stat: Path) -> str:
    """The parent of a process, between its name and its group; nothing if it has gone."""
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return f") {fields[1]} "


def ssh_of(pid: int) -> int:
    """The ssh that a process has started."""
    (found,) = [child for child in children(pid) if Path(f"/proc/{child}/comm").read_text() == "ssh\n"]
    return found


def session_above(pid: int) -> int:
    """The sshd that a process on the far side, which is this machine, was started by."""
    while Path(f"/proc/{pid}/comm").read_text().strip() != "sshd":
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid
