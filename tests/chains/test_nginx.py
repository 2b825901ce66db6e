"""A node behind a real nginx, as people put one there: under a path, with TLS, with an idle timeout, and with what they forget."""

from __future__ import annotations

import os
import shutil
import signal
from base64 import b64encode
from contextlib import suppress
from hashlib import sha1
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import trio
import trustme

import rpyc_gateway as gw
from rpyc_gateway.transport import Pipe
from rpyc_transports.websocket import WebSocketTransport
from tests.chains.processes import LOOPBACK, House, Process, connect_when_up, dial, free_port, listen, serve

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

IDLE = 2  # seconds that nginx lets a WebSocket be silent; 60 as it comes

CONFIG = """
daemon off;
{user}
worker_processes 1;
error_log stderr info;
pid {directory}/nginx.pid;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {directory}/nginx.pem;
        ssl_certificate_key {directory}/nginx.pem;
        location /lab/ {{ proxy_pass {lab}; proxy_buffering on; }}
        location /impatient/ {{ proxy_pass {lab}; proxy_read_timeout {idle}s; proxy_send_timeout {idle}s; }}
        location /twenty/ {{ proxy_pass {lab}; proxy_read_timeout 20s; proxy_send_timeout 20s; }}
        location /silent/ {{ proxy_pass http://127.0.0.1:{silent}/; proxy_read_timeout 20s; proxy_send_timeout 20s; }}
        location /forgotten/ {{ proxy_pass {lab}; proxy_http_version 1.0; proxy_set_header Host $host; }}
        location /locked/ {{ proxy_pass {lab}; auth_basic "the lab"; auth_basic_user_file {directory}/users; }}
        location /down/ {{ proxy_pass http://127.0.0.1:1/; }}
        location /full/ {{ return 503; }}
        location /moved/ {{ return 301 https://new.example/lab/; }}
    }}
}}
"""


class Proxied(NamedTuple):
    """The lab, and nginx in front of it."""

    lab: Process
    nginx: Process
    port: int
    tls_port: int
    silent: int

    def url(self, path: str = "/lab/") -> str:
        return f"ws://127.0.0.1:{self.port}{path}"


@pytest.fixture
def proxied(house: House) -> Proxied:
    lab = house.start("lab", listen("ws://127.0.0.1:0/gateway") + serve())
    trustme_pem(house.directory)
    ports = free_port(), free_port(), free_port()
    return Proxied(lab, start_nginx(house, lab.url, *ports), *ports)


def trustme_pem(directory: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(directory / "nginx.pem"))


def start_nginx(house: House, lab: str, port: int, tls_port: int, silent: int) -> Process:
    digest = b64encode(sha1(b"se:cret").digest()).decode()
    (house.directory / "users").write_text(f"me:{{SHA}}{digest}\n")
    config = house.directory / "nginx.conf"
    config.write_text(
        CONFIG.format(
            directory=house.directory,
            user="user root;" if os.geteuid() == 0 else "",
            lab=lab.replace("ws:", "http:"),
            port=port,
            tls_port=tls_port,
            silent=silent,
            idle=IDLE,
        )
    )
    assert NGINX is not None
    nginx = house.run("nginx", NGINX, "-p", str(house.directory), "-c", str(config))
    nginx.wait_line("start worker process ")
    return nginx


def failure(url: str) -> str:
    with pytest.raises(gw.DialFailed) as caught:
        gw.connect(url, node="lab")
    return str(caught.value)


def test_a_node_is_reached_under_a_path_with_64_mib_each_way(proxied: Proxied) -> None:
    with connect_when_up(proxied.url(), "lab") as lab:
        assert lab.modules.os.getpid() == proxied.lab.pid
        data = os.urandom(64 << 20)
        assert lab.builtins.bytes(data) == data
    assert proxied.lab.wait_line(r"\(for 127\.0\.0\.1\)"), "the log says for whom nginx asks"


def test_nginx_has_the_certificate(proxied: Proxied, house: House) -> None:
    url = f"wss://127.0.0.1:{proxied.tls_port}/lab/"
    with connect_when_up(f"{url}?ca={house.directory}/ca.pem", "lab") as lab:
        assert lab.modules.os.path.join("a", "b") == "a/b"
        data = os.urandom(5 << 20)
        assert lab.builtins.bytes(data) == data
    assert "say ca=FILE with the authority, or pin=FINGERPRINT" in failure(url)


def test_the_way_goes_on_by_tcp(proxied: Proxied, house: House) -> None:
    board = house.start("board", listen(LOOPBACK) + serve())
    relay = house.start("relay", listen("ws://127.0.0.1:0/gateway") + dial(board.url))
    hq = house.start("hq", listen(house.socket("hq")) + dial(proxied.url()) + dial(relay.url))
    with connect_when_up(hq.url, "board") as conn, connect_when_up(hq.url, "lab") as lab:
        assert conn.modules.os.getpid() == board.pid
        assert lab.modules.os.getpid() == proxied.lab.pid


