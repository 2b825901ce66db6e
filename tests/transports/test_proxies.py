"""Proxies on the way out: what they are told, what they may answer, and what the user hears of it. Real ones are in tests/chains/."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise

import pytest
import trio
import trio.lowlevel
from hypothesis import given
from hypothesis import strategies as st

from rpyc_gateway.errors import DialFailed
from rpyc_gateway.transport import Pipe
from rpyc_transports.proxies import DIRECT, Proxy, environment_proxy, open_via, proxy
from rpyc_transports.tcp import TcpTransport

Script = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def playing(script: Script, scheme: str = "http", login: str = "") -> AsyncIterator[Proxy]:
    """A proxy that does what is written."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), script, 0)
        yield proxy(f"{scheme}://{login}127.0.0.1:{listener.socket.getsockname()[1]}")
        nursery.cancel_scope.cancel()


def saying(*answers: bytes, heard: list[bytes] | None = None) -> Script:
    """Hear something and answer, again and again, and wait for the end."""

    async def script(stream: trio.SocketStream) -> None:
        for answer in answers:
            data = await stream.receive_some()
            if heard is not None:
                heard.append(bytes(data))
            await stream.send_all(answer)
        await stream.receive_some()

    return script


async def said(script: Script, scheme: str = "http", login: str = "") -> str:
    """What the user hears of a proxy that does this; the proxy's own name is cut out."""
    async with playing(script, scheme, login) as way:
        with pytest.raises(OSError, match=r"^the proxy ") as caught:
            await open_via(way, "lab", 18860)
        assert caught.value.errno is None
        return str(caught.value).replace(str(way), "P")


OK = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 p\r\n\r\n"


# -- HTTP


async def test_a_connection_is_asked_for_by_name_and_left_to_its_user() -> None:
    heard: list[bytes] = []
    async with playing(saying(OK, heard=heard)) as way:
        await (await open_via(way, "lab", 18860)).aclose()
    assert heard == [b"CONNECT lab:18860 HTTP/1.1\r\nHost: lab:18860\r\n\r\n"]


async def test_an_ipv6_address_is_asked_for_in_brackets_and_a_name_of_any_script_in_ascii() -> None:
    heard: list[bytes] = []
    async with playing(saying(OK, heard=heard)) as way:
        await (await open_via(way, "2001:db8::1", 1)).aclose()
        await (await open_via(way, "böard.example", 1)).aclose()
    assert [line.split()[1] for line in heard] == [b"[2001:db8::1]:1", b"xn--bard-5qa.example:1"]


async def test_user_and_password_are_said_to_the_proxy_and_to_nobody_else() -> None:
    heard: list[bytes] = []
    async with playing(saying(OK, heard=heard), login="me:s%40cret@") as way:
        await (await open_via(way, "lab", 1)).aclose()
        assert "cret" not in str(way)
    assert b"\r\nProxy-Authorization: Basic bWU6c0BjcmV0\r\n" in heard[0]


