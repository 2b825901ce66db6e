"""Contexts out of the options of a URL: what is shown, who is trusted, and what is wrong with the files."""

from __future__ import annotations

import os
import re
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from rpyc_transports import trust
from rpyc_transports.trust import Options, Unusable, dialling, listening, own_certificate, unusable_files
from tests.transports.authority import Authority, Papers, make_oneself

ALPN = ("rpyc-gw/1",)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return make_oneself(tmp_path_factory.mktemp("own"), "relay")


def shown(papers: Papers, **more: object) -> Options:
    return {"cert": str(papers.cert), "key": str(papers.key), **more}


def agree(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "relay") -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Shake hands in memory. Raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=name)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    ends = [near, far]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return near, far


# -- what is agreed on


def test_two_nodes_agree_on_the_newest_version_and_on_what_they_speak(papers: Papers) -> None:
    near, far = agree(dialling({"ca": str(papers.cert)}, ALPN), listening(shown(papers), ALPN))
    assert near.version() == far.version() == "TLSv1.3"
    assert near.selected_alpn_protocol() == "rpyc-gw/1"


def test_old_versions_are_refused(papers: Papers) -> None:
    assert dialling({}, ALPN).minimum_version == ssl.TLSVersion.TLSv1_2
    assert listening(shown(papers), ALPN).minimum_version == ssl.TLSVersion.TLSv1_2


def test_the_system_says_whom_to_trust_if_nobody_else_does(papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(papers.cert))
    monkeypatch.setattr(trust, "_contexts", {})
    agree(dialling({}, ALPN), listening(shown(papers), ALPN))


def test_a_directory_holds_several_that_are_trusted(papers: Papers, tmp_path: Path) -> None:
    shutil.copy(papers.cert, tmp_path / "relay.crt")
    shutil.copy(make_oneself(tmp_path / "other", "other").cert, tmp_path / "other.pem")
    (tmp_path / "README").write_text("no certificate, and not taken for one")
    context = dialling({"ca": str(tmp_path)}, ALPN)
    agree(context, listening(shown(papers), ALPN))


def test_what_is_signed_is_trusted_by_itself_too(tmp_path: Path) -> None:
    papers = Authority(tmp_path).sign("relay")
    agree(dialling({"ca": str(papers.cert)}, ALPN), listening(shown(papers), ALPN))


