"""ws:// and wss:// over real sockets on loopback, with friends, foreigners and accidents. nginx is in tests/chains/."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from rpyc_gateway.client import open_session
from rpyc_gateway.config import Config, Dial, Listen, NodeSection, Serve
from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.gateway import open_node
from rpyc_gateway.testing import check_transport
from rpyc_gateway.testing.transports import RULES
from rpyc_gateway.transport import Handler, Pipe
from rpyc_transports.tcp import TcpTransport
from rpyc_transports.websocket import WebSocketTransport
from rpyc_transports.websocket_messages import MAX_MESSAGE
from rpyc_transports.websocket_upgrade import SUBPROTOCOL, Request

ws = WebSocketTransport()
MiB = 1 << 20


async def echo(pipe: Pipe) -> None:
    async for data in pipe.stream:
        await pipe.stream.send_all(data)


async def ignore(_: Pipe) -> None:
    await trio.sleep_forever()


@asynccontextmanager
async def listening(handler: Handler = echo, url: str = "ws://127.0.0.1:0/gateway") -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        (bound,) = await nursery.start(ws.serve, url, handler)
        yield bound
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def serving(script: Callable[[trio.SocketStream], Any]) -> AsyncIterator[int]:
    """A TCP server that does what is written; its port."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), script, 0)
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def port_of(url: str) -> int:
    return int(re.findall(r":(\d+)", url)[-1])


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


async def receive_all(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        data = await stream.receive_some()
        assert data
        got += data
    return bytes(got)


async def dial_error(url: str) -> str:
    with pytest.raises(DialFailed) as caught:
        async with ws.connect(url):
            pass
    return str(caught.value)


# -- friends


async def test_both_ends_hear_each_other_and_know_who_they_are() -> None:
    heard: list[str] = []

    async def answer(pipe: Pipe) -> None:
        heard.append(pipe.peer)
        await echo(pipe)

    async with listening(answer) as url:
        assert re.fullmatch(r"ws://127\.0\.0\.1:[1-9]\d+/gateway", url)
        async with ws.connect(url) as pipe:
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"
            assert pipe.peer == f"127.0.0.1:{port_of(url)}"
            assert pipe.identity == ""
            assert not pipe.private, "a reverse proxy may be there, with anybody behind it"
    assert re.fullmatch(r"127\.0\.0\.1:\d+", heard[0])


async def test_64_mib_arrive_unchanged_while_the_reader_is_slow() -> None:
    block = os.urandom(MiB)
    async with listening() as url, ws.connect(url) as pipe, trio.open_nursery() as nursery:

        async def send() -> None:
            for _ in range(64):
                await pipe.stream.send_all(block)

        nursery.start_soon(send)
        for _ in range(64):
            await trio.testing.wait_all_tasks_blocked()
            assert await receive_all_of(pipe, MiB) == block


async def receive_all_of(pipe: Pipe, size: int) -> bytes:
    """Exactly so many bytes."""
    got = bytearray()
    while len(got) < size:
        got += await pipe.stream.receive_some(size - len(got))
    return bytes(got)


async def test_many_small_ones_are_kept_apart_on_the_way_and_put_together_where_they_come_together() -> None:
    async with listening() as url, ws.connect(url) as pipe:
        for _ in range(1000):
            await pipe.stream.send_all(b"small")
        assert await receive_all(pipe.stream, 5000) == b"small" * 1000


async def accepted(stream: trio.SocketStream) -> bytes:
    """The answer to a request that comes."""
    from rpyc_transports.websocket_upgrade import Question

    question = Question()
    while not question.receive(bytes(await stream.receive_some())):
        pass
    return question.accept()


async def test_what_the_far_side_says_at_once_is_not_lost() -> None:
    async def eager(stream: trio.SocketStream) -> None:
        await stream.send_all(await accepted(stream) + b"\x82\x05HELLO")
        await stream.receive_some()

    async with serving(eager) as port, ws.connect(f"ws://127.0.0.1:{port}") as pipe:
        assert await pipe.stream.receive_some() == b"HELLO"


async def test_a_handler_that_fails_is_logged_and_stops_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def fragile(pipe: Pipe) -> None:
        if await pipe.stream.receive_some() == b"fail":
            raise ZeroDivisionError("as asked")
        await pipe.stream.send_all(b"fine")

    async with listening(fragile) as url, ws.connect(url) as one, ws.connect(url) as other:
        await one.stream.send_all(b"fail")
        assert await one.stream.receive_some() == b""
        await other.stream.send_all(b"work")
        assert await other.stream.receive_some() == b"fine"
    assert "as asked" in caplog.text


async def test_nothing_is_left_open_afterwards() -> None:
    before = open_files()
    async with listening(ignore) as url:
        async with ws.connect(url), ws.connect(url):
            assert open_files() > before
    assert open_files() == before


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_it_is_a_transport(scheme: str, tmp_path: Path) -> None:
    if scheme == "ws":
        await check_transport("ws://127.0.0.1:0/gateway", wrong=WRONG)
        return
    # Two rules listen anew at the URL that was bound, which has no options, and so no certificate.
    rules = set(RULES) - {"nobody_there_is_said", "cancelled_listeners_leave_nothing"}
    place = f"wss://127.0.0.1:{free_port()}/"
    await check_transport(f"{place}?cert={tmp_path}/relay.pem", dial=f"{place}?ca={tmp_path}/ca.pem", rules=rules)


# -- wss


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "relay.pem"))
    authority.issue_cert(common_name="lab").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "lab.pem"))
    return authority


