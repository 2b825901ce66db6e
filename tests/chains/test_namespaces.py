"""Three machines as the kernel sees them: client and lab have no route to each other, the relay has a leg in both networks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.chains.processes import RPYC_GW, House, Process, connect_when_up, dial, listen, open_house, serve

pytestmark = pytest.mark.netns

PORT = 18860
CLIENT, RELAY_THERE = "10.77.1.1", "10.77.1.2"  # one network, as the client sees it,
RELAY, LAB = "10.77.2.1", "10.77.2.2"  # and the other
INSECURE = "insecure = true"
PROGRAM = Path(__file__).with_name("client_program.py")


class Namespace(NamedTuple):
    """A network of its own, empty at first."""

    name: str

    @property
    def inside(self) -> tuple[str, ...]:
        """The command to run commands in it."""
        return ("ip", "netns", "exec", self.name)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run((*self.inside, *command), capture_output=True, text=True, timeout=25, check=False)


class World(NamedTuple):
    client: Namespace
    relay: Namespace
    lab: Namespace


def ip(command: str) -> None:
    subprocess.run(("ip", *command.split()), capture_output=True, text=True, timeout=10, check=True)


def why_not() -> str:
    """What this machine lacks for namespaces, as far as it can be told without trying."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    return "" if shutil.which("ip") else "network namespaces need the command `ip` (iproute2)"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    if reason := why_not():
        pytest.skip(reason)
    world = World(*(Namespace(f"gw-{os.getpid()}-{name}") for name in World._fields))
    with ExitStack() as undo:
        try:
            for namespace in world:
                ip(f"netns add {namespace.name}")
                undo.callback(ip, f"netns del {namespace.name}")
                ip(f"-n {namespace.name} link set lo up")
            join(world.client, CLIENT, world.relay, RELAY_THERE)
            join(world.relay, RELAY, world.lab, LAB)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
        yield world


def join(one: Namespace, one_address: str, other: Namespace, other_address: str) -> None:
    """A cable: `one` calls its end by the name of the other, and the other way round."""
    one_end, other_end = (f"to-{namespace.name.rpartition('-')[2]}" for namespace in (other, one))
    ip(f"link add {one_end} netns {one.name} type veth peer name {other_end} netns {other.name}")
    for namespace, end, address in ((one, one_end, one_address), (other, other_end, other_address)):
        ip(f"-n {namespace.name} address add {address}/24 dev {end}")
        ip(f"-n {namespace.name} link set {end} up")


def at(address: str) -> str:
    return f"tcp://{address}:{PORT}"


# -- the ways to build the chain


class Way(NamedTuple):
    """What the client dials, and the nodes that it then passes."""

    urls: tuple[str, ...]
    path: list[str]
    lab: Process


@pytest.fixture
def house(world: World) -> Iterator[House]:
    with open_house() as house:
        yield house


def relay_dials_lab(world: World, house: House) -> Way:
    """The relay has a file that names the lab."""
    lab = house.start("lab", listen(at(LAB), more=INSECURE) + serve(), inside=world.lab.inside)
    assert lab.url
    relay = house.start("relay", listen(at(RELAY_THERE), more=INSECURE) + dial(at(LAB)), inside=world.relay.inside)
    relay.wait_line("linked with lab")
    return Way((at(RELAY_THERE),), ["me", "relay", "lab"], lab)


def one_file_describes_the_chain(world: World, house: House) -> Way:
    """The relay lets others dial through it; the file of hq, at the client's, says what."""
    lab = house.start("lab", listen(at(LAB), more=INSECURE) + serve(), inside=world.lab.inside)
    relay = house.start("relay", listen(at(RELAY_THERE), more=INSECURE) + serve("dial"), inside=world.relay.inside)
    assert lab.url
    assert relay.url
    chain = listen(house.socket("hq")) + dial(at(RELAY_THERE)) + dial(at(LAB), via="relay")
    hq = house.start("hq", chain, inside=world.client.inside)
    connect_when_up(hq.url, "lab").close()  # from here: its socket is a file
    return Way((hq.url,), ["me", "hq", "relay", "lab"], lab)


def the_client_names_every_hop(world: World, house: House) -> Way:
    """Nobody's file knows the chain: `ssh -J`'s way."""
    lab = house.start("lab", listen(at(LAB), more=INSECURE) + serve(), inside=world.lab.inside)
    relay = house.start("relay", listen(at(RELAY_THERE), more=INSECURE) + serve("dial"), inside=world.relay.inside)
    assert lab.url
    assert relay.url
    return Way((at(RELAY_THERE), at(LAB)), ["me", "relay", "lab"], lab)


# -- the stories


def test_client_and_lab_cannot_reach_each_other(world: World, house: House) -> None:
    assert "unreachable" in world.client.run("ip", "route", "get", LAB).stderr
    assert "unreachable" in world.lab.run("ip", "route", "get", CLIENT).stderr
    house.start("lab", listen(at(LAB), more=INSECURE) + serve(), inside=world.lab.inside).wait_line("listening")
    refused = world.client.run(*RPYC_GW, "eval", "--url", at(LAB), "lab", "1")
    assert refused.returncode == 69
    assert LAB in refused.stderr


@pytest.mark.parametrize("build", [relay_dials_lab, one_file_describes_the_chain, the_client_names_every_hop])
def test_the_client_runs_code_on_the_lab_in_both_faces(build: Any, world: World, house: House) -> None:
    way = build(world, house)
    done = world.client.run(sys.executable, "-W", "error", str(PROGRAM), "lab", *way.urls)
    assert done.returncode == 0, done.stderr
    for told in json.loads(done.stdout).values():
        assert " -> ".join(way.path[:0:-1]) in told.pop("exception")
        assert told == {"path": way.path, "pid": way.lab.pid, "interfaces": ["lo", "to-relay"], "callback": 42}
