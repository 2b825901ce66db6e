"""What `rpyc-gw eval` and `exec` run on the far side.

This file is sent there as text and executed in the session's namespace: standard library only, nothing of this package, and
nothing that depends on which version is at the other end.
"""

from __future__ import annotations

import io
import linecache
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, Self

_Write = Callable[[str], object]
_BUFFER = 65536  # characters on their way; who prints more waits


def run(source: bytes, filename: str, mode: str, out: _Write, err: _Write) -> int:
    """Run code in a namespace of its own; what this thread prints meanwhile goes to `out` and `err`.

    `mode` is "exec", or "eval": then the value is printed. Returns what a process would exit with: an exception is printed as
    a traceback on `err` and makes 1.
    """
    text = source.decode("utf-8", "replace")
    linecache.cache[filename] = (len(source), None, text.splitlines(keepends=True), filename)
    try:
        with _Sender() as sender, _printing("stdout", _Outlet(sender, out)), _printing("stderr", _Outlet(sender, err)):
            return _run(source, filename, mode)
    finally:
        linecache.cache.pop(filename, None)


def _run(source: bytes, filename: str, mode: str) -> int:
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        value = eval(compile(source, filename, mode), namespace)
        if mode == "eval":
            print(value)
    except SystemExit as exc:
        if exc.code is None or isinstance(exc.code, int):
            return (exc.code or 0) & 0xFF
        print(exc.code, file=sys.stderr)
        return 1
    except Exception as exc:  # noqa: BLE001 - it is told in full
        own_frame_left_out = exc.__traceback__ and exc.__traceback__.tb_next
        print("".join(traceback.format_exception(exc.with_traceback(own_frame_left_out))), end="", file=sys.stderr)
        return 1
    return 0


class _Router:
    """Stands in for sys.stdout or sys.stderr: a thread that works for a caller prints there, all others where they did."""

    def __init__(self, original: Any) -> None:
        self.original = original
        self.rpyc_gw_outlets: dict[int, _Outlet] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rpyc_gw_outlets.get(threading.get_ident(), self.original), name)


class _Outlet(io.TextIOBase):
    """One of the two streams of a script."""

    def __init__(self, sender: _Sender, write: _Write) -> None:
        self._sender = sender
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._sender.put(self._write, text)
        return len(text)


class _Sender:
    """Carries what is printed to the caller, in order. While one piece is on its way the next ones gather to one, so that
    a long way costs its delay once and not once a line.
    """

    def __init__(self) -> None:
        self._pieces: list[tuple[_Write, str]] = []
        self._size = 0
        self._closed = False
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._send, name="rpyc-gw output", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until everything has arrived. Raises what kept it from arriving."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def put(self, write: _Write, text: str) -> None:
        """Take a piece; wait while too much is on its way. Raises what kept earlier ones from arriving."""
        with self._changed:
            while self._size > _BUFFER and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            self._size += len(text)
            self._pieces.append((write, text))
            self._changed.notify_all()

    def _send(self) -> None:
        while (taken := self._take()) is not None:
            write, text = taken
            try:
                write(text)
            except Exception as exc:  # noqa: BLE001 - whoever prints next is told
                self._error = exc
            with self._changed:
                self._size -= len(text)
                self._changed.notify_all()
            if self._error is not None:
                return

    def _take(self) -> tuple[_Write, str] | None:
        """What waits for one of the streams, up to a piece for the other one. None when there will be no more."""
        with self._changed:
            while not (self._pieces or self._closed):
                self._changed.wait()
            if not self._pieces:
                return None
            write = self._pieces[0][0]
            count = sum(1 for _ in takewhile(lambda piece: piece[0] is write, self._pieces))
            taken = "".join(text for _, text in self._pieces[:count])
            del self._pieces[:count]
            return write, taken


@contextmanager
def _printing(name: str, outlet: _Outlet) -> Iterator[None]:
    # A router stays for the life of the process: taking it away while another session prints through it would be worse.
    router = getattr(sys, name)
    if not hasattr(router, "rpyc_gw_outlets"):
        router = _Router(router)
        setattr(sys, name, router)
    thread = threading.get_ident()
    router.rpyc_gw_outlets[thread] = outlet
    try:
        yield
    finally:
        del router.rpyc_gw_outlets[thread]