@pytest.mark.usefixtures("authority")
async def test_wss_is_the_same_over_tls_and_knows_its_peers(tmp_path: Path) -> None:
    identities: list[str] = []

    async def answer(pipe: Pipe) -> None:
        identities.append(pipe.identity)
        await echo(pipe)

    mutual = f"wss://127.0.0.1:0/gateway?cert={tmp_path}/relay.pem&client_ca={tmp_path}/ca.pem"
    assert ws.is_guarded(mutual)
    assert not ws.is_guarded("wss://127.0.0.1:0/gateway")
    async with listening(answer, mutual) as url:
        assert url == f"wss://127.0.0.1:{port_of(url)}/gateway"
        data = os.urandom(3 * MiB)
        async with ws.connect(f"{url}?ca={tmp_path}/ca.pem&cert={tmp_path}/lab.pem") as pipe:
            assert pipe.identity == "cert:127.0.0.1"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pipe.stream.send_all, data)
                assert await receive_all(pipe.stream, len(data)) == data
        assert identities[0].startswith("cert:")
        assert "say cert=FILE" in await dial_error(f"{url}?ca={tmp_path}/ca.pem")


@pytest.mark.usefixtures("authority")
async def test_tls_that_fails_is_told_with_what_to_do(tmp_path: Path) -> None:
    async with listening(url=f"wss://127.0.0.1:0/gateway?cert={tmp_path}/relay.pem") as url:
        assert "say ca=FILE with the authority, or pin=FINGERPRINT" in await dial_error(url)
        plain = url.replace("wss:", "ws:")
        assert (await dial_error(plain)).startswith(
            f"{plain}: HTTP 400 Bad Request (TLS is spoken at this port: https://"
        )
        assert await trio.to_thread.run_sync(get, port_of(url), "/gateway") == (
            400,
            "TLS is spoken at this port: https:// and wss:// reach it.\n",
        )
        async with ws.connect(f"{url}?ca={tmp_path}/ca.pem"):
            pass
    async with listening() as url:
        assert "does not speak TLS" in await dial_error(url.replace("ws:", "wss:"))


@pytest.mark.usefixtures("authority")
async def test_a_foreigner_over_tls_reads_the_refusal_too(tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    async with listening(url=f"wss://127.0.0.1:0/gateway?cert={tmp_path}/relay.pem") as url:
        async with await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", port_of(url), ssl_context=context, https_compatible=True
        ) as stream:
            await stream.send_all(b"GET /gateway HTTP/1.1\r\nHost: relay\r\n\r\n")
            got = b""
            async for data in stream:
                got += data
        assert got.startswith(b"HTTP/1.1 426 ")
        assert got.endswith(b").\n")


# -- foreigners


