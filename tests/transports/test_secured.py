"""TLS over any stream: what becomes of handshakes that cannot be, and how a stream ends."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio
from cryptography.x509.oid import ExtendedKeyUsageOID
from trio.testing import MockClock, check_two_way_stream, memory_stream_pair

from rpyc_transports import secured
from rpyc_transports.secured import HandshakeFailed, Secured, TlsStream, secure_accepted, secure_dialled
from tests.transports.authority import Authority, Papers, make_oneself

Ended: TypeAlias = Secured | HandshakeFailed


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """Of a listener that has signed for itself."""
    return make_oneself(tmp_path_factory.mktemp("own"), "relay")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def relay(authority: Authority) -> Papers:
    return authority.sign("relay", "127.0.0.1")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends are here: who closes waits in vain for the other, in real time where no clock is set."""
    monkeypatch.setattr(secured, "CLOSE_WITHIN", 0.05)


def shown(papers: Papers, **more: object) -> dict[str, object]:
    return {"cert": str(papers.cert), "key": str(papers.key), **more}


async def attempt(handshake: Callable[[], Awaitable[Secured]]) -> Ended:
    try:
        return await handshake()
    except HandshakeFailed as exc:
        return exc


async def meet(dialled: dict[str, Any], accepted: dict[str, Any], *, host: str = "relay") -> tuple[Ended, Ended]:
    """What becomes of both sides."""
    near, far = memory_stream_pair()
    ended: dict[str, Ended] = {}

    async def run(side: str, handshake: Callable[[], Awaitable[Secured]]) -> None:
        ended[side] = await attempt(handshake)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "dialled", partial(secure_dialled, near, host, dialled))
        nursery.start_soon(run, "accepted", partial(secure_accepted, far, accepted))
    return ended["dialled"], ended["accepted"]


def stream(ended: Ended) -> TlsStream:
    assert isinstance(ended, Secured)
    return ended.stream


# -- who is who


async def test_the_name_that_was_dialled_is_the_identity_of_a_listener(authority: Authority, relay: Papers) -> None:
    for host, options, name in (
        ("relay", {}, "relay"),
        ("relay.", {}, "relay"),
        ("127.0.0.1", {}, "127.0.0.1"),
        ("10.0.0.7", {"name": "relay"}, "relay"),
    ):
        near, far = await meet({"ca": str(authority.file), **options}, shown(relay), host=host)
        assert isinstance(near, Secured)
        assert isinstance(far, Secured)
        assert (near.identity, far.identity) == (f"cert:{name}", "")


@pytest.mark.parametrize("part", ["key", "whole"])
async def test_a_pin_is_enough_to_know_a_listener_by(own: Papers, part: str) -> None:
    pin = getattr(own.facts, part)
    near, _ = await meet({"pin": ("sha256:" + "0" * 64, pin)}, shown(own), host="whatever")
    assert isinstance(near, Secured)
    assert near.identity == f"cert:{own.pin}"  # what its owner has written into it is nobody else's word


async def test_a_pin_beside_an_authority_is_asked_for_as_well(authority: Authority, relay: Papers) -> None:
    options = {"ca": str(authority.file), "pin": (relay.pin,)}
    near, _ = await meet(options, shown(relay))
    assert isinstance(near, Secured)
    near, _ = await meet(options, shown(authority.sign("relay", file="another")))
    assert "its key has the fingerprint" in str(near)
    near, _ = await meet(options, shown(relay), host="other")
    assert "not valid for 'other'" in str(near)


async def test_another_key_than_the_pinned_one_is_shown_and_refused_before_a_byte_is_sent(own: Papers) -> None:
    pinned = "sha256:" + "0" * 64
    near, far = await meet({"pin": (pinned,)}, shown(own))
    assert str(near) == (
        f"its key has the fingerprint {own.pin}, not {pinned}: somebody else answers, or it has a new key"
    )
    assert await stream(far).receive_some() == b""


async def test_a_client_is_named_by_its_certificate(authority: Authority, relay: Papers) -> None:
    lab = authority.sign("lab-7")
    near, far = await meet({"ca": str(authority.file), **shown(lab)}, shown(relay, client_ca=str(authority.file)))
    assert isinstance(near, Secured)
    assert isinstance(far, Secured)
    assert far.identity == "cert:lab-7"


