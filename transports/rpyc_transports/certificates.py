"""What can be told of a certificate without trusting it: its fingerprints, and from when to when it is valid. And how its owner is named."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple, Self

__all__ = ["Certificate", "identity", "pins"]

LONGEST_NAME = 255  # characters; as long as a name in the DNS may be

# Tags of X.690 (DER); the second is [0], in front of the version of a certificate.
SEQUENCE, VERSION, UTC_TIME, GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18

FINGERPRINT = re.compile(r"sha256:((?:[0-9a-f]{2}:?){31}[0-9a-f]{2})", re.IGNORECASE)


class Certificate(NamedTuple):
    """A certificate, as far as it is read here. Fingerprints are written `sha256:` and 64 hexadecimal digits."""

    key: str
    """The fingerprint of its public key (SubjectPublicKeyInfo): what ssh shows of a host, and what curl pins. A renewal with the same key has the same."""
    whole: str
    """The fingerprint of all of it, as `openssl x509 -fingerprint -sha256` shows it."""
    begins: datetime
    ends: datetime

    @classmethod
    def read(cls, der: bytes) -> Self:
        """Raises ValueError if this is no certificate."""
        try:
            (_, certificate), *_ = _parts(der)
            (_, signed), *_ = _parts(certificate)
            fields = [part for part in _parts(signed) if part[0] != VERSION]
            # serial number, algorithm, issuer, validity, subject, public key, ...
            begins, ends = (_moment(tag, content) for tag, content in _parts(fields[3][1]))
            return cls(_fingerprint(_wrapped(*fields[5])), _fingerprint(der), begins, ends)
        except (IndexError, ValueError) as exc:
            raise ValueError(f"is no certificate: {exc}") from exc

    @classmethod
    def read_pem(cls, text: str) -> Self:
        """The first one of a PEM file. Raises ValueError."""
        found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL)
        if found is None:
            raise ValueError("has no certificate in it (-----BEGIN CERTIFICATE-----)")
        return cls.read(ssl.PEM_cert_to_DER_cert(found[0]))

    def has(self, pinned: tuple[str, ...]) -> bool:
        """Whether one of these fingerprints is its key's, or its own."""
        return self.key in pinned or self.whole in pinned


def pins(given: str) -> tuple[str, ...]:
    """Fingerprints as an option has them, separated by commas. Raises ValueError."""
    found = [FINGERPRINT.fullmatch(pin.strip()) for pin in given.split(",")]
    read = tuple(f"sha256:{match[1].replace(':', '').lower()}" for match in found if match is not None)
    if len(read) < len(found):
        raise ValueError(f"is {given!r}: write sha256: and 64 hexadecimal digits, several with a comma in between")
    return read


def identity(subject: Mapping[str, Any], certificate: Certificate) -> str:
    """`cert:NAME` for the owner of a certificate that a trusted authority has signed. `subject` is what `getpeercert` gives.

    NAME is the first name that it has as an alternative name (of a host, else a URI, else an address of mail), and the common
    name if it has none. Without one that can be written in a list, it is the fingerprint of the key.
    """
    name = next(_names(subject), "")
    # A name that looks like a fingerprint would speak for the owner of another key.
    usable = 0 < len(name) <= LONGEST_NAME and name.isprintable() and " " not in name
    return f"cert:{name}" if usable and not name.lower().startswith("sha256:") else f"cert:{certificate.key}"


def _names(subject: Mapping[str, Any]) -> Iterator[str]:
    alternative = subject.get("subjectAltName", ())
    for wanted in ("DNS", "URI", "email"):
        yield from (name for kind, name in alternative if kind == wanted)
    for parts in subject.get("subject", ()):
        yield from (name for kind, name in parts if kind == "commonName")


def _fingerprint(der: bytes) -> str:
    return f"sha256:{sha256(der).hexdigest()}"


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements that stand in a row: their tags and contents. Raises IndexError or ValueError."""
    while data:
        tag, size, start = data[0], data[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            raise ValueError("it ends too soon")
        yield tag, data[start : start + size]
        data = data[start + size :]


def _wrapped(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _moment(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == UTC_TIME:  # two digits of the year: 1950 to 2049
        text = ("19" if text >= "50" else "20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError("its validity is not a time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
