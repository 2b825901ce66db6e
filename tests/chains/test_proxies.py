"""The way out through real proxies: tinyproxy for HTTP CONNECT, microsocks for SOCKS5, with a password and without."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import NamedTuple

import pytest
import trustme

import rpyc_gateway as gw
from tests.chains.processes import LOOPBACK, House, Process, free_port, listen, serve, wait_port

pytestmark = [
    pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")
    for program in ("tinyproxy", "microsocks")
]

TINYPROXY = """
Port {port}
Listen 127.0.0.1
Allow 127.0.0.1
MaxClients 20
Timeout 60
LogLevel Info
{login}
"""


class Real(NamedTuple):
    """A proxy that runs, and its URL without a password."""

    process: Process
    url: str

    def with_login(self, login: str) -> str:
        return self.url.replace("://", f"://{login}@")


def start_tinyproxy(house: House, *, login: bool = False) -> Real:
    port = free_port()
    config = house.directory / f"tinyproxy{port}.conf"
    config.write_text(TINYPROXY.format(port=port, login="BasicAuth me secret" if login else ""))
    process = house.run("tinyproxy", "tinyproxy", "-d", "-c", str(config))
    wait_port(port)
    return Real(process, f"http://127.0.0.1:{port}")


def start_microsocks(house: House, *, login: bool = False) -> Real:
    port = free_port()
    secret = ("-u", "me", "-P", "secret") if login else ()
    process = house.run("microsocks", "microsocks", "-i", "127.0.0.1", "-p", str(port), *secret)
    wait_port(port)
    return Real(process, f"socks5://127.0.0.1:{port}")


Start = Callable[..., Real]
kinds = pytest.mark.parametrize("start", [start_tinyproxy, start_microsocks], ids=["http", "socks5"])


@pytest.fixture
def lab(house: House) -> dict[str, str]:
    """The URLs of a node that listens in every way that can be proxied, by scheme. Names have to be resolved: by the proxy."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(house.directory / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(house.directory / "lab.pem"))
    own = f"?cert={house.directory}/lab.pem"
    urls = [LOOPBACK, f"tls://127.0.0.1:0{own}", "ws://127.0.0.1:0/gateway", f"wss://127.0.0.1:0/gateway{own}"]
    lab = house.start("lab", "".join(map(listen, urls)) + serve())
    return {scheme: lab.wait_line(rf" on ({scheme}:\S+)")[1] for scheme in ("tcp", "tls", "ws", "wss")}


def options(house: House, scheme: str, proxy: str) -> str:
    trusted = f"&ca={house.directory}/ca.pem" if scheme in ("tls", "wss") else ""
    return f"?proxy={proxy}{trusted}"


@kinds
@pytest.mark.parametrize("scheme", ["tcp", "tls", "ws", "wss"])
def test_every_way_goes_through_a_proxy(start: Start, scheme: str, lab: dict[str, str], house: House) -> None:
    real = start(house)
    url = lab[scheme] + options(house, scheme, real.url)
    with gw.connect(url, node="lab") as conn:
        data = os.urandom(8 << 20)
        assert conn.builtins.bytes(data) == data
        real.process.kill()
        with pytest.raises(gw.LinkLost):
            conn.builtins.bytes(data)
    with pytest.raises(gw.DialFailed, match=f"the proxy {real.url} cannot be reached: Connection refused"):
        gw.connect(url, node="lab")


@kinds
def test_a_password_is_asked_for_and_taken(start: Start, lab: dict[str, str], house: House) -> None:
    real = start(house, login=True)
    gw.connect(f"{lab['tcp']}?proxy={real.with_login('me:secret')}", node="lab").close()
    for login, words in (("", "wants a user and password"), ("me:wrong", "does not take this user and password")):
        given = real.with_login(login) if login else real.url
        with pytest.raises(gw.DialFailed, match=words) as caught:
            gw.connect(f"{lab['tcp']}?proxy={given}", node="lab")
        assert "wrong" not in str(caught.value)


@kinds
def test_what_a_proxy_cannot_reach_is_said_by_it(start: Start, lab: dict[str, str], house: House) -> None:
    real = start(house)
    for place in (f"127.0.0.1:{free_port()}", "no-such-host.invalid:1"):
        with pytest.raises(gw.DialFailed) as caught:
            gw.connect(f"tcp://{place}?proxy={real.url}", node="lab")
        assert f"the proxy {real.url} does not connect us to {place}: " in str(caught.value)


@kinds
def test_the_proxy_resolves_the_name(start: Start, lab: dict[str, str], house: House) -> None:
    real = start(house)
    gw.connect(f"{lab['ws'].replace('127.0.0.1', 'localhost')}?proxy={real.url}", node="lab").close()


@kinds
def test_the_environment_names_the_proxy_of_a_websocket(
    start: Start, lab: dict[str, str], house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = start(house)
    monkeypatch.setenv("HTTP_PROXY", real.url)
    monkeypatch.setenv("HTTPS_PROXY", real.url)
    for scheme in ("ws", "wss"):
        with pytest.raises(gw.DialFailed, match=f"the proxy {real.url} does not connect us"):
            gw.connect(f"{scheme}://no-such-host.invalid/gateway", node="lab")
        real_way = lab[scheme] + ("" if scheme == "ws" else f"?ca={house.directory}/ca.pem")
        gw.connect(real_way, node="lab").close()
