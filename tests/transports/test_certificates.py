"""Fingerprints as openssl computes them, and names for the owners of certificates."""

from __future__ import annotations

import ssl
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from rpyc_transports.certificates import Certificate, identity, pins
from tests.transports.authority import Authority, make_oneself, needs_openssl, run_openssl

HEX = "ba0169b65851f78b6167e59418aa5bae3f434b77216c82a48f7c4b1ac803f497"
FACTS = Certificate(
    f"sha256:{HEX}", f"sha256:{HEX[::-1]}", datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
)


@needs_openssl
def test_fingerprints_and_times_are_what_openssl_says(tmp_path: Path) -> None:
    papers = make_oneself(tmp_path, "relay")
    facts = papers.facts
    shown = run_openssl("x509", "-in", str(papers.cert), "-noout", "-fingerprint", "-sha256", "-enddate").decode()
    public = run_openssl("x509", "-in", str(papers.cert), "-noout", "-pubkey")
    key = run_openssl("pkey", "-pubin", "-outform", "der", data=public)
    fingerprint = shown.splitlines()[0].partition("=")[2]
    assert facts.whole == f"sha256:{fingerprint.replace(':', '').lower()}"
    assert facts.key == f"sha256:{sha256(key).hexdigest()}"
    assert facts.ends.timestamp() == ssl.cert_time_to_seconds(shown.splitlines()[1].partition("=")[2])
    # As people copy it from there.
    assert facts.has(pins(f"SHA256:{fingerprint}"))


def test_a_long_key_and_years_with_four_digits_are_read_too(tmp_path: Path) -> None:
    papers = make_oneself(tmp_path, "relay", key=rsa.generate_private_key(65537, 4096), days=10_000)
    read = x509.load_pem_x509_certificate(papers.cert.read_bytes())
    key = read.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert papers.pin == f"sha256:{sha256(key).hexdigest()}"
    assert papers.facts.ends == read.not_valid_after_utc
    assert papers.facts.ends.year >= 2050


def test_a_renewal_with_the_same_key_has_the_same_fingerprint(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    first = make_oneself(tmp_path, "relay", key=key)
    renewed = make_oneself(tmp_path / "renewed", "relay", key=key)
    assert first.pin == renewed.pin
    assert first.facts.whole != renewed.facts.whole
    assert renewed.facts.has((first.pin,))
    assert not renewed.facts.has((first.facts.whole,))


def test_only_the_first_certificate_of_a_chain_counts(tmp_path: Path) -> None:
    papers = Authority(tmp_path).sign("relay")
    chain = papers.cert.read_text() + (tmp_path / "ca.pem").read_text()
    assert Certificate.read_pem(f"comments before it\n{chain}") == papers.facts


@given(st.binary(max_size=200))
def test_what_is_no_certificate_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="is no certificate"):
        Certificate.read(data)


@pytest.fixture(scope="module")
def der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return ssl.PEM_cert_to_DER_cert(make_oneself(tmp_path_factory.mktemp("c"), "relay").cert.read_text())


@given(cut=st.integers(0), at=st.integers(0), value=st.integers(0, 255))
def test_a_damaged_certificate_is_read_or_said_to_be_none(der: bytes, cut: int, at: int, value: int) -> None:
    damaged = bytearray(der[: cut % len(der) or None])
    damaged[at % len(damaged)] = value
    with suppress(ValueError):
        Certificate.read(bytes(damaged))


@pytest.mark.parametrize("given", ["", "sha256:", f"sha1:{HEX}", f"sha256:{HEX[:-1]}", f"{HEX}", f"sha256:{HEX},"])
def test_what_is_no_fingerprint_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="write sha256: and 64 hexadecimal digits, several with a comma in between"):
        pins(given)


def test_several_fingerprints_are_separated_by_commas() -> None:
    assert pins(f"sha256:{HEX}, sha256:{HEX.upper()[::-1]}") == (f"sha256:{HEX}", f"sha256:{HEX[::-1]}")


def subject(*alternative: tuple[str, str], common_name: str = "") -> dict[str, Any]:
    named = {"subject": ((("organizationName", "us"),), (("commonName", common_name),))} if common_name else {}
    return {**named, "subjectAltName": alternative}


NAMES = [
    (subject(("email", "ops@lab"), ("DNS", "lab-7"), ("DNS", "lab-7.example"), common_name="other"), "cert:lab-7"),
    (subject(("email", "ops@lab"), ("URI", "spiffe://lab/7")), "cert:spiffe://lab/7"),
    (subject(("email", "ops@lab"), common_name="Ops"), "cert:ops@lab"),
    (subject(common_name="lab-7"), "cert:lab-7"),
    (subject(("IP Address", "10.0.0.7")), f"cert:sha256:{HEX}"),
    ({}, f"cert:sha256:{HEX}"),
    (subject(("DNS", "lab-7\0.evil.example")), f"cert:sha256:{HEX}"),
    (subject(common_name="two words"), f"cert:sha256:{HEX}"),
    (subject(common_name="x" * 256), f"cert:sha256:{HEX}"),
    (subject(common_name=f"SHA256:{HEX[::-1]}"), f"cert:sha256:{HEX}"),
]


@pytest.mark.parametrize(("found", "name"), NAMES)
def test_an_owner_is_named_by_the_first_name_or_else_by_the_key(found: dict[str, Any], name: str) -> None:
    assert identity(found, FACTS) == name
