"""tls:// over real sockets on loopback, also with those who are not ours."""

from __future__ import annotations

import logging
import re
import socket
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rpyc_gateway.config import Config
from rpyc_gateway.doorway import PATIENCE, PLACES
from rpyc_gateway.errors import ConfigError, DialFailed
from rpyc_gateway.testing import check_transport
from rpyc_gateway.testing.transports import RULES
from rpyc_gateway.transport import Handler, Pipe
from rpyc_transports.tcp import TcpTransport
from rpyc_transports.tls import TLS_ONLY, TlsTransport
from tests.transports.authority import Authority, Papers, make_oneself, needs_openssl
from tests.transports.test_tcp import echo, free_port, ignore, open_files

tls = TlsTransport()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return make_oneself(tmp_path_factory.mktemp("own"), "relay")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@asynccontextmanager
async def listening(
    options: str, handler: Handler = echo, *, transport: TlsTransport | TcpTransport = tls
) -> AsyncIterator[str]:
    scheme = "tls" if transport is tls else "tcp"
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(transport.serve, f"{scheme}://127.0.0.1:0?{options}".rstrip("?"), handler)
        yield url
        nursery.cancel_scope.cancel()


def port(url: str) -> int:
    return int(url.rpartition(":")[2])


async def test_both_ends_hear_each_other_and_know_who_they_are(authority: Authority) -> None:
    heard: list[Pipe] = []

    async def answer(pipe: Pipe) -> None:
        heard.append(pipe)
        await echo(pipe)

    relay, lab = authority.sign("127.0.0.1"), authority.sign("lab-7")
    before = open_files()
    async with listening(relay.shown(client_ca=authority.file), answer) as url:
        assert re.fullmatch(r"tls://127\.0\.0\.1:[1-9]\d+", url)
        async with tls.connect(f"{url}?{lab.shown(ca=authority.file)}") as pipe:
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"
            assert (pipe.peer, pipe.identity, pipe.private) == (url.removeprefix("tls://"), "cert:127.0.0.1", True)
            (far,) = heard
            assert (far.identity, far.private) == ("cert:lab-7", True)
    assert open_files() == before


class WithPapers(TlsTransport):
    """Where the kit says only whereto, these say with what."""

    def __init__(self, shown: str, known: str) -> None:
        self._shown = shown
        self._known = known

    def connect(self, url: str) -> AbstractAsyncContextManager[Pipe]:
        return super().connect(f"{url}?{self._known}")

    async def serve(self, url: str, handler: Handler, *, task_status: trio.TaskStatus[list[str]]) -> None:
        await super().serve(f"{url}?{self._shown}", handler, task_status=task_status)


