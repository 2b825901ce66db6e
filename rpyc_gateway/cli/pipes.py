"""Standard input as a file of a node, and a file of a node on standard output."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from rpyc_gateway.errors import GatewayError
from rpyc_gateway.incoming import AHEAD, CHUNK

__all__ = ["give", "take"]


def give(store: Any, path: str) -> None:
    """What is in a file goes to standard output. Raises OSError for what can be neither read nor written."""
    from rpyc_gateway.iteration import buffiter

    output = _opened(sys.stdout, "output").buffer
    kind, size = store.kind(path)
    if kind == "other":
        raise ValueError(f"{path} is neither a file nor a directory")
    if size <= CHUNK:
        ((data, _),) = store.read_small(path, (((), size),))
        output.write(data)
    else:
        with closing(store.outgoing(path, ())[0]) as outgoing:
            seen = hashlib.blake2b()
            for data in buffiter(outgoing.chunks(), 1, AHEAD):
                output.write(data)
                seen.update(data)
            if outgoing.end() != seen.digest():
                raise OSError(errno.EIO, "what arrived is not what was sent", path)
    output.flush()


def take(store: Any, path: str) -> None:
    """What comes from standard input goes to a file, which takes its place when that has ended. Broken off nothing of it is kept."""
    source = _opened(sys.stdin, "input").buffer
    seen = hashlib.blake2b()

    def chunks() -> Iterator[bytes]:
        while data := source.read(CHUNK):
            yield data
            seen.update(data)

    mode = store.permissions(path)
    incoming = store.anew(path)
    try:
        if store.iterates():
            incoming.take(0, chunks())
        else:
            incoming.begin(0)
            for data in chunks():
                incoming.write(data)
        incoming.finish(seen.digest(), (_usual_permissions() if mode is None else mode, time.time_ns()))
    finally:
        with suppress(GatewayError):
            incoming.close()


def _opened(stream: Any, name: str) -> Any:
    if stream is None:
        raise OSError(errno.EBADF, f"'-' is standard {name}, and that is closed")
    return stream


def _usual_permissions() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return 0o666 & ~mask