def get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        answer: HTTPResponse = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(("path", "status"), [("/gateway", 426), ("/", 404), ("/gateway/../etc/passwd", 404)])
async def test_an_http_client_reads_what_this_is(path: str, status: int) -> None:
    async with listening() as url:
        found, text = await trio.to_thread.run_sync(get, port_of(url), path)
        assert found == status
        assert "rpyc-gateway node" in text


async def test_an_upload_is_refused_although_it_is_not_read_to_its_end() -> None:
    async with listening() as url, await trio.open_tcp_stream("127.0.0.1", port_of(url)) as stream:
        head = b"POST /gateway HTTP/1.1\r\nHost: relay\r\nContent-Length: 1000000\r\n\r\n"
        await stream.send_all(head + bytes(500_000))
        got = b""
        with trio.fail_after(5):
            async for data in stream:
                got += data
        assert got.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")


@pytest.mark.parametrize(
    ("offered", "origin", "status"),
    [(None, None, 400), (["mqtt"], None, 400), ([SUBPROTOCOL], "https://evil.example", 403)],
)
async def test_a_websocket_client_that_is_not_ours_is_refused_politely(
    offered: list[Any] | None, origin: Any, status: int
) -> None:
    client = pytest.importorskip("websockets.sync.client")
    exceptions = pytest.importorskip("websockets.exceptions")

    def visit(url: str) -> Any:
        with pytest.raises(exceptions.InvalidStatus) as caught:
            client.connect(url, subprotocols=offered, origin=origin, proxy=None)
        return caught.value.response

    async with listening() as url:
        response = await trio.to_thread.run_sync(visit, url)
        assert response.status_code == status
        assert b"rpyc-gateway node" in response.body


async def test_a_websocket_client_that_offers_our_protocol_is_a_stream_like_any_other() -> None:
    client = pytest.importorskip("websockets.sync.client")
    exceptions = pytest.importorskip("websockets.exceptions")
    block = os.urandom(300_000)

    def visit(url: str) -> tuple[bytes, Any]:
        with client.connect(url, subprotocols=[SUBPROTOCOL], origin="https://desk.example", proxy=None) as websocket:
            websocket.send([block[:1000], block[1000:]])  # two frames of one message
            websocket.ping().wait(10)
            got = b""
            while len(got) < len(block):
                got += websocket.recv(timeout=10)
            websocket.send("text")
            with pytest.raises(exceptions.ConnectionClosed) as caught:
                websocket.recv(timeout=10)
            return got, caught.value.rcvd

    async with listening(url="ws://127.0.0.1:0/?origin=https://desk.example") as url:
        got, close = await trio.to_thread.run_sync(visit, url)
    assert got == block
    assert (close.code, close.reason) == (1003, "only binary messages are spoken here")


async def test_one_that_sends_too_long_a_message_is_told_so() -> None:
    client = pytest.importorskip("websockets.sync.client")
    exceptions = pytest.importorskip("websockets.exceptions")

    def visit(url: str) -> Any:
        with client.connect(url, subprotocols=[SUBPROTOCOL], proxy=None) as websocket:
            with contextlib.suppress(exceptions.ConnectionClosed):
                websocket.send(bytes(MAX_MESSAGE + 1))
                websocket.recv(timeout=10)
            return websocket.close_code

    async with listening() as url:
        close = await trio.to_thread.run_sync(visit, url)
    assert close in (1009, 1006), "it may be busy sending when the connection ends"


async def test_one_that_speaks_our_subprotocol_but_no_link_is_sent_away_by_the_node() -> None:
    client = pytest.importorskip("websockets.sync.client")
    exceptions = pytest.importorskip("websockets.exceptions")

    def visit(url: str) -> tuple[bytes, Any]:
        with client.connect(url, subprotocols=[SUBPROTOCOL], proxy=None) as websocket:
            websocket.send(b"GET / HTTP/1.1\r\n\r\n")
            got = b""
            with contextlib.suppress(exceptions.ConnectionClosed):
                while True:
                    got += websocket.recv(timeout=10)
            return got, websocket.close_code

    config = Config(node=NodeSection(name="relay"), listen=(Listen(url="ws://127.0.0.1:0"),))
    async with open_node(config) as node:
        (url,) = node.urls
        got, close = await trio.to_thread.run_sync(visit, url)
    assert got
    assert close == 1000