@pytest.mark.parametrize("rule", RULES)
async def test_it_is_what_a_transport_must_be(
    authority: Authority, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # handlers fail in these, as they are asked to
    relay, lab = authority.sign("127.0.0.1"), authority.sign("lab-7")
    papers = WithPapers(relay.shown(client_ca=authority.file), lab.shown(ca=authority.file))
    wrong = ["tls:", "tls://relay", "tls://relay:1?pin=0"]
    assert await check_transport("tls://127.0.0.1:0", transport=papers, rules=[rule], wrong=wrong)


async def test_a_listener_shows_its_fingerprint_and_that_is_all_a_client_needs(
    own: Papers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with listening(own.shown()) as url:
        (said,) = caplog.messages
        assert said.startswith(f"{url} shows a certificate that ends on {own.facts.ends.date()}, pin=sha256:")
        async with tls.connect(f"{url}?{said.rpartition(' ')[2]}") as pipe:
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"


async def test_the_url_is_in_every_error_and_no_file_stays_open(own: Papers) -> None:
    before = open_files()
    async with listening(own.shown()) as url:
        inside = open_files()
        for dialled, why in (
            (url, "the certificate is self-signed"),
            (f"{url}?ca=/nowhere.pem", "ca=/nowhere.pem cannot be read: No such file or directory"),
            (f"{url}?pin=sha256:{'0' * 64}", f"its key has the fingerprint {own.pin}"),
            (f"{url}?pin=md5:0", "the option 'pin' is 'md5:0': write sha256:"),
            (f"tls://127.0.0.1:{free_port()}", "connection refused: is the node running"),
        ):
            with pytest.raises(DialFailed, match=f"^{re.escape(dialled)}: {re.escape(why)}"):
                async with tls.connect(dialled):
                    pass
        await wait_all_tasks_blocked()
        assert open_files() == inside
    assert open_files() == before


async def test_who_does_not_speak_tls_at_all_is_quoted(own: Papers) -> None:
    async def greet(pipe: Pipe) -> None:
        await pipe.stream.send_all(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        await pipe.stream.receive_some()

    async with listening("", greet, transport=TcpTransport()) as url:
        with pytest.raises(DialFailed, match=r"it began with b'SSH-2\.0-OpenSSH_9\.2p1"):
            async with tls.connect(url.replace("tcp:", "tls:")):
                pass


@pytest.mark.parametrize("said", [b"\x01\x00\x00\x40RPGW", b"SSH-2.0-x\r\n", b"\0"])
async def test_a_caller_who_does_not_speak_tls_is_told_in_what_it_may_show(own: Papers, said: bytes) -> None:
    async with listening(own.shown()) as url, await trio.open_tcp_stream("127.0.0.1", port(url)) as stream:
        await stream.send_all(said)
        assert await stream.receive_some() == TLS_ONLY
        assert await stream.receive_some() == b""


async def test_an_http_request_gets_an_answer_in_http(own: Papers) -> None:
    async with listening(own.shown()) as url, await trio.open_tcp_stream("127.0.0.1", port(url)) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n")
        answer = b""
        while data := await stream.receive_some():
            answer += bytes(data)
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.endswith(b"Use rpyc-gw or rpyc_gateway with tls:// to dial it.\n")


@needs_openssl
async def test_the_client_of_openssl_is_let_in_and_says_goodbye(authority: Authority) -> None:
    relay, lab = authority.sign("127.0.0.1"), authority.sign("lab-7")
    seen: list[str] = []

    async def answer(pipe: Pipe) -> None:
        seen.append(pipe.identity)
        await echo(pipe)

    async with listening(relay.shown(client_ca=authority.file), answer) as url:
        command = ["openssl", "s_client", "-connect", url.removeprefix("tls://"), "-CAfile", str(authority.file)]
        command += ["-alpn", "rpyc-gw/1", "-cert", str(lab.cert), "-key", str(lab.key), "-brief", "-quiet"]
        command += ["-verify_return_error", "-verify_ip", "127.0.0.1"]
        async with trio.open_nursery() as nursery:
            client = await nursery.start(
                partial(
                    trio.run_process,
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    check=False,
                    capture_stderr=True,
                )
            )
            await client.stdin.send_all(b"hello\n")
            assert await client.stdout.receive_some() == b"hello\n"
            client.terminate()
    assert seen == ["cert:lab-7"]


@needs_openssl
async def test_the_server_of_openssl_is_spoken_with(own: Papers) -> None:
    free = free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{free}", "-cert", str(own.cert), "-key", str(own.key)]
    command += ["-alpn", "rpyc-gw/1", "-rev", "-quiet", "-no_ign_eof"]
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(
                trio.run_process, command, stdin=subprocess.PIPE, capture_stdout=True, capture_stderr=True, check=False
            )
        )
        async with AsyncExitStack() as stack:
            pipe = await stack.enter_async_context(dial_when_up(f"tls://127.0.0.1:{free}?pin={own.pin}"))
            await pipe.stream.send_all(b"hello\n")
            assert await pipe.stream.receive_some() == b"olleh\n"
            server.kill()
            with pytest.raises(trio.BrokenResourceError):
                await pipe.stream.receive_some()


@asynccontextmanager
async def dial_when_up(url: str) -> AsyncIterator[Pipe]:
    for _ in range(200):
        try:
            async with tls.connect(url) as pipe:
                yield pipe
                return
        except DialFailed as exc:
            if "refused" not in str(exc):
                raise
            await trio.sleep(0.05)
    pytest.fail(f"nobody listens at {url}")


async def test_callers_in_the_middle_of_a_handshake_keep_nobody_out(own: Papers, autojump_clock: MockClock) -> None:
    async with listening(own.shown()) as url, AsyncExitStack() as stack:
        slow = [
            await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port(url)))
            for _ in range(2 * PLACES)
        ]
        for stream in slow:
            await stream.send_all(b"\x16")
        await wait_all_tasks_blocked(0.01)
        async with tls.connect(f"{url}?pin={own.pin}") as pipe:
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"
        assert trio.current_time() < 2 * PATIENCE


async def test_a_caller_that_says_nothing_is_closed_after_ten_seconds(own: Papers, autojump_clock: MockClock) -> None:
    async with listening(own.shown()) as url, await trio.open_tcp_stream("127.0.0.1", port(url)) as stream:
        assert await stream.receive_some() == b""
        assert trio.current_time() == pytest.approx(10, abs=0.1)


async def test_a_dial_that_is_cancelled_leaves_nothing_open(own: Papers, autojump_clock: MockClock) -> None:
    async with listening("", ignore, transport=TcpTransport()) as url:
        await wait_all_tasks_blocked()
        before = open_files()
        with trio.move_on_after(1) as scope:
            async with tls.connect(url.replace("tcp:", "tls:")):
                pass
        assert scope.cancelled_caught
        assert len(open_files()) <= len(before) + 1  # the listener's end, until it hears of it
        with pytest.raises(DialFailed, match="no TLS handshake within 10 s: does it speak TLS"):
            async with tls.connect(url.replace("tcp:", "tls:")):
                pass