async def test_clients_that_signed_for_themselves_are_let_in_one_by_one(own: Papers, tmp_path: Path) -> None:
    lab, other = make_oneself(tmp_path, "lab-7"), make_oneself(tmp_path / "other", "lab-8")
    accepted = shown(own, client_ca=str(lab.cert))
    _, far = await meet({"pin": (own.pin,), **shown(lab)}, accepted)
    assert isinstance(far, Secured)
    assert far.identity == "cert:lab-7"
    _, far = await meet({"pin": (own.pin,), **shown(other)}, accepted)
    assert str(far) == "the client's certificate is refused: self-signed certificate"


async def test_a_client_whose_key_is_not_pinned_reads_so(authority: Authority, relay: Papers) -> None:
    lab, other = authority.sign("lab-7"), authority.sign("lab-8")
    accepted = shown(relay, client_ca=str(authority.file), client_pin=(lab.pin,))
    _, far = await meet({"ca": str(authority.file), **shown(lab)}, accepted)
    assert isinstance(far, Secured)
    near, far = await meet({"ca": str(authority.file), **shown(other)}, accepted)
    assert str(far) == f"the client's key has the fingerprint {other.pin}, which is not in client_pin"
    assert await stream(near).receive_some() == b"certificate not pinned\r\n"
    assert await stream(near).receive_some() == b""


# -- what cannot be, in words


