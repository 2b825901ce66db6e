"""The files and fingerprints in a URL that say what TLS shows of this side and whom it trusts, as contexts of `ssl`.

A context is kept until one of its files changes: a node that runs for long shows its renewed certificate to the next peer. While
a changed file cannot be used (it is being written, say) the context stays as it was, and that is logged once.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from rpyc_transports.certificates import Certificate, pins
from rpyc_transports.urls import Reader, text

__all__ = [
    "DIALLING",
    "LISTENING",
    "Unusable",
    "dialling",
    "listening",
    "log_certificate",
    "own_certificate",
    "unusable_files",
]

logger = logging.getLogger(__name__)

Options: TypeAlias = Mapping[str, Any]

SHOWN: Mapping[str, Reader] = {"cert": text, "key": text, "key_password_file": text}
DIALLING: Mapping[str, Reader] = {"ca": text, "pin": pins, "name": text, **SHOWN}
"""The options of a URL that is dialled, for `urls.parse`."""
LISTENING: Mapping[str, Reader] = {"client_ca": text, "client_pin": pins, **SHOWN}
"""Those of one that is listened at."""

FILES = ("ca", "client_ca", "cert", "key", "key_password_file")
SUFFIXES = (".pem", ".crt", ".cer")  # what is taken for a certificate in a directory of them
LONGEST_PASSWORD = 1024  # bytes; what OpenSSL takes
KEPT = 256  # contexts; a node has a few, a dial on behalf of others may name what it likes


class Unusable(ValueError):
    """Options or their files cannot be used: a sentence for their author, with the path."""


def dialling(options: Options, alpn: Sequence[str]) -> ssl.SSLContext:
    """What to dial with. With a `pin` and no `ca` it checks nothing of the peer: whoever uses it compares the pin before a byte is sent.

    Raises Unusable.
    """
    for name in LISTENING:
        if name in options and name not in DIALLING:
            raise Unusable(f"the option {name!r} is for a listener; whom to trust here is said by `ca`, or by `pin`")
    return _kept(_make_dialling, options, alpn)


def listening(options: Options, alpn: Sequence[str]) -> ssl.SSLContext:
    """What to listen with: with a `client_ca` nobody comes in whom that has not signed. Raises Unusable."""
    for name in DIALLING:
        if name in options and name not in LISTENING:
            raise Unusable(f"the option {name!r} is for dialling; whose clients may come here is said by `client_ca`")
    if "cert" not in options:
        raise Unusable("a listener needs a certificate: say cert=FILE, and key=FILE if its key is in another one")
    if "client_pin" in options and "client_ca" not in options:
        what = "needs `client_ca` too, the authority or the very certificates: TLS takes none that nobody has signed"
        raise Unusable(f"the option 'client_pin' {what}")
    return _kept(_make_listening, options, alpn)


def own_certificate(options: Options) -> Certificate:
    """The one that `cert` names, for people to compare and for a pin. Raises Unusable."""
    path = options["cert"]
    try:
        return Certificate.read_pem(_read(path, "cert"))
    except Unusable:
        raise
    except ValueError as exc:
        raise Unusable(f"cert={path} {exc}") from exc


def log_certificate(urls: Sequence[str], options: Options) -> None:
    """Tell the log what a listener shows, for the `pin` of those who dial."""
    try:
        own = own_certificate(options)
    except Unusable as exc:  # what was read before is shown
        logger.warning("%s shows a certificate that cannot be read any more: %s", " and ".join(urls), exc)
        return
    logger.info("%s shows a certificate that ends on %s, pin=%s", " and ".join(urls), own.ends.date(), own.key)


def unusable_files(options: Options) -> str | None:
    """What is wrong with the files that these options name, whichever side they are for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        _show(context, options)
        for name in ("ca", "client_ca"):
            if name in options:
                _trust(context, options[name], name)
    except Unusable as exc:
        return str(exc)
    return None


# ---- made


def _make_dialling(options: Options, alpn: Sequence[str]) -> ssl.SSLContext:
    context = _bare(ssl.PROTOCOL_TLS_CLIENT, alpn)
    if "ca" in options:
        _trust(context, options["ca"], "ca")
    elif "pin" in options:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    _show(context, options)
    return context