async def test_a_caller_that_resets_in_the_middle_disturbs_nobody(
    own: Papers, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(own.shown()) as url:
        for said in (b"", b"\x16\x03\x01"):
            with socket.socket() as rude:
                rude.connect(("127.0.0.1", port(url)))
                rude.sendall(said)
                await wait_all_tasks_blocked(0.01)
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with tls.connect(f"{url}?pin={own.pin}") as pipe:
            await pipe.stream.send_all(b"hello")
            assert await pipe.stream.receive_some() == b"hello"
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_listener_that_cannot_be_says_why_before_it_starts(own: Papers, tmp_path: Path) -> None:
    for options, why in (
        ("", "a listener needs a certificate"),
        (own.shown(ca="x"), "the option 'ca' is for dialling"),
        (own.shown(bind="127.0.0.1"), "the option 'bind' is for dialling"),
        (own.shown(cert=tmp_path / "none"), f"cert={tmp_path}/none cannot be read: No such file or directory"),
    ):
        with pytest.raises(ConfigError, match=re.escape(why)):
            await tls.serve(f"tls://127.0.0.1:0?{options}", echo)


async def test_a_certificate_that_goes_away_is_shown_all_the_same(own: Papers, tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    cert.write_bytes(own.cert.read_bytes())
    options = f"cert={cert}&key={own.key}"
    async with listening(options):
        pass
    cert.unlink()
    async with listening(options) as url, tls.connect(f"{url}?pin={own.pin}") as pipe:
        await pipe.stream.send_all(b"hello")
        assert await pipe.stream.receive_some() == b"hello"


def test_secrets_of_a_url_are_not_told_with_what_is_wrong_with_its_files() -> None:
    with pytest.raises(ConfigError, match=r"proxy=\*\*\*.*cannot be read"):
        tls.check("tls://relay:1?proxy=http://me:hunter2@p:1&ca=/nowhere.pem")


def test_a_listener_is_guarded_if_it_knows_its_clients(own: Papers) -> None:
    assert tls.is_private("tls://127.0.0.1:1?cert=x")
    assert not tls.is_private("tls://0.0.0.0:1?cert=x")
    assert not tls.is_guarded("tls://0.0.0.0:1?cert=x")
    assert tls.is_guarded("tls://0.0.0.0:1?cert=x&client_ca=y")


@pytest.mark.parametrize("url", ["tls:", "tls://relay", "tls://relay:1/path", "tls://me@relay:1", "tcp://relay:1"])
async def test_urls_that_cannot_be_used(url: str) -> None:
    assert "is not of the form tls://host:port" in (tls.check(url) or "")
    with pytest.raises(DialFailed, match="is not of the form tls://host:port"):
        async with tls.connect(url):
            pass
    with pytest.raises(ConfigError, match="is not of the form tls://host:port"):
        await tls.serve(url, echo)


def test_a_configuration_is_refused_for_files_that_are_not_here(own: Papers, caplog: pytest.LogCaptureFixture) -> None:
    missing = '[[dial]]\nurl = "tls://relay:1?ca=/nowhere.pem"\n'
    with pytest.raises(ConfigError, match=r"url: .*ca=/nowhere\.pem cannot be read: No such file"):
        Config.parse(missing, "hq.toml")
    # Another node will dial, and has it or not.
    Config.parse(missing + 'via = "bastion"\n', "hq.toml")
    assert "ca=/nowhere.pem cannot be read: No such file or directory; bastion will need it" in caplog.text
    listen = f'[[listen]]\nurl = "tls://0.0.0.0:1?{own.shown(client_ca=own.cert)}"\n'
    assert Config.parse(listen, "hq.toml").listen


def test_a_configuration_is_refused_for_a_listener_that_cannot_be(own: Papers) -> None:
    for url, why in (
        ("tls://0.0.0.0:1?client_ca=x", "client_ca=x cannot be read: No such file"),
        ("tls://127.0.0.1:1", "a listener needs a certificate: say cert=FILE"),
        (f"tls://127.0.0.1:1?{own.shown(ca=own.cert)}", "the option 'ca' is for dialling"),
        (f"wss://127.0.0.1:1?{own.shown(ca=own.cert)}", "the option 'ca' is for dialling"),
    ):
        with pytest.raises(ConfigError, match=rf"c\.toml:2:1: listen\[0\]\.url: .*{why}"):
            Config.parse(f'[[listen]]\nurl = "{url}"\n', "c.toml")