async def test_every_reason_to_distrust_a_listener_is_said(authority: Authority, own: Papers, tmp_path: Path) -> None:
    ca, today = {"ca": str(authority.file)}, f"{datetime.now(UTC):%Y-%m-%d}"
    client_only = make_oneself(tmp_path, "relay", purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
    revenant = Authority(tmp_path / "elsewhere").sign("relay")
    for papers, options, host, why in (
        (own, ca, "relay", "the certificate is self-signed: say pin=FINGERPRINT, which a listener logs when it starts"),
        (revenant, ca, "relay", "the certificate is signed by somebody who is not trusted here: say ca=FILE"),
        (authority.sign_expired("relay"), ca, "relay", f"the certificate has expired: renew it, unless .* ({today}"),
        (authority.sign_for_later("relay"), ca, "relay", f"the certificate is not valid yet: .*here ({today}"),
        (authority.sign("hub"), ca, "relay", "Hostname mismatch, certificate is not valid for 'relay': say name=NAME"),
        (authority.sign("hub"), ca, "10.0.0.7", "IP address mismatch, certificate is not valid for '10.0.0.7': say"),
        (client_only, {"ca": str(client_only.cert)}, "relay", "the certificate is not for this purpose: a listener"),
    ):
        near, far = await meet(options, shown(papers), host=host)
        assert isinstance(near, HandshakeFailed)
        assert str(near).startswith(why.partition(".*")[0]), near
        assert why.rpartition(".*")[2] in str(near)
        assert "TLS failed" not in str(far)
        assert "refuses our certificate" in str(far)  # it has been told


async def test_every_reason_to_distrust_a_client_is_said_to_both(authority: Authority, own: Papers) -> None:
    accepted = shown(own, client_ca=str(authority.file))
    for papers, why_far, why_near in (
        (
            None,
            "the client shows no certificate, and client_ca demands one",
            "lets in only whom it can name: say cert=",
        ),
        (own, "the client's certificate is refused: self-signed certificate", "it does not trust who has signed it"),
        (
            authority.sign_expired("lab"),
            "the client's certificate is refused: certificate has expired",
            "it has expired",
        ),
        (authority.sign_for_later("lab"), "certificate is refused: certificate is not yet valid", "refuses our certif"),
    ):
        near, far = await meet({"pin": (own.pin,), **(shown(papers) if papers else {})}, accepted)
        assert isinstance(far, HandshakeFailed)
        assert why_far in str(far)
        # TLS 1.3 is through for a client before the listener has looked at its certificate.
        with pytest.raises(trio.BrokenResourceError, match=why_near):
            await stream(near).receive_some()


async def test_a_client_with_tls_1_2_hears_of_its_certificate_in_the_handshake(
    authority: Authority, own: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialling = secured.trust.dialling

    def older(*given: Any) -> ssl.SSLContext:
        context = dialling(*given)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    monkeypatch.setattr(secured.trust, "dialling", older)
    lab = authority.sign_expired("lab")
    near, _ = await meet({"pin": (own.pin,), **shown(lab)}, shown(own, client_ca=str(authority.file)))
    assert str(near) == "the far end refuses our certificate: it has expired, or the clock there is wrong"


FOREIGNERS = {
    b"SSH-2.0-OpenSSH_9.2p1\r\n": r"it began with b'SSH-2\.0-OpenSSH_9\.2p1\\r\\n'",
    b"HTTP/1.1 400 Bad Request\r\n\r\n": r"it began with b'HTTP/1\.1 400 Bad",
    b"\x0e\x00\x00\x40\x00\x00\x00\x00" + bytes(64): r"it began with b'\\x0e",
    b"220 mail\r\n": r"it began with b'220 mail",
}


@pytest.mark.parametrize(("said", "why"), FOREIGNERS.items())
async def test_a_listener_that_speaks_something_else_is_quoted(said: bytes, why: str) -> None:
    near, far = memory_stream_pair()
    await far.send_all(said)
    with pytest.raises(HandshakeFailed, match=why):
        await secure_dialled(near, "relay", {})


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x03"])
async def test_a_listener_that_closes_in_the_middle_is_said_to_have(said: bytes) -> None:
    near, far = memory_stream_pair()
    await far.send_all(said)
    await far.send_eof()
    with pytest.raises(HandshakeFailed, match="the far end closed the connection in the middle of the TLS handshake"):
        await secure_dialled(near, "relay", {})


async def test_a_handshake_has_ten_seconds_on_both_sides(own: Papers, autojump_clock: MockClock) -> None:
    near, far = memory_stream_pair()
    with pytest.raises(HandshakeFailed, match="no TLS handshake within 10 s: does it speak TLS"):
        await secure_dialled(near, "relay", {})
    assert trio.current_time() == 10
    near, far = memory_stream_pair()
    with pytest.raises(HandshakeFailed, match="no TLS handshake within 10 s"):
        await secure_accepted(far, shown(own))
    assert trio.current_time() == 20


async def test_a_name_that_no_certificate_can_have_is_refused() -> None:
    near, _ = memory_stream_pair()
    with pytest.raises(HandshakeFailed, match=r"'\.relay' cannot be the name of a server"):
        await secure_dialled(near, ".relay", {})


# -- the stream


async def tls_pair(own: Papers) -> tuple[TlsStream, TlsStream]:
    near, far = await meet({"pin": (own.pin,)}, shown(own))
    return stream(near), stream(far)


async def test_it_is_what_trio_says_a_stream_is(own: Papers) -> None:
    await check_two_way_stream(partial(tls_pair, own), None)


async def test_what_ends_without_a_goodbye_was_cut(own: Papers) -> None:
    near, far = await tls_pair(own)
    await near.send_all(b"half of ")
    await near._wire._stream.send_eof()  # type: ignore[attr-defined]
    assert await far.receive_some() == b"half of "
    with pytest.raises(trio.BrokenResourceError, match="the connection was cut: it ended without the goodbye of TLS"):
        await far.receive_some()


async def test_what_was_changed_on_the_way_is_not_given_out(own: Papers) -> None:
    near, far = await tls_pair(own)
    await near._wire.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(trio.BrokenResourceError, match="TLS failed: decryption failed or bad record mac"):
        await far.receive_some()


async def test_last_words_arrive_though_much_was_left_unread(own: Papers, autojump_clock: MockClock) -> None:
    near, far = await tls_pair(own)
    await near.send_all(bytes(100_000))
    await far.receive_some(10)
    await far.send_all(b"enough")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.aclose)
        assert await near.receive_some() == b"enough"
        assert await near.receive_some() == b""
        await near.aclose()
    assert trio.current_time() == 0


async def test_a_peer_that_neither_reads_nor_ends_holds_nobody_for_long(own: Papers, autojump_clock: MockClock) -> None:
    near, far = await tls_pair(own)
    await near.aclose()
    assert trio.current_time() == secured.CLOSE_WITHIN
    with pytest.raises(trio.ClosedResourceError):
        await near.send_all(b"more")
    await far.aclose()


async def test_a_close_that_is_cancelled_closes(own: Papers) -> None:
    near, far = await tls_pair(own)
    await trio.aclose_forcefully(near)
    with pytest.raises(trio.ClosedResourceError):
        await near.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await far.receive_some()