MISTAKES = {
    "/forgotten/": "HTTP 426 Upgrade Required (This is an rpyc-gateway node, which is linked to with WebSocket, by the ws:// or wss:// URL of this address. "
    "This request does not ask for that. If a node has sent it, then a reverse proxy on the way has dropped its Upgrade header (nginx: proxy_http_version 1.1; "
    "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade).): the request came there without its Upgrade header",
    "/nowhere/": "HTTP 404 Not Found: nothing is at this path",
    "/lab/deeper": "HTTP 404 Not Found (There is nothing here. An rpyc-gateway node listens on this port, at another path.)",
    "/locked/": "HTTP 401 Unauthorized: it wants a user and password: ws://user:password@...",
    "/down/": "HTTP 502 Bad Gateway: the reverse proxy cannot reach the node: is it running, where the proxy expects it?",
    "/full/": "HTTP 503 Service Temporarily Unavailable: the reverse proxy has no node to pass this on to",
    "/moved/": "HTTP 301 Moved Permanently: it has moved to https://new.example/lab/: dial that, with ws:// for http:// and wss:// for https://",
}


def test_what_nginx_says_is_told_with_what_to_do(proxied: Proxied) -> None:
    connect_when_up(proxied.url(), "lab").close()
    for path, words in MISTAKES.items():
        assert failure(proxied.url(path)).startswith(f"{proxied.url(path)}: {words}")


def test_nginx_asks_for_a_password(proxied: Proxied) -> None:
    locked = proxied.url("/locked/")
    connect_when_up(locked.replace("://", "://me:se%3Acret@"), "lab").close()
    text = failure(locked.replace("://", "://me:wrong@"))
    assert (
        text == f"{locked}: HTTP 401 Unauthorized: this user and password, or this Authorization header, is not taken"
    )


def test_somebody_with_curl_reads_what_is_there(proxied: Proxied) -> None:
    connect_when_up(proxied.url(), "lab").close()
    with pytest.raises(HTTPError) as caught:
        urlopen(proxied.url().replace("ws:", "http:"), timeout=10)
    with caught.value as answer:
        assert answer.code == 426
        assert answer.read().startswith(b"This is an rpyc-gateway node")


async def test_signs_of_life_keep_an_impatient_nginx_from_cutting_an_idle_link(proxied: Proxied) -> None:
    await trio.to_thread.run_sync(lambda: connect_when_up(proxied.url(), "lab").close())
    impatient = proxied.url("/impatient/")
    async with gw.open_session(f"{impatient}?ping=1", node="lab", name="alive") as alive:
        # What nginx does to one without them is the clock of this story.
        async with gw.open_session(impatient, node="lab", name="silent") as silent:
            with pytest.raises(gw.LinkLost):
                await silent.eval("__import__('threading').Event().wait()")
        assert await alive.modules.os.path.join("a", "b") == "a/b"


@pytest.mark.slow
async def test_the_pings_of_a_link_come_in_time_for_an_nginx_that_waits_twenty_seconds(proxied: Proxied) -> None:
    async def ignore(_: Pipe) -> None:
        await trio.sleep_forever()

    ws = WebSocketTransport()
    await trio.to_thread.run_sync(lambda: connect_when_up(proxied.url(), "lab").close())
    async with trio.open_nursery() as nursery, gw.open_session(proxied.url("/twenty/"), node="lab") as lab:
        await nursery.start(ws.serve, f"ws://127.0.0.1:{proxied.silent}/", ignore)
        async with ws.connect(proxied.url("/silent/")) as pipe:
            with pytest.raises(trio.BrokenResourceError):
                await pipe.stream.receive_some()
        assert await lab.modules.os.path.join("a", "b") == "a/b"
        nursery.cancel_scope.cancel()


async def test_nginx_is_killed_under_load_and_comes_back(proxied: Proxied, house: House) -> None:
    await trio.to_thread.run_sync(lambda: connect_when_up(proxied.url(), "lab").close())
    lost: list[gw.LinkLost] = []

    async def load(lab: gw.Session, data: bytes) -> None:
        try:
            while await lab.builtins.bytes(data) == data:
                loaded.set()
        except gw.LinkLost as exc:
            lost.append(exc)

    loaded = trio.Event()
    with suppress(gw.LinkLost):
        async with gw.open_session(proxied.url(), node="lab") as lab, trio.open_nursery() as nursery:
            for size in (10, 1000, 100_000, 10_000_000):
                nursery.start_soon(load, lab, os.urandom(size))
            await loaded.wait()
            os.killpg(proxied.nginx.pid, signal.SIGKILL)
    assert len(lost) == 4
    start_nginx(house, proxied.lab.url, proxied.port, proxied.tls_port, proxied.silent)
    await trio.to_thread.run_sync(lambda: connect_when_up(proxied.url(), "lab").close())