def _make_listening(options: Options, alpn: Sequence[str]) -> ssl.SSLContext:
    context = _bare(ssl.PROTOCOL_TLS_SERVER, alpn)
    context.num_tickets = 0  # nobody resumes: a link is made once, and its peer is looked at each time
    context.options |= ssl.OP_NO_TICKET
    _show(context, options)
    if "client_ca" in options:
        _trust(context, options["client_ca"], "client_ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _bare(protocol: int, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    # TLS 1.3 is what two nodes agree on; 1.2 is for what stands in front of one, such as an old proxy.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A certificate that is named is trusted, whether or not whoever has signed it is named too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(alpn)
    return context


def _trust(context: ssl.SSLContext, path: str, option: str) -> None:
    """Trust the certificates of a file, or those of a directory."""
    files = list(_certificate_files(path)) if os.path.isdir(path) else [path]
    if not files:
        raise Unusable(f"{option}={path}: no certificate is in this directory ({', '.join(SUFFIXES)})")
    for file in files:
        found = _read(file, option)
        if "-----BEGIN CERTIFICATE-----" not in found:
            raise Unusable(f"{option}={file} has no certificate in it (-----BEGIN CERTIFICATE-----)")
        try:
            context.load_verify_locations(cadata=_only_ascii(found))
        except ssl.SSLError as exc:
            raise Unusable(f"{option}={file} cannot be used: {_reason(exc)}") from exc


def _show(context: ssl.SSLContext, options: Options) -> None:
    """Show the certificate, if there is one."""
    if "cert" not in options:
        for name in ("key", "key_password_file"):
            if name in options:
                raise Unusable(f"the option {name!r} needs `cert` too: the certificate of the key")
        return
    cert, key = options["cert"], options.get("key", options["cert"])
    own_certificate(options)
    if "PRIVATE KEY-----" not in _read(key, "key"):
        hint = "" if "key" in options else "; say key=FILE if it is in another one"
        raise Unusable(f"{'key' if 'key' in options else 'cert'}={key} has no private key in it{hint}")
    try:
        context.load_cert_chain(cert, key, password=lambda: _password(options, key))
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            raise Unusable(f"key={key} is not the key of the certificate cert={cert}") from exc
        if exc.reason in ("BAD_DECRYPT", "BAD_PASSWORD_READ") or exc.reason is None:
            raise Unusable(
                f"key={key} cannot be decrypted with the password in {options.get('key_password_file')}"
            ) from exc
        raise Unusable(f"cert={cert} and key={key} cannot be used: {_reason(exc)}") from exc


def _password(options: Options, key: str) -> str:
    if "key_password_file" not in options:
        raise Unusable(f"key={key} is protected by a password: say key_password_file=FILE, or store it without one")
    path = options["key_password_file"]
    password, *_ = _read(path, "key_password_file").splitlines() or [""]
    if len(password.encode()) > LONGEST_PASSWORD:
        raise Unusable(f"key_password_file={path} has a password of more than {LONGEST_PASSWORD} bytes")
    return password


def _read(path: str, option: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise Unusable(f"{option}={path} cannot be read: {reason}") from exc


def _only_ascii(pem: str) -> str:
    """Without the comments that bundles have between the certificates, in any language."""
    return pem.encode("ascii", "replace").decode("ascii")


def _reason(exc: ssl.SSLError) -> str:
    return (exc.reason or str(exc)).lower().replace("_", " ")


def _certificate_files(directory: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    yield from (os.path.join(directory, name) for name in names if name.lower().endswith(SUFFIXES))


# ---- kept


class Mark(NamedTuple):
    """What is different when a file is."""

    path: str
    changed: int
    size: int
    inode: int


@dataclass(slots=True)
class Kept:
    """A context, and the files as they were when it was made or could not be made again."""

    context: ssl.SSLContext
    marks: list[Mark | None]


_contexts: dict[tuple[object, ...], Kept] = {}


def _kept(
    make: Callable[[Options, Sequence[str]], ssl.SSLContext], options: Options, alpn: Sequence[str]
) -> ssl.SSLContext:
    own = {name: options[name] for name in sorted(options) if name in DIALLING or name in LISTENING}
    key = (make.__name__, tuple(alpn), *own.items())
    marks = _marks(own)
    kept = _contexts.get(key)
    if kept is not None and kept.marks == marks:
        return kept.context
    try:
        context = make(own, alpn)
    except Unusable as exc:
        if kept is None:
            raise
        kept.marks = marks
        logger.warning("TLS goes on with what it has read before: %s", exc)
        return kept.context
    if kept is None and len(_contexts) >= KEPT:
        del _contexts[next(iter(_contexts))]
    _contexts[key] = Kept(context, marks)
    if "cert" in own:
        _warn_of_time(own)
    return context


def _marks(options: Options) -> list[Mark | None]:
    named = [options[name] for name in FILES if name in options]
    inside = [file for path in named if os.path.isdir(path) for file in _certificate_files(path)]
    return [_mark(path) for path in (*named, *inside)]


def _mark(path: str) -> Mark | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return Mark(path, found.st_mtime_ns, found.st_size, found.st_ino)


def _warn_of_time(options: Options) -> None:
    own, now = own_certificate(options), datetime.now(UTC)
    if own.ends < now:
        logger.warning("cert=%s has expired on %s: peers that do not pin it will refuse it", options["cert"], own.ends)
    elif own.begins > now:
        logger.warning(
            "cert=%s is not valid before %s: peers will refuse it (is the clock right?)", options["cert"], own.begins
        )