@given(cuts=st.lists(st.integers(1, len(OK) + 4), max_size=5))
def test_what_the_far_side_says_first_is_not_taken_from_it_however_the_answer_is_cut(cuts: list[int]) -> None:
    whole = OK + b"HELLO"

    async def script(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        bounds = [0, *sorted(set(cuts)), len(whole)]
        for start, end in pairwise(bounds):
            await stream.send_all(whole[start:end])
            await trio.lowlevel.checkpoint()
        await stream.send_eof()
        await stream.receive_some()

    async def main() -> None:
        async with playing(script) as way:
            stream = await open_via(way, "lab", 1)
            got = b""
            async for data in stream:
                got += data
            assert got == b"HELLO"
            await stream.aclose()

    trio.run(main)


REFUSALS = {
    b"403 Filtered": "403 Filtered (its rules forbid that address or port: ask whoever runs it)",
    b"404 Not Found": "404 Not Found (a web server rather than a proxy?)",
    b"418": "418",
    b"502 Bad Gateway": "502 Bad Gateway (it cannot reach that address itself)",
    b"503 Busy": "503 Busy (it cannot reach that address itself, or is overloaded)",
    b"407 Auth\r\nProxy-Authenticate: Basic realm=p": "407 Auth (it wants a user and password: http://user:password@...)",
    b"407 Auth\r\nproxy-authenticate: NTLM\r\nProxy-Authenticate: Negotiate": "407 Auth (it wants Negotiate or Ntlm, we have Basic: "
    "put a helper such as px or cntlm between)",
}


@pytest.mark.parametrize(("status", "words"), REFUSALS.items())
async def test_a_refusal_names_the_proxy_and_what_it_said(status: bytes, words: str) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 3\r\n\r\nno\n"
    assert await said(saying(answer)) == f"the proxy P does not connect us to lab:18860: {words}"


async def test_a_password_that_is_not_taken_is_not_shown() -> None:
    text = await said(saying(b"HTTP/1.1 407 No\r\n\r\n"), login="me:secret@")
    assert text == "the proxy P does not connect us to lab:18860: 407 No (it does not take this user and password)"


MUTTERINGS = {
    b"SSH-2.0-OpenSSH_9.2\r\n": "the proxy P does not speak HTTP: it said b'SSH-2.0-OpenSSH_9.2\\r\\n'",
    b"HTTP/3 200\r\n\r\n": "the proxy P does not speak HTTP: it said b'HTTP/3 200\\r\\n\\r\\n'",
    b"HTTP/1.1 200 OK\r\n" + b"X-Long: y\r\n" * 2000: "the proxy P answers with more than 16384 bytes of headers",
}


@pytest.mark.parametrize(("answer", "words"), MUTTERINGS.items())
async def test_what_is_no_http_proxy_is_said_to_be_none(answer: bytes, words: str) -> None:
    assert await said(saying(answer)) == words


async def test_a_proxy_that_leaves_is_said_to_have_left() -> None:
    async def leave(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 2")

    assert await said(leave) == "the proxy P ended the connection instead of an answer, having said b'HTTP/1.1 2'"


async def test_a_proxy_that_resets_is_said_to_have_broken_the_connection() -> None:
    async def reset(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()

    assert await said(reset) == "the proxy P broke the connection: Connection reset by peer"


async def test_a_proxy_that_is_not_there_is_said_not_to_be_reached() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(OSError, match=f"^the proxy http://{host}:{port} cannot be reached: .*onnection refused"):
            await open_via(proxy(f"http://me:secret@{host}:{port}"), "lab", 1)


async def test_a_proxy_that_says_nothing_is_given_up_after_ten_seconds(autojump_clock: object) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    start = trio.current_time()
    assert await said(silent) == "the proxy P does not connect us within 10 s"
    assert trio.current_time() - start == 10


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_cancelling_it_leaves_nothing_open(scheme: str) -> None:
    gone = trio.Event()

    async def silent(stream: trio.SocketStream) -> None:
        asked = await stream.receive_some()
        assert asked
        scope.cancel()
        assert await stream.receive_some() == b""
        gone.set()

    async with playing(silent, scheme) as way:
        with trio.CancelScope() as scope:
            await open_via(way, "lab", 1)
        assert scope.cancelled_caught
        await gone.wait()


# -- SOCKS5

CONNECTED = b"\5\0\0\1\x7f\0\0\1\x12\x34"


async def test_a_socks_proxy_is_given_the_name_to_resolve_it() -> None:
    heard: list[bytes] = []
    async with playing(saying(b"\5\0", CONNECTED + b"HELLO", heard=heard), "socks5") as way:
        async with await open_via(way, "lab", 0x1234) as stream:
            assert await stream.receive_some() == b"HELLO"
    assert heard == [b"\5\1\0", b"\5\1\0\3\3lab\x12\x34"]


ADDRESSES = {
    "127.0.0.1": b"\1\x7f\0\0\1",
    "::1": b"\4" + bytes(15) + b"\1",
    "böard": b"\3" + b"\x0cxn--bard-5qa",
}


@pytest.mark.parametrize(("host", "packed"), ADDRESSES.items())
async def test_addresses_are_given_as_what_they_are(host: str, packed: bytes) -> None:
    heard: list[bytes] = []
    for bound in (CONNECTED, b"\5\0\0\4" + bytes(18), b"\5\0\0\3\3way\0\1"):
        async with playing(saying(b"\5\0", bound + b"!", heard=heard), "socks5h") as way:
            async with await open_via(way, host, 1) as stream:
                assert await stream.receive_some() == b"!"
    assert heard[1] == b"\5\1\0" + packed + b"\0\1"


async def test_user_and_password_are_said_when_the_proxy_wants_them() -> None:
    heard: list[bytes] = []
    async with playing(saying(b"\5\2", b"\1\0", CONNECTED, heard=heard), "socks5", "me:secret@") as way:
        await (await open_via(way, "lab", 1)).aclose()
    assert heard[:2] == [b"\5\2\0\2", b"\1\2me\6secret"]


SOCKS_REFUSALS = {
    (b"\5\xff",): "the proxy P wants a user and password: socks5://user:password@...",
    (b"\5\2",): "the proxy P wants a user and password: socks5://user:password@...",
    (b"HTTP/1.1 400 Bad Request\r\n\r\n",): "the proxy P does not speak SOCKS5: is it an HTTP proxy (http://)?",
    (b"\5\0", b"\5\2\0\1"): "the proxy P does not connect us to lab:18860: its rules forbid it: ask whoever runs it",
    (
        b"\5\0",
        b"\5\5\0\1",
    ): "the proxy P does not connect us to lab:18860: connection refused there: is the node running, and is this its port?",
    (b"\5\0", b"\5\x63\0\1"): "the proxy P does not connect us to lab:18860: error 99",
    (b"\5\0", b"\4\0\0\1"): "the proxy P does not speak SOCKS5 to the end",
}


@pytest.mark.parametrize(("answers", "words"), SOCKS_REFUSALS.items())
async def test_a_socks_proxy_that_refuses_is_understood(answers: tuple[bytes, ...], words: str) -> None:
    assert await said(saying(*answers), "socks5") == words


async def test_a_socks_login_that_fails_is_not_shown() -> None:
    for answers, words in (
        ((b"\5\2", b"\1\1"), "the proxy P does not take this user and password"),
        ((b"\5\xff",), "the proxy P wants a way to log in that we do not have"),
    ):
        assert await said(saying(*answers), "socks5", "me:secret@") == words


async def test_a_socks_proxy_that_leaves_is_said_to_have_left() -> None:
    async def leave(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"\5")

    assert await said(leave, "socks5") == "the proxy P ended the connection in the middle of the SOCKS5 handshake"


async def test_a_name_that_is_too_long_for_socks_is_not_asked_for() -> None:
    async with playing(saying(b"\5\0", CONNECTED), "socks5") as way:
        with pytest.raises(OSError, match="cannot be asked for a name of more than 255 bytes"):
            await open_via(way, "x" * 256, 1)


@given(junk=st.binary(max_size=64), scheme=st.sampled_from(["http", "socks5"]))
def test_whatever_a_proxy_says_it_ends_in_a_connection_or_in_words(junk: bytes, scheme: str) -> None:
    async def script(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(junk)

    async def main() -> None:
        async with playing(script, scheme) as way:
            problem = str(way)
            try:
                await (await open_via(way, "lab", 1)).aclose()
            except OSError as exc:
                problem = str(exc)
            assert str(way) in problem

    trio.run(main)


# -- as they are given


def test_proxies_are_given_by_url() -> None:
    assert proxy("http://me:a%3Ab@relay:3128/") == Proxy("http", "relay", 3128, b"me", b"a:b")
    assert proxy("relay:3128") == Proxy("http", "relay", 3128)
    assert proxy("socks5h://[::1]") == Proxy("socks5", "::1", 1080)
    assert proxy("direct") == DIRECT
    assert str(proxy("http://me:secret@[::1]:3128")) == "http://[::1]:3128"


def test_a_proxy_survives_being_an_option() -> None:
    from rpyc_transports import urls

    way = Proxy("socks5", "::1", 1080, b"m&e", b"p@ss word\xff")
    assert urls.parse(f"tcp://lab:1?proxy={way.as_option()}", {"proxy": proxy}) == ({"proxy": way}, [])


NO_PROXIES = {
    "https://relay:3128": "is of the kind https://, which is not supported: http:// and socks5:// are",
    "http://": "is not of the form http://host:port",
    "http://relay:port": "is not of the form http://host:port",
    "http://relay:0": "is not of the form http://host:port",
    "http://relay:3128/path": "is not of the form http://host:port",
    "http://[relay": "is not of the form http://host:port",
    f"socks5://{'u' * 256}:p@relay": "has a user or password of more than 255 bytes, which SOCKS5 cannot say",
}


@pytest.mark.parametrize(("text", "problem"), NO_PROXIES.items())
def test_what_is_no_proxy_is_refused_without_repeating_it(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="^" + problem):
        proxy(text)


ENVIRONMENTS: list[tuple[str, str, Mapping[str, str], str | None]] = [
    ("ws", "lab", {}, None),
    ("ws", "lab", {"http_proxy": "http://p:1"}, "http://p:1"),
    ("ws", "lab", {"https_proxy": "http://p:1"}, None),
    ("wss", "lab", {"https_proxy": "http://p:1"}, "http://p:1"),
    ("wss", "lab", {"http_proxy": "http://p:1"}, None),
    ("wss", "lab", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
    ("wss", "lab", {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:1"}, "http://q:1"),
    ("wss", "lab", {"HTTPS_PROXY": "http://p:1", "https_proxy": ""}, None),
    ("wss", "lab", {"ALL_PROXY": "socks5://p:1"}, "socks5://p:1"),
    ("wss", "lab", {"ALL_PROXY": "socks5://p:1", "https_proxy": "q:1"}, "http://q:1"),
    ("ws", "lab", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
    ("ws", "lab", {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
    ("ws", "localhost", {"http_proxy": "http://p:1"}, None),
    ("ws", "127.1.2.3", {"http_proxy": "http://p:1"}, None),
    ("ws", "::1", {"http_proxy": "http://p:1"}, None),
    ("ws", "lab.example.com", {"http_proxy": "p:1", "no_proxy": "example.org, .example.com"}, None),
    ("ws", "example.com", {"http_proxy": "p:1", "NO_PROXY": ".example.com"}, None),
    ("ws", "badexample.com", {"http_proxy": "p:1", "no_proxy": "example.com"}, "http://p:1"),
    ("ws", "LAB.", {"http_proxy": "p:1", "no_proxy": "lab"}, None),
    ("ws", "lab", {"http_proxy": "p:1", "no_proxy": "*"}, None),
    ("ws", "10.1.2.3", {"http_proxy": "p:1", "no_proxy": "nonsense/8 10.0.0.0/8"}, None),
    ("ws", "11.1.2.3", {"http_proxy": "p:1", "no_proxy": "10.0.0.0/8,"}, "http://p:1"),
    ("ws", "fd00::1", {"http_proxy": "p:1", "no_proxy": "[fd00::1]"}, None),
]


@pytest.mark.parametrize(("scheme", "host", "environ", "expected"), ENVIRONMENTS)
def test_the_environment_is_heeded_as_curl_does(
    scheme: str, host: str, environ: Mapping[str, str], expected: str | None
) -> None:
    found = environment_proxy(scheme, host, environ)
    assert (None if found is None else str(found)) == expected


def test_a_variable_that_cannot_be_used_is_named_without_its_password() -> None:
    with pytest.raises(
        ValueError, match=r"^the environment's HTTPS_PROXY is of the kind https://.*`proxy=direct` goes"
    ) as caught:
        environment_proxy("wss", "lab", {"HTTPS_PROXY": "https://me:secret@p:1"})
    assert "secret" not in str(caught.value)


# -- tcp://


async def echo(pipe: Pipe) -> None:
    async for data in pipe.stream:
        await pipe.stream.send_all(data)


async def relay(stream: trio.SocketStream) -> None:
    """A whole HTTP proxy."""
    target = (await stream.receive_some()).split()[1].decode()
    host, _, port = target.rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as far, trio.open_nursery() as nursery:
        await stream.send_all(OK)

        async def copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
            async for data in source:
                await sink.send_all(data)
            await sink.send_eof()

        nursery.start_soon(copy, stream, far)
        nursery.start_soon(copy, far, stream)


async def test_tcp_goes_through_a_proxy_where_its_url_says_so() -> None:
    tcp = TcpTransport()
    async with playing(relay) as way, trio.open_nursery() as nursery:
        (url,) = await nursery.start(tcp.serve, "tcp://127.0.0.1:0", echo)
        async with tcp.connect(f"{url}?proxy={way}") as pipe:
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"
            assert pipe.peer == f"{url.removeprefix('tcp://')} through {way}"
            assert not pipe.private
        nursery.cancel_scope.cancel()


async def test_the_proxy_is_dialled_from_the_address_that_the_url_says() -> None:
    callers: list[str] = []

    async def note(stream: trio.SocketStream) -> None:
        callers.append(stream.socket.getpeername()[0])

    async with playing(note) as way:
        with pytest.raises(DialFailed, match="ended the connection instead of an answer"):
            async with TcpTransport().connect(f"tcp://lab:1?proxy={way}&bind=127.0.0.3"):
                pass
    assert callers == ["127.0.0.3"]


async def test_tcp_does_not_heed_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    tcp = TcpTransport()
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(tcp.serve, "tcp://127.0.0.1:0", echo)
        async with tcp.connect(url):
            pass
        nursery.cancel_scope.cancel()


async def test_a_failure_of_the_proxy_is_told_with_the_url_and_without_the_password() -> None:
    async with playing(saying(b"HTTP/1.1 403 No\r\n\r\n")) as way:
        given = str(way).replace("://", "://me:secret@")
        with pytest.raises(DialFailed) as caught:
            async with TcpTransport().connect(f"tcp://lab:18860?proxy={given}"):
                pass
    assert str(caught.value).startswith(
        f"tcp://lab:18860?proxy=***: the proxy {way} does not connect us to lab:18860: 403 No"
    )