async def test_a_browser_reads_why_it_is_not_let_in() -> None:
    async with listening() as url, await trio.open_tcp_stream("127.0.0.1", port_of(url)) as stream:
        request = Request("relay", "/gateway", given=[(b"Origin", b"https://desk.example")])
        await stream.send_all(request.sent)
        assert b"lets in no web page from https://desk.example" in await stream.receive_some()


async def test_a_request_that_takes_its_time_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    async with listening() as url, await trio.open_tcp_stream("127.0.0.1", port_of(url)) as stream:
        start = trio.current_time()
        got = b""
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def drip() -> None:
                for byte in b"GET /gateway HTTP/1.1\r\nHost: relay\r\nX-Slow: 1\r\n":
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(1)

            async for data in stream:
                got += data
            nursery.cancel_scope.cancel()
        assert got.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert trio.current_time() - start < 15


@pytest.mark.usefixtures("authority")
async def test_a_caller_that_says_nothing_is_cut(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    for url in ("ws://127.0.0.1:0/", f"wss://127.0.0.1:0/?cert={tmp_path}/relay.pem"):
        async with listening(url=url) as bound, await trio.open_tcp_stream("127.0.0.1", port_of(bound)) as stream:
            start = trio.current_time()
            while await stream.receive_some():
                pass
            assert trio.current_time() - start <= 12


async def test_silent_callers_keep_nobody_out() -> None:
    async with listening() as url:
        silent = [await trio.open_tcp_stream("127.0.0.1", port_of(url)) for _ in range(300)]
        async with ws.connect(url) as pipe:
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"
        for stream in silent:
            await trio.aclose_forcefully(stream)


@settings(max_examples=30)
@given(data=st.binary(min_size=1, max_size=300), asked=st.booleans())
def test_whatever_comes_hurts_nobody_else(data: bytes, asked: bool) -> None:  # noqa: FBT001
    async def main() -> None:
        async with listening() as url, ws.connect(url) as pipe:
            async with await trio.open_tcp_stream("127.0.0.1", port_of(url)) as stream:
                await stream.send_all((Request("relay", "/gateway").sent if asked else b"") + data)
                await stream.send_eof()
                with trio.fail_after(10):
                    try:
                        while await stream.receive_some():
                            pass
                    except trio.BrokenResourceError:
                        stream.socket.close()
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"

    trio.run(main)


# -- accidents


@asynccontextmanager
async def cutting(port: int, after: int, *, answers: bool) -> AsyncIterator[int]:
    """A relay that resets both connections after so many bytes that were asked, or answered."""

    async def relay(near: trio.SocketStream) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", port)
        try:
            await pass_on(near, far)
        finally:
            for stream in (near, far):
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                stream.socket.close()

    async def pass_on(near: trio.SocketStream, far: trio.SocketStream) -> None:
        async def copy(source: trio.SocketStream, sink: trio.SocketStream, *, left: float) -> None:
            while left > 0:
                data = await source.receive_some(int(min(left, 65536)))
                if not data:
                    break
                left -= len(data)
                await sink.send_all(data)
            scope.cancel()

        with trio.CancelScope() as scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(copy, left=1e9 if answers else after), near, far)
                    nursery.start_soon(partial(copy, left=after if answers else 1e9), far, near)
            except* trio.BrokenResourceError:
                scope.cancel()

    async with serving(relay) as relay_port:
        yield relay_port


@pytest.mark.parametrize("answers", [False, True], ids=["asked", "answered"])
async def test_a_reset_at_any_moment_is_an_error_in_words(answers: bool) -> None:  # noqa: FBT001
    before = open_files()
    seen: set[str] = set()
    async with listening() as url:
        for after in range(1, 420, 7):
            async with cutting(port_of(url), after, answers=answers) as port:
                with trio.fail_after(10):
                    try:
                        async with ws.connect(f"ws://127.0.0.1:{port}/gateway") as pipe:
                            while True:
                                await pipe.stream.send_all(b"hello")
                                await pipe.stream.receive_some()
                    except DialFailed as exc:
                        seen.add(str(exc).replace(str(port), "PORT"))
                    except trio.BrokenResourceError as exc:
                        seen.add(str(exc))
    place = "ws://127.0.0.1:PORT/gateway: "
    broken = {
        "the connection broke off: Connection reset by peer",
        "the connection broke off, without the goodbye of WebSocket",
    }
    assert seen & broken
    assert seen - broken == {f"{place}the connection broke before there was an answer: Connection reset by peer"}
    await trio.testing.wait_all_tasks_blocked()
    assert open_files() == before


