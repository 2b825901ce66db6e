"""What stands for sys.stdin, sys.stdout and sys.stderr where a session has them redirected.

It is sent to the far side as text, and is one module there for all that redirect: standard library only (Python 3.8 and later).
"""

from __future__ import annotations

import io
import os
import sys
import threading
import weakref
from itertools import takewhile
from typing import Any

# What nothing here may be interrupted in is told by this name: see console.py.
__all__ = ["Redirection", "redirect"]

BUFFER = 65536  # characters on their way; who prints more waits
MARK = "_rpyc_gateway_user"  # of a thread: whose call has started it

_lock = threading.RLock()
_users: list[_User] = []  # who redirects at the moment, the latest first
_routers: dict[str, _Router] = {}
# Those that are in nobody's way at the moment. They must not die: another thread may be in the middle of print(), which
# has taken sys.stdout without holding it (CPython before 3.13.3), and what is left of it would be what it prints on.
_idle: dict[str, _Router] = {}
_start_thread = threading.Thread.start


def redirect(give: Any, ask: Any) -> Redirection:
    """Until it is closed, or dropped, what the session prints that calls this goes to `give(name, piece)`, and what it reads comes from `ask(method, size)`.

    `name` is "stdout" or "stderr", a piece is text or bytes; `method` is "readline" or "read", with "_bytes" behind it for bytes. None is Ctrl-C, and `...` one of which `interrupt` tells, too.
    Raises RuntimeError in a thread that runs trio. Calls of other sessions print where they did, and so do threads that no call of the session has started.
    """
    global _start_thread
    if not _may_wait():
        raise RuntimeError(
            'the streams cannot be redirected: what this session calls runs in the thread of trio (runs = "trio"), and printing would have to wait there'
        )
    user = _User(give, ask)
    with _lock:
        for name in user.streams:
            stream = getattr(sys, name)
            if name not in _routers or stream is not _routers[name]:
                router = _routers[name] = _idle.pop(name) if name in _idle else _Router(name)
                router.original = stream
                setattr(sys, name, router)
        _users.insert(0, user)
        if threading.Thread.start is not _start_marked:
            _start_thread = threading.Thread.start
            threading.Thread.start = _start_marked  # type: ignore[method-assign,assignment]
    return Redirection(user)


class Redirection:
    """The handle of one: whoever has redirected holds it, and nobody else."""

    def __init__(self, user: _User) -> None:
        self._user = user
        self.drain = user.sender.drain
        self.interrupt = user.sender.interrupt
        self.interrupts = user.sender.interrupts
        self.spare = user.sender.spare
        self.forget = user.sender.forget
        weakref.finalize(self, _drop, user).atexit = False  # the session is over, or its client has forgotten it

    def close(self) -> None:
        """End it, and wait until everything has arrived. Raises what kept it from arriving."""
        _leave(self._user)
        self._user.sender.close()


def _drop(user: _User) -> None:
    _leave(user)
    user.sender.give_up()


def _leave(user: _User) -> None:
    """The streams are what they were when nobody redirects them any more."""
    with _lock:
        if user in _users:
            _users.remove(user)
        if not _users:
            _restore()


def _restore() -> None:
    for name, router in _routers.items():
        if getattr(sys, name) is router:  # else somebody else has taken its place, and has it below
            setattr(sys, name, router.original)
            _idle[name] = router
    _routers.clear()
    if threading.Thread.start is _start_marked:
        threading.Thread.start = _start_thread  # type: ignore[method-assign]


def _forget() -> None:
    """In a child that was forked: what it prints is no session's, and the threads that would carry it are not there."""
    global _lock
    _lock = threading.RLock()
    _users.clear()
    _restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _start_marked(thread: threading.Thread) -> None:
    """Stands in for Thread.start: what a session's threads start is the session's."""
    user = _user_here()
    if user is not None:
        setattr(thread, MARK, user)
    _start_thread(thread)


def _user_here() -> _User | None:
    """Whose redirection counts for the code that runs here."""
    for user in _users:
        if user.is_here():
            return user
    return None


def _calls() -> Any:
    """How a whole node knows its sessions; a bare Python has one at a time."""
    return sys.modules.get("rpyc_gateway.calls")


class _User:
    """A session that redirects, and what its code gets for the three streams."""

    def __init__(self, give: Any, ask: Any) -> None:
        served = getattr(_calls(), "served_session", None)
        self._session = served and served()
        self._thread = threading.get_ident()
        self.sender = _Sender(give) if self._session is not None else _Direct(give)
        self.streams = {
            "stdin": _Inlet(self.sender, ask),
            "stdout": _Outlet(self.sender, "stdout"),
            "stderr": _Outlet(self.sender, "stderr"),
        }

    def is_here(self) -> bool:
        session = _calls().served_session() if self._session is not None else None
        if session is not None:
            return session is self._session
        if self._session is None and threading.get_ident() == self._thread:
            return True
        return getattr(threading.current_thread(), MARK, None) is self


