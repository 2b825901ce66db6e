"""Nodes that know each other by certificates: who may pass a relay, who may use a service, and what the others read."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import rpyc_gateway as gw
from rpyc_gateway.testing import BadWire
from tests.chains.processes import LOOPBACK, House, Process, connect_when_up, dial, listen, open_house, serve
from tests.transports.authority import Authority, Papers, make_oneself, needs_openssl

ROOT = Path(__file__).parents[2]
ANY_PORT = "tls://127.0.0.1:0"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def laptop(authority: Authority) -> Papers:
    return authority.sign("laptop")


@pytest.fixture(scope="module")
def stranger(authority: Authority) -> Papers:
    """Signed by the same authority, and allowed nothing."""
    return authority.sign("stranger")


@pytest.fixture(scope="module")
def chain(authority: Authority) -> Iterator[tuple[Process, Process]]:
    """relay - lab: the relay passes circuits on for the laptop, the lab lets in the relay and serves whoever it vouches for."""
    of_relay, of_lab = authority.sign("127.0.0.1", file="relay"), authority.sign("127.0.0.1", file="lab")
    only_relay = authority.sign("relay", file="relay-as-client")
    with open_house() as house:
        guarded = of_lab.shown(client_ca=authority.file, client_pin=only_relay.pin)
        lab = house.start("lab", listen(f"{ANY_PORT}?{guarded}") + serve())
        to_lab = only_relay.shown(ca=authority.file)
        config = listen(f"{ANY_PORT}?{of_relay.shown(client_ca=authority.file)}") + dial(f"{lab.url}?{to_lab}")
        config += serve(to="cert:laptop") + '[relay]\nallow = ["cert:laptop"]\n'
        relay = house.start("relay", config)
        relay.wait_line("linked with lab")
        yield relay, lab


def as_client(url: str, papers: Papers, authority: Authority) -> str:
    return f"{url}?{papers.shown(ca=authority.file)}"


def test_a_client_is_known_by_its_certificate_at_the_relay(
    chain: tuple[Process, Process], authority: Authority, laptop: Papers
) -> None:
    relay, lab = chain
    with gw.connect(as_client(relay.url, laptop, authority), node="lab") as conn:
        assert conn.modules.os.getpid() == lab.pid
        assert conn.path[1:] == ("relay", "lab")
    with gw.connect(as_client(relay.url, laptop, authority)) as conn:
        assert conn.modules.os.getpid() == relay.pid


async def test_so_is_one_of_trio_code(chain: tuple[Process, Process], authority: Authority, laptop: Papers) -> None:
    relay, lab = chain
    async with gw.open_session(as_client(relay.url, laptop, authority), node="lab") as session:
        assert await session.modules.os.getpid() == lab.pid
        # Both ways and more than one record of TLS.
        data = os.urandom(1 << 20)
        assert await session.modules.builtins.bytes(data) == data


async def test_a_client_that_leaves_says_goodbye(
    chain: tuple[Process, Process], authority: Authority, laptop: Papers
) -> None:
    relay, _ = chain
    async with gw.open_session(as_client(relay.url, laptop, authority), name="polite") as session:
        assert await session.ping(1) == 1
    said = partial(relay.wait_line, "the end of the link with polite at .*: (.*)")
    assert (await trio.to_thread.run_sync(said))[1] == "polite needs this link no longer"


def test_another_certificate_of_the_same_authority_is_denied_by_name(
    chain: tuple[Process, Process], authority: Authority, stranger: Papers
) -> None:
    relay, _ = chain
    with pytest.raises(gw.Denied, match=r"relay does not relay for .*\(cert:stranger\)"):
        gw.connect(as_client(relay.url, stranger, authority), node="lab")
    with pytest.raises(
        gw.Denied, match=r"relay does not let .*\(cert:stranger\) use 'classic': it is allowed to cert:laptop"
    ):
        gw.connect(as_client(relay.url, stranger, authority))


@pytest.mark.parametrize("face", ["blocking", "trio"])
def test_a_client_without_a_certificate_reads_what_is_missing(
    chain: tuple[Process, Process], authority: Authority, face: str
) -> None:
    relay, _ = chain
    url = f"{relay.url}?ca={authority.file}"

    async def open_session() -> None:
        async with gw.open_session(url):
            pass

    with pytest.raises(gw.DialFailed, match="the far end lets in only whom it can name: say cert=FILE and key=FILE"):
        trio.run(open_session) if face == "trio" else gw.connect(url)


def test_a_client_that_is_not_the_pinned_one_reads_so(
    chain: tuple[Process, Process], authority: Authority, laptop: Papers
) -> None:
    _, lab = chain
    with pytest.raises(gw.GatewayError, match=r"it began with b'certificate not pinned"):
        gw.connect(as_client(lab.url, laptop, authority))
    lab.wait_line(f"the client's key has the fingerprint {laptop.pin}, which is not in client_pin")


def test_a_relay_that_speaks_tls_says_so_to_whoever_does_not(chain: tuple[Process, Process]) -> None:
    relay, _ = chain
    with pytest.raises(gw.GatewayError, match=r"it began with b'TLS only: dial tls://"):
        gw.connect(relay.url.replace("tls:", "tcp:"))


def test_a_relay_that_does_not_says_what_it_is_spoken_to_in(house: House) -> None:
    hq = house.start("hq", listen(LOOPBACK))
    with pytest.raises(gw.DialFailed, match="it began with"):
        gw.connect(hq.url.replace("tcp:", "tls:"))


# -- the quick way: nobody signs for anybody


def test_a_pin_that_was_copied_from_the_log_is_enough(house: House) -> None:
    relay, laptop = make_oneself(house.directory, "relay"), make_oneself(house.directory, "laptop")
    url = f"{ANY_PORT}?{relay.shown(client_ca=laptop.cert)}"
    hq = house.start("hq", listen(url) + serve(to="cert:laptop"))
    pin = hq.wait_line(r"shows a certificate that ends on \S+, (pin=sha256:[0-9a-f]{64})$")[1]
    with gw.connect(f"{hq.url}?{laptop.shown()}&{pin}") as conn:
        assert conn.modules.os.getpid() == hq.pid


@needs_openssl
def test_the_manual_is_right(house: House) -> None:
    page = (ROOT / "docs/tls.md").read_text()
    page = page.replace("/etc/gw", str(house.directory)).replace("//*:18861", "//127.0.0.1:0")
    blocks = re.findall(r"```(sh|toml)\n(.*?)```", page, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "toml", "toml"]
    (_, commands), (_, of_relay), (_, of_lab) = blocks
    subprocess.run(["bash", "-euc", commands], check=True, capture_output=True, timeout=30)
    relay = house.start("relay", of_relay)
    pin = relay.wait_line(r"pin=(sha256:[0-9a-f]{64})$")[1]
    url = of_lab.split('"')[1].replace("tls://relay.example:18861", relay.url).replace(f"sha256:{'0' * 64}", pin)
    with gw.connect(url) as conn:
        assert conn.modules.os.getpid() == relay.pid


# -- while it runs


def test_a_certificate_is_renewed_without_a_restart(house: House, authority: Authority, laptop: Papers) -> None:
    papers = authority.sign("127.0.0.1", file="renewed")
    hq = house.start("hq", listen(f"{ANY_PORT}?{papers.shown(client_ca=authority.file)}") + serve(to="cert:laptop"))
    url = as_client(hq.url, laptop, authority)
    with connect_when_up(url, "") as before:
        first = papers.pin
        newer = authority.sign("127.0.0.1", file="newer")
        for new, old in ((newer.key, papers.key), (newer.cert, papers.cert)):
            Path(new).replace(old)
        assert papers.pin != first
        with gw.connect(f"{url}&pin={papers.pin}") as after:
            assert after.ping(1) == 1
        assert before.ping(2) == 2
    with pytest.raises(gw.DialFailed, match=re.escape(f"its key has the fingerprint {papers.pin}, not {first}")):
        gw.connect(f"{url}&pin={first}")


# -- on a bad wire


def through(wire: BadWire, options: str) -> str:
    return f"{wire.url.replace('tcp:', 'tls:')}?{options}"


async def echo(session: Any, data: bytes, *, times: int) -> None:
    for _ in range(times):
        assert await session.modules.builtins.bytes(data) == data


async def test_what_was_garbled_on_the_way_is_never_given_out(house: House) -> None:
    relay, data = make_oneself(house.directory, "relay"), os.urandom(1 << 18)
    hq = house.start("hq", listen(f"{ANY_PORT}?{relay.shown()}") + serve())
    async with BadWire(hq.url.replace("tls:", "tcp:"), seed=1) as wire:
        async with gw.open_session(through(wire, f"pin={relay.pin}")) as session:
            await echo(session, data, times=3)
            wire.corrupt(1e-5)
            with pytest.raises(gw.LinkLost, match=r"TLS failed: |decryption failed|bad record mac"):
                await echo(session, data, times=100)


async def test_a_wire_that_is_cut_is_noticed_at_once(house: House) -> None:
    relay = make_oneself(house.directory, "relay")
    hq = house.start("hq", listen(f"{ANY_PORT}?{relay.shown()}") + serve())
    async with BadWire(hq.url.replace("tls:", "tcp:")) as wire:
        async with gw.open_session(through(wire, f"pin={relay.pin}")) as session:
            wire.cut()
            with pytest.raises(gw.LinkLost, match=r"connection reset by peer|the connection was cut"):
                await session.ping(1)