async def test_a_refused_connection_says_so() -> None:
    url = f"ws://127.0.0.1:{free_port()}/gateway"
    assert await dial_error(url) == f"{url}: connection refused: is the node running, and is this its port?"


async def test_no_answer_is_given_up_after_ten_seconds(autojump_clock: trio.testing.MockClock) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async with serving(silent) as port:
        start = trio.current_time()
        assert await dial_error(f"ws://127.0.0.1:{port}") == (
            f"ws://127.0.0.1:{port}/: no answer within 10 s: is it a web server or a node that listens there?"
        )
        assert trio.current_time() - start == 10


async def test_a_wrong_path_says_what_the_node_says() -> None:
    async with listening() as url:
        wrong = url.replace("gateway", "gatewya")
        assert (await dial_error(wrong)).startswith(
            f"{wrong}: HTTP 404 Not Found (There is nothing here. An rpyc-gateway node"
        )


async def test_a_node_that_listens_for_tcp_there_is_seen_to() -> None:
    async def speak_first(pipe: Pipe) -> None:
        await pipe.stream.send_all(b"RPGW\x01")
        await pipe.stream.receive_some()

    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(TcpTransport().serve, "tcp://127.0.0.1:0", speak_first)
        assert "it does not speak HTTP: it said b'RPGW" in await dial_error(url.replace("tcp", "ws"))
        nursery.cancel_scope.cancel()


async def test_user_password_and_headers_are_sent_and_never_shown() -> None:
    heard: list[bytes] = []

    async def forbid(stream: trio.SocketStream) -> None:
        heard.append(bytes(await stream.receive_some()))
        await stream.send_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    async with serving(forbid) as port:
        text = await dial_error(f"ws://me:s%40cret@127.0.0.1:{port}/x?header=X-Token:%20hidden")
    assert (
        text
        == f"ws://127.0.0.1:{port}/x: HTTP 401 Unauthorized: this user and password, or this Authorization header, is not taken"
    )
    assert b"\r\nAuthorization: Basic bWU6c0BjcmV0\r\n" in heard[0]
    assert b"\r\nX-Token: hidden\r\n" in heard[0]


# -- proxies of the environment


async def test_the_environments_proxy_is_used_but_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []

    async def proxy(stream: trio.SocketStream) -> None:
        heard.append(bytes(await stream.receive_some()))
        await stream.send_all(b"HTTP/1.1 403 No\r\n\r\n")

    async with serving(proxy) as port:
        monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{port}")
        text = await dial_error("ws://lab.invalid/gateway")
        assert text.startswith(
            f"ws://lab.invalid:80/gateway: the proxy http://127.0.0.1:{port} does not connect us to lab.invalid:80"
        )
        async with listening() as url, ws.connect(url):
            assert len(heard) == 1
        assert "cannot be resolved" in await dial_error("ws://lab.invalid/?proxy=direct")
        monkeypatch.setenv("http_proxy", "ftp://me:secret@proxy")
        text = await dial_error("ws://lab.invalid/gateway")
        assert text.startswith("ws://lab.invalid:80/gateway: the environment's http_proxy is of the kind ftp://")


# -- URLs


@pytest.mark.parametrize(
    "url",
    [
        "ws://relay",
        "wss://relay/",
        "WS://relay:8080/a/b",
        "ws://[::1]:1/x",
        "ws://me:pw@relay/?ping=20&proxy=http://p:1",
    ],
)
def test_urls_that_can_be_used(url: str) -> None:
    assert ws.check(url) is None