def test_the_key_may_be_in_the_file_of_the_certificate(papers: Papers, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(papers.cert.read_text() + papers.key.read_text())
    agree(dialling({"ca": str(papers.cert)}, ALPN), listening({"cert": str(both)}, ALPN))


def test_a_key_with_a_password_needs_the_file_with_it(tmp_path: Path) -> None:
    papers = make_oneself(tmp_path, "relay", password=b"open sesame")
    with pytest.raises(Unusable, match=f"key={papers.key} is protected by a password: say key_password_file=FILE"):
        listening(shown(papers), ALPN)
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    listening(shown(papers, key_password_file=str(password)), ALPN)
    wrong = tmp_path / "wrong"
    wrong.write_text("open barley\n")
    with pytest.raises(Unusable, match=f"key={papers.key} cannot be decrypted with the password in {wrong}"):
        listening(shown(papers, key_password_file=str(wrong)), ALPN)
    wrong.write_text("x" * 2000)
    with pytest.raises(Unusable, match=f"key_password_file={wrong} has a password of more than 1024 bytes"):
        listening(shown(papers, key_password_file=str(wrong)), ALPN)


def test_comments_in_any_language_are_no_part_of_a_bundle(papers: Papers, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(f"# Főtanúsítvány\n{papers.cert.read_text()}", encoding="utf-8")
    agree(dialling({"ca": str(bundle)}, ALPN), listening(shown(papers), ALPN))


# -- what cannot be


WRONG_SIDE = [
    (dialling, {"client_ca": "x"}, "the option 'client_ca' is for a listener; whom to trust here is said by `ca`"),
    (dialling, {"client_pin": ()}, "the option 'client_pin' is for a listener"),
    (listening, {"cert": "x", "ca": "x"}, "the option 'ca' is for dialling; whose clients may come .* `client_ca`"),
    (listening, {"cert": "x", "pin": ()}, "the option 'pin' is for dialling"),
    (listening, {}, "a listener needs a certificate: say cert=FILE, and key=FILE"),
    (listening, {"cert": "x", "client_pin": ()}, "the option 'client_pin' needs `client_ca` too"),
    (dialling, {"key": "x"}, "the option 'key' needs `cert` too: the certificate of the key"),
]


@pytest.mark.parametrize(("side", "options", "what"), WRONG_SIDE)
def test_options_of_the_other_side_are_refused(
    side: Callable[..., ssl.SSLContext], options: Options, what: str
) -> None:
    with pytest.raises(Unusable, match=what):
        side(options, ALPN)


def test_every_file_that_cannot_be_used_is_named(papers: Papers, tmp_path: Path) -> None:
    empty, other = tmp_path / "empty", make_oneself(tmp_path / "other", "other")
    empty.mkdir()
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    broken = tmp_path / "broken.pem"
    broken.write_text(papers.cert.read_text().replace("M", "A", 3))
    cases = {
        f"ca={tmp_path}/none.pem cannot be read: No such file or directory": {"ca": f"{tmp_path}/none.pem"},
        f"client_ca={empty}: no certificate is in this directory": {"client_ca": str(empty)},
        f"ca={text} has no certificate in it": {"ca": str(text)},
        f"ca={broken} cannot be used: ": {"ca": str(broken)},
        f"cert={text} has no certificate in it": {"cert": str(text)},
        f"cert={papers.cert} has no private key in it; say key=FILE": {"cert": str(papers.cert)},
        f"key={other.key} is not the key of the certificate cert={papers.cert}": shown(papers, key=str(other.key)),
        f"key={papers.cert} has no private key in it": shown(papers, key=str(papers.cert)),
        f"cert={tmp_path} cannot be read: Is a directory": {"cert": str(tmp_path)},
        "ca=a\0b cannot be read: ": {"ca": "a\0b"},
    }
    for what, options in cases.items():
        assert re.match(re.escape(what), unusable_files(options) or "nothing"), options
    assert unusable_files(shown(papers, ca=str(papers.cert))) is None


# -- what changes while a node runs


def test_a_renewed_certificate_is_shown_to_the_next_peer(tmp_path: Path) -> None:
    papers = make_oneself(tmp_path, "relay")
    first = listening(shown(papers), ALPN)
    assert listening(shown(papers), ALPN) is first
    before = own_certificate(shown(papers)).key
    renew(papers, tmp_path)
    assert own_certificate(shown(papers)).key != before
    context = dialling({"ca": str(papers.cert)}, ALPN)
    agree(context, listening(shown(papers), ALPN))
    with pytest.raises(ssl.SSLCertVerificationError):
        agree(context, first)


def renew(papers: Papers, directory: Path) -> None:
    """As such programs do it: a new file is moved in place of the old one."""
    new = make_oneself(directory / "new", "relay")
    os.replace(new.key, papers.key)
    os.replace(new.cert, papers.cert)


def test_one_who_is_trusted_no_longer_is_refused_at_once(papers: Papers, tmp_path: Path) -> None:
    shutil.copy(papers.cert, tmp_path / "relay.pem")
    other = make_oneself(tmp_path / "other", "other")
    shutil.copy(other.cert, tmp_path / "other.pem")
    options = {"ca": str(tmp_path)}
    agree(dialling(options, ALPN), listening(shown(papers), ALPN))
    (tmp_path / "relay.pem").unlink()
    with pytest.raises(ssl.SSLCertVerificationError):
        agree(dialling(options, ALPN), listening(shown(papers), ALPN))


def test_a_file_that_is_being_written_changes_nothing_until_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    papers = make_oneself(tmp_path, "relay")
    first = listening(shown(papers), ALPN)
    new = make_oneself(tmp_path / "new", "relay")
    os.replace(new.cert, papers.cert)
    for _ in range(3):
        assert listening(shown(papers), ALPN) is first
    (said,) = caplog.messages
    assert said.startswith(f"TLS goes on with what it has read before: key={papers.key} is not the key")
    os.replace(new.key, papers.key)
    assert listening(shown(papers), ALPN) is not first


def test_a_certificate_out_of_its_time_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = Authority(tmp_path)
    listening(shown(authority.sign_expired("relay")), ALPN)
    listening(shown(authority.sign_for_later("relay")), ALPN)
    expired, later = caplog.messages
    assert "has expired on" in expired
    assert "is not valid before" in later


def test_what_others_make_a_node_dial_does_not_fill_its_memory(papers: Papers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_contexts", {})
    monkeypatch.setattr(trust, "KEPT", 3)
    for number in range(10):
        dialling({"pin": (f"sha256:{number:064x}",)}, ALPN)
    assert len(trust._contexts) == 3