class _Router:
    """Stands in for one of the streams: each session gets its own, all others what was there."""

    original: Any = None
    """What was there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _stream(self) -> Any:
        user = _user_here()
        if user is not None:
            return user.streams[self._name]
        return _Nowhere() if self.original is None else self.original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream(), name)

    def __iter__(self) -> Any:
        return iter(self._stream())

    def __next__(self) -> Any:
        return next(self._stream())

    def __enter__(self) -> Any:
        return self._stream()

    def __exit__(self, *_: object) -> None:
        self._stream().flush()


class _Nowhere(io.TextIOBase):
    """What a process without this stream has for it."""

    def write(self, text: str) -> int:
        return len(text)


class _Outlet(io.TextIOBase):
    """What a session prints on."""

    encoding = "utf-8"
    errors: str | None = "backslashreplace"
    line_buffering = True

    def __init__(self, sender: _Sender, name: str) -> None:
        self._sender = sender
        self.name = f"<{name}>"
        self._name = name
        self.buffer = _OutletOfBytes(self.put, self.flush)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        return self.put(text)

    def put(self, piece: Any) -> int:
        """Text or bytes. After the end they go where all others print."""
        if not self._sender.put(self._name, piece):
            router = _routers.get(self._name)
            stream = getattr(sys, self._name) if router is None else router.original
            if stream is not None:
                stream.write(piece if isinstance(piece, str) else piece.decode("utf-8", "replace"))
        return len(piece)

    def flush(self) -> None:
        self._sender.drain()

    def reconfigure(self, **_options: Any) -> None:
        """Text travels as text: there is nothing to set."""

    def close(self) -> None:
        """It is not one user's to close."""


class _OutletOfBytes(io.BufferedIOBase):
    """What is below it."""

    def __init__(self, put: Any, flush: Any) -> None:
        self._put = put
        self._flush = flush

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with memoryview(data) as view:
            count: int = self._put(view.tobytes())
            return count

    def flush(self) -> None:
        self._flush()

    def close(self) -> None:
        """As that of the outlet."""


class _Inlet(io.TextIOBase):
    """What a session reads from."""

    encoding = "utf-8"
    errors: str | None = "surrogateescape"
    name = "<stdin>"

    def __init__(self, sender: _Sender, ask: Any) -> None:
        self._sender = sender
        self._ask = ask
        self.buffer = _InletOfBytes(self.ask)

    def readable(self) -> bool:
        return True

    def readline(self, size: Any = -1) -> str:  # type: ignore[override]
        text: str = self.ask("readline", size)
        return text

    def read(self, size: Any = -1) -> str:
        text: str = self.ask("read", size)
        return text

    def ask(self, method: str, size: Any) -> Any:
        """What comes from there, when what was printed has arrived: it may be a question."""
        while True:
            self._sender.drain()
            given = self._ask(method, -1 if size is None else size)
            if given is None or (given is ... and self._sender.hears(threading.get_ident())):
                raise KeyboardInterrupt
            if given is not ...:
                return given

    def reconfigure(self, **_options: Any) -> None:
        """Text travels as text: there is nothing to set."""

    def close(self) -> None:
        """It is not one user's to close."""


class _InletOfBytes(io.BufferedIOBase):
    """What is below it."""

    def __init__(self, ask: Any) -> None:
        self._ask = ask

    def readable(self) -> bool:
        return True

    def readline(self, size: Any = -1) -> bytes:
        data: bytes = self._ask("readline_bytes", size)
        return data

    def read(self, size: Any = -1) -> bytes:
        data: bytes = self._ask("read_bytes", size)
        return data

    def close(self) -> None:
        """As that of the inlet."""


