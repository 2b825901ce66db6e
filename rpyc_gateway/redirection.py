"""`redirected_stdio`: what the far side prints appears here, and what it reads comes from here."""

from __future__ import annotations

import hashlib
import sys
from contextlib import suppress
from contextvars import Context, copy_context
from importlib.resources import files
from types import EllipsisType, TracebackType
from typing import Any, Protocol, Self

import trio

from rpyc_gateway.deadlines import timeout
from rpyc_gateway.errors import GatewayError
from rpyc_gateway.faces import check_session
from rpyc_gateway.trio_face import TrioFace

__all__ = ["Ends", "Redirected", "far_module", "is_board", "is_node", "print_piece", "read_piece", "redirected_stdio"]

KIND = "__import__('sys').implementation.name"
BOARDS = ("micropython", "circuitpython")
PATIENCE = 2.0  # seconds for the end of a block that has failed


def redirected_stdio(conn: Any) -> Redirected:
    """A block, `with` or in trio code `async with`, in which what the calls of a session print is printed here, and what they read is read here.

    `conn` is a session with `classic`. What counts are `sys.stdin`, `sys.stdout` and `sys.stderr` of this process at the time. Threads that these calls start
    are included, programs that they start are not; nor are calls of other sessions, which may redirect too. What a call has printed is here before its result.
    At the end of the block, of the session or of the link the far side's streams are what they were.

    Raises TypeError for a board, which has no such streams, and for what is no session.
    """
    check_session(conn)
    return Redirected(conn, _Here())


class Ends(Protocol):
    """Where the streams of the far side end. Both are called in any thread."""

    def give(self, name: str, piece: str | bytes) -> None:
        """Print text or bytes to "stdout" or "stderr"."""
        ...

    def ask(self, method: str, size: int) -> str | bytes | EllipsisType | None:
        """Read, as "readline" or "read" does, text, or bytes if "_bytes" is behind it. None is Ctrl-C; `...` too, and the handle's `interrupt` is called for it as well."""
        ...


class Redirected:
    """The block in which a session has its streams at these ends."""

    def __init__(self, conn: Any, ends: Ends) -> None:
        self._conn = conn
        self._ends = ends
        self.handle: Any = None
        """That of the far side, outlets.Redirection."""

    def _check_free(self) -> None:
        if self.handle is not None:
            raise RuntimeError(
                "the streams are redirected by this block already: another one is another gw.redirected_stdio(conn)"
            )

    def __enter__(self) -> Self:
        if isinstance(self._conn, TrioFace):
            raise TypeError("this is a session of trio code: `async with` redirects its streams")
        self._check_free()
        if is_board(self._conn):
            raise TypeError(refusal(self._conn))
        self.handle = self._conn.eval(far_module("outlets.py")).redirect(self._ends.give, self._ends.ask)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        handle, self.handle = self.handle, None
        if error is None:
            handle.close()
        else:
            with suppress(GatewayError, OSError):
                Context().run(self._close_soon, handle)  # where no timeout is over

    @staticmethod
    def _close_soon(handle: Any) -> None:
        with timeout(PATIENCE):
            handle.close()

    async def __aenter__(self) -> Self:
        if not isinstance(self._conn, TrioFace):
            raise TypeError("this is a session of blocking code: `with` redirects its streams")
        self._check_free()
        if await self._conn.eval(KIND) in BOARDS:
            raise TypeError(refusal(self._conn))
        outlets = await self._conn.eval(far_module("outlets.py"))
        self.handle = await outlets.redirect(self._ends.give, self._ends.ask)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        handle, self.handle = self.handle, None
        if error is None:
            await handle.close()
        else:
            with trio.move_on_after(PATIENCE, shield=True), suppress(GatewayError, OSError):
                await handle.close()


def is_board(conn: Any) -> bool:
    """Whether a board is at the end of a blocking session."""
    return conn.eval(KIND) in BOARDS


def is_node(conn: Any) -> bool:
    """Whether a whole node is there, and no bare Python."""
    return bool(conn.eval("'rpyc_gateway' in __import__('sys').modules"))


def refusal(conn: Any) -> str:
    return (
        f"{conn.path[-1]} is a board, and its streams cannot be redirected: what it prints is in the log of its gateway, `rpyc_gateway.console`;"
        " `rpyc-gw exec` and `rpyc-gw device shell` show it"
    )


def far_module(name: str) -> str:
    """An expression whose value is a file of this package as a module there: one for all sessions whose clients have the same."""
    source = files(__package__).joinpath(name).read_text(encoding="utf-8")
    called = f"_rpyc_gateway_{name.partition('.')[0]}_{hashlib.blake2b(source.encode(), digest_size=8).hexdigest()}"
    make = f"(lambda m: exec(compile({source!r}, 'rpyc_gateway/{name}', 'exec'), m.__dict__) or s.modules.setdefault({called!r}, m))(type(s)({called!r}))"
    return f"(lambda s: s.modules.get({called!r}) or {make})(__import__('sys'))"


class _Here:
    """The streams of this process, in the context of who has asked for it: in code that is served they may be redirected themselves."""

    def __init__(self) -> None:
        self._context = copy_context()

    def give(self, name: str, piece: str | bytes) -> None:
        self._context.copy().run(print_piece, getattr(sys, name), piece)

    def ask(self, method: str, size: int) -> str | bytes:
        return self._context.copy().run(read_piece, sys.stdin, method, size)


def print_piece(stream: Any, piece: str | bytes) -> None:
    """Print it now; what the stream cannot show is shown escaped. Without a stream it is dropped, as print() does."""
    if stream is None:
        return
    if isinstance(piece, bytes):
        buffer = getattr(stream, "buffer", None)
        if buffer is not None:
            stream.flush()
            buffer.write(piece)
            buffer.flush()
            return
        piece = piece.decode("utf-8", "backslashreplace")
    try:
        stream.write(piece)
    except UnicodeEncodeError:
        encoding = stream.encoding
        stream.write(piece.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def read_piece(stream: Any, method: str, size: int) -> str | bytes:
    """Read as `method` says; without a stream it is at its end."""
    name, _, wants_bytes = method.partition("_")
    if name not in ("readline", "read"):
        raise ValueError(f"standard input has no {method}")
    if stream is None:
        return b"" if wants_bytes else ""
    if not wants_bytes:
        return getattr(stream, name)(size)  # type: ignore[no-any-return]
    buffer = getattr(stream, "buffer", None)
    if buffer is not None:
        return getattr(buffer, name)(size)  # type: ignore[no-any-return]
    return getattr(stream, name)(size).encode("utf-8", "surrogateescape")  # type: ignore[no-any-return]
