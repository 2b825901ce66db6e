"""Certificates for tests: what an authority signs, and what its owners made themselves, as files with the keys beside them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlencode

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from rpyc_transports.certificates import Certificate

NOW = datetime.now(UTC)

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Papers:
    """A certificate and its key, in two files."""

    cert: Path
    key: Path

    @property
    def facts(self) -> Certificate:
        return Certificate.read_pem(self.cert.read_text())

    @property
    def pin(self) -> str:
        return self.facts.key

    def shown(self, **more: str | Path) -> str:
        """These as options of a URL, and others."""
        return urlencode({"cert": self.cert, "key": self.key, **more})


class Authority:
    """Signs certificates into a directory; `file` has its own."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(exist_ok=True)
        self.file = directory / f"{name}.pem"
        self._directory = directory
        self._ca = trustme.CA(organization_name=name)
        self._ca.cert_pem.write_to_path(str(self.file))

    def sign(
        self,
        *names: str,
        file: str = "",
        common_name: str | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> Papers:
        """For hosts, addresses, or mail addresses, in this order."""
        issued = self._ca.issue_cert(
            *names, common_name=common_name, not_before=not_before, not_after=not_after or NOW + timedelta(days=30)
        )
        return write(self._directory, file or names[0], issued)

    def sign_expired(self, name: str) -> Papers:
        return self.sign(
            name, file=f"expired-{name}", not_before=NOW - timedelta(days=30), not_after=NOW - timedelta(days=1)
        )

    def sign_for_later(self, name: str) -> Papers:
        return self.sign(name, file=f"later-{name}", not_before=NOW + timedelta(days=1))


def write(directory: Path, file: str, issued: trustme.LeafCert) -> Papers:
    papers = Papers(directory / f"{file}.pem", directory / f"{file}.key")
    papers.cert.unlink(missing_ok=True)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(str(papers.cert), append=True)
    issued.private_key_pem.write_to_path(str(papers.key))
    return papers


def make_oneself(
    directory: Path,
    subject: str,
    *,
    key: PrivateKey | None = None,
    password: bytes = b"",
    days: int = 30,
    purpose: x509.ObjectIdentifier | None = None,
) -> Papers:
    """A certificate that its owner signed, as docs/tls.md shows it."""
    directory.mkdir(exist_ok=True)
    papers = Papers(directory / f"{subject}.pem", directory / f"{subject}.key")
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), NOW, NOW + timedelta(days)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    papers.cert.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    papers.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))
    return papers


needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl is not installed: apt-get install openssl"
)


def run_openssl(*arguments: str, data: bytes = b"") -> bytes:
    command: Sequence[str] = ("openssl", *arguments)
    return subprocess.run(command, input=data, capture_output=True, check=True, timeout=30).stdout