class _Sender:
    """Carries what is printed, in order. While one piece is on its way the next ones gather to one, so that a long way costs its delay once and not once a line.

    What a call has printed has arrived before its answer.
    """

    def __init__(self, give: Any) -> None:
        self._give = give
        self._pieces: list[tuple[str, Any]] = []
        self._size = 0  # of these, and of what is on its way
        self._closed = False
        self._error: BaseException | None = None
        self._interrupted: set[int] = set()  # threads
        self._interrupted_before: set[int] = set()  # those that do not know yet that they were asked for nothing else
        self._foreseen: set[int] = set()  # those that have heard of it before `interrupt` came
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, name: str, piece: Any) -> bool:
        """Take a piece, and wait while too much is on its way; False after the end. Raises what kept earlier ones from arriving."""
        waits = _may_wait()
        with self._changed:
            while True:
                if self.spare(threading.get_ident()):
                    raise KeyboardInterrupt
                if self._closed:
                    return False
                if self._error is not None:
                    raise self._error
                if self._size <= BUFFER or not waits:
                    break
                self._changed.wait()
            self._size += len(piece)
            self._pieces.append((name, piece))
            if self._thread is None:
                self._thread = threading.Thread(target=self._send, name="rpyc-gateway output", daemon=True)
                _start_thread(self._thread)
            self._changed.notify_all()
        _calls().before_answer(self.drain)
        return True

    def interrupt(self, thread: int) -> None:
        """Raise KeyboardInterrupt in the thread of this number when it prints, also if it waits until it may."""
        with self._changed:
            self._interrupted_before.discard(thread)
            if thread in self._foreseen:
                self._foreseen.discard(thread)
                return
            self._interrupted.add(thread)
            self._changed.notify_all()

    def interrupts(self, thread: int) -> bool:
        """Whether that is still to come."""
        return thread in self._interrupted

    def spare(self, thread: int) -> bool:
        """Do not, if it has not come yet; whether that is so."""
        with self._changed:
            to_come = thread in self._interrupted
            self._interrupted.discard(thread)
            if to_come:
                self._interrupted_before.add(thread)
            return to_come

    def hears(self, thread: int) -> bool:
        """What a thread asks for is answered by Ctrl-C, of which `interrupt` tells, too: whether that has not come before. It does not come any more."""
        with self._changed:
            if thread in self._interrupted_before:
                self._interrupted_before.discard(thread)
                return False
            if thread in self._interrupted:
                self._interrupted.discard(thread)
            else:
                self._foreseen.add(thread)
            return True

    def forget(self, thread: int) -> None:
        """What it has heard of concerns nobody any more."""
        with self._changed:
            self._interrupted_before.discard(thread)
            self._foreseen.discard(thread)

    def drain(self) -> None:
        """Wait until everything has arrived, or cannot; a thread that runs trio must not."""
        if _may_wait():
            with self._changed:
                while self._size and self._error is None and not self.interrupts(threading.get_ident()):
                    self._changed.wait()

    def close(self) -> None:
        """Take no more, and wait until everything has arrived. Raises what kept it from arriving."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.drain()
        if self._error is not None:
            raise self._error

    def give_up(self) -> None:
        """Nobody is there any more to whom it could go."""
        with self._changed:
            self._closed = True
            self._pieces.clear()
            self._changed.notify_all()

    def _send(self) -> None:
        while True:
            taken = self._take()
            if taken is None:
                return
            name, piece = taken
            try:
                self._give(name, piece)
            except BaseException as exc:  # noqa: BLE001 - whoever prints next is told
                self._error = exc
            with self._changed:
                self._size -= len(piece)
                self._changed.notify_all()
            if self._error is not None:
                return

    def _take(self) -> tuple[str, Any] | None:
        """What waits for one of the streams, up to a piece for the other one. None when there will be no more."""
        with self._changed:
            while not (self._pieces or self._closed):
                self._changed.wait()
            if not self._pieces:
                return None
            name, first = self._pieces[0]
            alike = takewhile(lambda piece: piece[0] == name and type(piece[1]) is type(first), self._pieces)
            pieces = [piece for _, piece in alike]
            del self._pieces[: len(pieces)]
            return name, type(first)().join(pieces)


class _Direct(_Sender):
    """The same where only one thread may call what is on the other side: it does so line by line, and takes along what others have printed."""

    def __init__(self, give: Any) -> None:
        super().__init__(give)
        self._owner = threading.get_ident()

    def put(self, name: str, piece: Any) -> bool:
        """Take a piece, if it is not too much: another thread cannot wait, as it may be waited for."""
        is_owner = threading.get_ident() == self._owner
        with self._changed:
            if self._closed or (self._size > BUFFER and not is_owner):
                return False
            if self._error is not None:
                raise self._error
            self._size += len(piece)
            self._pieces.append((name, piece))
        if is_owner and (isinstance(piece, bytes) or "\n" in piece or self._size > BUFFER):
            self.drain()
        return True

    def drain(self) -> None:
        """Send what is there; of another thread, nothing."""
        while self._pieces and threading.get_ident() == self._owner:
            taken = self._take()
            if taken is not None:
                self._size -= len(taken[1])
                try:
                    self._give(*taken)
                except Exception as exc:
                    self._error = exc
                    raise


def _may_wait() -> bool:
    trio = sys.modules.get("trio")
    return trio is None or not trio.lowlevel.in_trio_run()