WRONG = {
    "ws:relay": "is not of the form ws://host:port/path",
    "ws://": "is not of the form ws://host:port/path",
    "ws://::1:80/": "is not of the form ws://host:port/path",
    "ws://relay/#x": "is not of the form ws://host:port/path",
    "ws://relay:70000": "port 70000 is not in 0..65535",
    "ws://relay?prxy=x": "there is no option 'prxy' (known: bind, header, keepalive, origin, ping, proxy, timeout); did you mean 'proxy'?",
    "ws://relay?ca=x": "there is no option 'ca'",
    "ws://relay?proxy=ftp://x": "the option 'proxy' is of the kind ftp://",
    "ws://relay?header=x": "the option 'header' is not of the form",
}


@pytest.mark.parametrize(("url", "problem"), WRONG.items())
async def test_urls_that_cannot_be_used_are_refused_before_anything_is_tried(url: str, problem: str) -> None:
    assert (ws.check(url) or "").startswith(problem)
    assert problem in await dial_error(url)
    with pytest.raises(ConfigError, match=re.escape(problem)):
        await ws.serve(url, echo)


async def test_a_wrong_url_is_told_without_its_secrets() -> None:
    url = "ws://me:secret@relay/?header=X:%20secret&pong=1"
    assert "secret" not in await dial_error(url)
    with pytest.raises(ConfigError) as caught:
        await ws.serve(url, echo)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_not_here_is_said_to_be_missing() -> None:
    with pytest.raises(ConfigError, match=r"^wss://relay:443/: ca=/none.pem cannot be read"):
        ws.check("wss://relay?ca=/none.pem")


LISTENERS = {
    "ws://me:secret@127.0.0.1:0/": "a user and password are for dialling",
    "ws://127.0.0.1:0/?proxy=http://p:1": "the option 'proxy' is for dialling",
    "ws://127.0.0.1:0/?header=X:%20secret": "the option 'header' is for dialling",
    "wss://127.0.0.1:0/": "a listener needs a certificate: say cert=FILE",
}


@pytest.mark.parametrize(("url", "problem"), LISTENERS.items())
async def test_what_is_for_dialling_is_not_for_listeners(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        await ws.serve(url, echo)
    assert "secret" not in str(caught.value)


async def test_what_is_for_listeners_is_not_for_dialling() -> None:
    assert "'origin' is for a listener" in await dial_error("ws://127.0.0.1:1/?origin=*")


async def test_an_address_in_use_says_so() -> None:
    async with listening() as url:
        with pytest.raises(ConfigError, match=re.escape(f"{url}: address already in use")):
            await ws.serve(url, echo)


def test_only_loopback_addresses_are_private() -> None:
    assert ws.is_private("ws://127.0.0.1:1/x")
    assert ws.is_private("wss://[::1]/")
    assert not ws.is_private("ws://0.0.0.0:1/")
    assert not ws.is_private("ws://relay/")
    assert not ws.is_private("ws:")


# -- the whole of it


@pytest.fixture
def classic() -> Config:
    return Config(
        node=NodeSection(name="lab"),
        listen=(Listen(url="ws://127.0.0.1:0/gateway"),),
        serve=(Serve(service="classic", allow=("*",)),),
    )


async def test_a_session_works_over_it_with_large_values_and_errors(classic: Config) -> None:
    async with open_node(classic) as node:
        (url,) = node.urls
        async with open_session(url, node="lab") as lab:
            assert await lab.modules.os.path.join("a", "b") == "a/b"
            data = os.urandom(5 * MiB)
            assert await lab.builtins.bytes(data) == data
            with pytest.raises(FileNotFoundError):
                await lab.builtins.open("/missing")


async def test_a_node_tells_nobody_the_password_of_what_it_dials(caplog: pytest.LogCaptureFixture) -> None:
    url = f"ws://me:secret@127.0.0.1:{free_port()}/?header=X-Token:%20secret&proxy=http://me:secret@127.0.0.1:{free_port()}"
    config = Config(node=NodeSection(name="hq"), dial=(Dial(url=url),))
    with caplog.at_level("DEBUG"):
        async with open_node(config) as node:
            while "cannot be reached" not in caplog.text:  # noqa: ASYNC110  # a log wakes nobody
                await trio.sleep(0.01)
            known = node.nodes()
    assert "secret" not in caplog.text
    assert "secret" not in str(known)
    assert "***@127.0.0.1" in str(known)
